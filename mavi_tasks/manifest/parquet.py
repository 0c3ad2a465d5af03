"""Manifests in Parquet: some rows at a time, lists of media as they are."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final

from mavi_tasks.errors import InputError
from mavi_tasks.manifest.bounds import BATCH_BYTES, MAX_ROW_BYTES, TOO_LONG, columns_problem
from mavi_tasks.manifest.parquet_pages import Chunk, PageProblem, chunk_size, row_groups
from mavi_tasks.manifest.problems import Problems
from mavi_tasks.manifest.rows import BadRow, Batch, Rows
from mavi_tasks.manifest.source import Source

MAX_PAGE_BYTES: Final = 128_000_000  # unpacked; writers make pages of about 1 MB
MAX_BATCH_BYTES: Final = 128_000_000  # when every row held the longest value of each column
# Of a column of lists or structs, in one row group, because a single row may hold all of them.
MAX_LIST_VALUES: Final = 20_000_000
MAX_LIST_BYTES: Final = 512_000_000

_BUFFER: Final = 1 << 20
_UNREADABLE: Final = object()


def read_parquet(source: Source, problems: Problems, batch_rows: int) -> Rows:
    """Rows of a Parquet file; columns of bytes are not read, because no template can show them."""
    import pyarrow as pa

    with source.binary() as file:
        schema = _open(source, file).schema_arrow
    if wrong := columns_problem(len(schema.names), max(map(len, schema.names), default=0)):
        raise InputError(f"{source.name}: {wrong}")
    duplicates = sorted(name for name, times in Counter(schema.names).items() if times > 1)
    if duplicates:
        raise InputError(f"{source.name}: duplicate column {', '.join(duplicates)}; give each its own name")

    def of(names: tuple[str, ...]) -> Rows:
        batches = partial(_batches, source, batch_rows, names)
        return Rows(names, batches, source.base, source.name, narrowed=of)

    return of(tuple(field.name for field in schema if not _is_bytes(pa, field.type)))


def _open(source: Source, file: Any) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)
    except (pa.ArrowException, OSError, ValueError) as problem:
        raise InputError(f"{source.name}: is not a complete Parquet file: {_line(problem)}") from problem


def _batches(source: Source, batch_rows: int, names: tuple[str, ...]) -> Iterator[Batch]:
    import pyarrow as pa

    with source.binary() as file:
        table, row = _open(source, file), 0
        lines, rows, size = [], list[Any](), 0
        try:
            for group, chunks in enumerate(row_groups(file)):
                most = min(batch_rows, _rows_at_once(file, chunks, set(names)))
                for batch in table.iter_batches(most, [group], columns=list(names), use_threads=False):
                    some_lines, some = _rows(batch, names, row + 1)
                    lines.append(some_lines)
                    rows += some
                    row, size = row + batch.num_rows, size + batch.nbytes
                    if len(rows) + most > batch_rows or size > BATCH_BYTES:
                        yield list(chain.from_iterable(lines)), rows
                        lines, rows, size = [], [], 0
            if rows:
                yield list(chain.from_iterable(lines)), rows
        except PageProblem as problem:
            raise InputError(f"{source.name}: {problem}") from None
        except (pa.ArrowException, OSError, ValueError) as problem:
            raise InputError(f"{source.name}: cannot be read after row {row}: {_line(problem)}") from problem


def _rows_at_once(file: Any, chunks: Sequence[Chunk], names: set[str]) -> int:
    """How many rows of a row group fit in memory, whatever they unpack to. Raises PageProblem."""
    row_bytes = 1
    for chunk in chunks:
        name, *below = chunk.path
        if name not in names:
            continue
        size = chunk_size(file, chunk, MAX_PAGE_BYTES)
        if size.longest_bytes > MAX_ROW_BYTES:
            raise PageProblem(f"column {name} may have a value that {TOO_LONG}")
        most = size.bytes + size.values * size.longest_bytes
        if below and (size.values > MAX_LIST_VALUES or most > MAX_LIST_BYTES):  # all may lie in one row
            raise PageProblem(
                f"column {name} has {size.values:,} values of up to {size.longest_bytes:,} bytes in one row "
                f"group; at most {MAX_LIST_VALUES:,} and {MAX_LIST_BYTES:,} bytes are read: "
                "write smaller row groups"
            )
        row_bytes += size.longest_bytes
    return max(1, MAX_BATCH_BYTES // row_bytes)


def _rows(batch: Any, names: Sequence[str], first: int) -> Batch:
    """The rows of a batch; a BadRow for one with a value that Python does not have."""
    import pyarrow as pa

    by_name = {field.name: batch.column(index) for index, field in enumerate(batch.schema)}
    columns: list[list[Any]] = []
    bad: dict[int, str] = {}
    for name in names:
        values, unreadable = _values(_plain(pa, by_name[name]))
        columns.append(values)
        bad |= dict.fromkeys(unreadable, name)
    rows: list[Any] = list(zip(*columns, strict=True)) if columns else [()] * batch.num_rows
    for index, name in bad.items():
        kind = by_name[name].type
        rows[index] = BadRow(f"{name} is a date or a time that cannot be read ({kind}, year 1 to 9999)")
    return range(first, first + batch.num_rows), rows


def _values(column: Any) -> tuple[list[Any], list[int]]:
    """The values as Python has them, and where it has none: a date before year 1, an unknown time zone."""
    try:
        return column.to_pylist(), []
    except (ValueError, OverflowError, KeyError):  # an unknown time zone is a KeyError
        values = [_value(scalar) for scalar in column]
        return values, [index for index, value in enumerate(values) if value is _UNREADABLE]


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError, KeyError):
        return _UNREADABLE


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


def _line(problem: Exception) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0][:200]
