"""Two models at a time, on the same items: what only one got right, and whether that can be chance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import combinations

import numpy as np

from mavi_tasks.compare import few_labels, scoring, statistics
from mavi_tasks.compare.field_labels import Field, Labels
from mavi_tasks.compare.margin import Difference
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


def compare(
    sheet: Sheet, labels: Labels, f1: Sequence[Floats] | None, sampled: Floats | None = None
) -> tuple[Pair, ...]:
    """Return every pair of models, Holm-corrected; `f1` are macro F1 and its draws, per model.

    `sampled` are the items' inclusion probabilities when the labels are a sample: then differences and
    p-values speak of all items, not of the labelled ones.
    """
    numbers = list(combinations(range(len(sheet.models)), 2))
    if not numbers:
        return ()
    drawn = _Drawn(sheet, labels, numbers)
    pairs = [_pair(sheet, labels, a, b, drawn, at, f1) for at, (a, b) in enumerate(numbers)]
    if sampled is not None:
        each = zip(pairs, few_labels.pairs(labels, sheet.asked, sampled).values(), strict=True)
        pairs = [_from_sample(pair, one.difference) for pair, one in each]
    tested = [at for at, pair in enumerate(pairs) if pair.p_value is not None]
    corrected = statistics.holm([pairs[at].p_value or 0.0 for at in tested])
    for at, p_holm in zip(tested, corrected, strict=True):
        pairs[at] = _decided(sheet, pairs[at], p_holm, sampled)
    return tuple(pairs)


def _pair(
    sheet: Sheet, labels: Labels, a: int, b: int, drawn: "_Drawn", at: int, f1: Sequence[Floats] | None
) -> Pair:
    asked = sheet.asked[a] & sheet.asked[b]
    truth = labels.has_truth
    common = asked & labels.judged if truth else asked
    ra, rb = labels.right[a][common], labels.right[b][common]
    spoken = common & (labels.codes[a] != MISSING) & (labels.codes[b] != MISSING)
    same = int(np.count_nonzero(same_answer(labels, a, b) & spoken))
    a_only, b_only = int((ra & ~rb).sum()), int((rb & ~ra).sum())
    size = len(labels.names)
    return Pair(
        a=sheet.models[a],
        b=sheet.models[b],
        n=int(common.sum()),
        both=int((ra & rb).sum()) if truth else same,
        a_only=a_only if truth else None,
        b_only=b_only if truth else None,
        neither=int((~ra & ~rb).sum()) if truth else None,
        agreement=statistics.wilson(same, int(spoken.sum())),
        kappa=statistics.kappa(_table(labels, a, b, common)) if 0 < size <= 3000 else None,
        difference=drawn.estimate(at, 0) if truth else None,
        f1_difference=_f1_difference(f1, a, b),
        cost_difference_per_1000_usd=drawn.estimate(at, 1),
        latency_difference_s=drawn.estimate(at, 2),
        p_value=statistics.mcnemar(a_only, b_only) if truth and common.any() else None,
    )


def _from_sample(pair: Pair, difference: Difference) -> Pair:
    p_value = sign_flip_p(difference.sums) if len(difference.sums) else None
    return replace(pair, difference=difference.interval(), p_value=p_value)


def _table(labels: Labels, a: int, b: int, common: Bools) -> Floats:
    """The two models' labels against each other, over only the labels they used."""
    both = common & (labels.codes[a] != MISSING) & (labels.codes[b] != MISSING)
    codes = np.stack([labels.codes[a][both], labels.codes[b][both]])
    used, dense = np.unique(codes, return_inverse=True)
    dense = dense.reshape(codes.shape)
    return statistics.contingency(dense[0], dense[1], max(len(used), 1))


def _f1_difference(f1: Sequence[Floats] | None, a: int, b: int) -> Estimate | None:
    if f1 is None:
        return None
    difference = f1[a][1:] - f1[b][1:]  # the first entry is the figure itself
    return Estimate(float(f1[a][0] - f1[b][0]), *statistics.spread(difference))


def _decided(sheet: Sheet, pair: Pair, p_holm: float, sampled: Floats | None) -> Pair:
    if p_holm < LEVEL:
        return replace(pair, p_holm=p_holm, decided=True)
    if sampled is not None:
        return replace(pair, p_holm=p_holm, decided=False)
    needed = statistics.items_to_decide(pair.a_only or 0, pair.b_only or 0, pair.n, LEVEL)
    more = None if needed is None else max(needed - pair.n, 1)
    return replace(pair, p_holm=p_holm, decided=False, more_items=more, more_usd=_price(sheet, pair, more))


def _price(sheet: Sheet, pair: Pair, more: int | None) -> Decimal | None:
    """What that many more items would cost with both models, at what they cost so far."""
    if more is None:
        return None
    pico = 0
    for name in (pair.a, pair.b):
        model = sheet.models.index(name)
        total, unknown = scoring.money(sheet, model)
        asked = int(sheet.asked[model].sum())
        if total is None or unknown or not asked:
            return None
        pico += round(total * more / asked)
    return scoring.usd(pico)


@dataclass(init=False, slots=True)
class _Drawn:
    """Paired bootstrap of all pairs at once, media resampled: accuracy, cost per 1,000, seconds."""

    _values: Floats
    _draws: Floats

    def __init__(self, sheet: Sheet, labels: Labels, numbers: Sequence[tuple[int, int]]) -> None:
        columns = [column for a, b in numbers for column in _columns(sheet, labels, a, b)]
        sums = statistics.by_cluster(np.stack(columns, axis=1), sheet.clusters)
        self._values = _ratios(sums.sum(0, keepdims=True))[0]
        self._draws = np.concatenate([_ratios(block @ sums) for block in statistics.weights(len(sums))])

    def estimate(self, pair: int, which: int) -> Estimate | None:
        """Return a pair's difference of accuracy (0), dollars per 1,000 (1) or seconds (2), if known."""
        at = 3 * pair + which
        value = float(self._values[at])
        return Estimate(value, *statistics.spread(self._draws[:, at])) if np.isfinite(value) else None


def _columns(sheet: Sheet, labels: Labels, a: int, b: int) -> list[Floats]:
    """Numerator and denominator of each difference, per item."""
    asked = sheet.asked[a] & sheet.asked[b]
    judged = asked & labels.judged
    cost = np.where(sheet.cost_pico == UNKNOWN, 0, sheet.cost_pico).astype(float) * 1e-9  # dollars per 1,000
    priced = asked & _priced(sheet, a) & _priced(sheet, b)
    timed = asked & ~np.isnan(sheet.latency_s[a]) & ~np.isnan(sheet.latency_s[b])
    right = labels.right.astype(float)
    seconds = np.nan_to_num(sheet.latency_s)
    out = []
    for values, among in ((right, judged), (cost, priced), (seconds, timed)):
        out += [(values[a] - values[b]) * among, among.astype(float)]
    return out


def _priced(sheet: Sheet, model: int) -> Bools:
    """Rows whose cost is known; a failed row without a cost was not billed."""
    known: Bools = (sheet.cost_pico[model] != UNKNOWN) | ~sheet.answered[model]
    return known


def _ratios(sums: Floats) -> Floats:
    top, bottom = sums[:, 0::2], sums[:, 1::2]
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)
