"""What is damaged in a dataset, what is lost in it and what to do; and that it is not paid for again unasked.

    DIR/_quarantine/*           segments with damaged lines, as found: no run begins while one is there
    DIR/_quarantine/settled/    what somebody decided to go on without (`mavi run --pay-again`)

Nothing is ever deleted.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mavi_tasks.common.money import short_text
from mavi_tasks.common.money_columns import pico_sum
from mavi_tasks.errors import StorageError
from mavi_tasks.schema import TABLES
from mavi_tasks.storage import parts, segments
from mavi_tasks.storage.s3 import mirror_of
from mavi_tasks.storage.tables import TABLE_NAMES, part_paths

QUARANTINE: Final = "_quarantine"
SETTLED: Final = "settled"
NAMED: Final = 20  # files that one message names
_IN_QUARANTINE: Final = "is a journal segment with damaged lines"
_RESTORE: Final = "restore the file from a backup; or mavi run --pay-again"


@dataclass(frozen=True, slots=True)
class Damaged:
    """One file, what is wrong with it, what is lost, and what to do."""

    path: Path
    problem: str
    lost: str
    advice: str


def verify(root: Path) -> list[Damaged]:
    """Read every part and every journal segment of a dataset from end to end."""
    found = [_describe(root, table, one) for table in TABLE_NAMES for one in _broken(root, table)]
    lost, advice = "what stood there; every record that checks out is kept", f"{_RESTORE} asks again"
    damaged = {path: f"has {count} damaged places" for path, count in _damaged_segments(root)}
    damaged |= dict.fromkeys(quarantined(root), _IN_QUARANTINE)
    return found + [Damaged(path, problem, lost, advice) for path, problem in damaged.items()]


def quarantined(root: Path) -> list[Path]:
    """Segments with damaged lines of which nobody has decided yet to go on without."""
    return sorted(path for path in (root / QUARANTINE).glob("*") if path.is_file())


def require_settled(root: Path) -> None:
    """Raise StorageError when paid answers are lost to damage, and asking again would pay for them again."""
    found = _unsettled(root)
    if not found:
        return
    named = "".join(f"\n  {line}" for line in found[:NAMED])
    more = f"\n  and {len(found) - NAMED} more" if len(found) > NAMED else ""
    raise StorageError(
        f"{root}: nothing was sent, because paid answers may be lost in damaged files and would be paid for "
        f"again:{named}{more}\nSee mavi doctor {root} --verify; {_RESTORE} goes on without them"
    )


def report(root: Path) -> None:
    """Name what a run would stop at; for who sends nothing."""
    for path in quarantined(root):
        parts.damage_log.warning("%s: %s", path, _IN_QUARANTINE)


def settle(root: Path) -> None:
    """Go on without what is damaged: it moves to `_quarantine/settled`. Raises StorageError."""
    for path in quarantined(root):
        _move(root, path, path.name)
    mirror = mirror_of(root)
    for table in TABLE_NAMES:
        for one in filter(lambda one: parts.is_filed(one.path), _broken(root, table)):
            key = one.path.relative_to(root).as_posix()
            if mirror is not None:
                mirror.set_aside(one.path, f"{QUARANTINE}/{SETTLED}/{key}")
            _move(root, one.path, key)


def _move(root: Path, path: Path, name: str) -> None:
    place = root / QUARANTINE / SETTLED / name
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, place)
    except OSError as error:
        raise StorageError(f"{path}: cannot be moved to {place} ({error.strerror})") from error


def _unsettled(root: Path) -> list[str]:
    return [
        *(f"{path}: {_IN_QUARANTINE}" for path in quarantined(root)),
        *(f"{path}: has {count} damaged places" for path, count in _damaged_segments(root)),
        *(f"{one.path}: {one.problem}" for one in _broken(root, "results") if parts.is_filed(one.path)),
    ]


def _broken(root: Path, table: str) -> list[parts.BrokenPart]:
    return parts.broken(part_paths(root, table), TABLES.get(table)) if (root / table).is_dir() else []


def _damaged_segments(root: Path) -> Iterator[tuple[Path, int]]:
    """Segments that are not published yet, with how many places are damaged."""
    for path in segments.segments(root / "_journal"):
        with segments.reading(path) as reader:
            count = sum(record is None for record in reader or ())
        if count:
            yield path, count


# -- in words


def _describe(root: Path, table: str, one: parts.BrokenPart) -> Damaged:
    if not parts.is_filed(one.path):
        return Damaged(one.path, one.problem, "nothing of this dataset", "move it out of the dataset")
    count = parts.row_count(one.path)
    rows = "rows (how many is not known)" if count is None else f"{count:,} rows"
    if table == "results":
        lost = f"{rows} of results{_paid(root, one.path)}"
        return Damaged(one.path, one.problem, lost, f"{_RESTORE} asks and pays for them again")
    lost, then = {
        "attempts": (f"what {rows} of attempts cost: the spend shown is too low", "goes on without it"),
        "labels": (f"{rows} of labels; the answers are in results", "goes on without it"),
        "reviews": (f"{rows} of reviews, which people gave", "goes on without them"),
        "runs": ("the row of a run; its answers and costs are in the other tables", "goes on without it"),
    }[table]
    return Damaged(one.path, one.problem, lost, f"{_RESTORE} {then}")


def _paid(root: Path, part: Path) -> str:
    """What the answers of a part cost, by the attempts of the same segment."""
    attempts = root / "attempts" / part.parent.name / part.name
    if not attempts.is_file() or parts.problem_of(attempts, TABLES["attempts"]) is not None:
        return ""
    table = parts.read_columns(attempts, ["cost_usd"])
    return f", paid for with ${short_text(pico_sum(table['cost_usd']))}"
