"""Datasets that were damaged, moved, filled or made up: nothing is silently wrong, nothing is a traceback."""

import contextlib
import io
import logging
import os
import random
import resource
import shutil
import subprocess
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mavi_tasks.cli.main import main
from mavi_tasks.errors import MaviError, StorageError
from mavi_tasks.storage import status, tables
from mavi_tasks.storage.publish import Dataset
from mavi_tasks.storage.request_locks import RequestLocks
from tests.bench import flips
from tests.bench.hostile.case import Case
from tests.support.rows import attempt, intent, key, open_journal, result

DAMAGES = 20
READING = ("status", "compare", "costs", "export", "doctor")
PARTITIONS = ("evil", "", "2026-13-45", "2026-1-1", "%2e%2e", "2026-11-20 or 1", "__HIVE_DEFAULT_PARTITION__")


def command(name: str, root: Path) -> tuple[int, str]:
    """Run one reading command here: its exit status and all that it prints."""
    argv = [name, str(root)]
    argv += {"export": ["--to", str(root.parent / "all.csv")], "doctor": ["--verify"]}.get(name, [])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            ended = main(argv)
        except Exception:
            traceback.print_exc(file=printed)
            ended = -1
    return ended, printed.getvalue()


def named_by_all(root: Path, path: Path) -> str | None:
    """Every reading command ends, names the file and does not end with 0."""
    for name in READING:
        ended, printed = command(name, root)
        if ended not in (3, 4) or str(path) not in printed or "Traceback" in printed:
            return f"mavi {name} ended with {ended}: {printed.strip()[-200:]!r}"
    return None


def damaged_files(which: str, folder: Path) -> str | None:
    logger = logging.getLogger("mavi")
    logger.addHandler(flips.NOTICES)
    logger.propagate = False
    target = next(target for target in flips.targets(folder) if target.name == which)
    counts = flips.trial(target, DAMAGES, random.Random(which))
    bad = counts["wrong"] + counts["traceback"]
    return f"{bad} of {DAMAGES} damages were not noticed" if bad else None


# -- what somebody put into results/


def evil_partition(value: str, folder: Path) -> str | None:
    root = flips.fill(folder / "out")
    place = root / "results" / f"run_date={value}"
    place.mkdir()
    shutil.copy(flips.part(root, "results"), place / "part-x.parquet")
    return named_by_all(root, place / "part-x.parquet")


def foreign(make: Callable[[Path], object], folder: Path) -> str | None:
    root = flips.fill(folder / "out")
    path = flips.part(root, "results").with_name("part-foreign.parquet")
    make(path)
    return named_by_all(root, path)


def _other_types(path: Path) -> None:
    pq.write_table(pa.table({"request_key": [[1], [2]], "status": [{"a": 1}, {"a": 2}]}), path)


FOREIGN: dict[str, Callable[[Path], object]] = {
    "an empty file": Path.touch,
    "text": lambda path: path.write_text("shopping list"),
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a link to itself": lambda path: path.symlink_to(path),
    "Parquet with other types": _other_types,
    "only a tail": lambda path: path.write_bytes(b"PAR1" + b"\xff" * 4 + b"PAR1"),
    "a footer that is all of it": lambda path: path.write_bytes(b"PAR1" + bytes(30) + b"\x1e\0\0\0PAR1"),
}


# -- the journal


def header_lost(copies: int, folder: Path) -> str | None:
    target = flips.segment(folder, "sealed")
    raw = bytearray(target.path.read_bytes())
    first = raw.index(b"\n") + 1
    for copy in range(copies):
        raw[copy * first + 30] ^= 4
    target.path.write_bytes(raw)
    root = target.path.parent.parent
    Dataset(root).publish()
    kept = tables.open_table(root, "results").count_rows()
    return None if kept == flips.ROWS else f"{kept} of {flips.ROWS} paid answers were published"


