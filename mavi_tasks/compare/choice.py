"""The choice of a bake-off: margin.py's rule applied to its scores, and what knowing more would cost.

With expected answers a score is how right an answer is. Without any, two candidates can differ in no more
than the items they answer differently, so that share bounds how far one may be behind the other, whatever is
right.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from mavi_tasks.compare import margin as rule
from mavi_tasks.compare import scoring, until_decided
from mavi_tasks.compare.field_labels import Labels
from mavi_tasks.compare.margin import Bounds, Difference
from mavi_tasks.compare.pairwise import same_answer
from mavi_tasks.compare.result import Choice, More, Quantiles
from mavi_tasks.compare.sheet import Sheet
from mavi_tasks.compare.statistics import Bools, Floats

MOST_FORECAST = 12  # candidates whose future is drawn; the time grows with their square


@dataclass(frozen=True, slots=True)
class Standing:
    """One candidate's place: shares are of 1; None where there is nothing to tell it by."""

    behind_high: float | None = None
    best_probability: float | None = None
    expected_behind: float | None = None
    dominated_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """The choice, each candidate's standing, the bounds of all pairs and their differences."""

    choice: Choice
    standings: tuple[Standing, ...]
    bounds: Bounds | None
    differences: dict[tuple[int, int], Difference]


def choose(sheet: Sheet, labels: Labels, margin: float) -> Judged | None:
    """Return the choice with a margin (a share), or None of a single candidate or when nothing compares."""
    k = len(sheet.models)
    if k < 2 or not labels.names:
        return None
    costs = [scoring.per_item(sheet, at) for at in range(k)]
    known = [math.inf if cost is None else float(cost) for cost in costs]
    if labels.has_truth:
        found, pairs = rule.bounds(labels.scores, sheet.asked & labels.judged, sheet.clusters)
    else:
        found, pairs = _by_agreement(sheet, labels), {}
    decision = rule.choose(found, known, margin)
    first = decision.chosen if decision.chosen is not None else decision.open[0] if decision.open else None
    open_ = list(decision.open)
    chances = until_decided.posterior(labels.scores, sheet.asked & labels.judged, sheet.clusters)
    if decision.chosen is not None or not open_:
        more = None
    elif labels.has_truth:
        more = _more(sheet, labels, found, open_, costs, margin)
    else:
        more = _labels_to_decide(sheet, labels, open_, margin)
    chosen = None if decision.chosen is None else sheet.candidates[decision.chosen]
    choice = Choice(
        candidate=None if chosen is None else chosen.name,
        model=None if chosen is None else chosen.model,
        prompt_id=None if chosen is None else chosen.prompt_id,
        decided=chosen is not None,
        margin_points=100 * margin,
        behind_points_high=None if first is None else 100 * float(decision.behind[first]),
        undecided=tuple(sheet.models[at] for at in open_),
        rival=None if first is None else _rival(sheet, found, first),
        by_truth=labels.has_truth,
        more=more,
    )
    return Judged(choice, _standings(sheet, labels, found, known, decision.behind, chances), found, pairs)


def differing(sheet: Sheet, labels: Labels, among: Sequence[int]) -> Bools:
    """Tell, per item, whether some of these candidates answered it differently, or only some answered."""
    out = np.zeros(len(sheet.units), bool)
    for at in among[1:]:
        both = sheet.asked[among[0]] & sheet.asked[at]
        out |= both & ~same_answer(labels, among[0], at) & (sheet.answered[among[0]] | sheet.answered[at])
    return out


def _standings(
    sheet: Sheet,
    labels: Labels,
    found: Bounds,
    costs: Sequence[float],
    behind: Floats,
    chances: until_decided.Posterior | None,
) -> tuple[Standing, ...]:
    by_truth = labels.has_truth and chances is not None
    best = chances.best if chances is not None and by_truth else None
    regret = chances.regret if chances is not None and by_truth else None
    return tuple(
        Standing(
            behind_high=float(behind[at]),
            best_probability=None if best is None else float(best[at]),
            expected_behind=None if regret is None else float(regret[at]),
            dominated_by=tuple(sheet.models[by] for by in rule.dominators(found, costs, at)),
        )
        for at in range(len(sheet.models))
    )


def _rival(sheet: Sheet, found: Bounds, at: int) -> str | None:
    """The candidate that one may be furthest behind."""
    others = np.where(found.possible_best, found.high[at], -np.inf)
    others[at] = -np.inf
    return sheet.models[int(others.argmax())] if np.isfinite(others.max()) else None


def _by_agreement(sheet: Sheet, labels: Labels) -> Bounds:
    """Bounds without truth: the share of items that two answer differently, with its own error."""
    k = len(sheet.models)
    pairs = {
        (a, b): rule.difference(
            differing(sheet, labels, (a, b)).astype(float),
            np.zeros(len(sheet.units)),
            sheet.asked[a] & sheet.asked[b],
            sheet.clusters,
        )
        for a in range(k)
        for b in range(a + 1, k)
    }
    found = rule.of_differences(k, pairs)
    high = np.maximum(np.triu(found.high.T, 1).T, np.tril(found.high, -1))
    return Bounds(np.zeros((k, k)), high + high.T, found.items)


def _more(
    sheet: Sheet,
    labels: Labels,
    found: Bounds,
    open_: Sequence[int],
    costs: Sequence[Decimal | None],
    margin: float,
) -> More | None:
    """Items, dollars and labels until the choice is decided, as it looks from here."""
    at = sorted({*open_, *np.flatnonzero(found.possible_best).tolist()})[:MOST_FORECAST]
    judged = sheet.asked[at] & labels.judged
    seen = until_decided.posterior(labels.scores[at], judged, sheet.clusters)
    if seen is None:
        return None
    items = until_decided.items_until_decided(seen, margin, candidates=len(sheet.models))
    among = judged.all(0)
    split = float(differing(sheet, labels, open_)[among].sum() + 1) / (float(among.sum()) + 2)
    waiting = int((sheet.asked[at].all(0) & ~labels.judged).sum())
    known = [cost for place in open_ if (cost := costs[place]) is not None]
    each = sum(known, Decimal(0)) if len(known) == len(open_) else None
    return More(
        items=items.map(math.ceil),
        waiting=waiting,
        cost_usd=None
        if each is None
        else items.map(lambda n: (each * max(0, math.ceil(n) - waiting)).quantize(scoring.PICO)),
        labels=items.map(lambda n: max(1, math.ceil(n * split))),
    )


def _labels_to_decide(sheet: Sheet, labels: Labels, open_: Sequence[int], margin: float) -> More:
    """How many of the differing items, drawn at random, need a label: at most all of them.

    The difference is the share that differ times its mean over the labelled ones, known to within the margin
    when n = (t * share / margin)^2, fewer of few: Cochran's sample size for a finite population.
    """
    asked = sheet.asked[list(open_)].all(0)
    split = int((differing(sheet, labels, open_) & asked).sum())
    share = split / max(int(asked.sum()), 1)
    wide = (2 * share / margin) ** 2 if margin else math.inf
    needed = math.ceil(split / (1 + split / wide)) if wide and math.isfinite(wide) else split
    return More(
        items=None,
        waiting=int(asked.sum()),
        cost_usd=None,
        labels=Quantiles(None, max(needed, 1) if split else 0, split),
        differing=split,
    )
