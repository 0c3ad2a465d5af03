"""The append-only, crash-safe record of what was sent and what came back.

A writer (one per process) owns a lock file and a row of segments, `_journal/<writer>.<seq>.jsonl`:

    open:    locked, given its header under a `.new` name, then renamed, so that no publisher ever sees an
             unlocked or empty segment
    line:    crc32 of the JSON as 8 hex digits, a space, the JSON; one write() each, so that a kill -9 loses
             nothing; fdatasync every second or 256 lines, so that a power loss loses no more than that
    intent:  {"t": "i", "a": [...]} before a request is sent
    outcome: {"t": "o", "a": [...], "r": [...] | null} after; one line, so both rows or neither are kept
    end:     {"t": "e", "n": records} as the last line of a sealed segment, so that a cut is seen
    sealed:  renamed to `.sealed`; a dead writer's segments seal themselves, because its lock is free

The header stands there twice, because all others depend on it. The rows are lists in the order that it names;
they are read as `Row`, by name. A torn last line is cut; any other damaged line is reported, and the rest is
read. Measured: two writes a request, 2 us
each.
"""

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from filelock import FileLock

from mavi_tasks.common.money import pico_name
from mavi_tasks.errors import StorageError
from mavi_tasks.storage.filesystem import storage_errors, sync_folder
from mavi_tasks.storage.segments import FORMAT_VERSION, Columns, line

Durability = Literal["always", "group", "os"]

SYNC_LINES: Final = 256
SYNC_EVERY_S: Final = 1.0
BALLAST_BYTES: Final = 4 << 20  # freed when the disk is full, so that answers in flight still find room
_SAFE: Final = "nothing recorded is lost"


class Draft:
    """A row to be written: set every value by its column's name (money: `cost_pico`), then take `in_order()`.

    A name that is no column, or that was not set, raises AttributeError. Measured: 0.7 us more than a list by
    position, for 42 columns; a dict and its `itemgetter` took 2.
    """

    __slots__ = ()
    _values: ClassVar[Callable[["Draft"], tuple[Any, ...]]]

    if TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None: ...

    def in_order(self) -> tuple[Any, ...]:
        return type(self)._values(self)


def draft_class(columns: Sequence[str]) -> type[Draft]:
    """The class of drafts of rows with these columns, two at least."""
    names = tuple(map(pico_name, columns))
    return type("Draft", (Draft,), {"__slots__": names, "_values": attrgetter(*names)})


