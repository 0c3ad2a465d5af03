"""One model at a time: how often right, what it cost, how long it took."""

from collections import Counter
from decimal import Decimal

import numpy as np

from mavi_tasks.common.skips import Skip, by_model
from mavi_tasks.compare.field_labels import Labels
from mavi_tasks.compare.result import ClassScore
from mavi_tasks.compare.sheet import ANSWERED, FAILED, INVALID, SKIPPED, UNKNOWN, Sheet
from mavi_tasks.compare.statistics import (
    MISSING,
    Bools,
    Estimate,
    Floats,
    Ints,
    by_group,
    proportion,
    spread,
    weights,
)

PICO = Decimal(1).scaleb(-12)
MOST_CLASSES = 40  # beyond, per-class tables and macro F1 mean little


def usd(pico: int) -> Decimal:
    """Return whole pico-dollars as exact dollars."""
    return Decimal(pico).scaleb(-12)


def per(pico: int, count: float, times: int = 1) -> Decimal | None:
    """Return dollars per `times` things, to the pico-dollar; None of no things."""
    return (usd(pico) * times / Decimal(str(count))).quantize(PICO) if count else None


def money(sheet: Sheet, model: int) -> tuple[int | None, int]:
    """Return the cost of the model's rows in pico-dollars (None: no price known), and how many have no price.

    A failed or skipped row without a cost was not billed; an answered or invalid one lacks a price.
    """
    cost, status = sheet.cost_pico[model], sheet.status[model]
    billed = (status == ANSWERED) | (status == INVALID)
    unknown = int(np.count_nonzero(billed & (cost == UNKNOWN)))
    total = sum(cost[cost != UNKNOWN].tolist())
    return (None if unknown and unknown == np.count_nonzero(billed) else total), unknown


def video_hours(sheet: Sheet, model: int) -> tuple[int, float]:
    """Return pico-dollars and hours over the videos whose duration and cost are known."""
    seconds = np.array(
        [u.duration_s if u.media_kind == "video" and u.duration_s else 0.0 for u in sheet.units]
    )
    known = (seconds > 0) & (sheet.cost_pico[model] != UNKNOWN) & sheet.asked[model]
    return sum(sheet.cost_pico[model][known].tolist()), float(seconds[known].sum()) / 3600


def quantile(values: Floats, rank: float) -> float | None:
    """Return a quantile of the known values."""
    known = values[~np.isnan(values)]
    return float(np.percentile(known, 100 * rank)) if len(known) else None


def counted(values: Ints) -> int | None:
    """Return the sum of the known counts, None when none is known."""
    known = values[values != UNKNOWN]
    return int(known.sum()) if len(known) else None


def skips(sheet: Sheet) -> list[Skip]:
    """What was skipped: counts by model and code, and the way out."""
    codes = (
        Counter(code or "unknown" for code in sheet.error_code[at][skipped])
        for at, skipped in enumerate(sheet.status == SKIPPED)
    )
    return by_model(zip(sheet.models, codes, strict=True))


def statuses(sheet: Sheet, model: int, among: Bools) -> dict[str, int]:
    """Return how the model's rows ended, over the chosen items."""
    status = sheet.status[model][among]
    names = {"answered": ANSWERED, "failed": FAILED, "invalid": INVALID, "skipped": SKIPPED}
    return {name: int(np.count_nonzero(status == code)) for name, code in names.items()}


def per_item(sheet: Sheet, model: int) -> Decimal | None:
    """Return what one more item costs in dollars, as it did so far; None when no price is known."""
    pico, unknown = money(sheet, model)
    return None if pico is None else per(pico, int(sheet.asked[model].sum()) - unknown)


def accuracy(labels: Labels, sheet: Sheet, model: int, *, answered_only: bool = False) -> Estimate | None:
    """Return the share right with its interval: unanswered items count as wrong, or are left out."""
    if not labels.has_truth:
        return None
    among = labels.judged & (sheet.answered[model] if answered_only else sheet.asked[model])
    return proportion(labels.scores[model][among], sheet.clusters[among])


def stability(sheet: Sheet, labels: Labels, model: int) -> tuple[Estimate | None, float | None]:
    """Return how often two answers to one question are equal, and the variance of scores within an item.

    Over questions that were asked several times; (None, None) without any. An interval counts each question
    once. The variance is None without expected answers.
    """
    questions: dict[tuple[str, str], list[int]] = {}
    for at in np.flatnonzero(sheet.asked[model]).tolist():
        questions.setdefault((sheet.units[at].item_id, sheet.units[at].prompt_id), []).append(at)
    several = [places for places in questions.values() if len(places) > 1]
    if not several or not labels.names:
        return None, None
    equal = np.array([_equal_pairs(labels.codes[model][places]) for places in several])
    first = np.array([places[0] for places in several])
    scored = [labels.scores[model][places] for places in several if labels.judged[places[0]]]
    variance = float(np.mean([one.var(ddof=1) for one in scored])) if scored else None
    return proportion(equal, sheet.clusters[first]), variance


