"""The dataset folder, and publishing: journal segments become immutable Parquet parts.

    DIR/results/ attempts/ runs/    run_date=YYYY-MM-DD/*.parquet, whole files only, readable at any moment
    DIR/labels/                     the answers' fields as columns, when the job has an answer_schema
    DIR/reviews/                    what people said of the answers (reviews.py)
    DIR/_journal/                   segments not yet published (journal.py)
    DIR/_staging/                   parts being written; never under a data folder, because polars and DuckDB
                                    do not skip names that begin with `_`
    DIR/_quarantine/                segments with damaged lines, as they were found
    DIR/_claims                     byte-range locks of the requests in progress (request_locks.py)

A dataset in a bucket has such a folder too, its local copy: parts go to the bucket first (s3/).

Publishing is idempotent: the name of a part is that of its segment, so doing it twice writes the same file.
The order is staging file, fsync, rename, fsync of the folder, and only then the segment is deleted; so a row
is always in the journal or in a part. Parts are never merged in place: a reader's glob would see rows twice.
"""

import contextlib
import logging
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from mavi_tasks.common.money import pico_name, usd_name
from mavi_tasks.errors import StorageError
from mavi_tasks.labels import label_columns, label_rows
from mavi_tasks.schema import SCHEMA_VERSION, TABLES, AttemptOutcome
from mavi_tasks.storage import parts, reviews, segments
from mavi_tasks.storage.arrow import table_of
from mavi_tasks.storage.filesystem import lock_is_free, put_in_place, storage_errors, sync_folder
from mavi_tasks.storage.parts import ROWS_PER_GROUP, PartWriter, damage_log, write_part
from mavi_tasks.storage.run_totals import run_row_totals
from mavi_tasks.storage.s3 import mirror_of
from mavi_tasks.storage.segments import HEADER_COLUMNS
from mavi_tasks.storage.tables import TABLE_NAMES, part_paths

log = logging.getLogger("mavi")

MANY_SEGMENTS = 1000  # a few seconds' work
SEGMENTS_AT_ONCE = 256  # published between two syncs of the folders
READERS_WAIT_S = 5.0
HALF_WRITTEN_ROW_S = 3600  # older than this, nobody is writing it any more


def segment_header(
    run: Mapping[str, Any], answer_schema: Mapping[str, Any] | None, keep_columns: Sequence[str] = ()
) -> dict[str, Any]:
    """What a segment's header says of its run; on disk, money has the names of the public columns."""
    return {
        **{name: run[name] for name in HEADER_COLUMNS},
        "answer_schema": answer_schema,
        "keep_columns": list(keep_columns),
        "run": {usd_name(name): value for name, value in run.items()},
    }