class Journal:
    """The writer. Not thread safe but for its own syncing thread: one event loop writes."""

    def __init__(
        self,
        folder: Path,
        writer: str,
        header: Mapping[str, Any],
        columns: Columns,
        *,
        durability: Durability = "group",
        roll_bytes: int = 64 << 20,
        roll_after_s: float = 300.0,
        fence: Callable[[], None] | None = None,
    ) -> None:
        """fence: called before each intent; raises StorageError when nothing more may be sent."""
        self.folder = folder
        self.writer = writer
        self._header = {
            **header,
            "v": FORMAT_VERSION,
            "results": columns.results,
            "attempts": columns.attempts,
            "intents": columns.intents,
            "ends": True,  # when it is sealed, its last line says how many records there were
        }
        self._durability = durability
        self._roll_bytes = roll_bytes
        self._roll_after_s = roll_after_s
        self._fence = fence
        self._open_intents: dict[str, Sequence[Any]] = {}
        self._intent_id = itemgetter(columns.intents.index("attempt_id"))
        self._attempt_id = itemgetter(columns.attempts.index("attempt_id"))
        self._seq = 0
        self._fd = -1
        self._trouble: str | None = None  # why nothing more may be sent
        self._guard = threading.Lock()  # the file descriptor, between the writer and the syncing thread
        self._unsynced = 0
        self._wake = threading.Event()
        self._closed = False
        with storage_errors(folder, "write to"):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / f"{writer}.lock")
            self._lock.acquire(timeout=0)
            self._make_ballast()
            self._open_segment()
        self._thread = threading.Thread(target=self._sync_forever, name="journal-sync", daemon=True)
        if durability == "group":
            self._thread.start()

    # -- writing

    def intend(self, attempt: Sequence[Any]) -> None:
        """Record that a request is about to be sent.

        Raises StorageError when it cannot be recorded: then it must not be sent.
        """
        if self._fence is not None:
            self._fence()
        if self._trouble:
            raise self._refusal()
        self._write({"t": "i", "a": attempt}, spend_ballast=False)
        self._open_intents[self._intent_id(attempt)] = attempt

    def record(self, attempt: Sequence[Any] | None, result: Sequence[Any] | None) -> None:
        """Record what came of an attempt, and the request's result when that is now final."""
        self._write({"t": "o", "a": attempt, "r": result}, spend_ballast=True)
        if attempt is not None:
            self._open_intents.pop(self._attempt_id(attempt), None)
        if self._size >= self._roll_bytes or time.monotonic() - self._opened >= self._roll_after_s:
            try:
                self.roll()
            except StorageError as error:  # this row is recorded; the next send is refused and says why
                self._trouble = str(error)

    def roll(self) -> None:
        """Seal this segment, so that it can be published, and go on in a new one."""
        if self._lines == 0:
            self._opened = time.monotonic()
            return
        with self._guard, storage_errors(self.folder, "write to"):
            old_fd, old_path, ending = self._fd, self._path, self._ending()
            self._open_segment()  # names the intents it carries over, before the old one can be published
            os.write(old_fd, ending)
            os.fdatasync(old_fd)
            os.close(old_fd)
            old_path.rename(old_path.with_suffix(".sealed"))

    def close(self) -> None:
        """Seal the last segment and give up the writer's lock."""
        if self._closed:
            return
        self._closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._ballast.unlink(missing_ok=True)
        with self._guard, storage_errors(self.folder, "write to"):
            try:
                removed = self._removed()
                if not self._trouble:
                    os.write(self._fd, self._ending())
                    os.fdatasync(self._fd)
            finally:
                os.close(self._fd)
        if not self._trouble:  # else the free lock seals it
            with contextlib.suppress(OSError):  # a full disk may refuse even this
                self._path.rename(self._path.with_suffix(".sealed"))
        self._lock.release()
        with contextlib.suppress(OSError):
            (self.folder / f"{self.writer}.lock").unlink()
        if removed is not None:
            raise StorageError(removed)

    def _ending(self) -> bytes:
        """The last line of a sealed segment: how many records there were, so that a cut is seen."""
        return line({"t": "e", "n": self._lines})

    def _removed(self) -> str | None:
        """What to say when somebody has removed the segment while it is written."""
        if os.fstat(self._fd).st_nlink:
            return None
        return (
            f"{self._path}: was removed during the run; the answers of which it was the only record are lost "
            "(they were paid for, and the next run would pay for them again)"
        )

    def _write(self, record: Mapping[str, Any], *, spend_ballast: bool) -> None:
        raw = line(record)
        try:
            written = os.write(self._fd, raw)
            if written != len(raw):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            os.ftruncate(self._fd, self._size)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise StorageError(f"{self._path}: cannot be written ({error.strerror})") from error
            self._trouble = f"{self.folder}: the disk is full; {_SAFE}. Make room and run again"
            if not spend_ballast:
                raise self._refusal() from error
            self._write_into_ballast(raw, error)
        self._size += len(raw)
        self._lines += 1
        self._unsynced += 1
        if self._durability == "always":
            os.fdatasync(self._fd)
        elif self._unsynced >= SYNC_LINES:
            self._wake.set()

    def _write_into_ballast(self, raw: bytes, error: OSError) -> None:
        self._ballast.unlink(missing_ok=True)
        if os.write(self._fd, raw) != len(raw):
            os.ftruncate(self._fd, self._size)
            raise self._refusal() from error

    def _refusal(self) -> StorageError:
        return StorageError(self._trouble or "")

    @property
    def full(self) -> bool:
        """The disk takes no more: outcomes still fit for a while, new sends are refused."""
        return self._trouble is not None

    def _open_segment(self) -> None:
        seq = self._seq + 1
        path = self.folder / f"{self.writer}.{seq:05d}.jsonl"
        new = path.with_suffix(".new")
        fd = os.open(new, os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY, 0o644)
        carried = list(self._open_intents.values())
        head = {**self._header, "t": "h", "seq": seq, "date": today(), "carried": carried}
        raw = 2 * line(head)  # either copy will do
        try:
            if os.write(fd, raw) != len(raw):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(fd)
            new.rename(path)
        except OSError:  # it can be tried again
            os.close(fd)
            new.unlink()
            raise
        sync_folder(self.folder)
        self._seq, self._fd, self._path, self._size, self._lines = seq, fd, path, len(raw), 0
        self._opened = time.monotonic()

    def _make_ballast(self) -> None:
        self._ballast = self.folder / f"{self.writer}.ballast"
        with self._ballast.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, BALLAST_BYTES)

    def _sync_forever(self) -> None:
        while not self._closed:
            self._wake.wait(SYNC_EVERY_S)
            self._wake.clear()
            with self._guard:
                if not self._closed and self._trouble is None:
                    self._trouble = self._removed()
            if self._unsynced == 0:
                continue
            with self._guard:
                self._unsynced = 0
                try:
                    os.fdatasync(self._fd)
                except OSError as error:  # the next send is refused and says why
                    self._trouble = (
                        f"{self.folder}: the disk fails ({error.strerror}); what was recorded in the last "
                        "second may be lost"
                    )


def today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())
