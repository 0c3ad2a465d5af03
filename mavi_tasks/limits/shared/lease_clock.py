"""Leased time: seconds of a whole limit that one process has had, and when it will have had more."""

from collections import deque
from typing import Final

LEASE_S: Final = 1.0
"""How long a lease lasts at least: each worker calls the store about once in that time."""

FOREVER: Final = float("inf")


class LeaseClock:
    """A clock that runs at the fraction of the limit that the leases in force sum to; without any it stands.

    A limit of 100 requests a second, spent evenly in this time, is spent at 25 a second while one lease of a
    quarter is in force, at 50 while two are.
    """

    __slots__ = ("_lease_s", "_over_s", "_starts", "fraction", "last_start_s")

    def __init__(self, spacing_s: float, lease_s: float = LEASE_S) -> None:
        self.fraction = spacing_s / lease_s
        self._lease_s = lease_s
        self.last_start_s = -FOREVER
        """When the latest lease starts, or started."""
        self._starts: deque[float] = deque()
        self._over_s = 0.0  # leased seconds of the leases that are over and forgotten

    def add(self, start_s: float) -> None:
        """One more lease, not before those added earlier."""
        self.last_start_s = max(start_s, self.last_start_s)
        self._starts.append(self.last_start_s)

    def leased_by(self, now_s: float) -> float:
        """Leased seconds by now."""
        starts = self._starts
        while starts and starts[0] + self._lease_s <= now_s:
            starts.popleft()
            self._over_s += self._lease_s * self.fraction
        return self._over_s + self.fraction * sum(now_s - start for start in starts if start < now_s)

    def when(self, leased_s: float, now_s: float) -> float:
        """The instant, from now on, at which `leased_by` reaches that; infinite when no lease reaches it."""
        at_s, had_s, lease_s = now_s, self.leased_by(now_s), self._lease_s
        for edge_s in sorted({e for start in self._starts for e in (start, start + lease_s) if e > now_s}):
            in_force = sum(start <= at_s < start + lease_s for start in self._starts)
            gained_s = in_force * self.fraction * (edge_s - at_s)
            if had_s + gained_s >= leased_s:
                return at_s + (leased_s - had_s) / (in_force * self.fraction) if gained_s else at_s
            at_s, had_s = edge_s, had_s + gained_s
        return FOREVER
