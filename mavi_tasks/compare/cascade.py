"""Cascades replayed from answers already paid for: ask cheap models first, a better one only when needed.

    agree       two models; a third when they differ
    agree3      two models; a third when they differ; a fourth when it sides with neither
    confidence  one model; the next when its own `confidence` is low (two or three steps)
    fallback    one model; the next when it gives no answer

A threshold is a quantile of the confidences, learned on four fifths of the media and applied to the fifth
left
out, so each figure is of items its tuning did not see. Picking the best of many policies is checked likewise.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations, permutations

import numpy as np

from mavi_tasks.compare import scoring
from mavi_tasks.compare.display_names import short
from mavi_tasks.compare.field_labels import Labels
from mavi_tasks.compare.pairwise import same_answer
from mavi_tasks.compare.pareto import front
from mavi_tasks.compare.result import Cascades, Policy
from mavi_tasks.compare.sheet import UNKNOWN, Sheet
from mavi_tasks.compare.statistics import Bools, Floats, Ints, wilson

FOLDS = 5
MOST_MODELS = 8  # with more, the most accurate 8; the number of policies grows with the fourth power
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
SHOWN = 8
VISIBLE = 0.004  # accuracy between two policies that are both shown
FEWEST_ITEMS = 20


@dataclass(frozen=True, slots=True)
class _Bench:
    """What a replay needs, over items all models have: [models, items]."""

    right: Floats
    cost: Floats
    answered: Bools
    confidence: Floats
    fold: Ints
    same: dict[tuple[int, int], Bools]
    unsure: dict[tuple[int, float], Bools]


@dataclass(frozen=True, slots=True)
class _Plan:
    kind: str
    models: tuple[int, ...]
    quantiles: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class _Played:
    """Per item: right or not, what was paid in pico-dollars, and where each later step was needed."""

    right: Floats
    cost: Floats
    needed: tuple[Bools, ...]


def simulate(sheet: Sheet, labels: Labels) -> Cascades | None:
    """Return the best policies; None without expected answers, prices, two models and 20 items."""
    usable = [
        m for m in range(len(sheet.models)) if scoring.money(sheet, m)[1] == 0 and sheet.answered[m].any()
    ]
    if not labels.has_truth or labels.stands_in:
        return None
    usable.sort(key=lambda m: -int(labels.right[m].sum()))
    usable = sorted(usable[:MOST_MODELS])
    common = labels.judged & sheet.asked[usable].all(0) if usable else labels.judged
    if len(usable) < 2 or common.sum() < FEWEST_ITEMS:
        return None
    bench = _bench(sheet, labels, usable, common)
    plans = list(_plans(bench))
    totals = np.array(
        [_by_fold(bench, _play(bench, plan)) for plan in plans]
    )  # [plans, folds, (right, cost)]
    return _report(bench, plans, totals, [sheet.models[m] for m in usable])


def _bench(sheet: Sheet, labels: Labels, usable: Sequence[int], common: Bools) -> _Bench:
    clusters = sheet.clusters[common]
    shuffled = np.random.default_rng(0).permutation(int(clusters.max()) + 1)
    fold = shuffled[clusters] % FOLDS
    cost = sheet.cost_pico[usable][:, common]
    confidence = labels.confidence[usable][:, common]
    at = range(len(usable))
    return _Bench(
        right=labels.scores[usable][:, common],
        cost=np.where(cost == UNKNOWN, 0, cost).astype(float),
        answered=sheet.answered[usable][:, common],
        confidence=confidence,
        fold=fold,
        same={(a, b): same_answer(labels, usable[a], usable[b])[common] for a, b in permutations(at, 2)},
        unsure={(m, q): _unsure(confidence[m], fold, q) for m in at for q in QUANTILES},
    )


def _plans(bench: _Bench) -> Iterator[_Plan]:
    models = range(len(bench.right))
    yield from (_Plan("single", (m,)) for m in models)
    yield from (_Plan("fallback", pair) for pair in permutations(models, 2))
    for a, b in combinations(models, 2):
        others = [m for m in models if m not in (a, b)]
        yield from (_Plan("agree", (a, b, c)) for c in others)
        yield from (_Plan("agree3", (a, b, c, d)) for c, d in permutations(others, 2))
    sure = [m for m in models if np.isfinite(bench.confidence[m]).mean() > 0.5]
    for a, b in permutations(models, 2):
        if a in sure:
            yield from (_Plan("confidence", (a, b), (q,)) for q in QUANTILES)
    for a, b, c in permutations(models, 3):
        if a in sure and b in sure:
            yield from (_Plan("confidence", (a, b, c), (q, r)) for q in QUANTILES for r in QUANTILES)


def _play(bench: _Bench, plan: _Plan) -> _Played:
    return PLAYERS[plan.kind](bench, plan)


def _single(bench: _Bench, plan: _Plan) -> _Played:
    (a,) = plan.models
    return _Played(bench.right[a], bench.cost[a], ())


def _fallback(bench: _Bench, plan: _Plan) -> _Played:
    a, b = plan.models
    return _chain(bench, (a, b), (~bench.answered[a],))


def _agree(bench: _Bench, plan: _Plan) -> _Played:
    a, b, c = plan.models
    split = ~bench.same[a, b]
    right = np.where(split, bench.right[c], bench.right[a])
    return _Played(right, bench.cost[a] + bench.cost[b] + split * bench.cost[c], (split,))


def _agree3(bench: _Bench, plan: _Plan) -> _Played:
    a, b, c, d = plan.models
    split = ~bench.same[a, b]
    lone = split & ~bench.same[a, c] & ~bench.same[b, c]
    right = np.where(lone, bench.right[d], np.where(split, bench.right[c], bench.right[a]))
    cost = bench.cost[a] + bench.cost[b] + split * bench.cost[c] + lone * bench.cost[d]
    return _Played(right, cost, (split, lone))


def _confidence(bench: _Bench, plan: _Plan) -> _Played:
    unsure = [bench.unsure[step] for step in zip(plan.models, plan.quantiles, strict=False)]
    needed = [unsure[0]]
    for one in unsure[1:]:
        needed.append(needed[-1] & one)
    return _chain(bench, plan.models, needed)


def _chain(bench: _Bench, models: Sequence[int], needed: Sequence[Bools]) -> _Played:
    right, cost = bench.right[models[0]], bench.cost[models[0]]
    for model, here in zip(models[1:], needed, strict=True):
        right = np.where(here, bench.right[model], right)
        cost = cost + here * bench.cost[model]
    return _Played(right, cost, tuple(needed))


def _unsure(held: Floats, folds: Ints, quantile: float) -> Bools:
    """Where a model's confidence is below the threshold learned on the other folds, or it gave none."""
    limits = np.array([_threshold(held[folds != fold], quantile) for fold in range(FOLDS)])
    unsure: Bools = ~(held >= limits[folds])
    return unsure


