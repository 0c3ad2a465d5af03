"""Small statistics in numpy, each equal to its reference implementation (the tests show it)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import krippendorff
import numpy as np
from numpy.typing import NDArray

from mavi_tasks.compare.quantiles import beta_quantile, t_quantile

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

Z95 = NormalDist().inv_cdf(0.975)
MISSING = -1  # a code that stands for no label
MOST_GROUPS = 1000  # drawn in a bootstrap
_BLOCK_CELLS = 1_000_000  # weights held at once: 8 MB


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval; the ends are None where no interval can be given."""

    value: float
    low: float | None = None
    high: float | None = None


def wilson(successes: int, trials: int) -> Estimate | None:
    """Return a share with its 95 % Wilson interval, or None of no trials."""
    if trials == 0:
        return None
    return _wilson(successes / trials, float(trials), Z95)


def _wilson(mean: float, trials: float, z: float) -> Estimate:
    z2 = z * z
    centre = (mean + z2 / (2 * trials)) / (1 + z2 / trials)
    half = z / (1 + z2 / trials) * math.sqrt(mean * (1 - mean) / trials + z2 / (4 * trials * trials))
    return Estimate(mean, max(0.0, centre - half), min(1.0, centre + half))


def proportion(values: Floats, clusters: Ints) -> Estimate | None:
    """Return the mean of scores in [0, 1] with a 95 % interval that counts clusters, or None of no items.

    Wilson's interval; where clusters hold several items, with as many independent items as give the variance
    of the cluster sums (never more than there are), and Student's t. One cluster of several items has no
    ends.
    """
    items = len(values)
    if items == 0:
        return None
    mean = float(values.mean())
    _, at = np.unique(clusters, return_inverse=True)
    sizes = np.bincount(at)
    count = len(sizes)
    if count == items:
        return _wilson(mean, float(items), Z95)
    if count == 1:
        return Estimate(mean)
    effect = design_effect(values - mean, at, mean * (1 - mean))
    return _wilson(mean, items / effect, t_quantile(0.975, count - 1))


def proportion_at_least(hits: Bools, clusters: Ints, level: float) -> float:
    """Return the lower bound that a share exceeds with probability 1 - level: Clopper and Pearson's.

    Where clusters hold several items, of as many independent items as give the variance of the cluster sums.
    """
    items, count = len(hits), int(hits.sum())
    if count == 0:
        return 0.0
    _, at = np.unique(clusters, return_inverse=True)
    mean = count / items
    effect = 1.0
    if int(at.max()) + 1 < items:
        effect = design_effect(hits.astype(float) - mean, at, mean * (1 - mean))
    return beta_quantile(level, count / effect, (items - count) / effect + 1)


def design_effect(residuals: Floats, clusters: Ints, variance: float) -> float:
    """Return how many times larger than by independent items the variance of a mean is, at least 1.

    Where every item is alike there is nothing to see of it: then the root of a cluster's mean size.
    """
    sums = np.bincount(clusters, residuals)
    items, count = len(residuals), len(sums)
    if variance <= 0:
        return math.sqrt(items / count)
    return max(1.0, count / max(count - 1, 1) * float((sums**2).sum()) / (items * variance))


def mcnemar(a_only: int, b_only: int) -> float:
    """Return the exact two-sided p-value of two models being right equally often.

    Whole numbers throughout, so thousands of discordant items neither underflow nor round.
    """
    trials, fewer = a_only + b_only, min(a_only, b_only)
    term = tail = 1
    for taken in range(1, fewer + 1):
        term = term * (trials - taken + 1) // taken
        tail += term
    return min(1.0, 2 * tail / 2**trials) if trials < 1000 else min(1.0, _ratio(2 * tail, trials))


def _ratio(whole: int, power: int) -> float:
    """whole / 2**power for numbers too large for a float."""
    shift = max(0, whole.bit_length() - 64)
    return math.ldexp(float(whole >> shift), shift - power)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's corrected p-values, in the order given."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, floor = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(order):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = floor
    return corrected


def contingency(a: Ints, b: Ints, size: int) -> Floats:
    """Count how often label i of `a` meets label j of `b`; items without either label are left out."""
    known = (a != MISSING) & (b != MISSING)
    return np.bincount(a[known] * size + b[known], minlength=size * size).reshape(size, size).astype(float)


def kappa(table: Floats) -> Estimate | None:
    """Return Cohen's kappa with its large-sample 95 % interval (Fleiss, Cohen and Everitt 1969).

    None without items, or when both sides gave one and the same label only.
    """
    total = table.sum()
    if total == 0:
        return None
    share = table / total
    row, column = share.sum(1), share.sum(0)
    seen, chance = float(np.trace(share)), float(row @ column)
    if chance >= 1 - 1e-12:
        return None
    value = (seen - chance) / (1 - chance)
    diagonal = np.diag(share)
    off = share - np.diag(diagonal)
    first = float((diagonal * (1 - (row + column) * (1 - value)) ** 2).sum())
    second = (1 - value) ** 2 * float((off * (column[:, None] + row[None, :]) ** 2).sum())
    third = (value - chance * (1 - value)) ** 2
    half = Z95 * math.sqrt(max(0.0, (first + second - third) / (total * (1 - chance) ** 2)))
    return Estimate(value, max(-1.0, value - half), min(1.0, value + half))


