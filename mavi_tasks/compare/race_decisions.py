"""A race of models: looks at growing samples; after each, models that cannot be the choice are dropped.

The method, for k models, N media in a random order, and looks after n_1 < n_2 < ... of them:

1. A look may err with probability level * (n_l - n_{l-1}) / N, so that all looks together keep `level`.
2. At each look margin.py gives simultaneous bounds on the difference of every pair of the first k models.
3. Of a pair, the cheap model is dropped when the dear one is surely ahead by more than the margin.
4. The dear one is dropped when it is surely not ahead of the cheap one.
5. The cheapest model still in the race also drops each model that is surely ahead by no more than the margin.
   (If every model could do that, losses of a margin each would add up.) What it gave away so is remembered.
6. Who is cheap is settled at the first look: the order must not change while the race goes on.
7. The race is decided when one model is left. It is at most the margin behind the best in 1 - level.

All figures are shares (0.03 = 3 points). Pure functions of arrays: nothing is read or sent here.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from mavi_tasks.compare import margin
from mavi_tasks.compare.statistics import Bools, Floats, Ints

FIRST_LOOK: Final = 50
Why = Literal["behind", "no better", "within the margin"]


@dataclass(frozen=True, slots=True)
class Drop:
    """Model `model` left the race because of `by`; both are places in the first list of models.

    points: how far `by` is ahead of it: at least so much when "behind", at most when it costs more.
    """

    model: int
    by: int
    why: Why
    points: float


@dataclass(frozen=True, slots=True)
class Look:
    """What one look saw: who is `left` (the cheapest first), who was dropped, and how sure it is of the rest.

    behind: how far each model that is left may be behind the best, in the order of `left`.
    """

    left: tuple[int, ...]
    drops: tuple[Drop, ...]
    behind: tuple[float, ...]
    items: int
    level: float


def in_random_order(names: Iterable[str], seed: int) -> list[str]:
    """Return names in an order that the seed and each name alone decide, whatever order they came in."""
    return sorted(set(names), key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode()).digest())


def look_sizes(total: int, first: int = FIRST_LOOK) -> list[int]:
    """Return after how many media the race is looked at: 50, 100, 200, 300, 400, 600, 800, ... and all.

    Steps of a half from 200 on save 6 points of the cost where doubling would look too late.
    """
    sizes, size = [first, 2 * first], 4 * first
    while size < total:
        sizes += [size, size * 3 // 2]
        size *= 2
    return [*(size for size in sizes if size < total), total]


def level_of_look(before: int, now: int, total: int, level: float = margin.LEVEL) -> float:
    """Return the chance of an error that a look has, after `before` media at the one before it."""
    return level * (now - before) / total


def look(
    scores: Floats,
    judged: Bools,
    clusters: Ints,
    costs: Sequence[float],
    left: Sequence[int],
    *,
    allowed: float,
    level: float,
    given: Mapping[int, float] | None = None,
) -> Look:
    """Decide who stays.

    scores: [k, items] in [0, 1] and judged: [k, items], where a score counts, of all k models that started;
    those that are out are not looked at. costs: [k] dollars an item, infinite where no price is known.
    allowed: the margin. level: this look's, by `level_of_look`. given: by how much each model may be behind
    one that it dropped as within the margin.
    """
    k = len(scores)
    order = sorted(left, key=lambda model: (costs[model], model))
    size = len(order)
    fewer = level * size * (size - 1) / max(k * (k - 1), 1)  # each bound as strict as among all k
    found, pairs = margin.bounds(scores[order], judged[order], clusters, level=fewer)
    drops = _drops(found, allowed)
    stay = [place for place in range(size) if place not in drops]
    behind = _behind(found, [(given or {}).get(model, 0.0) for model in order])
    return Look(
        left=tuple(order[place] for place in stay),
        drops=tuple(
            Drop(order[place], order[drop.by], drop.why, drop.points) for place, drop in sorted(drops.items())
        ),
        behind=tuple(float(behind[place]) for place in stay),
        items=max((one.items for one in pairs.values()), default=int(judged[order].sum())),
        level=level,
    )


def _drops(found: margin.Bounds, allowed: float) -> dict[int, Drop]:
    """Who is dropped, by place in the order of cost. A dropped model still counts against the others here."""
    size = len(found.high)
    drops: dict[int, Drop] = {}
    for cheap in range(size):
        for dear in range(cheap + 1, size):
            if found.low[cheap, dear] >= allowed:
                _keep_first(drops, Drop(cheap, dear, "behind", float(found.low[cheap, dear])))
            elif found.high[cheap, dear] <= 0:
                _keep_first(drops, Drop(dear, cheap, "no better", float(found.high[cheap, dear])))
    first = next(place for place in range(size) if place not in drops)
    for dear in range(first + 1, size):
        if found.high[first, dear] <= allowed:
            _keep_first(drops, Drop(dear, first, "within the margin", float(found.high[first, dear])))
    return drops


def _behind(found: margin.Bounds, given: Sequence[float]) -> list[float]:
    """How far each may be behind the best of all that started: directly, or by what another gave away."""
    direct = found.behind
    return [
        max(
            float(direct[one]),
            lost,
            *(
                float(found.high[one, other]) + more
                for other, more in enumerate(given)
                if more and other != one
            ),
        )
        for one, lost in enumerate(given)
    ]


def _keep_first(drops: dict[int, Drop], drop: Drop) -> None:
    drops.setdefault(drop.model, drop)


def without_labels(equal: Bools, judged: Bools, scores: Floats, asked: Bools) -> tuple[Floats, Bools]:
    """Return scores and judged with the items that all models answered alike: no label can tell them apart.

    equal: [items], where every model that is left gave the same answer. Their score there is 0 for each, so
    that differences are right; a share of right answers must not be made of these scores.
    """
    free = equal & ~judged.any(axis=0)
    filled: Floats = np.where(free, 0.0, scores)
    counted: Bools = judged | (free & asked)
    return filled, counted
