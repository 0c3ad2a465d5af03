"""How a run ended: its figures, its row, what `--json` prints and its exit status."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from mavi_tasks.common import skips
from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.common.money import exact_text
from mavi_tasks.execution.stop_signal import StopSignal
from mavi_tasks.limits import ModelLimiter

if TYPE_CHECKING:  # `mavi models` prints without loading what a run needs
    from mavi_tasks.planning.context import RunContext

EXIT_ANSWERED: Final = 0
EXIT_SOME_FAILED: Final = 3
EXIT_STOPPED: Final = 4
EXIT_INTERRUPTED: Final = 130

COUNTS: Final = ("requests", "answered", "failed", "invalid", "skipped", "unsent", "already_answered")


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One model's line of the final table. Money is exact, in dollars as text, None where not known."""

    model: str
    requests: int
    answered: int
    failed: int
    invalid: int
    skipped: int
    skips: Mapping[str, int]  # by code
    unsent: int
    already_answered: int
    invalid_before: int  # of already_answered: what is there does not fit the answer schema
    input_tokens: int
    output_tokens: int
    cost_usd: str | None  # None = not known: some answers have no price
    known_cost_usd: str  # of the answers that have one
    exposure_usd: str
    latency_p50_s: float | None
    latency_p95_s: float | None
    throttled: int
    truncated: int
    enlarged: int  # were cut off, and asked once more with a larger max_tokens
    cut_off_usd: str  # what those cost before
    unpriced: int
    stopped: str | None
    errors: Mapping[str, tuple[int, str]]  # why requests failed: code, how often, the first message
    limits_moved: int  # how often its limits were changed by replies
    requests_per_minute: float | None  # as paced at the end; None = not paced
    concurrency: int | None


@dataclass(frozen=True, slots=True)
class RunReport:
    """The end of a run. `status`: finished, stopped or interrupted."""

    run_id: str
    status: str
    stop_reason: str | None
    message: str | None
    gateway: str
    output: str
    wall_s: float
    cost_pico: int
    exposure_pico: int
    started_us: int
    finished_us: int
    models: tuple[ModelReport, ...]
    facts: Mapping[str, Any]
    answers: str | None  # who answered in the sandbox, as text
    max_skipped_share: float = 1

    def total(self, name: str) -> int:
        return sum(getattr(model, name) for model in self.models)

    @property
    def unpriced(self) -> int:
        """Answers whose cost is not known; `cost_pico` is the cost of the others."""
        return self.total("unpriced")

    @property
    def skips(self) -> list[skips.Skip]:
        """What was skipped: counts by model and code, and the way out."""
        return skips.by_model((model.model, model.skips) for model in self.models)

    @property
    def shortfall(self) -> str | None:
        """Why a finished run is not what was asked for, although nothing failed; None when it is."""
        requests, skipped = self.total("requests"), self.total("skipped")
        if self.status != "finished" or not requests:
            return None
        if not self.total("answered") + self.total("already_answered"):
            return "nothing was answered"
        if skipped > self.max_skipped_share * requests:
            return (
                f"{skipped:,} of {requests:,} requests were skipped, more than max_skipped_share "
                f"{self.max_skipped_share:g} allows"
            )
        return None

    @property
    def unsent_by_model(self) -> dict[str, int]:
        return {model.model: model.unsent for model in self.models}

    @property
    def exit_status(self) -> int:
        if self.status == "interrupted":
            return EXIT_INTERRUPTED
        if self.status == "stopped":
            return EXIT_STOPPED
        unfit = self.total("invalid") + self.total("invalid_before")
        left = self.total("failed") + unfit + self.total("unsent")
        return EXIT_SOME_FAILED if left or self.shortfall else EXIT_ANSWERED

    def to_json(self) -> dict[str, Any]:
        """What `mavi run --json` prints; dollars are text, so that no digit is lost."""
        return {
            "run_id": self.run_id,
            "status": self.status,
            **{name: self.total(name) for name in COUNTS},
            "cost_usd": None if self.unpriced else exact_text(self.cost_pico),
            "known_cost_usd": exact_text(self.cost_pico),
            "unpriced": self.unpriced,
            "exposure_usd": exact_text(self.exposure_pico),
            "wall_s": round(self.wall_s, 3),
            "skips": self.skips,
            "shortfall": self.shortfall,
            "models": [asdict(model) for model in self.models],
            "stop_reason": self.stop_reason,
            "message": self.message,
            "gateway": self.gateway,
            "answers": self.answers,
            "output": self.output,
        }

    def row(self) -> dict[str, Any]:
        """The run's row of `runs/`; money in whole pico-dollars."""
        return {
            **self.facts,
            "extra": json.dumps(json.loads(self.facts["extra"] or "{}") | {"unsent": self.unsent_by_model}),
            "finished_at": self.finished_us,
            "status": self.status,
            "stop_reason": self.stop_reason,
            **{name: self.total(name) for name in COUNTS},
            "cost_pico": None if self.unpriced else self.cost_pico,
            "exposure_pico": self.exposure_pico,
        }


def run_report(
    context: "RunContext",
    all_counters: Sequence[ModelCounters],
    limiters: Mapping[str, ModelLimiter],
    stop: StopSignal,
    facts: Mapping[str, Any],
) -> RunReport:
    """The figures of a run that has ended. facts: the run's row before its figures."""
    reason, message = stop.reason, stop.message
    if reason is None and all_counters and all(counters.stopped for counters in all_counters):
        reason, message = "outage", "; ".join(counters.stopped or "" for counters in all_counters)
    status = {None: "finished", "interrupted": "interrupted"}.get(reason, "stopped")
    finished_us = context.wall_us()
    return RunReport(
        run_id=context.run_id,
        status=status,
        stop_reason=reason,
        message=message,
        gateway=context.endpoint.identity,
        output=context.job.output,
        wall_s=(finished_us - context.started_us) / 1e6,
        cost_pico=sum(counters.cost_pico for counters in all_counters),
        exposure_pico=sum(counters.exposure_pico for counters in all_counters),
        started_us=context.started_us,
        finished_us=finished_us,
        models=tuple(_model_report(counters, limiters.get(counters.model)) for counters in all_counters),
        facts=facts,
        answers=context.endpoint.answers,
        max_skipped_share=context.job.max_skipped_share,
    )


def _model_report(counters: ModelCounters, limiter: ModelLimiter | None) -> ModelReport:
    return ModelReport(
        model=counters.model,
        requests=counters.requests,
        answered=counters.answered,
        failed=counters.failed,
        invalid=counters.invalid,
        skipped=counters.skipped,
        skips=dict(counters.skips),
        unsent=counters.unsent,
        already_answered=counters.already_answered,
        invalid_before=counters.invalid_before,
        input_tokens=counters.input_tokens,
        output_tokens=counters.output_tokens,
        cost_usd=None if counters.unpriced else exact_text(counters.cost_pico),
        known_cost_usd=exact_text(counters.cost_pico),
        exposure_usd=exact_text(counters.exposure_pico),
        latency_p50_s=counters.latencies.quantile(0.5),
        latency_p95_s=counters.latencies.quantile(0.95),
        throttled=counters.throttled,
        truncated=counters.truncated,
        enlarged=counters.enlarged,
        cut_off_usd=exact_text(counters.cut_off_pico),
        unpriced=counters.unpriced,
        stopped=counters.stopped,
        errors=counters.errors,
        limits_moved=len(limiter.history) if limiter is not None else 0,
        requests_per_minute=limiter.rate_now if limiter is not None else None,
        concurrency=limiter.concurrency_now if limiter is not None else None,
    )