def _equal_pairs(codes: Ints) -> float:
    """The share of pairs of answers that are equal; no answer equals nothing."""
    times = np.unique(codes[codes != MISSING], return_counts=True)[1]
    return float((times * (times - 1)).sum() / (len(codes) * (len(codes) - 1)))


class Classes:
    """Per-class figures of a single-label field with few labels, and macro F1 with bootstrap intervals."""

    def __init__(self, labels: Labels, sheet: Sheet) -> None:
        field = labels.fields[0]
        self.field = field
        self.asked = sheet.asked & labels.judged
        self.support = np.bincount(field.truth[field.truth != MISSING], minlength=len(field.labels))
        self.kept = np.argsort(-self.support, kind="stable")[: int((self.support > 0).sum())]
        self.clusters = sheet.clusters

    @staticmethod
    def fit(labels: Labels) -> bool:
        """Tell whether classes make sense here."""
        one = [field for field in labels.fields if field.rule.kind != "ignore"]
        if len(labels.fields) != 1 or not one or not labels.has_truth or one[0].rule.kind == "set":
            return False
        return 2 <= len(np.unique(one[0].truth[one[0].truth != MISSING])) <= MOST_CLASSES

    @property
    def names(self) -> tuple[str, ...]:
        """The true labels, the most frequent first."""
        return tuple(self.field.labels[at] for at in self.kept)

    def scores(self, model: int) -> tuple[ClassScore, ...]:
        """Return precision, recall and F1 per true label."""
        hit, predicted, true = self._counts(model).sum(0).reshape(3, -1)
        return tuple(
            ClassScore(
                label=self.field.labels[at],
                support=int(true[i]),
                precision=float(hit[i] / predicted[i]) if predicted[i] else None,
                recall=float(hit[i] / true[i]) if true[i] else None,
                f1=float(2 * hit[i] / (predicted[i] + true[i])) if predicted[i] + true[i] else 0.0,
            )
            for i, at in enumerate(self.kept)
        )

    def confusion(self, model: int) -> tuple[tuple[int, ...], ...]:
        """Count true label (rows) against given label (columns), then "another label" and "no answer"."""
        among = self.asked[model] & (self.field.truth != MISSING)
        place = np.full(len(self.field.labels) + 1, len(self.kept), np.int64)
        place[self.kept] = np.arange(len(self.kept))
        place[MISSING] = len(self.kept) + 1
        rows, columns = place[self.field.truth[among]], place[self.field.codes[model][among]]
        width = len(self.kept) + 2
        table = np.bincount(rows * width + columns, minlength=len(self.kept) * width)
        return tuple(tuple(row) for row in table.reshape(-1, width).tolist())

    def macro_f1(self, model: int) -> float:
        """Return the mean F1 over the true labels."""
        return float(_macro(self._counts(model).sum(0)[None, :])[0])

    def drawn_f1(self, models: int) -> list[Floats]:
        """Return macro F1 and then its bootstrap draws, per model; all models get the same draws."""
        sums = [by_group(self._counts(model), self.clusters) for model in range(models)]
        blocks = [[_macro(block @ one) for one in sums] for block in weights(len(sums[0]))]
        return [
            np.concatenate([[self.macro_f1(model)], *(block[model] for block in blocks)])
            for model in range(models)
        ]

    def _counts(self, model: int) -> Floats:
        among = self.asked[model][:, None]
        predicted = (self.field.codes[model][:, None] == self.kept) & among
        true = (self.field.truth[:, None] == self.kept) & among
        return np.concatenate([predicted & true, predicted, true], axis=1).astype(float)


def _macro(counts: Floats) -> Floats:
    hit, predicted, true = np.split(counts, 3, axis=1)
    bottom = predicted + true
    f1 = np.divide(2 * hit, bottom, out=np.zeros_like(hit), where=bottom > 0)
    present = true > 0  # a class that was not drawn does not count
    macro: Floats = (f1 * present).sum(1) / np.maximum(present.sum(1), 1)
    return macro


def with_spread(drawn: Floats, clusters: int) -> Estimate:
    """Return a figure with the interval of its draws of so many clusters; the first entry is itself."""
    return Estimate(float(drawn[0]), *spread(drawn[1:], clusters))
