"""Overlapping runs over one dataset: no request is sent by two of them at the same time, or after another.

A request is locked by one byte of `DIR/_claims`, at an offset taken from its key. The operating system drops
the lock when its process dies, so nothing is left of a dead run, and no clock is trusted. With the lock held,
the run reads what other writers have recorded since; only then may the request be sent. Both together cost
about 4 us.
"""

import os
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from mavi_tasks.schema import PAID
from mavi_tasks.storage import segments
from mavi_tasks.storage.filesystem import storage_errors
from mavi_tasks.storage.parts import read_columns

TICK_NS = 50_000_000  # longer than one tick of any file system's clock

if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int, offset: int, *, take: bool) -> bool:
        os.lseek(fd, offset, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK if take else msvcrt.LK_UNLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    # Linux locks the open file, so that two runs in one process exclude each other too; others the process.
    _SET_LOCK = getattr(fcntl, "F_OFD_SETLK", fcntl.F_SETLK)

    def _lock(fd: int, offset: int, *, take: bool) -> bool:
        if sys.platform != "linux":
            try:
                fcntl.lockf(fd, (fcntl.LOCK_EX | fcntl.LOCK_NB) if take else fcntl.LOCK_UN, 1, offset)
            except (BlockingIOError, PermissionError):
                return False
            return True
        kind = fcntl.F_WRLCK if take else fcntl.F_UNLCK
        try:
            fcntl.fcntl(fd, _SET_LOCK, struct.pack("hhqqi", kind, os.SEEK_SET, offset, 1, 0))
        except (BlockingIOError, PermissionError):
            return False
        return True


class RequestLocks:
    """The locks of one process on the requests of one dataset."""

    def __init__(self, root: Path, writer: str) -> None:
        self._root = root
        self._journal = root / "_journal"
        self._writer = writer
        with storage_errors(root, "write to"):
            self._fd = os.open(root / "_claims", os.O_RDWR | os.O_CREAT, 0o644)
        self._folder_seen = 0
        self._parts: set[str] = set()
        self._others: dict[Path, SegmentFollower] = {}
        self._answered: set[str] = set()

    def take(self, key: str) -> bool:
        """Lock a request; False when another run has locked it."""
        return _lock(self._fd, _offset(key), take=True)

    def release(self, key: str) -> None:
        _lock(self._fd, _offset(key), take=False)

    def answered_elsewhere(self, key: str) -> bool:
        """Whether another writer has paid for this answer since the run began; call it with the lock held."""
        self._look()
        return key in self._answered

    def start_watching(self) -> None:
        """Begin before the dataset is indexed, so that nothing falls between the two."""
        self._parts.update(part.name for part in self._published())
        self._look()

    def close(self) -> None:
        os.close(self._fd)

    def _look(self) -> None:
        changed = os.stat(self._journal).st_mtime_ns
        if changed != self._folder_seen:
            # Changes within one tick of the file system's clock look like one: look again until it is past.
            self._folder_seen = changed if abs(time.time_ns() - changed) > TICK_NS else -1
            for path in segments.segments(self._journal):
                if segments.writer_of(path) != self._writer:
                    self._others.setdefault(path.with_suffix(""), SegmentFollower(self._root, path))
            self._look_at_parts()
        for stem, tail in list(self._others.items()):
            if not tail.read_into(self._answered):
                del self._others[stem]

    def _look_at_parts(self) -> None:
        """Read the parts that are new: a whole segment may have come and gone since the last look."""
        for part in self._published():
            if part.name not in self._parts:
                self._parts.add(part.name)
                if not part.name.startswith(f"part-{self._writer}."):
                    _read_part(part, self._answered)

    def _published(self) -> Iterator[Path]:
        return (self._root / "results").glob("*/part-*.parquet")


class SegmentFollower:
    """Follows one segment of another writer, to its end: published, and read from its part then."""

    def __init__(self, root: Path, path: Path) -> None:
        self._root = root
        self._path = path
        self._offset = 0
        self._decode: segments.Decoder | None = None

    def read_into(self, answered: set[str]) -> bool:
        """Add the keys answered since the last look; False when nothing more can come."""
        try:
            if os.stat(self._path).st_size > self._offset:
                self._read_lines(answered)
        except FileNotFoundError:
            return self._moved_on(answered)
        return True

    def _read_lines(self, answered: set[str]) -> None:
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for raw in file:
                if not raw.endswith(b"\n"):
                    return
                if self._decode is None:
                    with segments.reading(self._path) as reader:
                        if reader is None:
                            return
                        self._decode = reader.decode
                for record in self._decode(raw[:-1]):
                    _take(record, answered)
                self._offset += len(raw)

    def _moved_on(self, answered: set[str]) -> bool:
        """The segment has gone: it was sealed (renamed), or published."""
        sealed = self._path.with_suffix(".sealed")
        if self._path != sealed and sealed.exists():
            self._path = sealed
            return self.read_into(answered)
        name = f"part-{self._path.stem}.parquet"
        for part in (self._root / "results").glob(f"*/{name}"):
            _read_part(part, answered)
        return False


def _take(record: segments.Intent | segments.Outcome | None, answered: set[str]) -> None:
    if isinstance(record, segments.Outcome) and record.result is not None and record.result.status in PAID:
        answered.add(record.result.request_key)


def _read_part(part: Path, answered: set[str]) -> None:
    table = read_columns(part, ["request_key", "status"])
    for key, status in zip(table["request_key"].to_pylist(), table["status"].to_pylist(), strict=True):
        if status in PAID:
            answered.add(key)


def _offset(key: str) -> int:
    return int(key[:15], 16)  # 60 bits: a lock's offset is a signed 64-bit number