def removed_folder(folder: Path) -> str | None:
    book = open_journal(folder / "out", durability="os")
    book.record(attempt(1), result(1))
    shutil.rmtree(folder / "out")
    try:
        book.close()
    except StorageError as error:
        return None if "are lost" in str(error) else str(error)
    return "the lost answer was not mentioned"


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def no_room(size: int, folder: Path) -> str | None:
    """Files may grow to `size` only, as on a full disk: what was acknowledged is published later."""
    root, acknowledged = folder / "out", 0
    Dataset(root).create()
    book = open_journal(root, durability="os")
    with largest_file(size):
        with contextlib.suppress(StorageError):
            for number in range(10_000):
                book.intend(intent(number))
                book.record(attempt(number), result(number))
                acknowledged += 1
        with contextlib.suppress(MaviError, OSError):
            book.close()
        with contextlib.suppress(MaviError):
            Dataset(root).publish()
    Dataset(root).publish()
    kept = tables.open_table(root, "results").count_rows()
    return None if kept >= acknowledged else f"{kept} of {acknowledged} acknowledged answers were kept"


# -- the rest


def read_only(folder: Path) -> str | None:
    """Every reading command works on a file system that cannot be written to (root mounts one)."""
    if os.geteuid() != 0:
        return None
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=50m", "tmpfs", disk], check=True)
    try:
        root = flips.fill(disk / "out")
        flips.record(root, "dead", range(900, 905))
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for name in (*READING[:3], "doctor"):
            ended, printed = command(name, root)
            if ended != 0:
                return f"mavi {name} ended with {ended}: {printed.strip()[-200:]!r}"
    finally:
        subprocess.run(["umount", disk], check=True)
    return None


def future_clock(before: str, after: str, wanted: str, folder: Path) -> str | None:
    root = folder / "out"
    store = Dataset(root)
    store.create()
    ahead_us = 4_000_000_000_000_000
    for writer, word, finished_us in (("a-w0", before, ahead_us), ("b-w0", after, 1_700_000_000_000_000)):
        book = open_journal(root, writer=writer, run_id=writer[0])
        book.record(attempt(1), result(1, status=word, finished_at=finished_us))
        book.close()
        store.publish()
    seen = tables.latest(root)["status"].to_pylist()
    counted = dict(status.of(root).statuses)
    return None if seen == [wanted] and counted == {wanted: 1} else f"{seen} and {counted}, not {wanted}"


def broken_part_of_another_run(folder: Path) -> str | None:
    root = flips.fill(folder / "out")
    locks = RequestLocks(root, "mine-w0")
    locks.start_watching()
    flips.record(root, "other", range(900, 950))
    Dataset(root).publish()
    part = next((root / "results").rglob("part-other-*.parquet"))
    part.write_bytes(part.read_bytes()[:-100])
    try:
        locks.answered_elsewhere(key(900))
    except StorageError:
        return None
    return "the answers of another run were not seen, and would be paid for again"


def _of(name: str, attempts: Callable[..., str | None], *values: object) -> Case:
    return Case(name, partial(attempts, *values), longest_s=60)


def cases() -> Iterator[Case]:
    files: Sequence[str] = (*tables.TABLE_NAMES, "segment, sealed", "segment, killed", "_library")
    yield from (_of(f"{DAMAGES} damages: {name}", damaged_files, name) for name in files)
    yield from (_of(f"partition run_date={value}", evil_partition, value) for value in PARTITIONS)
    yield from (_of(f"in place of a part: {name}", foreign, make) for name, make in FOREIGN.items())
    yield from (_of(f"header damaged, copies: {copies}", header_lost, copies) for copies in (1, 2))
    yield from (_of(f"no room beyond {size} bytes", no_room, size) for size in (4_000, 20_000, 100_000))
    orders = (
        ("failed", "answered", "answered"),
        ("skipped", "answered", "answered"),
        ("invalid", "answered", "answered"),
        ("failed", "invalid", "invalid"),
        ("answered", "failed", "answered"),
        ("skipped", "failed", "failed"),
    )
    yield from (_of(f"{a} in the future, then {b}", future_clock, a, b, want) for a, b, want in orders)
    yield Case("the folder is removed", removed_folder)
    yield Case("a read-only file system", read_only)
    yield Case("a broken part of another run", broken_part_of_another_run)


CASES = list(cases())
