"""Bounded caches: probes of local files, and encoded media."""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Probe:
    """What was found by reading a local file once."""

    mime: str
    sha256: str
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None


class ProbeStore(Protocol):
    """A store that outlives the process: `mavi_tasks.media.probe_index`. A stamp is (size, mtime_ns)."""

    def get(self, path: str, size: int, mtime_ns: int) -> Probe | None: ...
    def put(self, path: str, size: int, mtime_ns: int, probe: Probe) -> None: ...
    def look_up(self, paths: Sequence[str], stamps: Sequence[tuple[int, int]]) -> list[Probe | None]: ...


class Bounded(Generic[Value]):
    """A mapping of bounded weight that drops the least recently used. Thread-safe."""

    def __init__(self, max_weight: int) -> None:
        self._max_weight = max_weight
        self._weight = 0
        self._items: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Value | None:
        with self._lock:
            found = self._items.get(key)
            if found is None:
                return None
            self._items.move_to_end(key)
            return found[0]

    def put(self, key: Hashable, value: Value, weight: int = 1) -> None:
        """Keep a value; one that alone outweighs the bound is not kept."""
        with self._lock:
            before = self._items.pop(key, None)
            self._weight -= before[1] if before else 0
            if weight > self._max_weight:
                return
            self._items[key] = (value, weight)
            self._weight += weight
            while self._weight > self._max_weight:
                _, (_, gone) = self._items.popitem(last=False)
                self._weight -= gone


class ProbeCache:
    """Probes of local files by path, size and time: each file is read once, however many rows name it.

    With a `store` they outlive the process: a nightly run over the same media reads only what is new.
    """

    def __init__(self, store: ProbeStore | None = None, max_entries: int = 100_000) -> None:
        self._recent: Bounded[Probe] = Bounded(max_entries)
        self._store = store

    def get(self, path: str, size: int, mtime_ns: int) -> Probe | None:
        found = self._recent.get((path, size, mtime_ns))
        if found is None and self._store is not None:
            found = self._store.get(path, size, mtime_ns)
            if found is not None:
                self._recent.put((path, size, mtime_ns), found)
        return found

    def look_up(self, paths: Sequence[str], stamps: Sequence[tuple[int, int]]) -> list[Probe | None]:
        """`get` for many at once: of a million known files, none is kept in memory."""
        found = [self._recent.get((path, *stamp)) for path, stamp in zip(paths, stamps, strict=True)]
        if self._store is not None and None in found:
            stored = self._store.look_up(paths, stamps)
            found = [old or new for old, new in zip(found, stored, strict=True)]
        return found

    def put(self, path: str, size: int, mtime_ns: int, probe: Probe) -> None:
        self._recent.put((path, size, mtime_ns), probe)
        if self._store is not None:
            self._store.put(path, size, mtime_ns, probe)
