"""A plan's requests on disk: `DIR/_plan/RUN_ID/`, a folder of one run, in shards by model.

    0-00000.jsonl       shards of model 0, `shard_size` requests each, in the manifest's order
    0-b07-09-00001.jsonl    the same, cut by slices of the key space (several machines share the work)
    0-refused.jsonl     requests that cannot be sent to model 0: they become skipped rows
    0-copies.jsonl      rows that get the answer of an equal request

Only this module knows the names of these files. A lock beside the folder is held as long as its run lives.
"""

import errno
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import orjson
from filelock import FileLock, Timeout

from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.errors import StorageError
from mavi_tasks.media import Refusal
from mavi_tasks.planning.request import Request, key_start
from mavi_tasks.planning.target import ModelTarget

SLICES: Final = 64  # of the key space
_SLICED_SHARD: Final = re.compile(r"-b(\d+)-(\d+)-\d+\.")


@dataclass(frozen=True, slots=True)
class RefusedRequest:
    """A request that a model will not get, and why."""

    request: Request
    code: str
    reason: str


@dataclass
class Plan:
    """What a run will do. The requests themselves lie in `folder`.

    refused: the first of those that will not be sent, for people. skips: all of them, counted by model and
    code. to_copy: rows that get the answer of an equal request. to_restate: of these, rows whose own answer
    is hidden by one to another text of the prompt.
    """

    folder: Path
    targets: Sequence[ModelTarget]
    all_counters: dict[str, ModelCounters]
    items: int = 0
    shards: dict[str, list[Path]] = field(default_factory=dict)
    refused: list[dict[str, str]] = field(default_factory=list)
    skips: dict[str, Counter[str]] = field(default_factory=dict)
    to_send: dict[str, int] = field(default_factory=dict)
    to_copy: int = 0
    to_restate: int = 0
    only: str | None = None  # which rows were selected, as `--only` was given; None = all
    notes: list[str] = field(default_factory=list)  # what whoever selected them should know
    held: FileLock | None = None  # while it is, no other run takes the folder for a dead run's

    @classmethod
    def empty(cls, folder: Path, targets: Sequence[ModelTarget]) -> "Plan":
        """A plan without requests, and without a hold on its folder."""
        return cls(folder, targets, {target.model: ModelCounters(target.model) for target in targets})

    @property
    def requests(self) -> int:
        return sum(counters.requests for counters in self.all_counters.values())

    @property
    def already_answered(self) -> int:
        return sum(counters.already_answered for counters in self.all_counters.values())

    def read_refused(self, target: ModelTarget) -> Iterator[RefusedRequest]:
        for line in _lines(self._list_path(target, "refused")):
            raw, code, reason = orjson.loads(line)
            yield RefusedRequest(Request.from_json(raw.encode()), code, reason)

    def read_copies(self, target: ModelTarget) -> Iterator[Request]:
        yield from map(Request.from_json, _lines(self._list_path(target, "copies")))

    def _list_path(self, target: ModelTarget, name: str) -> Path:
        return self.folder / f"{self.targets.index(target)}-{name}.jsonl"

    def cut_by_slices(self, shard_size: int) -> None:
        """Cut the shards anew, so that each holds whole slices of the key space."""
        for position, (model, shards) in enumerate(self.shards.items()):
            if shards:
                self.shards[model] = SlicePartitioner(self.folder, position, shard_size).partition(shards)

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.held is not None:
            self.held.release()
            _lock_path(self.folder).unlink(missing_ok=True)


def read(shards: Iterable[Path]) -> Iterator[Request]:
    """The requests of these shards, in the manifest's order."""
    for path in shards:
        yield from map(Request.from_json, _lines(path))


def rewrite(
    shard: Path, keep: Callable[[Sequence[Request]], Iterable[Request]], to: Path | None = None
) -> Path:
    """Leave only what `keep` returns of a shard's requests, or write that `to` another file; returns it."""
    requests = list(read([shard]))
    written = to or shard
    written.write_bytes(b"".join(request.to_json() + b"\n" for request in keep(requests)))
    return written


def mark_begun(shard: Path) -> bool:
    """Leave a mark that a worker has this shard; False when one has had it before."""
    try:
        shard.with_suffix(".begun").open("x").close()
    except FileExistsError:
        return False
    return True


