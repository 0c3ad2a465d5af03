"""What people said of the answers: `DIR/reviews/`, append-only Parquet parts and a journal of their own.

    DIR/_journal/<token>.reviews    one line a review (segments.py), synced before `append` returns
    DIR/_journal/<token>.reviewed   sealed: becomes reviews/run_date=YYYY-MM-DD/part-<token>.parquet
    DIR/_journal/reviews.lock       held by whoever appends or publishes

So a kill loses nothing that was acknowledged, and each of several processes sees what the others appended. In
a bucket each append is published at once. Nothing is changed in place: an undo is a row with `retracts`, and
a second one takes the undo back. The newest row that was not taken back counts.
"""

import json
import os
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock

from mavi_tasks.errors import InputError, StorageError
from mavi_tasks.labels.extract_json import encodable
from mavi_tasks.schema import REVIEWS, SCHEMA_VERSION, ReviewVerdict
from mavi_tasks.storage import parts, segments
from mavi_tasks.storage.arrow import table_of
from mavi_tasks.storage.filesystem import put_in_place, storage_errors, sync_folder
from mavi_tasks.storage.recency import plausible_us
from mavi_tasks.storage.s3 import mirror_of
from mavi_tasks.storage.tables import part_paths

SOURCES: Final = ("view", "csv", "label-studio")
KEY: Final = ("item_id", "prompt_id", "media_sha256", "field")  # of which the newest review counts
ROWS_IN_JOURNAL: Final = 256  # then they become a part
LOCK_WAIT_S: Final = 30.0
_OPEN, _SEALED, _STAGED = ".reviews", ".reviewed", ".review"
_WITH_VALUE: Final = (ReviewVerdict.ACCEPTED, ReviewVerdict.CORRECTED)
_TEXTS: Final = ("item_id", "prompt_id", "field", "chosen_model", "note", "reviewer")
Question = tuple[str, str]  # item_id, prompt_id


@dataclass(frozen=True, slots=True)
class Review:
    """One row of reviews. `append` gives review_id and reviewed_at where they are None.

    field: None is the whole answer. value_json: the right value; accepted and corrected need one. retracts:
    the review_id of a row to take back; such a row has no verdict. The others are columns of schema.py.
    """

    item_id: str
    prompt_id: str
    verdict: str | None = None
    value_json: str | None = None
    field: str | None = None
    media_sha256: str | None = None
    chosen_model: str | None = None
    note: str | None = None
    reviewer: str | None = None
    source: str = "view"
    retracts: str | None = None
    inclusion_probability: float | None = None
    sample_id: str | None = None
    reviewed_at: datetime | None = None
    review_id: str | None = None

    @property
    def question(self) -> Question:
        return self.item_id, self.prompt_id


class Conflict(StorageError):
    """Somebody else has reviewed an item since the caller saw it; `newest` is the row that came last."""

    def __init__(self, newest: Review) -> None:
        self.newest = newest
        super().__init__(
            f"item {newest.item_id!r}: {newest.reviewer or 'somebody'} has reviewed it at "
            f"{newest.reviewed_at:%Y-%m-%d %H:%M:%S} UTC, after it was opened here"
        )


def append(
    root: Path, reviews: Sequence[Review], *, seen: Mapping[Question, str | None] | None = None
) -> list[Review]:
    """Record reviews, all or none, safe from kill -9 and power loss; returns them with review_id and time.

    seen: by (item_id, prompt_id) the review_id of the newest row that the caller knew, None for no row; those
    not named are not checked. Raises Conflict when another row came since, InputError of everything that is
    wrong in the reviews, StorageError when they cannot be written.
    """
    if not reviews:
        return []
    with storage_errors(root, "write to"):
        (root / "_journal").mkdir(parents=True, exist_ok=True)
    mirror = mirror_of(root)
    with storage_errors(root, "write to"), _lock(root):
        if mirror is not None:
            mirror.forget()
        before = history(root)
        _check(reviews, before, seen or {})
        made = _with_ids(reviews, before)
        waiting = _write(root, made)
        if mirror is not None or waiting >= ROWS_IN_JOURNAL:
            _publish(root)
    return made


def current(root: Path) -> pa.Table:
    """The reviews that count: the newest for each item, prompt, media and field, oldest first."""
    return current_of(history(root))


