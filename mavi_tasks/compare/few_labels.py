"""What a sample of labels tells of all items: accuracy per model, difference per pair, with 95 % intervals.

Each item i is chosen with probability pi_i, which is stored with it; xi_i is 1 where it was labelled. Items
are in two strata, those the models differ on and the others. The mean of a value e over the N_h items of a
stratum is estimated by the ratio sum(xi e / pi) / sum(xi / pi), its variance by linearisation.

    difference   e = r_a - r_b over the items where the two differ; elsewhere it is 0 without a label
    accuracy     mean(q) + the mean of e = r - q, q the share of the models that gave the same answer

Intervals use Student's t and two pseudo-labels per stratum, at the ends of what e can be, weighed as much as
the part of the stratum that has no label: a handful of equal labels does not make an interval of width 0,
and a census has no interval at all. They speak of the items of this manifest, not of media still to come.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mavi_tasks.compare import margin as margins
from mavi_tasks.compare import sample
from mavi_tasks.compare.field_labels import Labels
from mavi_tasks.compare.margin import Difference
from mavi_tasks.compare.quantiles import t_quantile
from mavi_tasks.compare.sheet import Sheet
from mavi_tasks.compare.statistics import Bools, Estimate, Floats

LEVEL = 0.05
NOTHING = np.zeros(0)


@dataclass(frozen=True, slots=True)
class LabelNeed:
    """How many labels there are, and how many it takes.

    `needed_p50` labels settle the choice at the margin in about half of all samples, None when no label
    bears on a pair; `saved_factor` times more of them would be needed if items were drawn at random.
    """

    used: int
    needed_p50: int | None
    saved_factor: float | None


def probabilities(sheet: Sheet) -> Floats | None:
    """Return each item's inclusion probability, NaN for one that was not drawn; None without any."""
    known = [math.nan if (pi := unit.inclusion_probability) is None else pi for unit in sheet.units]
    return None if all(map(math.isnan, known)) else np.array(known)


@dataclass(frozen=True, slots=True)
class SampledPair:
    """Two models' difference from a sample of labels.

    The `clusters` of `difference` are the labels that bear on it and the two pseudo-labels, its `sums` r_a -
    r_b of each such label over its probability. Without such a label its error is infinite; it is 0 where
    the answers never differ. `split` counts the items the two differ on, `square` is the mean of (r_a -
    r_b)^2 over all.
    """

    difference: Difference
    split: int
    square: float


def pair(labels: Labels, asked: Bools, probability: Floats, a: int, b: int) -> SampledPair:
    """Return the mean of r_a - r_b over the items both models have.

    asked: [models, items]; probability: [items], NaN or 0 where an item was not sampled.
    """
    both = asked[a] & asked[b]
    split = both & (labels.codes[a] != labels.codes[b])
    sampled = split & labels.judged & (probability > 0)
    items, many = int(both.sum()), int(split.sum())
    if not sampled.any():
        error = 0.0 if items and not many else math.inf
        return SampledPair(Difference(0.0, error, items, 0 if error else 2, NOTHING), many, 0.0)
    pi = probability[sampled]
    values = labels.score[a][sampled] - labels.score[b][sampled]
    part, share = _stratum(values, pi, many, (-1.0, 1.0)), many / items
    error = share * math.sqrt(part.variance)
    found = Difference(share * part.mean, error, items, part.labelled + 2, values / pi)
    return SampledPair(found, many, share * float(np.average(values**2, weights=1 / pi)))


def pairs(labels: Labels, asked: Bools, probability: Floats) -> dict[tuple[int, int], SampledPair]:
    """Return every pair of models (a < b)."""
    numbers = combinations(range(len(asked)), 2)
    return {(a, b): pair(labels, asked, probability, a, b) for a, b in numbers}


def accuracy(labels: Labels, asked: Bools, probability: Floats, model: int) -> Estimate | None:
    """Return a model's mean score over all its items; None when a stratum has items but no label."""
    among = asked[model]
    q = sample.votes(labels.codes)[model]
    split = sample.differ(labels.codes)
    parts = []
    for stratum in (among & split, among & ~split):
        sampled = stratum & labels.judged & (probability > 0)
        if stratum.any() and not sampled.any():
            return None
        if stratum.any():
            residual = labels.score[model][sampled] - q[sampled]
            ends = (float(-q[stratum].max()), float(1 - q[stratum].min()))
            parts.append(_stratum(residual, probability[sampled], int(stratum.sum()), ends))
    return _together(parts, int(among.sum()), float(q[among].mean())) if parts else None


