"""Two models at a time, on the same items: what only one got right, and whether that can be chance."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from mavi_tasks.compare import statistics
from mavi_tasks.compare.field_labels import Field, Labels
from mavi_tasks.compare.margin import Bounds, difference
from mavi_tasks.compare.quantiles import t_quantile
from mavi_tasks.compare.result import Pair
from mavi_tasks.compare.sheet import UNKNOWN, Sheet
from mavi_tasks.compare.sign_flip import sign_flip_p
from mavi_tasks.compare.statistics import MISSING, Bools, Estimate, Floats

LEVEL = 0.05


def same_answer(labels: Labels, a: int, b: int) -> Bools:
    """Tell, per item, whether two models gave equal answers; numbers within the tolerance are equal."""
    compared = [one for one in labels.fields if one.rule.kind != "ignore" and not one.free_text]
    if not compared:
        return np.zeros(labels.codes.shape[1], bool)
    same: Bools = np.logical_and.reduce([_same(one, a, b) for one in compared])
    same &= (labels.codes[a] != MISSING) & (labels.codes[b] != MISSING)
    return same


def _same(field: Field, a: int, b: int) -> Bools:
    if field.numbers is None or not field.rule.tolerance:
        equal: Bools = field.codes[a] == field.codes[b]
        return equal
    one, other = field.numbers[a], field.numbers[b]
    allowed = field.rule.tolerance * (np.maximum(np.abs(one), np.abs(other)) if field.rule.relative else 1.0)
    near: Bools = np.abs(one - other) <= allowed + 1e-9
    near |= np.isnan(one) & np.isnan(other)
    return near


def compare(sheet: Sheet, labels: Labels, f1: Sequence[Floats] | None) -> tuple[Pair, ...]:
    """Return every pair of candidates, Holm-corrected; `f1` are macro F1 and its draws, per candidate."""
    numbers = list(combinations(range(len(sheet.models)), 2))
    pairs = [_pair(sheet, labels, a, b, f1) for a, b in numbers]
    tested = [at for at, pair in enumerate(pairs) if pair.p_value is not None]
    corrected = statistics.holm([pairs[at].p_value or 0.0 for at in tested])
    for at, p_holm in zip(tested, corrected, strict=True):
        pairs[at] = replace(pairs[at], p_holm=p_holm, decided=p_holm < LEVEL)
    return tuple(pairs)


def with_bounds(pairs: Sequence[Pair], bounds: Bounds, margin: float) -> tuple[Pair, ...]:
    """Add how far each may be behind the other (pairs in the order of `compare`), and the verdict."""
    places = combinations(range(len(bounds.high)), 2)
    return tuple(
        replace(
            pair,
            a_behind_points_high=100 * float(bounds.high[a, b]),
            b_behind_points_high=100 * float(bounds.high[b, a]),
            verdict=_verdict(pair, float(bounds.high[a, b]), float(bounds.high[b, a]), margin),
        )
        for pair, (a, b) in zip(pairs, places, strict=True)
    )


def _verdict(pair: Pair, a_behind: float, b_behind: float, margin: float) -> str:
    if max(a_behind, b_behind) <= margin:
        return "equal"
    if pair.decided and pair.difference is not None:
        return "a" if pair.difference.value > 0 else "b"
    return "open"


def _pair(sheet: Sheet, labels: Labels, a: int, b: int, f1: Sequence[Floats] | None) -> Pair:
    asked = sheet.asked[a] & sheet.asked[b]
    truth = labels.has_truth
    common = asked & labels.judged if truth else asked
    ra, rb = labels.right[a][common], labels.right[b][common]
    spoken = common & (labels.codes[a] != MISSING) & (labels.codes[b] != MISSING)
    same = same_answer(labels, a, b)
    scored = difference(labels.scores[a], labels.scores[b], common, sheet.clusters) if truth else None
    a_only, b_only = int((ra & ~rb).sum()), int((rb & ~ra).sum())
    size = len(labels.names)
    return Pair(
        a=sheet.models[a],
        b=sheet.models[b],
        n=int(common.sum()),
        both=int((ra & rb).sum()) if truth else int(np.count_nonzero(same & spoken)),
        a_only=a_only if truth else None,
        b_only=b_only if truth else None,
        neither=int((~ra & ~rb).sum()) if truth else None,
        agreement=statistics.proportion(same[spoken].astype(float), sheet.clusters[spoken]),
        kappa=statistics.kappa(_table(labels, a, b, common)) if 0 < size <= 3000 else None,
        difference=None if scored is None else scored.interval(),
        f1_difference=_f1_difference(f1, a, b, int(sheet.clusters.max()) + 1),
        cost_difference_per_1000_usd=_cost_difference(sheet, a, b),
        latency_difference_s=_latency_difference(sheet, a, b),
        p_value=sign_flip_p(scored.sums) if scored is not None and common.any() else None,
    )


def _table(labels: Labels, a: int, b: int, common: Bools) -> Floats:
    """The two models' labels against each other, over only the labels they used."""
    both = common & (labels.codes[a] != MISSING) & (labels.codes[b] != MISSING)
    codes = np.stack([labels.codes[a][both], labels.codes[b][both]])
    used, dense = np.unique(codes, return_inverse=True)
    dense = dense.reshape(codes.shape)
    return statistics.contingency(dense[0], dense[1], max(len(used), 1))


def _f1_difference(f1: Sequence[Floats] | None, a: int, b: int, clusters: int) -> Estimate | None:
    if f1 is None:
        return None
    drawn = f1[a][1:] - f1[b][1:]  # the first entry is the figure itself
    return Estimate(float(f1[a][0] - f1[b][0]), *statistics.spread(drawn, clusters))


def _cost_difference(sheet: Sheet, a: int, b: int) -> Estimate | None:
    """Dollars per 1,000 items, over the items whose cost is known for both."""
    cost = np.where(sheet.cost_pico == UNKNOWN, 0, sheet.cost_pico) * 1e-9
    return _paired(sheet, cost[a], cost[b], _priced(sheet, a) & _priced(sheet, b), a, b)


def _latency_difference(sheet: Sheet, a: int, b: int) -> Estimate | None:
    timed = ~np.isnan(sheet.latency_s[a]) & ~np.isnan(sheet.latency_s[b])
    return _paired(sheet, np.nan_to_num(sheet.latency_s[a]), np.nan_to_num(sheet.latency_s[b]), timed, a, b)


def _paired(sheet: Sheet, one: Floats, other: Floats, known: Bools, a: int, b: int) -> Estimate | None:
    """A mean difference with Student's t interval over clusters; no clusters are added to amounts."""
    among = sheet.asked[a] & sheet.asked[b] & known
    if not among.any():
        return None
    at = np.unique(sheet.clusters[among], return_inverse=True)[1]
    sizes, sums = np.bincount(at), np.bincount(at, (one - other)[among])
    value, count = float(sums.sum() / sizes.sum()), len(sizes)
    if count < 2:
        return Estimate(value)
    error = np.sqrt(count / (count - 1) * ((sums - value * sizes) ** 2).sum()) / sizes.sum()
    half = t_quantile(0.975, count - 1) * float(error)
    return Estimate(value, value - half, value + half)


def _priced(sheet: Sheet, model: int) -> Bools:
    """Rows whose cost is known; a failed row without a cost was not billed."""
    known: Bools = (sheet.cost_pico[model] != UNKNOWN) | ~sheet.answered[model]
    return known
