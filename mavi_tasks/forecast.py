"""Know before you pay: a run's plan with its tokens, dollars and time, and what a budget makes of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from mavi_tasks.dataset import open_table
from mavi_tasks.estimate import Estimate, Estimator, Observed, Setting, text_chars
from mavi_tasks.estimate.advice import Accuracy, Advice, cheaper, explain, plan_accuracy
from mavi_tasks.lane import Lane, Request
from mavi_tasks.plan import Listener, Plan
from mavi_tasks.run import Run

ZERO_USD = {"p10": "0.000000", "p50": "0.000000", "p90": "0.000000"}
ZERO_S = {"p10": 0.0, "p50": 0.0, "p90": 0.0}


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run will send, and what that will most likely cost and take."""

    plan: Plan
    estimate: Estimate
    accuracy: Accuracy | None
    advice: Advice | None  # when there is a budget
    warnings: tuple[str, ...]

    @property
    def to_send(self) -> int:
        return sum(self.plan.to_send.values())

    def to_json(self) -> dict[str, Any]:
        """What `mavi plan --json` prints."""
        told = self.estimate.to_json()
        known = {model["model"]: model for model in told["models"]}
        cost = told["cost_usd"] if self.estimate.models else ZERO_USD
        return {
            "requests": self.plan.requests,
            "already_answered": self.plan.already_answered,
            "to_send": self.to_send,
            "shared": self.plan.to_share,
            "refused": self.plan.refused,
            "cost_usd": cost,
            "known_cost_usd": told["known_cost_usd"],
            "unpriced": told["unpriced"],
            "wall_s": told["wall_s"],
            "models": [known.get(lane.model) or _nothing(lane) for lane in self.plan.lanes],
            "accuracy": self.accuracy.words if self.accuracy is not None else None,
            "budget": self.advice.to_json() if self.advice is not None else None,
            "warnings": list(self.warnings),
        }

    def explanation(self) -> Sequence[str]:
        return explain(self.estimate, self.accuracy)

    def for_run_row(self) -> str:
        """The plan as the run's row keeps it, so that later plans can tell how far off this one was."""
        band = self.estimate.known_cost_usd
        told = {"cost_p10_usd": band.p10, "cost_p50_usd": band.p50, "cost_p90_usd": band.p90}
        return json.dumps({"plan": {name: format(value, "f") for name, value in told.items()}})


def _nothing(lane: Lane) -> dict[str, Any]:
    none = {"p10": 0, "p50": 0, "p90": 0}
    return {
        "model": lane.model,
        "requests": 0,
        "input_tokens": none,
        "output_tokens": none,
        "cost_usd": ZERO_USD,
        "wall_s": ZERO_S,
        "basis": "unknown",
        "why": ["nothing to send"],
        "tiers": {},
    }


def forecast(run: Run, *, retry_invalid: bool = False) -> Forecast:
    """Plan a run and estimate it in the same pass. Raises InputError; sends nothing, writes no dataset."""
    root = run.dataset.root
    seen = observed(root, run.endpoint.identity)
    estimator = Estimator.of_lanes(run.lanes, run.job.limits_for, seen)
    others = _others(run, seen) if run.job.budget_usd is not None else None
    plan = run.make_plan(retry_invalid=retry_invalid, listen=_listener(estimator, others))
    return _forecast(run, plan, estimator.result(), others)


def again(run: Run, plan: Plan) -> Forecast:
    """The same plan, estimated anew with what the dataset shows by now (after a pilot)."""
    estimator = Estimator.of_lanes(
        run.lanes, run.job.limits_for, observed(run.dataset.root, run.endpoint.identity)
    )
    listen = _listener(estimator, None)
    for lane in plan.lanes:
        for request in plan.read(plan.shards[lane.model]):
            listen(lane, request)
    return _forecast(run, plan, estimator.result(), None)


@dataclass(frozen=True, slots=True)
class _Others:
    """Models that are not in the plan, estimated for the items of its first model: possible swaps."""

    first: str
    models: tuple[str, ...]
    estimator: Estimator


def _others(run: Run, seen: Observed | None) -> _Others:
    """The two cheapest models of each family that are priced, not shut down and not in the plan."""
    today = datetime.now(UTC).date()
    asked = {lane.model for lane in run.lanes}
    first = run.lanes[0]
    cheapest: dict[str, list[tuple[int, str, Setting]]] = {}
    for row in run.prices.models(today):
        gone = row.retirement is not None and row.retirement.past
        if row.price is None or gone or row.model in asked:
            continue
        tier = row.price.tiers[0]
        setting = Setting(row.price, max_tokens=first.max_tokens, schema=first.schema, frames=first.frames)
        rate = tier.input_pico_per_token + tier.output_pico_per_token
        cheapest.setdefault(row.family, []).append((rate, row.model, setting))
    chosen = {
        model: setting
        for rows in cheapest.values()
        for _, model, setting in sorted(rows, key=lambda row: row[:2])[:2]
    }
    return _Others(first.model, tuple(chosen), Estimator(chosen, seen))


def _listener(estimator: Estimator, others: _Others | None) -> Listener:
    def listen(lane: Lane, request: Request) -> None:
        chars = text_chars(request.prompt)
        estimator.add(lane.model, request.medias, chars, request.prompt_id, frames=lane.frames)
        if others is not None and lane.model == others.first:
            for model in others.models:
                others.estimator.add(model, request.medias, chars, request.prompt_id)

    return listen


def _forecast(run: Run, plan: Plan, estimate: Estimate, others: _Others | None) -> Forecast:
    runs = open_table(run.dataset.root, "runs").to_table() if (run.dataset.root / "runs").is_dir() else []
    budget = run.job.budget_usd
    return Forecast(
        plan=plan,
        estimate=estimate,
        accuracy=plan_accuracy(runs),
        advice=_advice(estimate, budget, others) if budget is not None else None,
        warnings=tuple(_warnings(run)),
    )


def _advice(estimate: Estimate, budget_usd: Decimal, others: _Others | None) -> Advice:
    swaps = others.estimator.result().models if others is not None else ()
    return cheaper(estimate, budget_usd, swaps)


def observed(root: Path, gateway: str) -> Observed | None:
    """What past runs in this dataset really used; None when there are none."""
    if not (root / "results").is_dir():
        return None
    return Observed.from_dataset(
        open_table(root, "results"), gateway=gateway, attempts=open_table(root, "attempts")
    )


def _warnings(run: Run) -> list[str]:
    """Models without a price, and models whose provider has shut them down or will within a month."""
    today = datetime.now(UTC).date()
    told = run.job.warnings()
    for lane in run.lanes:
        if lane.price is None:
            told.append(
                run.prices.hint(lane.model) or f"{lane.model} has no known price: its cost stays null"
            )
        gone = run.prices.retired(lane.model, today)
        if gone is not None and not run.endpoint.is_sandbox and (gone.on - today).days <= 31:
            when = "was" if gone.on <= today else "will be"
            told.append(f"{lane.model} {when} shut down by its provider on {gone.on} ({gone.source})")
    return told