@dataclass(frozen=True, slots=True)
class _Part:
    """A stratum's mean, and the centre and variance of its interval."""

    items: int
    labelled: int
    mean: float
    centre: float
    variance: float


def _stratum(values: Floats, pi: Floats, items: int, ends: tuple[float, float]) -> _Part:
    unseen = max(0.0, 1 - len(values) / items)
    weights = 1 / pi
    w = np.concatenate([weights, np.full(2, weights.mean() * unseen)])
    e = np.concatenate([values, ends])
    left = np.concatenate([np.minimum(1 - pi, 1.0), np.full(2, unseen)])
    centre = float((w * e).sum() / w.sum())
    count = len(values) + 2
    return _Part(
        items=items,
        labelled=len(values),
        mean=float((weights * values).sum() / weights.sum()),
        centre=centre,
        variance=float((w**2 * left * (e - centre) ** 2).sum()) / float(w.sum()) ** 2 * count / (count - 1),
    )


def _together(parts: Sequence[_Part], items: int, start: float) -> Estimate:
    """Add strata up, with Satterthwaite's degrees of freedom (the two pseudo-labels count as labels)."""
    shares = [part.items / items for part in parts]
    value = start + sum(share * part.mean for share, part in zip(shares, parts, strict=True))
    centre = start + sum(share * part.centre for share, part in zip(shares, parts, strict=True))
    variances = [share**2 * part.variance for share, part in zip(shares, parts, strict=True)]
    total = sum(variances)
    if total == 0:
        return Estimate(value, value, value)
    freedom = total**2 / sum(v**2 / (part.labelled + 1) for v, part in zip(variances, parts, strict=True))
    half = t_quantile(1 - LEVEL / 2, freedom) * math.sqrt(total)
    return Estimate(value, max(0.0, min(value, centre - half)), min(1.0, max(value, centre + half)))


def needed(
    found: Mapping[tuple[int, int], SampledPair],
    used: int,
    costs: Sequence[float],
    *,
    margin: float = margins.MARGIN,
) -> LabelNeed:
    """Return how many labels there are and how many it takes, if what is seen is what is true.

    `used` counts all labels; costs are dollars per item, infinite where not known. The choice expected is the
    cheapest candidate that is seen less than the margin behind every other.
    """
    known = {at: one for at, one in found.items() if len(one.difference.sums)}
    if not known:
        return LabelNeed(used, None, None)
    k = len(costs)
    behind = np.zeros((k, k))
    for (a, b), one in known.items():
        behind[b, a], behind[a, b] = one.difference.value, -one.difference.value
    worst = behind.max(1)
    pick = min((at for at in range(k) if worst[at] < margin), key=lambda at: (costs[at], worst[at]))
    contests = {at: one for at, one in known.items() if pick in at} or known
    level = 1 - LEVEL / max(k * (k - 1), 2)
    needs = []
    for (a, b), one in contests.items():
        room = margin - behind[pick, b if pick == a else a]
        labels = _labels_for(one, max(room, 1e-9), level) * used / len(one.difference.sums)
        needs.append((labels, (a, b)))
    most, hardest = max(needs)
    return LabelNeed(used, math.ceil(most - 1e-9), _saved(known[hardest], used))


def _labels_for(one: SampledPair, room: float, probability: float) -> float:
    """The labels, among the items a pair differs on, that bring t * error below `room`.

    error^2 = s^2 (1/(n + 2) - 1/(split + 2)) as n grows, with s^2 from the error seen.
    """
    seen, whole = len(one.difference.sums), 1 / (one.split + 2)
    if seen >= one.split:
        return float(seen)
    scale = one.difference.error**2 / (1 / (seen + 2) - whole)
    labels = float(seen)
    for _ in range(20):
        error = room / t_quantile(probability, max(labels + 1, 2))
        labels = max(1 / (error**2 / scale + whole) - 2, 1.0)
    return min(labels, float(one.split))


def _saved(one: SampledPair, used: int) -> float | None:
    """The labels that give the same error when drawn at random from all items, against those used."""
    found = one.difference
    spread = one.square - found.value**2
    if found.error == 0 or spread <= 0:
        return None
    return spread / (found.error**2 + spread / found.items) / used
