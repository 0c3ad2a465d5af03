"""A cascade with a bound: how much worse than its last model it may be, proven on items it was not chosen by.

One or two cheap models answer first. The last model answers an item in their place when they gave no usable
answer, when two of them differ, or when the first is less sure of itself than a threshold. Only the order of
its confidences counts: what models say of their confidence is no probability.

1. Half of the clusters choose the cheap models: whose cascade costs least there, within half the margin.
2. On the other half thresholds go from most items escalated to least. d = the last model's score minus the
   cascade's, 0 where an item was escalated. Each has an upper bound by margin.py, at 95 % on its own.
3. The first bound above the margin ends it, and the threshold before that one is taken: tests in a fixed
   order that stop at the first failure err in no more than 5 % together.

Pure functions of arrays: nothing is read or sent here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mavi_tasks.compare import margin
from mavi_tasks.compare.statistics import Bools, Floats, Ints

STEPS = 20  # thresholds that are tried


@dataclass(frozen=True, slots=True)
class Answers:
    """What a cascade is chosen from, over items that all models were asked: arrays are [models, items].

    scores: how right, 0 to 1. costs: dollars. usable: an answer that fits. confidence: NaN = none given.
    same: for two models a < b, where their answers are equal.
    """

    scores: Floats
    costs: Floats
    usable: Bools
    confidence: Floats
    clusters: Ints
    same: dict[tuple[int, int], Bools]

    def keep(self, chosen: Bools) -> "Answers":
        """Return only the chosen items."""
        return Answers(
            self.scores[:, chosen],
            self.costs[:, chosen],
            self.usable[:, chosen],
            self.confidence[:, chosen],
            np.unique(self.clusters[chosen], return_inverse=True)[1].astype(np.int64),
            {pair: same[chosen] for pair, same in self.same.items()},
        )


@dataclass(frozen=True, slots=True)
class Certified:
    """A cascade and its bound; models are places. below: escalate under this confidence, None = never.

    behind_high: how far it may be behind its last model, a share, at 95 %; seen: how far it was. escalated:
    the share of items that the last model was asked. items: of the half that proves it, as all figures.
    """

    first: tuple[int, ...]
    last: int
    below: float | None
    behind_high: float
    seen: float
    escalated: float
    items: int
    cost: float
    cost_last: float


def escalated(answers: Answers, first: Sequence[int], below: float | None) -> Bools:
    """Tell, per item, whether the last model is asked."""
    out: Bools = np.logical_not(answers.usable[list(first)].all(axis=0))
    if len(first) == 2:
        out |= ~answers.same[(min(first), max(first))]
    if below is not None:
        out |= ~(answers.confidence[first[0]] >= below)
    return out


def certify(answers: Answers, last: int, allowed: float, *, seed: int = 0) -> Certified | None:
    """Return the cascade that is proven to be at most `allowed` behind model `last` and costs less than it.

    None when no cascade is cheaper within the margin, or too few items were seen to prove one.
    """
    count = int(answers.clusters.max()) + 1 if len(answers.clusters) else 0
    if count < 4:
        return None
    half = (np.random.default_rng(seed).permutation(count) % 2)[answers.clusters] == 0
    choosing, proving = answers.keep(half), answers.keep(~half)
    first = _family(choosing, last, allowed / 2)
    if first is None:
        return None
    found = None
    for below in _thresholds(choosing, first):
        step = _bounded(proving, first, last, below)
        if step.behind_high > allowed:
            break
        found = step
    return found if found is not None and found.cost < found.cost_last else None


def _family(answers: Answers, last: int, allowed: float) -> tuple[int, ...] | None:
    """The cheap models whose cascade costs least, of those that seem within the margin; None when none is."""
    others = [model for model in range(len(answers.scores)) if model != last]
    groups: list[tuple[int, ...]] = [(one,) for one in others]
    groups += list(combinations(sorted(others, key=lambda one: float(answers.costs[one].mean())), 2))
    best: tuple[float, tuple[int, ...]] | None = None
    for first in groups:
        for below in _thresholds(answers, first):
            one = _bounded(answers, first, last, below)
            if one.seen <= allowed and one.cost < one.cost_last and (best is None or one.cost < best[0]):
                best = (one.cost, first)
    return None if best is None else best[1]


def _thresholds(answers: Answers, first: Sequence[int]) -> list[float | None]:
    """From most items escalated to least; the last escalates none for its confidence."""
    held = answers.confidence[first[0]]
    known = held[np.isfinite(held)]
    if len(known) * 2 < len(held) or not len(known):
        return [None]
    cuts = np.unique(np.quantile(known, np.linspace(0, 1, STEPS + 1)))[::-1]
    return [*(float(cut) for cut in cuts), None]


def _bounded(answers: Answers, first: Sequence[int], last: int, below: float | None) -> Certified:
    up = escalated(answers, first, below)
    score = np.where(up, answers.scores[last], answers.scores[first[0]])
    every = np.ones(len(up), bool)
    gap = margin.difference(answers.scores[last], score, every, answers.clusters)
    cost = answers.costs[list(first)].sum(axis=0) + up * answers.costs[last]
    return Certified(
        first=tuple(first),
        last=last,
        below=below,
        behind_high=gap.value + gap.reach(1 - margin.LEVEL),
        seen=gap.value,
        escalated=float(up.mean()) if len(up) else 1.0,
        items=len(up),
        cost=float(cost.mean()) if len(up) else 0.0,
        cost_last=float(answers.costs[last].mean()) if len(up) else 0.0,
    )
