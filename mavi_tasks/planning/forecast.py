"""Know before you pay: a run's plan with its tokens, dollars and time, and what a budget makes of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from mavi_tasks.common import skips
from mavi_tasks.common.format import usd as usd_text
from mavi_tasks.common.money import usd
from mavi_tasks.estimate import (
    Estimate,
    Estimator,
    FrameSampling,
    History,
    Interval,
    ModelAssumptions,
    ModelEstimate,
    text_chars,
)
from mavi_tasks.estimate.budget_advice import Accuracy, Advice, cheaper, explain, plan_accuracy
from mavi_tasks.estimate.intervals import RateLimits
from mavi_tasks.job import Job
from mavi_tasks.labels import label_columns
from mavi_tasks.planning import spool
from mavi_tasks.planning.context import RunContext
from mavi_tasks.planning.planner import OnProgress, make_plan
from mavi_tasks.planning.request import Request
from mavi_tasks.planning.selection import Only
from mavi_tasks.planning.spool import Plan
from mavi_tasks.planning.target import ModelTarget
from mavi_tasks.storage.tables import open_table

ZERO_USD = {"p10": "0.000000", "p50": "0.000000", "p90": "0.000000"}
ZERO_S = {"p10": 0.0, "p50": 0.0, "p90": 0.0}


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run will send, and what that will most likely cost and take.

    asked_again: of it, what has an answer to an older text of its prompt. output: the dataset, as in the job.
    manifest: its path and columns, so that a comparison can read the expected answers that it holds then.
    """

    plan: Plan
    estimate: Estimate
    asked_again: Estimate
    accuracy: Accuracy | None
    advice: Advice | None  # when there is a budget
    warnings: tuple[str, ...]
    output: str
    manifest: Mapping[str, Any]

    @property
    def to_send(self) -> int:
        """How many requests will be sent."""
        return sum(self.plan.to_send.values())

    @property
    def cost_usd(self) -> Interval[Decimal]:
        """Their cost in dollars (p10, p50, p90), of the models whose price is known."""
        return self.estimate.known_cost_usd

    @property
    def refused(self) -> Sequence[Mapping[str, Any]]:
        """The first of the skipped requests: item_id, model, code and reason."""
        return self.plan.refused

    @property
    def skips(self) -> list[skips.Skip]:
        """What will not be sent, and is a skipped row: counts by model and code, and the way out."""
        return skips.by_model(self.plan.skips.items())

    def to_json(self) -> dict[str, Any]:
        """What `mavi plan --json` prints."""
        estimate = self.estimate.to_json()
        known = {model["model"]: model for model in estimate["models"]}
        cost = estimate["cost_usd"] if self.estimate.models else ZERO_USD
        return {
            "requests": self.plan.requests,
            "already_answered": self.plan.already_answered,
            "to_send": self.to_send,
            "shared": self.plan.to_copy,
            "asked_again": _asked_again(self.asked_again),
            "skipped": skips.total(self.skips),
            "skips": self.skips,
            "refused": self.plan.refused,
            "cost_usd": cost,
            "known_cost_usd": estimate["known_cost_usd"],
            "unpriced": estimate["unpriced"],
            "wall_s": estimate["wall_s"],
            "models": [known.get(target.model) or _nothing(target) for target in self.plan.targets],
            "accuracy": self.accuracy.sentence if self.accuracy is not None else None,
            "budget": self.advice.to_json() if self.advice is not None else None,
            "warnings": list(self.warnings),
        }

    def explanation(self) -> Sequence[str]:
        return explain(self.estimate, self.accuracy)

    def for_run_row(self, part_of: Mapping[str, Any] | None = None) -> str:
        """The plan as the run's row keeps it, so that later plans can tell how far off this one was, and
        what waits when the run dies. Take it before anything is sent.

        part_of: what this run is a part of, such as a race.
        """
        cost = self.estimate.known_cost_usd
        percentiles = {"cost_p10_usd": cost.p10, "cost_p50_usd": cost.p50, "cost_p90_usd": cost.p90}
        plan: dict[str, Any] = {name: format(value, "f") for name, value in percentiles.items()}
        plan["to_do"] = {one.model: one.unsent for one in self.plan.all_counters.values()}
        plan["only"] = self.plan.only
        return json.dumps({"plan": plan, "manifest": self.manifest, **(part_of or {})})


def _asked_again(found: Estimate) -> dict[str, Any]:
    """How many requests have an answer to an older text of their prompt, and what asking them again costs."""
    cost = found.to_json()["cost_usd"] if found.models else ZERO_USD
    return {"requests": found.requests, "cost_usd": cost}


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