class Dataset:
    """A dataset folder. Money goes in as whole pico-dollars (int), instants as microseconds (int)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.journal = root / "_journal"

    def create(self) -> None:
        """Make the folder, or say why it cannot be written."""
        with storage_errors(self.root, "write to"):
            for name in ("_journal", "_staging", "results", "attempts", "runs"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root / "_staging"):
                pass

    def publish(self, *, wait_s: float = 60.0) -> int:
        """Turn every sealed or orphaned segment into parts; returns how many were published.

        One publisher at a time; when another one needs longer than `wait_s`, nothing is published here.
        """
        if not self.journal.is_dir():
            return 0
        lock = FileLock(self.journal / "publish.lock", timeout=wait_s)
        with storage_errors(self.root, "publish in"), contextlib.suppress(Timeout), lock:
            reviews.publish(self.root)
            return self._publish_locked()
        return 0

    def publish_if_possible(self) -> None:
        """For who only reads: publish what dead runs left, unless this folder cannot be written to."""
        try:
            self.publish(wait_s=READERS_WAIT_S)
        except StorageError as error:
            log.info("%s", error)

    def _publish_locked(self) -> int:
        self._clear_staging()
        dead = self._dead_writers()
        ready = [
            path
            for path in segments.segments(self.journal)
            if path.suffix == ".sealed" or segments.writer_of(path) in dead
        ]
        if len(ready) >= MANY_SEGMENTS:
            log.warning("publishing %d segments that earlier runs left in %s", len(ready), self.journal)
        done = 0
        crashed: dict[str, Mapping[str, Any]] = {}
        for start in range(0, len(ready), SEGMENTS_AT_ONCE):
            for path, header in self._publish_segments(ready[start : start + SEGMENTS_AT_ONCE]):
                done += 1
                if segments.writer_of(path) in dead:
                    crashed[header["run_id"]] = header
        for leftover in list(self.journal.iterdir()) if dead else ():
            if leftover.suffix in (".new", ".ballast", ".lock") and leftover.name.partition(".")[0] in dead:
                leftover.unlink(missing_ok=True)
        for header in crashed.values():
            self._record_crash(header)
        return done

    def waiting(self, run_id: str) -> bool:
        """Some of this run's answers are in the journal still."""
        return any(path.name.startswith(f"{run_id}-") for path in segments.segments(self.journal))

    def _clear_staging(self) -> None:
        """Remove half-written parts (we hold the lock) and old rows of runs (written without it)."""
        staging, old_s = self.root / "_staging", time.time() - HALF_WRITTEN_ROW_S
        for half in [path for table in TABLE_NAMES for path in staging.glob(f"*.{table}")]:
            half.unlink(missing_ok=True)
        for row in staging.glob("*.run"):
            with contextlib.suppress(FileNotFoundError):
                if row.stat().st_mtime < old_s:
                    row.unlink()

    def _dead_writers(self) -> set[str]:
        """Writers whose lock is free: they ended, or were killed."""
        dead = set()
        for path in (p for end in ("jsonl", "new", "ballast") for p in self.journal.glob(f"*.{end}")):
            writer = path.name.partition(".")[0]
            if writer not in dead and lock_is_free(self.journal / f"{writer}.lock"):
                dead.add(writer)
        return dead

    def _publish_segments(self, paths: Sequence[Path]) -> list[tuple[Path, Mapping[str, Any]]]:
        """These segments with their headers, as parts; each folder is synced once for all of them."""
        published, folders = [], set[Path]()
        for path in paths:
            carried = _carried_over(path)
            with segments.reading(path) as reader:
                if reader is None:
                    if path.exists():
                        damage_log.warning("%s: is of a newer version of mavi; left alone", path)
                    continue
                new = _Parts(self.root, path, reader)
                damaged = new.take(carried)
                published.append((path, reader.header))
            folders |= new.finish()
            if damaged:
                self._quarantine(path)
        for folder in folders:
            sync_folder(folder)
        for path, _ in published:
            path.unlink(missing_ok=True)
        sync_folder(self.journal)
        return published

    def _quarantine(self, path: Path) -> None:
        folder = self.root / "_quarantine"
        folder.mkdir(exist_ok=True)
        shutil.copy2(path, folder / path.name)
        damage_log.warning("%s: has damaged lines; the others are published, it is kept in %s", path, folder)

    # -- runs

    def write_run(self, row: Mapping[str, Any], *, date: str) -> None:
        """Write a run's one row, its money in whole pico-dollars; writing it again replaces it."""
        values = {**row, "schema_version": SCHEMA_VERSION}
        table = table_of(TABLES["runs"], list(values), [list(values.values())], {})
        name = f"run-{row['run_id']}.parquet"
        staged = self.root / "_staging" / f"{row['run_id']}.run"
        with storage_errors(self.root, "write to"):
            staged.parent.mkdir(parents=True, exist_ok=True)
            write_part(staged, table)
            final = self.root / "runs" / f"run_date={date}" / name
            mirror = mirror_of(self.root)
            if mirror is not None:
                mirror.ship_run(staged, final)
            put_in_place(staged, final)
            sync_folder(final.parent)

    def _record_crash(self, header: Mapping[str, Any]) -> None:
        """A run whose process died has no row of its own yet: write what is known of it."""
        run_id = header["run_id"]
        if any((self.root / "runs").glob(f"*/run-{run_id}.parquet")):
            return
        row = {pico_name(name): value for name, value in header["run"].items()}
        row |= {name: header[name] for name in HEADER_COLUMNS} | {"status": "crashed"}
        date = day_of(row["started_at"])  # as the run itself would file it
        self.write_run(row | run_row_totals(self.root, run_id), date=date)


