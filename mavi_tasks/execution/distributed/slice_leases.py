"""Which run may ask what, between machines: leases on slices of a model's requests, in the bucket itself.

A slice is a model (with all that decides its answers but prompt and media) and one of 64 parts of the space
of request keys; every run of every machine cuts them alike, whatever its manifest, order or limit.

    _claims/leases.json    {"releases": n, "held": {slice: run}}; changed by PUT If-Match, so one at a time
    _claims/run-<id>.json  a run's heartbeat: written every quarter of the lease time, removed at its end

* A run sends only what lies in slices it holds, and releases a slice only after all its answers are in the
  bucket. `releases` counts what was given back; when it has moved since the run planned, the run looks again
  at what is answered before it sends (leased_shards.py).
* A run whose heartbeat is older than the lease time, or was missing for as long, is dead, and its slices are
  free. A live run writes its heartbeat again when somebody has deleted it. Both ages are the
  store's own times (LastModified of its heartbeat and of ours): the machines' clocks are never compared and
  may differ by any amount. A dead run of this very machine, since it was started, is known at once by its
  lock.
* A run that could not renew its heartbeat for three quarters of the lease time stops sending by its own
  clock, one that goes on while the machine sleeps: the last quarter allows for delay and for clocks that
  drift.
"""

import contextlib
import json
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from filelock import FileLock

from mavi_tasks.errors import StorageError
from mavi_tasks.storage.filesystem import lock_is_free
from mavi_tasks.storage.run_progress import HEARTBEATS
from mavi_tasks.storage.s3.mirror import Mirror

log = logging.getLogger("mavi")

LEASE_S: Final = 60.0
TABLE: Final = "_claims/leases.json"
CAS_TRIES: Final = 60
SWEPT_AFTER_S: Final = 86_400.0


def lease_s() -> float:
    """How long a lease outlives its last heartbeat: MAVI_LEASE_S, else a minute."""
    given = os.environ.get("MAVI_LEASE_S", "")
    try:
        return max(1.0, float(given))
    except ValueError:
        return LEASE_S


@dataclass(frozen=True, slots=True)
class Taken:
    """The groups that were taken, by their position in the request.

    releases: the table's count by then; `holders`: the runs that hold what was not had.
    """

    groups: tuple[int, ...]
    releases: int
    holders: tuple[str, ...]


