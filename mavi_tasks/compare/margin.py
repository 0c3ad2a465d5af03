"""How far each candidate may be behind the best, and the cheapest that is behind by no more than a margin.

The method, for scores in [0, 1] and items in clusters (a medium, a video):

1. For a pair i, j: D_c = the sum over a cluster's common items of score j - score i; d = sum D_c / items.
2. Its standard error is that of a ratio of cluster sums, with two clusters more whose sums are +w and -w, w
   the root of the mean items in a cluster: where few differences were seen, no difference is no proof.
3. high = d + t(C - 1, 1 - level / (k (k - 1))) * error: all k (k - 1) bounds hold at once in 95 %.
4. A candidate that is surely behind another is not the best. L_i, how far i may be behind the best, is its
   largest bound against the others (multiple comparisons with the best, Edwards and Hsu 1983).
5. The choice is the cheapest candidate with L_i <= margin. The margin is fixed before looking.

All figures are shares (0.02 = 2 points). Pure functions of arrays: no dataset is read here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mavi_tasks.compare.quantiles import t_quantile
from mavi_tasks.compare.statistics import Bools, Estimate, Floats, Ints

LEVEL = 0.05
MARGIN = 0.02


@dataclass(frozen=True, slots=True)
class Difference:
    """One pair: the mean of score `a` minus score `b` over their common items, and its standard error.

    `error` is infinite with fewer than 2 clusters. `sums` are the clusters' sums of differences.
    """

    value: float
    error: float
    items: int
    clusters: int
    sums: Floats

    def reach(self, probability: float) -> float:
        """Return the half width that Student's t gives at a one-sided probability; infinite if unknown."""
        if self.clusters < 2:
            return float("inf")
        return t_quantile(probability, self.clusters - 1) * self.error

    def interval(self, level: float = LEVEL) -> Estimate | None:
        """Return the difference with its two-sided interval; None without a common item."""
        if not self.items:
            return None
        half = self.reach(1 - level / 2)
        if not np.isfinite(half):
            return Estimate(self.value)
        return Estimate(self.value, max(-1.0, self.value - half), min(1.0, self.value + half))


def difference(a: Floats, b: Floats, common: Bools, clusters: Ints) -> Difference:
    """Return the paired difference of two candidates' scores [items] over the common items.

    `clusters` number each item's cluster from 0. Scores of items not in common are not looked at.
    """
    at = clusters[common]
    sizes = np.bincount(at).astype(float)
    sums: Floats = np.bincount(at, np.asarray(a, float)[common] - np.asarray(b, float)[common]).astype(float)
    present = sizes > 0
    return of_sums(sums[present], sizes[present])


def of_sums(sums: Floats, sizes: Floats) -> Difference:
    """Return the difference of cluster sums [clusters] and their numbers of items [clusters], all above 0."""
    items, count = float(sizes.sum()), len(sums)
    if count == 0:
        return Difference(0.0, float("inf"), 0, 0, sums)
    value = float(sums.sum()) / items
    if count < 2:
        return Difference(value, float("inf"), int(items), count, sums)
    return Difference(
        value, _error(float(((sums - value * sizes) ** 2).sum()), items, count), int(items), count, sums
    )


def _error(squares: float, items: float, count: int) -> float:
    """The standard error from a sum of squared residuals, the two added clusters included."""
    added = 2 * items / count
    return float(np.sqrt(count / (count - 1) * (squares + added)) / items)


@dataclass(frozen=True, slots=True)
class Bounds:
    """All ordered pairs of k candidates: `ahead[i, j]` = score j - score i, `high[i, j]` its upper bound.

    All bounds hold together with probability 1 - level. The diagonal is 0. `items` are the common ones.
    """

    ahead: Floats
    high: Floats
    items: Ints

    @property
    def low(self) -> Floats:
        """How far j is at least ahead of i (below 0: it may be behind)."""
        lower: Floats = -self.high.T
        return lower

    @property
    def possible_best(self) -> Bools:
        """Candidates that no other is surely ahead of."""
        found: Bools = np.logical_not(np.any(self.low > 0, axis=1))
        return found

    @property
    def behind(self) -> Floats:
        """Return L_i: how far each candidate may be behind the best; 0 for one that surely is the best."""
        others = np.where(self.possible_best[None, :], self.high, -np.inf)
        np.fill_diagonal(others, 0.0)
        worst: Floats = np.maximum(others.max(1), 0.0)
        return worst


def bounds(
    scores: Floats, judged: Bools, clusters: Ints, *, level: float = LEVEL
) -> tuple[Bounds, dict[tuple[int, int], Difference]]:
    """Return the simultaneous bounds of all pairs, and each pair's difference (a < b: score a - score b).

    scores: [candidates, items] in [0, 1]; judged: where a score counts (asked, and with an expected answer).
    A pair without common items, or with one cluster only, has infinite bounds.
    """
    k = len(scores)
    pairs = {
        (a, b): difference(scores[a], scores[b], judged[a] & judged[b], clusters)
        for a in range(k)
        for b in range(a + 1, k)
    }
    return of_differences(k, pairs, level=level), pairs


def of_differences(k: int, pairs: dict[tuple[int, int], Difference], *, level: float = LEVEL) -> Bounds:
    """Return the simultaneous bounds of k candidates from their differences (keys a < b)."""
    ahead, high, items = np.zeros((k, k)), np.zeros((k, k)), np.zeros((k, k), np.int64)
    probability = 1 - level / max(k * (k - 1), 2)
    for (a, b), one in pairs.items():
        half = one.reach(probability)
        ahead[b, a], ahead[a, b] = one.value, -one.value
        high[b, a], high[a, b] = min(1.0, one.value + half), min(1.0, -one.value + half)
        items[a, b] = items[b, a] = one.items
    return Bounds(ahead, high, items)


@dataclass(frozen=True, slots=True)
class Decision:
    """`chosen` = the place of the choice, None when undecided; then `open` are those still in question.

    `open` has the cheapest first. `behind` = how far each candidate may be behind the best, as a share.
    """

    chosen: int | None
    behind: Floats
    open: tuple[int, ...]


def choose(found: Bounds, costs: Sequence[float], margin: float = MARGIN) -> Decision:
    """Return the cheapest candidate that is at most `margin` behind the best, or who is still in question.

    costs: dollars per item, infinite where no price is known. Of equal costs the one with the smaller bound
    counts. In question is who is neither surely more than the margin behind another, nor pointless (another
    that costs no more is surely not behind it).
    """
    behind = found.behind
    order = sorted(range(len(costs)), key=lambda at: (costs[at], behind[at], at))
    for at in order:
        if behind[at] <= margin:
            return Decision(at, behind, ())
    beaten: Bools = np.any(found.low > margin, axis=1)
    left = [at for at in order if not beaten[at] and not dominators(found, costs, at)]
    return Decision(None, behind, tuple(left))


def dominators(found: Bounds, costs: Sequence[float], at: int) -> tuple[int, ...]:
    """Return who makes a candidate pointless: costs no more, and is surely not behind it."""
    return tuple(
        other
        for other in range(len(costs))
        if other != at
        and np.isfinite(costs[other])
        and costs[other] <= costs[at]
        and found.high[other, at] <= 0
    )