class _Parts:
    """The parts of one segment, written as a stream of row groups."""

    def __init__(self, root: Path, segment: Path, reader: segments.Reader) -> None:
        header = reader.header
        self._root, self._name, self._reader, self._header = root, part_name(segment), reader, header
        self._writers: dict[str, PartWriter] = {}
        answer_schema = header.get("answer_schema")
        keep = header.get("keep_columns") or ()
        self._labels = label_columns(answer_schema, _newest_labels(root), keep) if answer_schema else None
        self._rows: dict[str, list[segments.Row]] = {"results": [], "attempts": []}
        self._constants = {name: header[name] for name in HEADER_COLUMNS} | {"schema_version": SCHEMA_VERSION}

    def take(self, carried: set[str]) -> int:
        """Read all records; returns how many lines were damaged."""
        open_intents = {intent.attempt_id: intent for intent in self._reader.carried}
        damaged = 0
        for record in self._reader:
            if isinstance(record, segments.Outcome):
                self._take_outcome(record, open_intents)
            elif record is not None:
                open_intents[record.attempt.attempt_id] = record.attempt
            else:
                damaged += 1
        for attempt_id, intent in open_intents.items():
            if attempt_id not in carried:
                self._add("attempts", _in_doubt(intent, self._reader.decode.attempt))
        return damaged

    def _take_outcome(self, outcome: segments.Outcome, open_intents: dict[str, segments.Row]) -> None:
        if outcome.attempt is not None:
            open_intents.pop(outcome.attempt.attempt_id, None)
            self._add("attempts", outcome.attempt)
        if outcome.result is not None:
            self._add("results", outcome.result)

    def _add(self, table: str, row: segments.Row) -> None:
        rows = self._rows[table]
        rows.append(row)
        if len(rows) >= ROWS_PER_GROUP:
            self._flush(table)

    def _flush(self, table: str) -> None:
        rows = self._rows[table]
        if not rows:
            return
        made = table_of(TABLES[table], self._header[table], rows, self._constants)
        self._write(table, made)
        if table == "results" and self._labels is not None:
            self._write("labels", label_rows(made, self._labels))
        rows.clear()

    def _write(self, table: str, rows: pa.Table) -> None:
        if rows.num_rows == 0:
            return
        if table not in self._writers:
            self._writers[table] = PartWriter(self._staged(table), rows.schema)
        self._writers[table].write(rows)

    def finish(self) -> set[Path]:
        """Put the parts in place; returns the folders that must be synced before the segment may go."""
        date = self._header["date"]
        for table in self._rows:
            self._flush(table)
        mirror = mirror_of(self._root)
        for table, writer in self._writers.items():
            writer.close()
            final = self._root / table / f"run_date={date}" / self._name
            if mirror is not None:
                mirror.ship(self._staged(table), final, writer.rows)
            put_in_place(self._staged(table), final)
        return {self._root / table / f"run_date={date}" for table in self._writers}

    def _staged(self, table: str) -> Path:
        return self._root / "_staging" / f"{self._name}.{table}"


def part_name(segment: Path) -> str:
    """What the parts of a segment are called, in each table."""
    return f"part-{segment.name.rsplit('.', 1)[0]}.parquet"


def _newest_labels(root: Path) -> pa.Schema | None:
    """The schema of the last labels part: it has every column that any part before it had."""
    whole = parts.whole(part_paths(root, "labels"))
    newest = max(whole, key=lambda path: path.stat().st_mtime_ns, default=None)
    return pq.read_schema(newest) if newest is not None else None


def _carried_over(path: Path) -> set[str]:
    """Attempts in flight when this segment was sealed: their outcomes are in the next one."""
    stem, seq, _ = path.name.rsplit(".", 2)
    for suffix in (".jsonl", ".sealed"):
        with segments.reading(path.with_name(f"{stem}.{int(seq) + 1:05d}{suffix}")) as following:
            if following is not None:
                return {intent.attempt_id for intent in following.carried}
    return set()


def _in_doubt(intent: segments.Row, attempt: type[segments.Row]) -> segments.Row:
    """The attempt of a send of which nothing more is known: the process died before the reply came."""
    values = intent.by_name() | {"outcome": AttemptOutcome.IN_DOUBT, "error_code": "crashed"}
    return attempt(map(values.get, attempt.names))


def day_of(instant_us: int) -> str:
    """The UTC day of an instant: where a run's row is filed."""
    return f"{datetime.fromtimestamp(instant_us / 1e6, UTC):%Y-%m-%d}"
