"""What a budget reaches, which cheaper choices would fit, and how far off the last plans were."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import ceil
from typing import Any, Literal

from mavi_tasks.estimate.result import Estimate, ModelEstimate

Change = Literal["drop", "frames", "swap", "fewer_items"]
PLANS = 5


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to stay within the budget, with what it would cost."""

    change: Change
    sentence: str
    models: tuple[str, ...]  # dropped, swapped (old, new), or given fewer frames
    cost_usd: Decimal  # p50
    frames: int | None = None
    requests: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "change": self.change,
            "words": self.sentence,
            "models": list(self.models),
            "cost_usd": format(self.cost_usd, "f"),
            "frames": self.frames,
            "requests": self.requests,
        }


@dataclass(frozen=True, slots=True)
class Advice:
    """What a budget pays for. `fits`: even the plan's p90 is within it.

    `reaches` and `surely` are requests: at the plan's p50 and at its p90.
    """

    fits: bool
    budget_usd: Decimal
    requests: int
    reaches: int
    surely: int
    choices: tuple[Choice, ...]

    @property
    def sentence(self) -> str:
        if self.fits:
            return f"the budget of ${self.budget_usd} is enough"
        if self.reaches >= self.requests:
            return (
                f"the budget of ${self.budget_usd} is most likely enough, but may end after "
                f"{self.surely:,} of {self.requests:,} requests"
            )
        return (
            f"the budget of ${self.budget_usd} pays for about {self.reaches:,} of {self.requests:,} requests "
            f"({self.surely:,} if they cost more than expected)"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "fits": self.fits,
            "budget_usd": format(self.budget_usd, "f"),
            "requests": self.requests,
            "reaches": self.reaches,
            "reaches_surely": self.surely,
            "words": self.sentence,
            "choices": [choice.to_json() for choice in self.choices],
        }


def cheaper(estimate: Estimate, budget_usd: Decimal, others: Sequence[ModelEstimate] = ()) -> Advice:
    """How far a budget gets, and what would fit instead, cheapest change first.

    `others`: estimates of models that are not in the plan, for the same items, as candidates for a swap.
    Models without a price are left out of the sums; the estimate names them.
    """
    cost = estimate.known_cost_usd
    fits = cost.p90 <= budget_usd
    choices = () if cost.p50 <= budget_usd else tuple(_choices(estimate, budget_usd, others))
    return Advice(
        fits,
        budget_usd,
        estimate.requests,
        _reached(estimate.requests, cost.p50, budget_usd),
        _reached(estimate.requests, cost.p90, budget_usd),
        choices,
    )


def _reached(requests: int, cost_usd: Decimal, budget_usd: Decimal) -> int:
    return requests if cost_usd <= budget_usd else int(requests * budget_usd / cost_usd)


def _choices(estimate: Estimate, budget_usd: Decimal, others: Sequence[ModelEstimate]) -> Iterable[Choice]:
    priced = [model for model in estimate.models if model.cost_usd is not None]
    yield from _fewer_frames(estimate, priced, budget_usd)
    yield from _swaps(estimate, priced, budget_usd, others)
    yield from _drops(estimate, priced, budget_usd)
    share = budget_usd / estimate.known_cost_usd.p50
    requests = int(estimate.requests * share)
    if requests:
        yield Choice(
            "fewer_items",
            f"take the first {share:.0%} of the items",
            (),
            estimate.known_cost_usd.p50 * requests / estimate.requests,
            requests=requests,
        )


def _fewer_frames(
    estimate: Estimate, priced: Sequence[ModelEstimate], budget_usd: Decimal
) -> Iterable[Choice]:
    """The largest number of frames that fits, when frames are what costs."""
    sampled = [model for model in priced if model.frames and model.frame_cost_usd > 0]
    for frames in range(max((model.frames or 0 for model in sampled), default=0) - 1, 0, -1):
        saved = sum((_saved(model, frames) for model in sampled), Decimal(0))
        cost = estimate.known_cost_usd.p50 - saved
        if cost <= budget_usd:
            fewer = tuple(model.model for model in sampled if (model.frames or 0) > frames)
            yield Choice("frames", f"frames: {frames} for {', '.join(fewer)}", fewer, cost, frames=frames)
            return


