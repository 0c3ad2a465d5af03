"""Where the rows of the index lie: published parts, and what journals hold beside them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mavi_tasks.errors import StorageError
from mavi_tasks.schema import RESULTS
from mavi_tasks.storage import current_rows, parts, tables
from mavi_tasks.storage.s3 import mirror_of

Stamp = tuple[int, int, int]
BATCH_ROWS = 256


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet file of results. group_ends: after which row each row group ends."""

    root: Path
    path: Path
    stamp: Stamp
    group_ends: tuple[int, ...]

    @property
    def rows(self) -> int:
        return self.group_ends[-1] if self.group_ends else 0

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Its rows, one row group at a time. Raises StorageError when it is not what it was."""
        for group in range(len(self.group_ends)):
            yield self.group(group, columns)

    def group(self, number: int, columns: Sequence[str]) -> pa.Table:
        """One row group; columns that an older part lacks are null."""
        with _opened(self) as file:
            there = [name for name in columns if name in file.schema_arrow.names]
            return _filled(file.read_row_group(number, columns=there), columns)

    def some(self, rows: Sequence[int], columns: Sequence[str]) -> dict[int, dict[str, Any]]:
        """Rows by their numbers, read in small batches: their texts may be large."""
        found: dict[int, dict[str, Any]] = {}
        groups = np.searchsorted(self.group_ends, rows, side="right")
        with _opened(self) as file:
            there = [name for name in columns if name in file.schema_arrow.names]
            for group in np.unique(groups).tolist():
                left = {row for row, one in zip(rows, groups.tolist(), strict=True) if one == group}
                start = self.group_ends[group - 1] if group else 0
                for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=there):
                    for row in [row for row in left if row < start + batch.num_rows]:
                        found[row] = dict.fromkeys(columns) | batch.slice(row - start, 1).to_pylist()[0]
                        left.discard(row)
                    start += batch.num_rows
                    if not left:
                        break
        return found


@dataclass(frozen=True, slots=True)
class JournalPart:
    """What the journal of a dataset holds that no part does, in memory."""

    root: Path
    table: pa.Table
    stamp: Stamp = (0, 0, 0)

    @property
    def rows(self) -> int:
        return int(self.table.num_rows)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        yield self.table.select(list(columns))

    def some(self, rows: Sequence[int], columns: Sequence[str]) -> dict[int, dict[str, Any]]:
        chosen = self.table.select(list(columns)).take(pa.array(rows, pa.int64())).to_pylist()
        return dict(zip(rows, chosen, strict=True))


Source = Part | JournalPart


@dataclass(frozen=True, slots=True)
class Sources:
    """All rows of some datasets, numbered through."""

    all: tuple[Source, ...]
    starts: tuple[int, ...] = field(default=())

    def place(self, row: int) -> tuple[Source, int]:
        """The source of a row, and the row's number in it."""
        at = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.all[at], row - self.starts[at]

    def rows(self, rows: Sequence[int], columns: Sequence[str]) -> dict[int, dict[str, Any]]:
        """Whole rows by their numbers. Raises StorageError when a part is not what it was."""
        by_source: dict[int, list[int]] = {}
        for row in dict.fromkeys(rows):
            at = int(np.searchsorted(self.starts, row, side="right")) - 1
            by_source.setdefault(at, []).append(row)
        found: dict[int, dict[str, Any]] = {}
        for at, here in by_source.items():
            some = self.all[at].some([row - self.starts[at] for row in here], columns)
            found.update({self.starts[at] + row: one for row, one in some.items()})
        return found


def read(roots: Sequence[Path], known: Mapping[Path, Part]) -> Sources:
    """The rows of these datasets as they are now. known: parts that need not be opened again.

    Raises InputError when a folder is no dataset, StorageError when it cannot be read.
    """
    found: list[Source] = []
    for root in roots:
        journal = current_rows.read_journal(root)  # before the parts: see there
        paths = [path for path in tables.part_paths(root, "results") if path.name not in journal.parts]
        found += [_part(root, path, known) for path in parts.whole(paths, RESULTS)]
        if journal.results:
            found.append(JournalPart(root, current_rows.journal_table(RESULTS.names, journal.results)))
    found = [source for source in found if source.rows]
    ends = np.cumsum([0, *(source.rows for source in found)]).tolist()
    return Sources(tuple(found), tuple(ends[:-1]))


def fingerprint(roots: Sequence[Path]) -> object:
    """Equal as long as no dataset has changed; a look at names and sizes, not into files."""
    seen = []
    for root in roots:
        mirror = mirror_of(root)
        if mirror is not None:
            mirror.refresh("results")
        for folder, pattern in (("results", "*.parquet"), ("_journal", "*")):
            for path in (root / folder).rglob(pattern):
                try:
                    stat = path.stat()
                except OSError:  # published meanwhile
                    continue
                seen.append((str(path), stat.st_size, stat.st_mtime_ns))
    return tuple(sorted(seen))


def _part(root: Path, path: Path, known: Mapping[Path, Part]) -> Part:
    stamp = _stamp(path)
    if (same := known.get(path)) is not None and same.stamp == stamp:
        return same
    try:
        facts = pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{path}: cannot be read as Parquet ({type(error).__name__})") from error
    sizes = [facts.row_group(at).num_rows for at in range(facts.num_row_groups)]
    return Part(root, path, stamp, tuple(np.cumsum(sizes).tolist()))


def _opened(part: Part) -> pq.ParquetFile:
    if _stamp(part.path) != part.stamp:
        raise StorageError(f"{part.path}: changed while it was read; reload the page")
    try:
        return pq.ParquetFile(part.path, page_checksum_verification=True, memory_map=False)
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{part.path}: cannot be read as Parquet ({type(error).__name__})") from error


def _stamp(path: Path) -> Stamp:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0, 0)
    return (stat.st_size, stat.st_mtime_ns, stat.st_ino)


def _filled(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    arrays = [
        table[name] if name in table.column_names else pa.nulls(table.num_rows, RESULTS.field(name).type)
        for name in columns
    ]
    return pa.table(arrays, names=list(columns))
