"""Which names came before, in 8 bytes a name, so that millions of rows fit."""

from collections.abc import Sequence
from typing import Any, Final

RECENT: Final = 1 << 16


class Seen:
    """A set of names known by a 64-bit hash: the newest in a set, the older in sorted arrays.

    Two different names share a hash once in 4 * 10**7 manifests of a million rows, so a hit is a suspicion
    that the caller checks. Python's own hash is used: it lives as long as this process, like this set.
    """

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._old: list[Any] = []  # sorted int64 arrays, each about twice the next

    def add(self, names: Sequence[str]) -> list[int]:
        """Add names in order; returns the positions of those that were there before."""
        hashes = list(map(hash, names))
        fresh = set(hashes)
        if len(fresh) == len(hashes) and self._recent.isdisjoint(fresh) and not self._old:
            hits: list[int] = []
        else:
            hits = self._hits(hashes)
        self._recent |= fresh
        if len(self._recent) >= RECENT:
            self._settle()
        return hits

    def _hits(self, hashes: list[int]) -> list[int]:
        hits = self._old_hits(hashes)
        here: set[int] = set()
        for position, value in enumerate(hashes):
            if value in here or value in self._recent:
                hits.add(position)
            here.add(value)
        return sorted(hits)

    def _old_hits(self, hashes: list[int]) -> set[int]:
        if not self._old:
            return set()
        import numpy as np

        wanted = np.array(hashes, np.int64)
        order = np.argsort(wanted)  # neighbours are looked up together: the caches like that
        wanted = wanted[order]
        hits: set[int] = set()
        for known in self._old:
            at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
            hits.update(order[known[at] == wanted].tolist())
        return hits

    def _settle(self) -> None:
        """Move the recent names to the sorted arrays, merging those of about one size."""
        import numpy as np

        newest = np.fromiter(self._recent, np.int64, len(self._recent))
        newest.sort()
        self._recent = set()
        while self._old and len(self._old[-1]) <= 2 * len(newest):
            newest = np.concatenate([self._old.pop(), newest])
            newest.sort(kind="stable")  # two sorted runs: merged in one pass
        self._old.append(newest)