def _threshold(values: Floats, quantile: float) -> float:
    known = values[np.isfinite(values)]
    return float(np.quantile(known, quantile)) if len(known) else float("inf")


PLAYERS: dict[str, Callable[[_Bench, _Plan], _Played]] = {
    "single": _single,
    "fallback": _fallback,
    "agree": _agree,
    "agree3": _agree3,
    "confidence": _confidence,
}


def _by_fold(bench: _Bench, played: _Played) -> Floats:
    sums = [np.bincount(bench.fold, values, FOLDS) for values in (played.right, played.cost)]
    return np.stack(sums, axis=1)


def _report(bench: _Bench, plans: Sequence[_Plan], totals: Floats, names: Sequence[str]) -> Cascades:
    items = len(bench.fold)
    right, cost = totals.sum(1).T
    singles = range(len(names))
    best = max(singles, key=lambda m: (right[m], -cost[m]))
    best_places = front(cost.tolist(), right.tolist())
    chosen = _thinned([at for at in best_places if plans[at].kind != "single"], right / items)
    accuracy, spent, held = _checked(bench, totals)
    return Cascades(
        tried=len(plans) - len(names),
        policies=tuple(_policy(bench, plans[at], names) for at in chosen),
        items=items,
        checked_accuracy=accuracy,
        checked_cost_per_1000_usd=scoring.per(spent, held, 1000),
        best_single=names[best],
        best_single_accuracy=float(right[best] / items),
        best_single_cost_per_1000_usd=scoring.per(int(cost[best]), items, 1000) or Decimal(0),
    )


def _thinned(places: Sequence[int], accuracy: Floats) -> list[int]:
    """Keep steps of the front that differ by a visible amount, the most accurate always."""
    kept: list[int] = []
    for at in reversed(places):
        if not kept or accuracy[kept[-1]] - accuracy[at] > VISIBLE:
            kept.append(at)
    return list(reversed(kept[:SHOWN]))


def _checked(bench: _Bench, totals: Floats) -> tuple[float | None, int, int]:
    """Pick on four folds the cheapest policy no worse than the best model; sum what it did on the fifth."""
    sizes = np.bincount(bench.fold, minlength=FOLDS)
    right, spent, held = 0.0, 0.0, 0
    for fold in range(FOLDS):
        if not sizes[fold] or sizes[fold] == len(bench.fold):
            continue
        rest = totals.sum(1) - totals[:, fold]
        goal = rest[: len(bench.right), 0].max()
        good = np.flatnonzero(rest[:, 0] >= goal)
        pick = good[np.argmin(rest[good, 1])]
        right += totals[pick, fold, 0]
        spent += totals[pick, fold, 1]
        held += int(sizes[fold])
    return (right / held if held else None), round(spent), held


def _policy(bench: _Bench, plan: _Plan, names: Sequence[str]) -> Policy:
    played, items = _play(bench, plan), len(bench.fold)
    share = wilson(round(float(played.right.sum())), items)
    assert share is not None
    assert share.low is not None
    assert share.high is not None
    steps = _steps(plan, names)
    limits = [_threshold(bench.confidence[m], q) for m, q in zip(plan.models, plan.quantiles, strict=False)]
    return Policy(
        name=_named(plan, steps, limits),
        kind=plan.kind,
        steps=steps,
        thresholds=tuple(round(limit, 4) for limit in limits),
        accuracy=share.value,
        accuracy_low=share.low,
        accuracy_high=share.high,
        cost_per_1000_usd=scoring.per(round(float(played.cost.sum())), items, 1000) or Decimal(0),
        escalated=tuple(float(here.mean()) for here in played.needed),
        pareto=True,
    )


def _steps(plan: _Plan, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    first = 2 if plan.kind.startswith("agree") else 1
    models = [names[m] for m in plan.models]
    return (tuple(models[:first]), *((name,) for name in models[first:]))


def _named(plan: _Plan, steps: Sequence[Sequence[str]], limits: Sequence[float]) -> str:
    """Say a policy in one line: "a + b → c when they differ"."""
    shown = short(name for step in steps for name in step)
    path = " → ".join(" + ".join(shown[name] for name in step) for step in steps)
    when = {"fallback": "without an answer", "confidence": "when less sure than "}.get(
        plan.kind, "when they differ"
    )
    return f"{path} {when}{', '.join(f'{limit:.2f}' for limit in limits)}"
