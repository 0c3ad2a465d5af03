"""Manifests in Parquet: some rows at a time, lists of media as they are."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

from mavi_tasks.errors import InputError
from mavi_tasks.manifest.bounds import BATCH_BYTES, columns_problem
from mavi_tasks.manifest.parquet_pages import PageProblem, pages
from mavi_tasks.manifest.problems import Problems
from mavi_tasks.manifest.rows import Batch, Rows
from mavi_tasks.manifest.source import Source

MAX_PAGE_BYTES: Final = 128_000_000  # unpacked; writers make pages of about 1 MB
MAX_LIST_VALUES: Final = 20_000_000  # of a column of lists, in one row group: a row may hold all of them
MAX_BATCH_BYTES: Final = 128_000_000  # of one column, when its longest value stood in every row

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
        batches = partial(_batches, source, problems, batch_rows, names)
        return Rows(names, batches, source.base, source.name, narrowed=of)

    return of(tuple(field.name for field in schema if not _is_bytes(pa, field.type)))


def _open(source: Source, file: Any) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)
    except (pa.ArrowException, OSError, ValueError) as problem:
        raise InputError(f"{source.name}: is not a complete Parquet file: {_line(problem)}") from problem


def _batches(
    source: Source, problems: Problems, batch_rows: int, names: tuple[str, ...]
) -> Iterator[Batch]:
    import pyarrow as pa

    with source.binary() as file:
        table, row = _open(source, file), 0
        lines, rows, size = list[int](), list[tuple[Any, ...]](), 0
        try:
            for group in range(table.num_row_groups):
                most = min(batch_rows, _rows_at_once(file, table.metadata.row_group(group), set(names)))
                for batch in table.iter_batches(most, [group], columns=list(names), use_threads=False):
                    some_lines, some_rows = _rows(source, problems, batch, names, row + 1)
                    lines += some_lines
                    rows += some_rows
                    row, size = row + batch.num_rows, size + batch.nbytes
                    if len(rows) + most > batch_rows or size > BATCH_BYTES:
                        yield lines, rows
                        lines, rows, size = [], [], 0
            if rows:
                yield lines, rows
        except PageProblem as problem:
            raise InputError(f"{source.name}: {problem}") from None
        except (pa.ArrowException, OSError, ValueError) as problem:
            raise InputError(f"{source.name}: cannot be read after row {row}: {_line(problem)}") from problem


def _rows_at_once(file: Any, group: Any, names: set[str]) -> int:
    """How many rows of a row group fit in memory whatever its pages unpack to. Raises PageProblem."""
    longest = 1
    for index in range(group.num_columns):
        column = group.column(index)
        name = column.path_in_schema.partition(".")[0]
        if name not in names:
            continue
        values = 0
        for page in pages(file, column):
            if page.bytes > MAX_PAGE_BYTES:
                raise PageProblem(
                    f"column {name} has a page of {page.bytes:,} bytes when unpacked; at most "
                    f"{MAX_PAGE_BYTES:,} are read: keep media in files, or write smaller pages"
                )
            longest = max(longest, page.longest_repeated, page.bytes // max(page.values, 1))
            values += page.values
        if "." in column.path_in_schema and values > MAX_LIST_VALUES:
            raise PageProblem(
                f"column {name} has {values:,} values in one row group; at most {MAX_LIST_VALUES:,} are read: "
                "write smaller row groups"
            )
    return max(1, MAX_BATCH_BYTES // longest)


def _rows(
    source: Source, problems: Problems, batch: Any, names: Sequence[str], first: int
) -> Batch:
    """The rows of a batch; those with a value that Python does not have go to the problems."""
    import pyarrow as pa

    by_name = {field.name: batch.column(index) for index, field in enumerate(batch.schema)}
    columns = [_values(_plain(pa, by_name[name])) for name in names]
    rows = list(zip(*columns, strict=True)) if columns else [()] * batch.num_rows
    bad = {
        index: name
        for name, column in zip(names, columns, strict=True)
        for index in _unreadable(column)
    }
    for index, name in sorted(bad.items()):
        kind = by_name[name].type
        problems.add(f"{source.name}:{first + index}: {name} is out of the range of dates and times ({kind})")
    lines = range(first, first + batch.num_rows)
    if not bad:
        return lines, rows
    kept = [index for index in range(batch.num_rows) if index not in bad]
    return [lines[index] for index in kept], [rows[index] for index in kept]


def _values(column: Any) -> Any:
    """The values as Python has them; `_UNREADABLE` for a date before year 1, an unknown time zone."""
    try:
        return column.to_pylist()
    except (ValueError, OverflowError, KeyError):  # an unknown time zone is a KeyError
        return [_value(scalar) for scalar in column]


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError, KeyError):
        return _UNREADABLE


def _unreadable(column: Sequence[Any]) -> list[int]:
    if _UNREADABLE not in column:
        return []
    return [index for index, value in enumerate(column) if value is _UNREADABLE]


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
