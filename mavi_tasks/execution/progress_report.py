"""Reports how far this run is to whoever looks at the dataset: every second, into a small file."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.common.money import exact_text
from mavi_tasks.common.pace import Pace
from mavi_tasks.limits import ModelLimiter
from mavi_tasks.planning.context import RunContext
from mavi_tasks.planning.spool import Plan
from mavi_tasks.storage.run_progress import ModelProgress, ProgressFile, RunProgress

EVERY_S: Final = 1.0


class ProgressReport:
    """The progress file of one run. Made before the manifest is read; `close` when the run has ended."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._paces: dict[str, Pace] = {}
        self._before: dict[str, tuple[int, int]] = {}
        self._file = ProgressFile(context.dataset.root, context.run_id)
        self.last = RunProgress(context.run_id, context.job.name, context.started_us, context.wall_us())
        self._file.write(self.last)

    def begin(self, plan: Plan) -> None:
        """The manifest has been read."""
        for model, counters in plan.all_counters.items():
            self._before[model] = (counters.finished, counters.already_answered)
            self._paces[model] = Pace()
        self.write(plan, {})

    async def write_regularly(self, plan: Plan, limiters: Mapping[str, ModelLimiter]) -> None:
        """Until cancelled."""
        while True:
            self.write(plan, limiters)
            await asyncio.sleep(EVERY_S)

    def write(self, plan: Plan, limiters: Mapping[str, ModelLimiter]) -> None:
        context = self._context
        self.last = RunProgress(
            context.run_id,
            context.job.name,
            context.started_us,
            context.wall_us(),
            plan.only,
            tuple(self._of(one, limiters.get(model)) for model, one in plan.all_counters.items()),
        )
        self._file.write(self.last)

    def _of(self, counters: ModelCounters, limiter: ModelLimiter | None) -> ModelProgress:
        before, answered_before = self._before[counters.model]
        return ModelProgress(
            model=counters.model,
            requests=counters.requests,
            before=before,
            elsewhere=counters.already_answered - answered_before,
            done=counters.finished,
            rate_per_s=self._paces[counters.model].note(self._context.clock.now(), counters.finished),
            cost_usd=exact_text(counters.cost_pico),
            pausing=counters.stopped or (limiter.pausing if limiter is not None else None),
        )

    def heartbeat(self) -> dict[str, Any]:
        """The same, for other machines. Thread-safe."""
        return self.last.to_json()

    def close(self) -> None:
        self._file.close()