class Forecaster:
    """Plans a run and estimates it in the same pass. Sends nothing, writes no dataset.

    forecaster = Forecaster(context)
    plan = forecaster.plan()            # raises InputError with every problem of the input
    forecast = forecaster.forecast(plan)
    """

    def __init__(
        self,
        context: RunContext,
        *,
        retry_invalid: bool = False,
        pay_again: bool = False,
        only: Only = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._context, self._retry_invalid, self._on_progress = context, retry_invalid, on_progress
        self._pay_again, self._only = pay_again, only
        self._sums = _Sums(context, with_others=context.job.budget_usd is not None)

    def plan(self) -> Plan:
        return make_plan(
            self._context,
            retry_invalid=self._retry_invalid,
            pay_again=self._pay_again,
            only=self._only,
            on_request=self._sums.add,
            on_progress=self._on_progress,
        )

    def forecast(self, plan: Plan) -> Forecast:
        return _forecast(self._context, plan, self._sums)


def forecast(
    context: RunContext,
    *,
    retry_invalid: bool = False,
    only: Only = None,
    on_progress: OnProgress | None = None,
) -> Forecast:
    """The forecast of a run that will not be sent. Raises InputError."""
    forecaster = Forecaster(context, retry_invalid=retry_invalid, only=only, on_progress=on_progress)
    return forecaster.forecast(forecaster.plan())


def re_estimate(context: RunContext, plan: Plan) -> Forecast:
    """The same plan, estimated anew with what the dataset shows by now (after a pilot)."""
    sums = _Sums(context, with_others=False)
    for target in plan.targets:
        for request in spool.read(plan.shards[target.model]):
            sums.add(target, request, older_answer=False)
    return _forecast(context, plan, sums)


class _Sums:
    """Adds up what will be sent. Past answers are read at the first of it: a finished job needs none."""

    def __init__(self, context: RunContext, *, with_others: bool) -> None:
        self._context, self._with_others = context, with_others
        self.unknown_media = 0  # requests with media behind URLs, so that their size or length is not known
        self.dearest_pico = 0  # the most that one request may cost
        self._estimator: Estimator | None = None
        self._again: Estimator | None = None  # of requests with an answer to an older text of their prompt
        self._others: _Others | None = None

    def add(self, target: ModelTarget, request: Request, older_answer: bool) -> None:
        estimator = self._estimator or self._start()
        chars = text_chars(request.prompt)
        self.unknown_media += any(media.width is None for media in request.media_items)
        self.dearest_pico = max(self.dearest_pico, target.max_cost_pico(request.max_input_tokens) or 0)
        estimator.add(target.model, request.media_items, chars, request.prompt_id)
        if older_answer and self._again is not None:
            self._again.add(target.model, request.media_items, chars, request.prompt_id)
        others = self._others
        if others is not None and target.model == others.first:
            for model in others.models:
                others.estimator.add(model, request.media_items, chars, request.prompt_id)

    def _start(self) -> Estimator:
        context = self._context
        seen = history_of(context.dataset.root, context.endpoint.identity)
        assumed = {target.model: _assumptions(context.job, target) for target in context.targets}
        self._estimator, self._again = Estimator(assumed, seen), Estimator(assumed, seen)
        self._others = _others(context, seen) if self._with_others else None
        return self._estimator

    def estimate(self) -> Estimate:
        return (self._estimator or Estimator({})).result()

    def asked_again(self) -> Estimate:
        return (self._again or Estimator({})).result()

    def swaps(self) -> Sequence[ModelEstimate]:
        return self._others.estimator.result().models if self._others is not None else ()


def _assumptions(job: Job, target: ModelTarget) -> ModelAssumptions:
    limits = job.limits_for(target.model)
    return ModelAssumptions(
        price=target.price,
        limits=RateLimits(limits.requests_per_minute, limits.tokens_per_minute, limits.concurrency),
        max_tokens=target.max_tokens,
        overhead_chars=text_chars(target.system) + target.schema_chars,
        schema=target.schema,
        sampling=target.sampling,
    )


@dataclass(frozen=True, slots=True)
class _Others:
    """Models that are not in the plan, estimated for the items of its first model: possible swaps."""

    first: str
    models: tuple[str, ...]
    estimator: Estimator


def _others(context: RunContext, seen: History | None) -> _Others:
    """The two cheapest models of each family that are priced, not shut down and not in the plan."""
    today = datetime.now(UTC).date()
    planned = {target.model for target in context.targets}
    first = context.targets[0]
    cheapest: dict[str, list[tuple[int, str, ModelAssumptions]]] = {}
    for row in context.prices.models(today):
        gone = row.retirement is not None and row.retirement.past
        if row.price is None or gone or row.model in planned:
            continue
        tier = row.price.tiers[0]
        setting = ModelAssumptions(
            row.price, max_tokens=first.max_tokens, schema=first.schema, sampling=FrameSampling(first.frames)
        )
        rate = tier.input_pico_per_token + tier.output_pico_per_token
        cheapest.setdefault(row.family, []).append((rate, row.model, setting))
    chosen = {
        model: setting
        for rows in cheapest.values()
        for _, model, setting in sorted(rows, key=lambda row: row[:2])[:2]
    }
    return _Others(first.model, tuple(chosen), Estimator(chosen, seen))


def _forecast(context: RunContext, plan: Plan, sums: _Sums) -> Forecast:
    estimate = sums.estimate()
    runs = (
        open_table(context.dataset.root, "runs").to_table()
        if (context.dataset.root / "runs").is_dir()
        else []
    )
    budget = context.job.budget_usd
    return Forecast(
        plan=plan,
        estimate=estimate,
        asked_again=sums.asked_again(),
        accuracy=plan_accuracy(runs),
        advice=cheaper(estimate, budget, sums.swaps()) if budget is not None else None,
        warnings=(
            *plan.notes,
            *_label_notes(context),
            *_warnings(context),
            *_dearest_warning(context, sums),
        ),
        output=context.job.output,
        manifest={
            "path": context.job.manifest.partition("?")[0],  # a URL's query may hold a signature
            "columns": context.job.columns.model_dump(),
        },
    )


def _label_notes(context: RunContext) -> Sequence[str]:
    """What the columns of labels/ will be, where that is not what one expects."""
    schema, root = context.job.answer_schema, context.dataset.root
    if schema is None:
        return ()
    existing = open_table(root, "labels").schema if (root / "labels").is_dir() else None
    return label_columns(schema, existing, context.job.keep_columns).notes


MUCH_OF_A_BUDGET: Final = Fraction(1, 20)


def history_of(root: Path, gateway: str) -> History | None:
    """What past runs in this dataset really used; None when there are none."""
    if not (root / "results").is_dir():
        return None
    return History.from_dataset(
        open_table(root, "results"), gateway=gateway, attempts=open_table(root, "attempts")
    )


def _dearest_warning(context: RunContext, sums: _Sums) -> list[str]:
    """What a budget holds back for one call, when that is much of it: so much may stay unused."""
    budget_pico, dearest_pico = context.budget_pico, sums.dearest_pico
    if budget_pico is None or dearest_pico <= budget_pico * MUCH_OF_A_BUDGET:
        return []
    so_much = f"one call may cost up to {usd_text(usd(dearest_pico))}"
    effect = (
        "more than budget_usd: none like it is sent"
        if dearest_pico > budget_pico
        else "and so much of budget_usd may stay unused"
    )
    hint = (
        "; media behind URLs count as the largest there may be: set media.max_url_image_px and "
        "media.max_video_s to what yours are"
        if sums.unknown_media
        else "; a smaller max_tokens lowers it"
    )
    return [f"{so_much}, {effect}{hint}"]


def _by_probe(context: RunContext) -> list[str]:
    """What a probed gateway says of this job: the file and its day, and what would not be honoured."""
    gateway = context.job.gateway
    if gateway.probed is None:
        return []
    found = [f"the gateway is written to as {gateway.source} found it"]
    for target in context.targets:
        seen = gateway.probed.models.get(target.model)
        doubts = seen.doubts(target.params, target.schema) if seen is not None else ()
        found += [f"{target.model}: {doubt} when it was probed, by {gateway.source}" for doubt in doubts]
    return found


def _warnings(context: RunContext) -> list[str]:
    """Models without a price or soon without a provider, and what the gateway was not seen to honour."""
    today = datetime.now(UTC).date()
    warnings = [*context.job.warnings(), *_by_probe(context)]
    for target in context.targets:
        if target.price is None:
            warnings.append(
                context.prices.hint(target.model) or f"{target.model} has no known price: its cost stays null"
            )
        gone = context.prices.retired(target.model, today)
        if gone is not None and not context.endpoint.is_sandbox and (gone.on - today).days <= 31:
            when = "was" if gone.on <= today else "will be"
            warnings.append(f"{target.model} {when} shut down by its provider on {gone.on} ({gone.source})")
    return warnings
