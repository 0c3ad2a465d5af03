"""Which choices nothing beats: no other is both as cheap and as good, and better in one."""

from collections.abc import Sequence
from decimal import Decimal


def beats(one: tuple[Decimal, float], other: tuple[Decimal, float]) -> bool:
    """Tell whether `one` (cost, quality) makes `other` pointless."""
    return one[0] <= other[0] and one[1] >= other[1] and one != other


def front(costs: Sequence[float], qualities: Sequence[float]) -> list[int]:
    """Return the places nothing beats, the cheapest first; of equal places the first one."""
    kept: list[int] = []
    for at in sorted(range(len(costs)), key=lambda at: (costs[at], -qualities[at], at)):
        if not kept or qualities[at] > qualities[kept[-1]]:
            kept.append(at)
    return kept


def dominators(places: Sequence[tuple[Decimal | None, float | None]]) -> list[tuple[int, ...] | None]:
    """Return who beats each (cost, quality): () on the front, None where cost or quality is not known."""
    known = [
        (at, (cost, quality))
        for at, (cost, quality) in enumerate(places)
        if cost is not None and quality is not None
    ]
    out: list[tuple[int, ...] | None] = [None] * len(places)
    for at, place in known:
        out[at] = tuple(other for other, held in known if beats(held, place))
    return out