def current_of(rows: pa.Table) -> pa.Table:
    """Of the rows of `history`, those that count."""
    alive = standing(rows)
    keys = zip(*(alive[name].cast("string").to_pylist() for name in KEY), strict=True)
    last = {key: at for at, key in enumerate(keys)}
    return alive.take(pa.array(sorted(last.values()), pa.int64()))


def standing(rows: pa.Table) -> pa.Table:
    """Of the rows of `history`, those with a verdict that no later row takes back."""
    ids, retracts = rows["review_id"].to_pylist(), rows["retracts"].to_pylist()
    taken_back: set[str] = set()
    kept = []
    for at in range(len(ids) - 1, -1, -1):
        if ids[at] in taken_back:
            continue
        if retracts[at] is not None:
            taken_back.add(retracts[at])
        else:
            kept.append(at)
    return rows.take(pa.array(kept[::-1], pa.int64()))


def history(root: Path) -> pa.Table:
    """Every row, undone ones included, oldest first. The journal is read before the parts.

    Rows of one review_id are one. Empty when nobody has reviewed anything.
    """
    waiting = [row for path in _segments(root) for row in _rows(path)[0]]
    paths = parts.whole(part_paths(root, "reviews"), REVIEWS)
    tables = [REVIEWS.empty_table(), *map(_part, paths), *([_table(waiting)] if waiting else [])]
    rows = pa.concat_tables(tables).unify_dictionaries()
    _, first = np.unique(rows["review_id"].to_numpy(), return_index=True)
    rows = rows.take(pa.array(first))
    instant_us = plausible_us(rows["reviewed_at"].cast(pa.int64()).to_numpy())
    return rows.take(pa.array(np.argsort(instant_us, kind="stable")))


def exist(root: Path) -> bool:
    """Whether anybody has reviewed anything."""
    return bool(_segments(root) or part_paths(root, "reviews"))


def newest(rows: pa.Table) -> dict[Question, Review]:
    """By item and prompt the newest of the rows of `history`: what `append(seen=...)` is checked against."""
    return {one.question: one for one in map(_review, rows.to_pylist())}


def publish(root: Path) -> None:
    """Turn what the journal holds into a part of reviews/. Raises StorageError."""
    if _segments(root):
        with storage_errors(root, "publish in"), _lock(root):
            _publish(root)


# -- checks, with the lock held


def _check(reviews: Sequence[Review], before: pa.Table, seen: Mapping[Question, str | None]) -> None:
    known = set(before["review_id"].to_pylist())
    problems = [
        f"review of item {one.item_id!r}: {problem}" for one in reviews for problem in _problems(one, known)
    ]
    if problems:
        raise InputError(problems)
    last = newest(before) if seen else {}
    for question in dict.fromkeys(one.question for one in reviews):
        there = last.get(question)
        if question in seen and there is not None and there.review_id != seen[question]:
            raise Conflict(there)


def _problems(one: Review, known: set[str]) -> Iterable[str]:
    if not one.item_id:
        yield "item_id is empty"
    if one.source not in SOURCES:
        yield f"source {one.source!r} must be {' or '.join(SOURCES)}"
    if one.inclusion_probability is not None and not 0 < one.inclusion_probability <= 1:
        yield f"inclusion_probability {one.inclusion_probability!r} must be above 0, at most 1"
    if one.retracts is not None:
        if one.retracts not in known:
            yield f"retracts {one.retracts!r}: there is no such review"
        if one.verdict is not None:
            yield "a row that takes another one back has no verdict"
        return
    if one.verdict not in list(ReviewVerdict):
        yield f"verdict {one.verdict!r} must be {' or '.join(ReviewVerdict)}"
    if one.value_json is None:
        if one.verdict in _WITH_VALUE:
            yield f"{one.verdict}, but value_json does not say what is right"
        return
    try:
        json.loads(one.value_json)
    except (ValueError, RecursionError):
        yield f"value_json {one.value_json[:80]!r} is not JSON"


def _with_ids(reviews: Sequence[Review], before: pa.Table) -> list[Review]:
    """Each with an id and a time, in their order; later than all that is known, whatever the clock says."""
    last_us = pc.max(before["reviewed_at"].cast(pa.int64())).as_py() or 0
    now_us = time.time_ns() // 1000
    if plausible_us(last_us, now_us) == last_us:
        now_us = max(now_us, last_us + 1)
    made = []
    for at, one in enumerate(reviews):
        instant = one.reviewed_at or datetime.fromtimestamp((now_us + at) / 1e6, UTC)
        texts: dict[str, Any] = {
            name: encodable(text) for name in _TEXTS if (text := getattr(one, name)) is not None
        }
        made.append(replace(one, **texts, reviewed_at=instant, review_id=one.review_id or _id(now_us + at)))
    return made