def _saved(model: ModelEstimate, frames: int) -> Decimal:
    own = model.frames or frames
    return model.frame_cost_usd * max(0, own - frames) / own


def _swaps(
    estimate: Estimate, priced: Sequence[ModelEstimate], budget_usd: Decimal, others: Sequence[ModelEstimate]
) -> Iterable[Choice]:
    """The dearest model replaced by another one that is not in the plan, the dearest that fits first."""
    there = {model.model for model in estimate.models}
    if not priced:
        return
    dearest = max(priced, key=_middle)
    for other in sorted(others, key=_middle, reverse=True):
        cost = estimate.known_cost_usd.p50 - _middle(dearest) + _middle(other)
        if other.model not in there and other.cost_usd is not None and cost <= budget_usd:
            sentence = f"ask {other.model} instead of {dearest.model}"
            yield Choice("swap", sentence, (dearest.model, other.model), cost)
            return


def _drops(estimate: Estimate, priced: Sequence[ModelEstimate], budget_usd: Decimal) -> Iterable[Choice]:
    """Each single model whose loss is enough, the cheapest loss first; else the dearest ones together."""
    whole = estimate.known_cost_usd.p50
    by_cost = sorted(priced, key=_middle)
    if len(priced) < 2:
        return
    single = [model for model in by_cost if whole - _middle(model) <= budget_usd]
    for model in single:
        yield Choice("drop", f"leave out {model.model}", (model.model,), whole - _middle(model))
    if single:
        return
    dropped: list[str] = []
    for model in reversed(by_cost[1:]):
        dropped.append(model.model)
        whole -= _middle(model)
        if whole <= budget_usd:
            yield Choice("drop", f"leave out {', '.join(dropped)}", tuple(dropped), whole)
            return


def _middle(model: ModelEstimate) -> Decimal:
    return model.cost_usd.p50 if model.cost_usd is not None else Decimal(0)


# ---- how far off the last plans were


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Past plans against what their runs cost. `worst` and `median` are shares of the plan: 0.04 is 4 %."""

    plans: int
    worst: float
    median: float

    @property
    def sentence(self) -> str:
        noun = "plan" if self.plans == 1 else f"{self.plans} plans"
        return f"last {noun}: within {_percent(self.worst)}"


def _percent(share: float) -> str:
    return f"{max(1, ceil(round(share * 100, 6)))} %"


def plan_accuracy(runs: Any, plans: int = PLANS) -> Accuracy | None:
    """How far off the last plans were, None when no finished run had one.

    `runs`: the runs table (or dicts of its rows). A run tells its plan in `extra`, as
    {"plan": {"cost_p50_usd": "1.23"}}; runs that were stopped or cost nothing do not count.
    """
    rows = runs.to_pylist() if hasattr(runs, "to_pylist") else list(runs)
    rows = [row for row in rows if row.get("status") == "finished" and row.get("cost_usd")]
    rows.sort(key=lambda row: str(row.get("started_at") or ""))
    errors = [error for row in rows if (error := _error(row)) is not None][-plans:]
    if not errors:
        return None
    return Accuracy(len(errors), max(errors), sorted(errors)[len(errors) // 2])


def _error(row: Mapping[str, Any]) -> float | None:
    """How far the run's cost was from its plan's p50, as a share of the cost."""
    try:
        planned = float(json.loads(row["extra"])["plan"]["cost_p50_usd"])
    except (TypeError, KeyError, ValueError):  # a run without a plan
        return None
    cost = float(row["cost_usd"])
    return abs(planned - cost) / cost


def explain(estimate: Estimate, accuracy: Accuracy | None = None) -> list[str]:
    """Lines for people: where each model's numbers come from, what is not known, how good past plans were."""
    lines = [f"{model.model}: {model.basis}; {'; '.join(model.why)}" for model in estimate.models]
    if estimate.unpriced:
        lines.append(f"cost not known, not in the sums: {', '.join(estimate.unpriced)}")
    lines.append(accuracy.sentence if accuracy else "no earlier plan to compare with")
    return lines
