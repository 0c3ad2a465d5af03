"""Manifests: tables, lists, folders and buckets, read as a stream of items.

    for batch in manifest.read("pets.csv", columns):      # lists of up to 1,000 items
        for item in batch: ...

| manifest | reader |
|---|---|
| .csv .tsv .jsonl .ndjson .txt (also with .gz) | text_formats.py |
| .parquet | parquet.py |
| a folder, a glob, s3://bucket/prefix/, one media file | listing.py |

A new format is one reader and one line in READERS. Memory is flat: a batch, and 8 bytes for each item's id.
Problems of rows are collected over the whole manifest and reported together at its end.
"""

import glob
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from mavi_tasks.errors import InputError
from mavi_tasks.manifest import items
from mavi_tasks.manifest.column_map import used
from mavi_tasks.manifest.columns import Columns
from mavi_tasks.manifest.items import Item
from mavi_tasks.manifest.listing import is_media, read_listing
from mavi_tasks.manifest.parquet import read_parquet
from mavi_tasks.manifest.problems import Problems
from mavi_tasks.manifest.resolve import Base
from mavi_tasks.manifest.rows import BadRow, Rows
from mavi_tasks.manifest.source import Source
from mavi_tasks.manifest.text_formats import read_csv, read_jsonl, read_tsv, read_txt
from mavi_tasks.media.urls import shown

__all__ = ["READERS", "Item", "Problems", "cells", "check", "column_names", "read"]

Reader = Callable[[Source, Problems, int], Rows]
READERS: Final[dict[str, Reader]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".parquet": read_parquet,
    ".txt": read_txt,
}

_REMEDIES: Final = {
    ".json": "write one object per line: jq -c '.[]' FILE > manifest.jsonl",
    ".xlsx": "save it as CSV (UTF-8)",
    ".xls": "save it as CSV (UTF-8)",
    ".ods": "save it as CSV (UTF-8)",
    ".yaml": "a job file is given in place of the manifest, not inside it",
    ".yml": "a job file is given in place of the manifest, not inside it",
    ".zip": "unpack it",
    ".zst": "unpack it, or pack it with gzip",
}


def read(
    source: str | os.PathLike[str],
    columns: Columns | None = None,
    *,
    batch_rows: int = 1000,
    limit: int | None = None,
    problems: Problems | None = None,
    order: str = "manifest",
    since: datetime | None = None,
    variables: Collection[str] | None = None,
    skip_bad: bool = False,
) -> Iterator[list[Item]]:
    """Read a manifest as batches of at most `batch_rows` items, at most `limit` items in all.

    Raises InputError at once when the manifest as a whole cannot be read. Invalid rows are left out:
    they go to `problems` when that is given (the caller raises), else they are raised at the end, all
    together, the first 20 in detail. order "newest" and since are for folders, globs and buckets.
    variables: the only columns that are used, beside those with a role; None = all. A format that can leaves
    the others unread. skip_bad: rows that cannot be asked are items with a refusal, not problems.
    """
    found = Problems() if problems is None else problems
    path = os.fspath(source)
    rows = _open(path, found, min(batch_rows, limit or batch_rows), order, since)
    if variables is not None and rows.narrowed is not None and rows.names is not None:
        rows = rows.narrowed(used(rows.names, columns or Columns(), variables))
    any_batch = False
    for batch in items.read(rows, columns or Columns(), found, limit, skip_bad=skip_bad):
        any_batch = True
        yield batch
    if not any_batch and not found and since is None:
        raise InputError(f"{rows.name}: has a header but no rows" if rows.names else f"{rows.name}: is empty")
    if problems is None:
        found.raise_any()


def check(source: str | os.PathLike[str], columns: Columns | None = None) -> int:
    """The number of items. Raises InputError with everything that is wrong with the manifest."""
    return sum(len(batch) for batch in read(source, columns))


def column_names(source: str | os.PathLike[str]) -> tuple[str, ...] | None:
    """The columns of a manifest; None where each row names its own (JSON lines).

    Raises InputError when it cannot be read.
    """
    return _open(os.fspath(source), Problems(), 1, "manifest", None).names


def cells(
    path: str | os.PathLike[str], names: Sequence[str], problems: Problems
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The line and the cells of these columns, of each row of a CSV file that is not a manifest.

    Raises InputError when it cannot be read, or lacks a column; invalid rows go to `problems`.
    """
    rows = read_csv(_source(os.fspath(path), ".csv", packed=False), problems, 1000)
    there = rows.names or ()
    missing = [name for name in names if name not in there]
    if missing:
        raise InputError(f"{path}:1: has no column {', '.join(missing)}; it has {', '.join(there)}")
    at = [there.index(name) for name in names]
    for lines, batch in rows.batches():
        for line, row in zip(lines, batch, strict=True):
            if isinstance(row, BadRow):
                problems.add(f"{path}:{line}: {row.why}")
            else:
                yield line, tuple(row[position] for position in at)


def _open(path: str, problems: Problems, batch_rows: int, order: str, since: datetime | None) -> Rows:
    place = urlsplit(path).path if path.startswith(("http://", "https://")) else path
    packed = place.lower().endswith(".gz")
    suffix = os.path.splitext(place[:-3] if packed else place)[1].lower()
    if _is_listing(path, suffix):
        return read_listing(path, problems, batch_rows, order=order, since=since)
    if order != "manifest" or since is not None:
        raise InputError(f"{shown(path)}: order and since are for folders, globs and buckets, not for tables")
    reader = READERS.get(suffix)
    if reader is None or (packed and reader is read_parquet):
        raise InputError(_unknown(path, suffix))
    return reader(_source(path, suffix, packed), problems, batch_rows)


def _is_listing(path: str, suffix: str) -> bool:
    if "://" in path:
        return path.endswith("/") or (suffix not in READERS and suffix not in _REMEDIES)
    if os.path.exists(path):
        return os.path.isdir(path) or is_media(path)
    return glob.has_magic(path) and suffix not in READERS


def _source(path: str, suffix: str, packed: bool) -> Source:
    if path.startswith("http://"):
        raise InputError(f"{shown(path)}: a manifest is read over https:// only")
    if "://" not in path:
        folder, name = os.path.split(os.path.abspath(path))
        return Source(path, name, suffix, packed, Base(folder))
    plain = path.partition("?")[0] if path.startswith("https://") else path
    folder, _, name = plain.rpartition("/")
    return Source(path, name, suffix, packed, Base(folder + "/", remote=True))


def _unknown(path: str, suffix: str) -> str:
    if not os.path.exists(path) and "://" not in path:
        return f"manifest not found: {path}"
    remedy = _REMEDIES.get(suffix)
    known = ", ".join(READERS)
    return f"{shown(path)}: is not a supported manifest ({known}, a folder or a glob)" + (
        f"; {remedy}" if remedy else ""
    )
