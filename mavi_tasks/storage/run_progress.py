"""How far runs are that have not ended: written by each of them every second, read by `mavi status`.

    DIR/_progress/RUN_ID.json   what the run plans, has done, and how fast it goes
    DIR/_progress/RUN_ID.lock   held as long as the run's process lives

Both are removed when the run ends. Other machines find the same in the run's heartbeat in the bucket.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

from filelock import FileLock

from mavi_tasks.storage.filesystem import lock_is_free
from mavi_tasks.storage.s3 import mirror_of

FOLDER: Final = "_progress"
HEARTBEATS: Final = "_claims/run-"  # in a bucket; then the run id and .json
SILENT_AFTER_S: Final = 90.0  # without a word; a heartbeat comes every 15 s, a file every second

State = Literal["running", "silent", "gone"]


@dataclass(frozen=True, slots=True)
class ModelProgress:
    """One model of a run. done: requests that need nothing more, of them `before` when the run began.

    elsewhere: of done, answered by another run meanwhile. rate_per_s: of the last minute. pausing: why
    nothing is sent now; None = requests are sent.
    """

    model: str
    requests: int
    before: int
    elsewhere: int
    done: int
    rate_per_s: float
    cost_usd: str
    pausing: str | None


@dataclass(frozen=True, slots=True)
class RunProgress:
    """A run that has not ended, as it last reported. Instants are microseconds.

    models is empty while the manifest is read. only: which rows it asks, as `--only` was given; None = all.
    state: gone = its process has ended without a word; silent = it is not known to have ended, and has not
    reported for 90 s.
    """

    run_id: str
    job: str
    started_us: int
    updated_us: int
    only: str | None = None
    models: tuple[ModelProgress, ...] = ()
    state: State = "running"

    @property
    def planned(self) -> bool:
        """The manifest has been read, and requests are sent."""
        return bool(self.models)

    @property
    def requests(self) -> int:
        return sum(model.requests for model in self.models)

    @property
    def done(self) -> int:
        return sum(model.done for model in self.models)

    @property
    def rate_per_s(self) -> float:
        """Requests a second, of all models."""
        return sum(model.rate_per_s for model in self.models)

    @property
    def done_at_us(self) -> int | None:
        """When the slowest model will be done at its pace; None = not known, as while one stands still."""
        left = [model for model in self.models if model.done < model.requests]
        if self.state != "running" or not self.planned or any(model.rate_per_s <= 0 for model in left):
            return None
        longest_s = max(((model.requests - model.done) / model.rate_per_s for model in left), default=0.0)
        return self.updated_us + int(longest_s * 1e6)

    def to_json(self) -> dict[str, Any]:
        """As it is written to the file."""
        return {
            **{name: getattr(self, name) for name in ("run_id", "job", "started_us", "updated_us", "only")},
            "models": [
                {name: getattr(model, name) for name in ModelProgress.__slots__} for model in self.models
            ],
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any], state: State) -> Self:
        """Raises ValueError, TypeError or KeyError when it is of another form."""
        models = tuple(ModelProgress(**model) for model in found["models"])
        rest = {name: found[name] for name in ("run_id", "job", "started_us", "updated_us", "only")}
        return cls(**rest, models=models, state=state)


class ProgressFile:
    """The file of one run, from its start to its end. Its lock is held by this process."""

    def __init__(self, root: Path, run_id: str) -> None:
        self._path = root / FOLDER / f"{run_id}.json"
        self._path.parent.mkdir(exist_ok=True)
        self._lock = FileLock(_lock_path(self._path), thread_local=False)
        self._lock.acquire(timeout=0)

    def write(self, progress: RunProgress) -> None:
        """Write it whole or not at all; a disk that has no room for it must not end the run."""
        staged = self._path.with_suffix(".new")
        with suppress(OSError):
            staged.write_text(json.dumps(progress.to_json()), encoding="utf-8")
            staged.replace(self._path)

    def close(self) -> None:
        """The run has ended."""
        _remove(self._path)
        self._lock.release()
        _lock_path(self._path).unlink(missing_ok=True)


def read(root: Path) -> list[RunProgress]:
    """The runs that have not ended, here and, for a dataset in a bucket, on other machines.

    Raises StorageError when the bucket cannot be read.
    """
    here = {found.run_id: found for found in _here(root)}
    there = {found.run_id: found for found in _there(root)}
    return sorted((there | here).values(), key=lambda one: one.started_us)


def sweep(root: Path) -> None:
    """Remove the files of runs that died: their rows in runs/ say so by now."""
    for path in (root / FOLDER).glob("*.json"):
        if lock_is_free(_lock_path(path)):
            _remove(path)
            _lock_path(path).unlink(missing_ok=True)


def _here(root: Path) -> Iterator[RunProgress]:
    for path in sorted((root / FOLDER).glob("*.json")):
        with suppress(OSError, ValueError, TypeError, KeyError):  # ended meanwhile, or of another version
            found = json.loads(path.read_bytes())
            state = _state(path, found["updated_us"] if found["models"] else None)
            if state != "gone" or path.exists():  # else it has just ended
                yield RunProgress.from_json(found, state)


def _there(root: Path) -> Iterator[RunProgress]:
    mirror = mirror_of(root)
    if mirror is None:
        return
    for one in mirror.bucket.list(HEARTBEATS):
        found = mirror.bucket.get(one.key)
        silent_s = time.time() - one.modified.timestamp()
        with suppress(ValueError, TypeError, KeyError):
            progress = json.loads(found[0]).get("progress") if found is not None else None
            if progress is not None:
                yield RunProgress.from_json(progress, "gone" if silent_s > SILENT_AFTER_S else "running")


def _state(path: Path, updated_us: int | None) -> State:
    """updated_us: when it should have reported last; None = it does not report yet."""
    try:
        lock = _lock_path(path)
        if not lock.exists() or lock_is_free(lock):
            return "gone"
    except OSError:  # this folder cannot be written to, so locks in it cannot be tried
        pass
    reported_us = updated_us if updated_us is not None else time.time_ns() // 1000
    return "silent" if time.time() - reported_us / 1e6 > SILENT_AFTER_S else "running"


def _lock_path(path: Path) -> Path:
    return path.with_suffix(".lock")


def _remove(path: Path) -> None:
    for suffix in (".json", ".new"):
        path.with_suffix(suffix).unlink(missing_ok=True)