class SliceLeases:
    """The leases of one run. Thread-safe."""

    def __init__(
        self,
        mirror: Mirror,
        run_id: str,
        *,
        ttl_s: float | None = None,
        progress: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        """progress: how far the run is; its heartbeat says so to other machines."""
        self._progress = progress
        self._mirror, self._bucket, self.run_id = mirror, mirror.bucket, run_id
        self.ttl_s = ttl_s or lease_s()
        self.seen_releases = 0  # what had been given back when this run last looked at what is answered
        self._good_until = 0.0
        self._held: set[str] = set()
        self._missing_since: dict[str, float] = {}  # runs without a heartbeat, by this machine's clock
        self._guard = threading.Lock()  # one change of the table at a time in this process
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="lease", daemon=True)
        locks = mirror.root / "_owners"
        locks.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(locks / f"{run_id}.lock", thread_local=False)

    def start(self) -> None:
        """Say that this run lives, before it looks at what is answered. Raises StorageError."""
        self._lock.acquire(timeout=0)
        self._sweep()
        self._beat()
        self.seen_releases = self._read()[0]["releases"]
        self._mirror.forget()
        self._thread.start()

    def check(self) -> None:
        """Raise StorageError when the leases may have passed to others: then nothing may be sent."""
        if _now_s() > self._good_until:
            raise StorageError(
                f"{self._mirror.url}: the leases of this run could not be renewed for "
                f"{self.ttl_s * 3 / 4:.0f} s (the store was out of reach, or this machine slept); "
                "nothing is lost, run again to go on"
            )

    # -- slices

    def take(self, groups: Sequence[Collection[str]], most: int) -> Taken:
        """Take up to `most` of these groups, each whole or not at all. Raises StorageError."""
        got: list[int] = []
        with self._guard:
            for _ in range(CAS_TRIES):
                table, etag = self._read()
                freed = self._free_the_dead(table, {name for group in groups for name in group})
                got = _available(table, groups, most, self.run_id)
                wanted = {name for at in got for name in groups[at]}
                new = wanted - self._held_in(table)
                if new or freed:
                    table["held"].update(dict.fromkeys(new, self.run_id))
                    if not self._write(table, etag):
                        _pause()
                        continue
                self._held |= wanted
                for run_id in freed:
                    self._bucket.delete(_beat_key(run_id))
                break
            else:
                raise StorageError(f"{self._mirror.url}: too many runs change the leases at the same time")
        left = {name for at, group in enumerate(groups) if at not in got for name in group}
        holders = {table["held"][name] for name in left & table["held"].keys()} - {self.run_id}
        return Taken(tuple(got), table["releases"], tuple(sorted(holders)))

    def release(self, names: Collection[str]) -> None:
        """Give slices back; all that was answered in them must be in the bucket. Raises StorageError."""
        with self._guard:
            for _ in range(CAS_TRIES):
                table, etag = self._read()
                mine = self._held_in(table) & set(names)
                if not mine:
                    break
                for name in mine:
                    del table["held"][name]
                untouched = table["releases"] == self.seen_releases
                table["releases"] += 1
                if self._write(table, etag):
                    self.seen_releases += untouched  # only this run itself has released
                    break
                _pause()
            self._held -= set(names)

    def close(self, *, release: bool = True) -> None:
        """End the heartbeat and give everything back; not when answers could not be shipped: then the slices
        stay taken until the lease runs out, or until this machine's next run ships them.
        """
        if self._ended.is_set():
            return
        try:
            if release and self._held:
                self.release(set(self._held))
        finally:
            self._ended.set()
            if self._thread.is_alive():
                self._thread.join()
            if release:
                with contextlib.suppress(StorageError):  # it only gets old
                    self._bucket.delete(_beat_key(self.run_id))
            self._lock.release()
            Path(self._lock.lock_file).unlink(missing_ok=True)

    def _held_in(self, table: dict[str, Any]) -> set[str]:
        return {name for name, run_id in table["held"].items() if run_id == self.run_id}

    # -- the table

    def _read(self) -> tuple[dict[str, Any], str | None]:
        found = self._bucket.get(TABLE)
        if found is None:
            return {"v": 1, "releases": 0, "held": {}}, None
        try:
            table = json.loads(found[0])
            table["releases"] += 0
            table["held"].items()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StorageError(f"{self._mirror.url}/{TABLE}: is no table of leases") from error
        return table, found[1]

    def _write(self, table: dict[str, Any], etag: str | None) -> bool:
        body = json.dumps(table, sort_keys=True).encode()
        made = self._bucket.put_new(TABLE, body) if etag is None else self._bucket.put_over(TABLE, body, etag)
        return made is not None

    # -- the dead

    def _free_the_dead(self, table: dict[str, Any], wanted: Collection[str]) -> list[str]:
        """Take dead runs out of the table when one of them is in the way; their run ids."""
        held = table["held"]
        in_the_way = {held[name] for name in wanted if name in held} - {self.run_id}
        dead = self._dead(set(held.values()) - {self.run_id}, in_the_way) if in_the_way else []
        if dead:
            table["held"] = {name: run_id for name, run_id in held.items() if run_id not in dead}
            table["releases"] += 1
            log.warning(
                "%s: taking over from %s, which ended without a word", self._mirror.url, ", ".join(dead)
            )
        return dead

    def _dead(self, runs: Collection[str], in_the_way: Collection[str]) -> list[str]:
        beats = {one.key: one.modified for one in self._bucket.list(HEARTBEATS)}
        mine = beats.get(_beat_key(self.run_id))

        def is_dead(run_id: str) -> bool:
            theirs = beats.get(_beat_key(run_id))
            if theirs is None:
                return _now_s() - self._missing_since.setdefault(run_id, _now_s()) > self.ttl_s
            self._missing_since.pop(run_id, None)
            if mine is None:
                return False
            if (mine - theirs).total_seconds() > self.ttl_s:
                return True
            return run_id in in_the_way and self._died_here(run_id)

        return [run_id for run_id in runs if is_dead(run_id)]

    def _died_here(self, run_id: str) -> bool:
        """A run of this spool since this machine was started, whose lock is free: it was killed."""
        found = self._bucket.get(_beat_key(run_id))
        if found is None:
            return False
        heartbeat = json.loads(found[0])
        if (heartbeat.get("spool"), heartbeat.get("boot")) != (self._mirror.spool, _boot()) or not _boot():
            return False
        return lock_is_free(self._mirror.root / "_owners" / f"{run_id}.lock")

    def _sweep(self) -> None:
        """Locks and half-fetched parts of runs that were killed here; heartbeats that went out of use."""
        for path in (self._mirror.root / "_fetch").glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > SWEPT_AFTER_S:
                    path.unlink()
        for path in (self._mirror.root / "_owners").glob("*.lock"):
            if (
                path.stem != self.run_id
                and time.time() - path.stat().st_mtime > SWEPT_AFTER_S
                and lock_is_free(path)
            ):
                path.unlink(missing_ok=True)
        beats = list(self._bucket.list(HEARTBEATS))
        for one in beats:
            if (max(beat.modified for beat in beats) - one.modified).total_seconds() > SWEPT_AFTER_S:
                self._bucket.delete(one.key)

    # -- the heartbeat

    def _beat(self) -> None:
        began_s = _now_s()
        heartbeat = {
            "run": self.run_id,
            "host": socket.gethostname(),
            "spool": self._mirror.spool,
            "boot": _boot(),
            "progress": self._progress(),
        }
        self._bucket.put(_beat_key(self.run_id), json.dumps(heartbeat).encode())
        if _now_s() < self._good_until or self._good_until == 0.0:  # once lapsed, it stays lapsed
            self._good_until = began_s + self.ttl_s * 3 / 4

    def _beat_on(self) -> None:
        wait_s = self.ttl_s / 4
        while not self._ended.wait(wait_s):
            try:
                self._beat()
                wait_s = self.ttl_s / 4
            except StorageError as error:
                log.info("%s", error)
                wait_s = self.ttl_s / 16


def _available(table: dict[str, Any], groups: Sequence[Collection[str]], most: int, run_id: str) -> list[int]:
    free = (
        at
        for at, group in enumerate(groups)
        if all(table["held"].get(name, run_id) == run_id for name in group)
    )
    return [at for at, _ in zip(free, range(most), strict=False)]


def _beat_key(run_id: str) -> str:
    return f"{HEARTBEATS}{run_id}.json"


def _pause() -> None:
    time.sleep(random.uniform(0.02, 0.2))  # noqa: S311


def _now_s() -> float:
    """A clock that goes on while the machine sleeps, where the system has one."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.monotonic()


def _boot() -> str:
    """Names this start of this machine; empty where the system does not know."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
