"""What was learned about media, kept: probes of local files, and encoded texts. Both bounded."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import astuple, dataclass
from typing import Any, Generic, Protocol, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Probe:
    """What reading a local file once told."""

    mime: str
    sha256: str
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None


class Store(Protocol):
    """A place that outlives the process, e.g. a table; values are flat lists that JSON can hold."""

    def get(self, key: str) -> list[Any] | None: ...
    def put(self, key: str, value: list[Any]) -> None: ...


class Bounded(Generic[Value]):
    """A mapping of bounded weight that forgets what was unused for longest. Thread-safe."""

    def __init__(self, max_weight: int) -> None:
        self._max_weight = max_weight
        self._weight = 0
        self._kept: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Value | None:
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: Hashable, value: Value, weight: int = 1) -> None:
        """Keep a value; one that alone outweighs the bound is not kept."""
        with self._lock:
            before = self._kept.pop(key, None)
            self._weight -= before[1] if before else 0
            if weight > self._max_weight:
                return
            self._kept[key] = (value, weight)
            self._weight += weight
            while self._weight > self._max_weight:
                _, (_, gone) = self._kept.popitem(last=False)
                self._weight -= gone


class Probes:
    """Probes of local files by path, size and time: each file is read once, however many rows name it.

    With a `store` they outlive the process: a nightly run over the same library reads only what is new.
    """

    def __init__(self, store: Store | None = None, max_entries: int = 100_000) -> None:
        self._recent: Bounded[Probe] = Bounded(max_entries)
        self._store = store

    def get(self, path: str, size: int, mtime_ns: int) -> Probe | None:
        key = f"{path}\n{size}\n{mtime_ns}"
        found = self._recent.get(key)
        if found is None and self._store is not None and (row := self._store.get(key)):
            found = Probe(*row)
            self._recent.put(key, found)
        return found

    def put(self, path: str, size: int, mtime_ns: int, probe: Probe) -> None:
        key = f"{path}\n{size}\n{mtime_ns}"
        self._recent.put(key, probe)
        if self._store is not None:
            self._store.put(key, list(astuple(probe)))
