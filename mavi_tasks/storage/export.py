"""One file out of a dataset, for those who want one file. Written beside and renamed, so never half there."""

import csv
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from mavi_tasks.common.spreadsheet import text_cell
from mavi_tasks.errors import InputError, StorageError
from mavi_tasks.storage import tables
from mavi_tasks.storage.s3 import Bucket, is_url, url

VERSIONED: Final = ("results", "labels")  # tables in which a newer row of one question replaces others


def export(
    root: Path, to: str | Path, *, table: str = "results", latest: bool = False, all_versions: bool = False
) -> int:
    """Write a table of a dataset to one file, here or s3://, by its suffix; returns the number of rows.

    Results are all rows, or with `latest` one for each item, prompt and model; labels are always those of the
    rows that count. all_versions: one row for each text of a prompt. Raises InputError for a suffix that is
    not known, StorageError when the file cannot be written.
    """
    writer_of(to)
    if (latest or all_versions) and table not in VERSIONED:
        option = "--latest" if latest else "--all-versions"
        raise InputError(f"{option} is for {' and '.join(VERSIONED)}: {table} has no rows that are replaced")
    if latest or all_versions or table == "labels":
        rows = tables.counting(root, table, all_versions=all_versions)
        return write(rows.to_batches(), rows.schema, to)
    source = tables.open_table(root, table)
    return write(source.to_batches(), source.schema, to)


def write(batches: Iterable[pa.RecordBatch], schema: pa.Schema, to: str | Path) -> int:
    """Write rows to one file, as `export` does."""
    if not is_url(str(to)):
        return _write(batches, schema, Path(to))
    place, _, name = str(to).rpartition("/")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, name)
        rows = _write(batches, schema, made)
        Bucket(url(place)).put(name, made)
    return rows


def writer_of(to: str | Path) -> "_Writer":
    """What writes a file of this suffix. Raises InputError when nothing does."""
    found = _WRITERS.get(Path(to).suffix.lower())
    if found is None:
        raise InputError(f"{to}: --to must end in {', '.join(_WRITERS)}")
    return found


def _write(batches: Iterable[pa.RecordBatch], schema: pa.Schema, to: Path) -> int:
    writer = writer_of(to)
    staged = to.with_name(f".{to.name}.part")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        rows = writer(batches, schema, staged)
        staged.replace(to)
    except OSError as error:
        staged.unlink(missing_ok=True)
        raise StorageError(f"{to}: cannot be written ({error.strerror})") from error
    return rows


def _parquet(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> int:
    rows = 0
    with pq.ParquetWriter(path, schema, compression="zstd", store_decimal_as_integer=True) as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _csv(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> int:
    rows = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(map(text_cell, schema.names))
        for row in _rows(batches):
            writer.writerow([_cell(value) for value in row.values()])
            rows += 1
    return rows


def _jsonl(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> int:
    rows = 0
    with path.open("w", encoding="utf-8") as file:
        for row in _rows(batches):
            file.write(json.dumps(row, default=_text, ensure_ascii=False) + "\n")
            rows += 1
    return rows


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        yield from batch.to_pylist()


def plain_rows(batches: Iterable[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    """Rows whose values JSON has: amounts and instants as text."""
    for row in _rows(batches):
        yield {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float | list | dict) else _text(value)


def _cell(value: object) -> object:
    """A cell that a spreadsheet does not run."""
    if isinstance(value, list | dict):
        value = json.dumps(value, ensure_ascii=False)
    if isinstance(value, str):
        return text_cell(value)
    return "" if value is None else _text(value)


def _text(value: object) -> str:
    if isinstance(value, Decimal):
        return f"{value:f}"
    isoformat = getattr(value, "isoformat", None)
    return str(isoformat()) if isoformat is not None else str(value)


_Writer = Callable[[Iterable[pa.RecordBatch], pa.Schema, Path], int]
_WRITERS: dict[str, _Writer] = {".parquet": _parquet, ".csv": _csv, ".jsonl": _jsonl}
