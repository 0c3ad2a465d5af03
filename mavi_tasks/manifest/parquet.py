"""Manifests in Parquet: a row group at a time, lists of media as they are."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from mavi_tasks.errors import InputError
from mavi_tasks.manifest.problems import Problems
from mavi_tasks.manifest.rows import Batch, Rows
from mavi_tasks.manifest.source import Source

_BUFFER: Final = 1 << 20


def read_parquet(source: Source, problems: Problems, batch_rows: int) -> Rows:
    """Rows of a Parquet file; columns of bytes are not read, because no template can show them."""
    import pyarrow as pa

    with source.binary() as file:
        schema = _open(source, file).schema_arrow
    duplicates = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if duplicates:
        raise InputError(f"{source.name}: duplicate column {', '.join(duplicates)}; give each its own name")
    names = tuple(field.name for field in schema if not _is_bytes(pa, field.type))
    return Rows(names, partial(_batches, source, batch_rows, names), source.base, source.name)


def _open(source: Source, file: Any) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)
    except pa.ArrowInvalid as problem:
        raise InputError(
            f"{source.name}: is not a complete Parquet file: {str(problem).splitlines()[0]}"
        ) from problem


def _batches(source: Source, batch_rows: int, names: tuple[str, ...]) -> Iterator[Batch]:
    import pyarrow as pa

    with source.binary() as file:
        row = 0
        try:
            for batch in _open(source, file).iter_batches(batch_rows, columns=list(names), use_threads=False):
                by_name = {field.name: batch.column(index) for index, field in enumerate(batch.schema)}
                columns = [_plain(pa, by_name[name]).to_pylist() for name in names]
                yield range(row + 1, row + 1 + batch.num_rows), list(zip(*columns, strict=True))
                row += batch.num_rows
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as problem:
            why = str(problem).splitlines()[0]
            raise InputError(f"{source.name}: cannot be read after row {row}: {why}") from problem


def _is_bytes(pa: Any, kind: Any) -> bool:
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _plain(pa: Any, column: Any) -> Any:
    """Values that Python has: microseconds (nanoseconds would need pandas), null for the NaN of pandas."""
    if pa.types.is_floating(column.type):
        import pyarrow.compute as pc

        return pc.if_else(pc.is_nan(column), None, column)
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        return column.cast(pa.timestamp("us", column.type.tz), safe=False)
    if pa.types.is_duration(column.type) and column.type.unit == "ns":
        return column.cast(pa.duration("us"), safe=False)
    return column
