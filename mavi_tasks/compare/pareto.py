"""Which choices nothing beats: no other is both as cheap and as good, and better in one."""

from collections.abc import Sequence


def front(costs: Sequence[float], qualities: Sequence[float]) -> list[int]:
    """Return the places nothing beats, the cheapest first; of equal places the first one."""
    kept: list[int] = []
    for at in sorted(range(len(costs)), key=lambda at: (costs[at], -qualities[at], at)):
        if not kept or qualities[at] > qualities[kept[-1]]:
            kept.append(at)
    return kept
