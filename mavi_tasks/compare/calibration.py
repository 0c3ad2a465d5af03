"""Whether a model's confidence can be believed: how often it is right when it says it is so sure.

Over answers that give a `confidence` and have an expected answer. Brier's score is the mean of (confidence -
score)^2: 0 is perfect, .25 is what "50 %" everywhere gets. Bins hold equally many answers each (equal mass),
so that none rests on a handful. Coverage is the share of answers kept when those below a confidence are put
aside.
"""

from dataclasses import dataclass

import numpy as np

from mavi_tasks.compare.field_labels import Labels
from mavi_tasks.compare.sheet import Sheet
from mavi_tasks.compare.statistics import Estimate, Floats, Ints, proportion

BINS = 10
FEWEST = 20  # answers with a confidence; of fewer nothing can be said
IN_A_BIN = 10  # answers at least
COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of about the same confidence: its mean, and how often they were right."""

    confidence: float
    n: int
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class Kept:
    """The surest answers: the share of all that they are, from which confidence on, how often right."""

    coverage: float
    confidence_from: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """One model's confidence; `overconfident` is mean confidence minus accuracy, `error` the mean gap of the
    bins."""

    n: int
    brier: float
    error: float
    overconfident: float
    bins: tuple[Bin, ...]
    coverage: tuple[Kept, ...]


def calibrate(sheet: Sheet, labels: Labels) -> dict[str, Calibration]:
    """Return the calibration of each model that gives a confidence on 20 or more judged answers."""
    out = {}
    for at, name in enumerate(sheet.models):
        held = labels.confidence[at]
        among = labels.judged & sheet.answered[at] & (held >= 0) & (held <= 1)
        if labels.has_truth and among.sum() >= FEWEST:
            out[name] = of(held[among], labels.scores[at][among], sheet.clusters[among])
    return out


def of(confidence: Floats, score: Floats, clusters: Ints) -> Calibration:
    """Return the calibration of answers [n] with these confidences and scores in 0..1."""
    bins = tuple(_bin(confidence, score, clusters, at) for at in _equal_mass(confidence))
    weights = np.array([one.n for one in bins])
    gaps = [abs(one.confidence - one.accuracy.value) for one in bins]
    return Calibration(
        n=len(score),
        brier=float(((confidence - score) ** 2).mean()),
        error=float(np.average(gaps, weights=weights)),
        overconfident=float((confidence - score).mean()),
        bins=bins,
        coverage=_coverage(confidence, score),
    )


def _equal_mass(confidence: Floats) -> list[Ints]:
    """Places of the answers of each bin, in order of confidence; equal confidences stay together."""
    order = np.argsort(confidence, kind="stable")
    count = max(1, min(BINS, len(order) // IN_A_BIN))
    ranks = np.searchsorted(confidence[order], confidence[order], side="left")
    number = ranks * count // len(order)
    return [order[number == one] for one in np.unique(number)]


def _bin(confidence: Floats, score: Floats, clusters: Ints, at: Ints) -> Bin:
    accuracy = proportion(score[at], clusters[at])
    assert accuracy is not None
    return Bin(float(confidence[at].mean()), len(at), accuracy)


def _coverage(confidence: Floats, score: Floats) -> tuple[Kept, ...]:
    """How right the surest answers are; answers as sure as the last one kept are kept too."""
    order = np.argsort(-confidence, kind="stable")
    sure, right = confidence[order], np.cumsum(score[order])
    out: dict[int, Kept] = {}
    for share in COVERAGES:
        last = sure[max(0, round(share * len(sure)) - 1)]
        kept = int((sure >= last).sum())
        out[kept] = Kept(kept / len(sure), float(last), float(right[kept - 1] / kept))
    return tuple(out.values())
