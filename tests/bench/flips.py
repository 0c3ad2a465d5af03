"""Flipped bits, cuts and zeroed blocks in every kind of file of a dataset: is each noticed, or harmless?

    python -m tests.bench.flips [--flips 300] [--seed 1]

Of each kind of file one is damaged at a time, as often as said: 8 of 10 times by one flipped bit, once by a
cut, once by 4 KiB of zeros. Then it is read by what users read with, and by what `mavi doctor --verify` does.

    noticed    a reader named the file, or refused
    harmless   every reader gave the same as before, and said nothing
    wrong      a reader gave something else, and no reader said anything: must be 0
    traceback  a reader raised what no command shows as a message: must be 0

A segment of a writer that was killed may end in half a line, so it is not cut here.
"""

import argparse
import json
import logging
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mavi_tasks.costs import cost_report, to_json
from mavi_tasks.errors import MaviError
from mavi_tasks.media import Probe, probe_index
from mavi_tasks.media.probe_index import ProbeIndex
from mavi_tasks.storage import damage, status, tables
from mavi_tasks.storage.answered_index import AnsweredIndex
from mavi_tasks.storage.publish import Dataset
from tests.support.rows import attempt, intent, key, open_journal, result

ROWS = 300
BLOCK = 4096
SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}, "age": {"type": "integer"}}}
FACTS = {"job": "pets", "gateway": "mavi", "started_at": 1_700_000_000_000_000, "answered": ROWS}


class _Notices(logging.Handler):
    """Counts what is said of damage."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += record.levelno >= logging.WARNING


NOTICES = _Notices()


@dataclass(frozen=True)
class Target:
    """A file to be damaged, and how it is read."""

    name: str
    path: Path
    read: Callable[[], Any]
    verify: Callable[[], bool]
    cut: bool = True


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.flips")
    parser.add_argument("--flips", type=int, default=300, help="damages of each kind of file")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logger = logging.getLogger("mavi")
    logger.addHandler(NOTICES)
    logger.propagate = False
    draw = random.Random(arguments.seed)
    names = ("noticed", "verified", "harmless", "wrong", "traceback")
    print(f"{'file':<22} {'damaged':>8} " + " ".join(f"{name:>10}" for name in names))
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="mavi-flips-") as folder:
        for target in targets(Path(folder)):
            counts = trial(target, arguments.flips, draw)
            total += counts
            line = " ".join(f"{counts[name]:>10}" for name in names)
            print(f"{target.name:<22} {arguments.flips:>8} {line}", flush=True)
    print(json.dumps({"bench": "flips", **{name: total[name] for name in names}}))
    return 1 if total["wrong"] or total["traceback"] else 0


def trial(target: Target, times: int, draw: random.Random) -> "Counter[str]":
    counts: Counter[str] = Counter()
    raw = target.path.read_bytes()
    clean = target.read()
    for _ in range(times):
        target.path.write_bytes(damaged(raw, draw, cut=target.cut))
        NOTICES.count = 0
        try:
            same = target.read() == clean
            counts["noticed" if NOTICES.count else "harmless" if same else "wrong"] += 1
        except MaviError:
            counts["noticed"] += 1
        except Exception as error:
            counts["traceback"] += 1
            print(f"  {target.name}: {type(error).__name__}: {error}", file=sys.stderr)
        counts["verified"] += target.verify()
        target.path.write_bytes(raw)
    return counts


def damaged(raw: bytes, draw: random.Random, *, cut: bool) -> bytes:
    kind = draw.randrange(10)
    changed = bytearray(raw)
    if kind == 0 and cut:
        return raw[: draw.randrange(len(raw))]
    at = draw.randrange(len(raw))
    if kind == 1:
        start = at // BLOCK * BLOCK
        changed[start : start + BLOCK] = bytes(len(changed[start : start + BLOCK]))
    else:
        changed[at] ^= 1 << draw.randrange(8)
    return bytes(changed)


# -- what is damaged, and who reads it


def targets(folder: Path) -> list[Target]:
    root = fill(folder / "out")
    parts = [
        Target(table, part(root, table), lambda: everything(root), lambda: bool(damage.verify(root)))
        for table in tables.TABLE_NAMES
    ]
    return [*parts, *(segment(folder / name, name) for name in ("sealed", "killed")), library(folder)]


def fill(root: Path) -> Path:
    store = Dataset(root)
    store.create()
    for run in range(2):
        record(root, f"run{run}", range(run * ROWS, (run + 1) * ROWS))
        store.publish()
        store.write_run({"run_id": f"run{run}", **FACTS}, date="2023-11-14")
    return root


def record(root: Path, run_id: str, numbers: range) -> None:
    book = open_journal(root, writer=f"{run_id}-w0", run_id=run_id, answer_schema=SCHEMA, durability="os")
    for number in numbers:
        book.intend([*intent(number)[:1], key(number), "gemini:m", 1_700_000_000_000_000, 99])
        answer = json.dumps({"label": f"cat {number}", "age": number % 20})
        book.record(
            attempt(number, input_tokens=100 + number % 7),
            result(number, answer=answer, answer_json=answer, prompt="What animal is this?"),
        )
    book.close()


def part(root: Path, table: str) -> Path:
    return next(iter(sorted((root / table).rglob("*run0*.parquet"))))


def everything(root: Path) -> Any:
    """What users read: each table, the state, the spend, and what the next run would not send."""
    known = AnsweredIndex.read(root).look_up([key(n) for n in range(2 * ROWS)], [0] * 2 * ROWS)
    read = {name: tables.open_table(root, name).to_table().to_pylist() for name in tables.TABLE_NAMES}
    return read, known, status.of(root).to_json(), to_json(cost_report([str(root)], by=("day", "model")))


def segment(folder: Path, name: str) -> Target:
    """A segment of a run that ended (`sealed`), or whose writer was killed: read live, and published."""
    root = folder / "out"
    Dataset(root).create()
    record(root, "run0", range(ROWS))
    (path,) = (root / "_journal").glob("*.sealed")
    if name == "killed":
        raw = path.read_bytes()
        end = raw.rindex(b"\n", 0, -1) + 1
        path.write_bytes(raw[:end])
        path = path.rename(path.with_suffix(".jsonl"))

    def read() -> Any:
        known = AnsweredIndex.read(root).look_up([key(n) for n in range(ROWS)], [0] * ROWS)
        found = status.of(root).to_json()
        found.pop("broken")
        scratch = folder / "published"
        shutil.rmtree(scratch, ignore_errors=True)
        store = Dataset(scratch)
        store.create()
        shutil.copy2(path, scratch / "_journal")
        store.publish()
        names = ("results", "attempts", "labels")
        return known, found, {n: tables.open_table(scratch, n).to_table().to_pylist() for n in names}

    return Target(f"segment, {name}", path, read, lambda: bool(damage.verify(root)), cut=name == "sealed")


def library(folder: Path) -> Target:
    place = folder / "_library"
    names = [f"/photos/{number}.jpg" for number in range(ROWS)]
    with ProbeIndex(place) as index:
        for number, name in enumerate(names):
            index.put(name, number, 1, Probe("image/jpeg", key(number), 640 + number, 480, None))
    (path,) = place.glob("*.arrow")

    def read() -> Any:
        with ProbeIndex(place, keep=False) as index:
            return index.look_up(names, [(number, 1) for number in range(ROWS)])

    return Target("_library", path, read, lambda: bool(probe_index.damaged(place)))


if __name__ == "__main__":
    sys.exit(main())