class SpoolWriter:
    """Writes one model's requests: to its shards, and to its lists of refused requests and of copies."""

    def __init__(self, plan: Plan, target: ModelTarget, shard_size: int) -> None:
        self._plan, self._position, self._shard_size = plan, plan.targets.index(target), shard_size
        self._shards = plan.shards.setdefault(target.model, [])
        self._shard: BinaryIO | None = None
        self._in_shard = 0
        self._lists: dict[str, BinaryIO] = {}

    def send(self, request: Request) -> None:
        if self._shard is None or self._in_shard >= self._shard_size:
            self._shard = self._next_shard()
        self._shard.write(request.to_json() + b"\n")
        self._in_shard += 1

    def copy(self, request: Request) -> None:
        self._list("copies").write(request.to_json() + b"\n")

    def refuse(self, request: Request, why: Refusal) -> None:
        line = orjson.dumps((request.to_json().decode(), why.code, why.reason))
        self._list("refused").write(line + b"\n")

    def _next_shard(self) -> BinaryIO:
        if self._shard is not None:
            self._shard.close()
        path = self._plan.folder / f"{self._position}-{len(self._shards):05d}.jsonl"
        self._shards.append(path)
        self._in_shard = 0
        return path.open("wb")

    def _list(self, name: str) -> BinaryIO:
        if name not in self._lists:
            self._lists[name] = (self._plan.folder / f"{self._position}-{name}.jsonl").open("wb")
        return self._lists[name]

    def close(self) -> None:
        for file in [self._shard, *self._lists.values()]:
            if file is not None:
                file.close()


# -- the folder


def hold(folder: Path) -> FileLock:
    """Make the spool's folder, its lock held before it is seen; the lock falls with the process."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_lock_path(folder), thread_local=False)
    lock.acquire(timeout=0)
    folder.mkdir(exist_ok=True, mode=0o700)  # the spool holds media URLs as they are sent
    return lock


def sweep(plans: Path) -> None:
    """Remove the spools of runs that died: a million requests take a gigabyte."""
    for folder in plans.glob("*/"):
        lock = FileLock(_lock_path(folder))
        with suppress(Timeout), lock.acquire(timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
            _lock_path(folder).unlink(missing_ok=True)


def no_room(folder: Path, error: BaseException) -> StorageError | None:
    """The error to raise instead of an OSError that says the disk is full; None for any other error."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"{folder}: the disk has no room for the plan: free some, and run again")
    return None


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _lines(path: Path) -> Iterator[bytes]:
    if path.exists():
        with path.open("rb") as file:
            yield from file


# -- slices of the key space


def slice_of(key: str) -> int:
    """The slice that a request key, or its first two characters, lies in."""
    return int(key[:2], 16) * SLICES // 256


def slices_of(shard: Path) -> range:
    """The slices that a sliced shard holds, by its name."""
    found = _SLICED_SHARD.search(shard.name)
    assert found is not None, shard
    return range(int(found[1]), int(found[2]) + 1)


class SlicePartitioner:
    """Shards in the manifest's order -> shards by slice. The lines are moved as they are.

    A shard holds whole slices, or a part of one large slice, in the manifest's order within a slice.
    """

    def __init__(self, folder: Path, position: int, shard_size: int) -> None:
        self._folder, self._position, self._shard_size = folder, position, shard_size
        self._made: list[Path] = []
        self._out: BinaryIO | None = None
        self._first = self._last = self._lines = 0

    def partition(self, shards: Sequence[Path]) -> list[Path]:
        for number, path, lines in self._by_slice(shards):
            if self._lines + lines > self._shard_size:
                self._close()
            for line in _lines(path):
                if self._lines >= self._shard_size:
                    self._close()
                self._write(number, line)
            path.unlink()
        self._close()
        return self._made

    def _by_slice(self, shards: Sequence[Path]) -> list[tuple[int, Path, int]]:
        paths = [self._folder / f"{self._position}-slice-{number:02}" for number in range(SLICES)]
        counts = [0] * SLICES
        with ExitStack() as stack:
            files = [stack.enter_context(path.open("wb")) for path in paths]
            for shard in shards:
                for line in _lines(shard):
                    number = slice_of(key_start(line))
                    files[number].write(line)
                    counts[number] += 1
                shard.unlink()
        return list(zip(range(SLICES), paths, counts, strict=True))

    def _write(self, number: int, line: bytes) -> None:
        if self._out is None:
            self._out, self._first = (self._folder / f"{self._position}-cutting").open("wb"), number
        self._out.write(line)
        self._last = number
        self._lines += 1

    def _close(self) -> None:
        if self._out is not None:
            self._out.close()
            name = f"{self._position}-b{self._first:02}-{self._last:02}-{len(self._made):05}.jsonl"
            self._made.append((self._folder / f"{self._position}-cutting").replace(self._folder / name))
            self._out, self._lines = None, 0