def _id(now_us: int) -> str:
    """An id that nobody else gives; later ones sort later."""
    return f"{now_us:014x}-{secrets.token_hex(6)}"


# -- the journal


def _lock(root: Path) -> FileLock:
    return FileLock(root / "_journal" / "reviews.lock", timeout=LOCK_WAIT_S)


def _segments(root: Path) -> list[Path]:
    folder = root / "_journal"
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(folder / name for name in names if name.endswith((_OPEN, _SEALED)))


def _rows(path: Path) -> tuple[list[dict[str, Any]], int, int]:
    """The rows of a segment, how many bytes of it are whole lines, and how many lines are damaged.

    A torn last line was never acknowledged. Nothing when the segment was published meanwhile.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return [], 0, 0
    whole = raw[: raw.rfind(b"\n") + 1]
    records = [segments.parse(one) for one in whole.splitlines()]
    rows = [record["r"] for record in records if record is not None]
    return rows, len(whole), records.count(None)


def _write(root: Path, reviews: Sequence[Review]) -> int:
    """Append rows to the open segment; returns how many it has. All rows are one write."""
    folder = root / "_journal"
    path = next(
        (one for one in _segments(root) if one.suffix == _OPEN),
        folder / f"{_id(time.time_ns() // 1000)}{_OPEN}",
    )
    is_new = not path.exists()
    rows, size, _ = _rows(path)
    raw = b"".join(segments.line({"t": "v", "r": _row(one)}) for one in reviews)
    with path.open("ab") as file:
        file.truncate(size)
        try:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), size)
            raise
    if is_new:
        sync_folder(folder)
    return len(rows) + len(reviews)


def _row(review: Review) -> dict[str, Any]:
    assert review.reviewed_at is not None
    instant_us = round(review.reviewed_at.timestamp() * 1e6)
    return {**asdict(review), "reviewed_at": instant_us}


def _review(row: Mapping[str, Any]) -> Review:
    return Review(**{name: value for name, value in row.items() if name != "schema_version"})


# -- parts


def _publish(root: Path) -> None:
    """With the lock held. A segment is sealed first, so that its part never changes."""
    staging = root / "_staging"
    staging.mkdir(exist_ok=True)
    for half in staging.glob(f"*{_STAGED}"):
        half.unlink(missing_ok=True)
    for path in _segments(root):
        sealed = path.with_suffix(_SEALED)
        path.rename(sealed)
        rows, _, damaged = _rows(sealed)
        if damaged:
            parts.damage_log.warning("%s: has damaged lines; the other reviews are kept", sealed)
            quarantine = root / "_quarantine" / "settled"
            quarantine.mkdir(parents=True, exist_ok=True)
            (quarantine / sealed.name).write_bytes(sealed.read_bytes())
        if rows:
            _publish_rows(root, sealed, rows)
        sealed.unlink()
    sync_folder(root / "_journal")


def _publish_rows(root: Path, sealed: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    table = _table(rows)
    date = f"{datetime.fromtimestamp(int(sealed.stem.partition('-')[0], 16) / 1e6, UTC):%Y-%m-%d}"
    staged = root / "_staging" / f"{sealed.stem}{_STAGED}"
    final = root / "reviews" / f"run_date={date}" / f"part-{sealed.stem}.parquet"
    parts.write_part(staged, table)
    (root / "reviews").mkdir(exist_ok=True)
    mirror = mirror_of(root)
    if mirror is not None:
        mirror.ship(staged, final, table.num_rows)
    put_in_place(staged, final)
    sync_folder(final.parent)


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    names = [name for name in REVIEWS.names if name != "schema_version"]
    values = [[row.get(name) for name in names] for row in rows]
    return table_of(REVIEWS, names, values, {"schema_version": SCHEMA_VERSION})


def _part(path: Path) -> pa.Table:
    try:
        return _read_part(path, path.stat().st_mtime_ns)
    except FileNotFoundError:  # gone between the listing and now: taken down
        return REVIEWS.empty_table()


@lru_cache(4096)
def _read_part(path: Path, mtime_ns: int) -> pa.Table:
    """mtime_ns: a part that was rewritten (forget.py) is read anew."""
    return pq.read_table(path, partitioning=None, schema=REVIEWS)
