"""Parts between a spool and its bucket.

Out: a staged file is checked (its footer can be read and counts the rows that were written), then PUT under
its final key only if there is none: so a truncated object is never seen, and publishing twice is once. Only
then is it renamed into the spool, and only then is its segment deleted.

In: one listing tells which parts there are; those that the spool lacks are fetched, each once in its life,
because a part never changes. Parts that are gone from the bucket leave the spool too.
"""

import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from mavi_tasks.errors import InputError, StorageError
from mavi_tasks.storage.s3.bucket import CONNECTIONS, Bucket, Found, WrongPlaceError
from mavi_tasks.storage.s3.location import folder, mark_of
from mavi_tasks.storage.segments import segments

log = logging.getLogger("mavi")

FRESH_S: Final = 5.0  # a listing is good for so long; what must be sure says `forget` before
LOGGED_PARTS: Final = 200  # from so many on, the log says what takes time
PROBE: Final = "_claims/probe"
_PART: Final = re.compile(r"[a-z]+/run_date=\d{4}-\d{2}-\d{2}/(part|run)-[A-Za-z0-9][A-Za-z0-9._-]*\.parquet")


class Mirror:
    """A spool and the bucket it stands for. Thread-safe; several processes may share the spool."""

    def __init__(self, root: Path, url: str, spool: str) -> None:
        self.root, self.url, self.spool = root, url, spool
        self.bucket = Bucket(url)
        self._guard = threading.Lock()
        self._listed: dict[str, float] = {}
        self._fetched_again: set[str] = set()

    def check(self, *, writes: bool) -> None:
        """Make sure, before anything is sent, that the bucket can be read, written, and written only if new.

        Raises InputError when the bucket or the credentials are wrong, StorageError when it cannot be used.
        """
        try:
            self.bucket.is_empty()
            if not writes:
                return
            self.bucket.put_new(PROBE, b"mavi")
            again = self.bucket.put_new(PROBE, b"mavi")
            over = self.bucket.put_over(PROBE, b"mavi", '"0"')
        except WrongPlaceError as error:
            raise InputError(str(error)) from error
        if again is not None or over is not None:
            raise StorageError(
                f"{self.url}: this store ignores If-None-Match or If-Match on PUT, so that two runs could "
                "overwrite each other; use one that knows conditional writes, or a local folder"
            )

    def must_exist(self) -> None:
        """Raise InputError when there is nothing to read, here or there."""
        try:
            empty = self.bucket.is_empty()
        except WrongPlaceError as error:
            raise InputError(str(error)) from error
        if empty and not segments(self.root / "_journal"):
            raise InputError(f"{self.url}: no dataset lies there; give the output of a run")

    # -- out

    def ship(self, staged: Path, final: Path, rows: int) -> None:
        """Put a finished file under its key, once. Raises StorageError: then nothing of it is there."""
        _checked(staged, rows)
        key = self._key(final)
        if self.bucket.put_new(key, staged) is None and _rows_in(self.bucket.get(key)) != rows:
            raise StorageError(
                f"{self.url}/{key}: another file of this name is there already; "
                "the answers stay in the journal"
            )

    def ship_run(self, staged: Path, final: Path) -> None:
        """Put a run's row, over an older one of the same run."""
        _checked(staged, 1)
        self.bucket.put(self._key(final), staged)

    def set_aside(self, part: Path, key: str) -> None:
        """Give a broken part another key. Raises StorageError."""
        self.bucket.put(key, part)
        self.bucket.delete(self._key(part))

    def _key(self, final: Path) -> str:
        return final.relative_to(self.root).as_posix()

    # -- in

    def forget(self) -> None:
        """The next refresh of a table lists it again."""
        with self._guard:
            self._listed.clear()

    def refresh(self, table: str) -> None:
        """Bring the spool's copy of a table up to the bucket. Raises StorageError, and InputError when the
        bucket or the credentials are wrong.
        """
        with self._guard:
            if time.monotonic() - self._listed.get(table, -FRESH_S) < FRESH_S:
                return
            began = time.monotonic()
            try:
                self._refresh(table)
            except WrongPlaceError as error:
                raise InputError(str(error)) from error
            self._listed[table] = began

    def _refresh(self, table: str) -> None:
        folder = self.root / table
        had = set(folder.rglob("*.parquet"))  # before the listing: all of it was shipped
        listed = [one for one in self.bucket.list(f"{table}/") if one.key.endswith(".parquet")]
        there = [one for one in listed if _is_part(one.key)]
        if len(there) < len(
            listed
        ):  # a key such as results/../../x.parquet would be written outside the spool
            log.warning(
                "%s: %d objects are not parts of a dataset; ignored", self.url, len(listed) - len(there)
            )
        missing = [one for one in there if _size(self.root / one.key) != one.size]
        for gone in had - {self.root / one.key for one in there}:
            gone.unlink(missing_ok=True)
        if len(missing) >= LOGGED_PARTS:
            size = sum(one.size for one in missing) / 1e6
            log.warning("fetching %d parts of %s (%.0f MB), once", len(missing), f"{self.url}/{table}", size)
        self._fetch(missing)

    def fetch_again(self, broken: Sequence[Path]) -> None:
        """Fetch broken copies of parts anew, once each: the bucket may have them whole."""
        for path in broken:
            key = self._key(path)
            if key not in self._fetched_again and _is_part(key):
                self._fetched_again.add(key)
                self._fetch([one for one in self.bucket.list(key) if one.key == key])

    def _fetch(self, missing: list[Found]) -> None:
        if not missing:
            return
        for parent in {(self.root / one.key).parent for one in missing}:
            parent.mkdir(parents=True, exist_ok=True)
        staging = self.root / "_fetch"
        staging.mkdir(exist_ok=True)
        with ThreadPoolExecutor(CONNECTIONS, "fetch") as pool:
            for _ in pool.map(lambda one: self._fetch_one(one, staging), missing):
                pass

    def _fetch_one(self, one: Found, staging: Path) -> None:
        found = self.bucket.get(one.key)
        if found is None:
            return
        staged = staging / secrets.token_hex(8)
        try:
            staged.write_bytes(found[0])
            os.utime(staged, (one.modified.timestamp(),) * 2)  # the newest part is known by its time
            staged.replace(self.root / one.key)
        except OSError as error:
            raise StorageError(f"{self.root}: cannot be written ({error.strerror})") from error
        finally:
            staged.unlink(missing_ok=True)