def label_counts(codes: Ints, size: int) -> Floats:
    """Count each label per item: codes [models, items] become [items, labels]."""
    items = codes.shape[1]
    at = np.broadcast_to(np.arange(items), codes.shape)
    known = codes != MISSING
    flat = np.bincount(at[known] * size + codes[known], minlength=items * size)
    return flat.reshape(items, size).astype(float)


def nominal_alpha(codes: Ints, size: int, clusters: Ints, seed: int = 0) -> Estimate | None:
    """Return Krippendorff's alpha for labels with a bootstrap 95 % interval over whole clusters of items."""
    counts = label_counts(codes, size)
    counts = counts * (counts.sum(1, keepdims=True) >= 2)
    raters = counts.sum(1)
    if np.count_nonzero(counts.sum(0)) < 2:
        return None
    value = float(krippendorff.alpha(value_counts=counts[raters >= 2], level_of_measurement="nominal"))
    split = (raters**2 - (counts**2).sum(1)) / np.maximum(raters - 1, 1)
    sums = by_group(np.column_stack([split, raters, counts]), clusters)
    drawn = np.concatenate([block @ sums for block in weights(len(sums), seed)])
    pairs = drawn[:, 1] ** 2 - (drawn[:, 2:] ** 2).sum(1)
    return _with_interval(value, 1 - (drawn[:, 1] - 1) * _safe(drawn[:, 0], pairs), len(sums))


def interval_alpha(values: Floats, clusters: Ints, seed: int = 0) -> Estimate | None:
    """Return Krippendorff's alpha for numbers (NaN = missing) with a bootstrap 95 % interval.

    By moments and not by the krippendorff package, which holds a matrix of all distinct values squared.
    """
    known = ~np.isnan(values)
    raters = known.sum(0).astype(float)
    known = known & (raters >= 2)
    raters = raters * (raters >= 2)
    filled = np.where(known, values, 0.0)
    if known.any():
        filled = np.where(known, filled - filled[known].mean(), 0.0)  # centred: the moments cancel less
    first, second = filled.sum(0), (filled**2).sum(0)
    split = 2 * (raters * second - first**2) / np.maximum(raters - 1, 1)
    sums = by_group(np.column_stack([split, raters, first, second]), clusters)

    def alpha(total: Floats) -> Floats:
        pairs = 2 * (total[:, 1] * total[:, 3] - total[:, 2] ** 2)
        return 1 - (total[:, 1] - 1) * _safe(total[:, 0], pairs)

    value = float(alpha(sums.sum(0, keepdims=True))[0])
    if math.isnan(value):
        return None
    drawn = np.concatenate([block @ sums for block in weights(len(sums), seed)])
    return _with_interval(value, alpha(drawn), len(sums))


def by_cluster(values: Floats, clusters: Ints) -> Floats:
    """Add the rows [items, k] of each cluster: [clusters, k]."""
    out = np.zeros((int(clusters.max(initial=-1)) + 1, values.shape[1]))
    np.add.at(out, clusters, values)
    return out


def by_group(values: Floats, clusters: Ints) -> Floats:
    """Add the rows [items, k] of each cluster, for a bootstrap: [clusters, k], at most 1,000 rows.

    More clusters are added up in 1,000 random groups of nearly equal size: groups vary as clusters do, and
    the width of an interval is uncertain by 2 % only (random groups, Wolter 2007).
    """
    sums = by_cluster(values, clusters)
    if len(sums) <= MOST_GROUPS:
        return sums
    order = np.random.default_rng(0).permutation(len(sums))
    return by_cluster(sums, order % MOST_GROUPS)


def weights(size: int, seed: int = 0, draws: int = 2000) -> Iterator[Floats]:
    """Yield bootstrap weights [some draws, size]: how often each cluster was drawn, `draws` rows in all."""
    generator = np.random.default_rng(seed)
    block = max(1, min(draws, _BLOCK_CELLS // max(size, 1)))
    for start in range(0, draws, block):
        rows = min(block, draws - start)
        picked = generator.integers(0, size, (rows, size)) + np.arange(rows)[:, None] * size
        yield np.bincount(picked.ravel(), minlength=rows * size).reshape(rows, size).astype(float)


def spread(drawn: Floats, clusters: int) -> tuple[float | None, float | None]:
    """Return the middle of bootstrap draws of so many clusters as a 95 % interval.

    With few clusters more than 95 % of the draws: draws vary too little by (C - 1) / C, and normal tails are
    too short (the expanded percentile interval, Hesterberg 2015). (None, None) where too few have a value.
    """
    kept = drawn[np.isfinite(drawn)]
    if len(kept) < 0.9 * len(drawn) or len(kept) == 0 or clusters < 2:
        return None, None
    reach = t_quantile(0.975, clusters - 1) * math.sqrt(clusters / (clusters - 1))
    tail = 100 * NormalDist().cdf(-reach)
    low, high = np.percentile(kept, [tail, 100 - tail])
    return float(low), float(high)


def _with_interval(value: float, drawn: Floats, clusters: int) -> Estimate:
    low, high = spread(drawn, clusters)
    return Estimate(value, low, high)


def _safe(top: Floats, bottom: Floats) -> Floats:
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 1e-12)
