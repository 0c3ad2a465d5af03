"""Know before you pay: a run's plan with its tokens, dollars and time, and what a budget makes of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mavi_tasks.estimate import Estimate, Estimator, History, ModelAssumptions, ModelEstimate, text_chars
from mavi_tasks.estimate.budget_advice import Accuracy, Advice, cheaper, explain, plan_accuracy
from mavi_tasks.estimate.token_formulas import DURATION_S
from mavi_tasks.execution.run import Run
from mavi_tasks.job import Job
from mavi_tasks.planning.planner import Plan, Watcher
from mavi_tasks.planning.target import ModelTarget, Request
from mavi_tasks.storage.tables import open_table

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
            "models": [known.get(target.model) or _nothing(target) for target in self.plan.targets],
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


def _nothing(target: ModelTarget) -> dict[str, Any]:
    none = {"p10": 0, "p50": 0, "p90": 0}
    return {
        "model": target.model,
        "requests": 0,
        "input_tokens": none,
        "output_tokens": none,
        "cost_usd": ZERO_USD,
        "wall_s": ZERO_S,
        "basis": "unknown",
        "why": ["nothing to send"],
        "tiers": {},
    }


def forecast(run: Run, *, retry_invalid: bool = False, watch: Watcher | None = None) -> Forecast:
    """Plan a run and estimate it in the same pass. Raises InputError; sends nothing, writes no dataset."""
    sums = _Sums(run, with_others=run.job.budget_usd is not None)
    plan = run.make_plan(retry_invalid=retry_invalid, listen=sums.add, watch=watch)
    return _forecast(run, plan, sums)


def again(run: Run, plan: Plan) -> Forecast:
    """The same plan, estimated anew with what the dataset shows by now (after a pilot)."""
    sums = _Sums(run, with_others=False)
    for target in plan.targets:
        for request in plan.read(plan.shards[target.model]):
            sums.add(target, request)
    return _forecast(run, plan, sums)


class _Sums:
    """Adds up what will be sent. Past answers are read at the first of it: a finished job needs none."""

    def __init__(self, run: Run, *, with_others: bool) -> None:
        self._run, self._with_others = run, with_others
        self.unknown_videos = 0  # sent by URL, so that nobody knows how long they are
        self._estimator: Estimator | None = None
        self._others: _Others | None = None

    def add(self, target: ModelTarget, request: Request) -> None:
        estimator = self._estimator or self._start()
        chars = text_chars(request.prompt)
        self.unknown_videos += target.frames is None and any(
            media.kind == "video" and media.duration_s is None for media in request.media_items
        )
        estimator.add(target.model, request.media_items, chars, request.prompt_id, frames=target.frames)
        others = self._others
        if others is not None and target.model == others.first:
            for model in others.models:
                others.estimator.add(model, request.media_items, chars, request.prompt_id)

    def _start(self) -> Estimator:
        run = self._run
        seen = observed(run.dataset.root, run.endpoint.identity)
        self._estimator = Estimator.of_lanes(run.targets, run.job.limits_for, seen)
        self._others = _others(run, seen) if self._with_others else None
        return self._estimator

    def estimate(self) -> Estimate:
        return (self._estimator or Estimator({})).result()

    def swaps(self) -> Sequence[ModelEstimate]:
        return self._others.estimator.result().models if self._others is not None else ()


@dataclass(frozen=True, slots=True)
class _Others:
    """Models that are not in the plan, estimated for the items of its first model: possible swaps."""

    first: str
    models: tuple[str, ...]
    estimator: Estimator


def _others(run: Run, seen: History | None) -> _Others:
    """The two cheapest models of each family that are priced, not shut down and not in the plan."""
    today = datetime.now(UTC).date()
    asked = {target.model for target in run.targets}
    first = run.targets[0]
    cheapest: dict[str, list[tuple[int, str, ModelAssumptions]]] = {}
    for row in run.prices.models(today):
        gone = row.retirement is not None and row.retirement.past
        if row.price is None or gone or row.model in asked:
            continue
        tier = row.price.tiers[0]
        setting = ModelAssumptions(
            row.price, max_tokens=first.max_tokens, schema=first.schema, frames=first.frames
        )
        rate = tier.input_pico_per_token + tier.output_pico_per_token
        cheapest.setdefault(row.family, []).append((rate, row.model, setting))
    chosen = {
        model: setting
        for rows in cheapest.values()
        for _, model, setting in sorted(rows, key=lambda row: row[:2])[:2]
    }
    return _Others(first.model, tuple(chosen), Estimator(chosen, seen))


def _forecast(run: Run, plan: Plan, sums: _Sums) -> Forecast:
    estimate = sums.estimate()
    runs = open_table(run.dataset.root, "runs").to_table() if (run.dataset.root / "runs").is_dir() else []
    budget = run.job.budget_usd
    return Forecast(
        plan=plan,
        estimate=estimate,
        accuracy=plan_accuracy(runs),
        advice=cheaper(estimate, budget, sums.swaps()) if budget is not None else None,
        warnings=(*_warnings(run), *_length_warning(run.job, sums.unknown_videos)),
    )


def observed(root: Path, gateway: str) -> History | None:
    """What past runs in this dataset really used; None when there are none."""
    if not (root / "results").is_dir():
        return None
    return History.from_dataset(
        open_table(root, "results"), gateway=gateway, attempts=open_table(root, "attempts")
    )


def _length_warning(job: Job, videos: int) -> list[str]:
    """A budget can hold back only for a length that somebody tells."""
    if not videos or job.budget_usd is None or job.media.max_video_s is not None:
        return []
    return [
        f"{videos:,} requests with videos whose length is not known are held to {DURATION_S:.0f} s for "
        "budget_usd, and may cost more: set media.max_video_s to the longest there may be"
    ]


def _warnings(run: Run) -> list[str]:
    """Models without a price, and models whose provider has shut them down or will within a month."""
    today = datetime.now(UTC).date()
    told = run.job.warnings()
    for target in run.targets:
        if target.price is None:
            told.append(
                run.prices.hint(target.model) or f"{target.model} has no known price: its cost stays null"
            )
        gone = run.prices.retired(target.model, today)
        if gone is not None and not run.endpoint.is_sandbox and (gone.on - today).days <= 31:
            when = "was" if gone.on <= today else "will be"
            told.append(f"{target.model} {when} shut down by its provider on {gone.on} ({gone.source})")
    return told