def existing(location: str | os.PathLike[str]) -> Path:
    """The local folder of a dataset that is to be read. Raises InputError when its bucket holds none."""
    root = folder(location)
    mirror = mirror_of(root)
    if mirror is not None:
        mirror.must_exist()
    return root


def mirror_of(root: Path) -> Mirror | None:
    """The mirror of a spool; None for a local dataset."""
    mark = mark_of(root)
    return _mirror(root, mark["url"], mark["spool"]) if mark is not None else None


@lru_cache(64)
def _mirror(root: Path, url: str, spool: str) -> Mirror:
    return Mirror(root, url, spool)


def _checked(staged: Path, rows: int) -> None:
    found = _footer(lambda: pq.read_metadata(staged).num_rows)
    if found != rows:
        raise StorageError(f"{staged}: holds {found} rows instead of {rows}; it is not published")


def _rows_in(found: tuple[bytes, str] | None) -> int | None:
    return None if found is None else _footer(lambda: pq.read_metadata(pa.BufferReader(found[0])).num_rows)


def _footer(read: Callable[[], int]) -> int | None:
    try:
        return read()
    except (OSError, pa.ArrowInvalid):
        return None


def _is_part(key: str) -> bool:
    """Whether a key is a name that publishing gives: TABLE/run_date=YYYY-MM-DD/NAME.parquet."""
    return _PART.fullmatch(key) is not None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
