"""One run of a planned job in this process: send, copy answers, publish, and write the run's own row.

context = open_context(job, endpoint)
run = Run.prepare(context, lambda: make_plan(context))      # raises InputError before anything is sent
await run.dispatch(send_here)
report = run.finish()                                       # everything is published then
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, Self

from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.errors import StorageError
from mavi_tasks.execution import duplicates
from mavi_tasks.execution.dispatcher import Dispatcher, open_dispatcher
from mavi_tasks.execution.distributed.leased_shards import LeasedShards
from mavi_tasks.execution.limiters import RunLimiters
from mavi_tasks.execution.progress_report import ProgressReport
from mavi_tasks.execution.rows import RequestResult, result_row
from mavi_tasks.execution.run_report import RunReport, run_report
from mavi_tasks.execution.stop_signal import StopSignal
from mavi_tasks.execution.worker_pool import send_all
from mavi_tasks.limits.budget import Budget
from mavi_tasks.planning import spool
from mavi_tasks.planning.context import RunContext
from mavi_tasks.planning.request import Request
from mavi_tasks.planning.spool import Plan
from mavi_tasks.storage.journal import Journal
from mavi_tasks.storage.publish import day_of
from mavi_tasks.storage.request_locks import RequestLocks
from mavi_tasks.storage.segments import COLUMNS

log = logging.getLogger("mavi")

PUBLISH_EVERY_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """The part of a plan that is a pilot, or (`rest`) everything but that. Units: (item_id, prompt_id)."""

    units: frozenset[tuple[str, str]]
    rest: bool = False

    def __call__(self, request: Request) -> bool:
        return ((request.item_id, request.prompt_id) in self.units) is not self.rest


class ShardExecutor(Protocol):
    """Sends all shards of a run (of them, what `only` lets through): here, in other processes, on a cluster.

    Returns when everything is recorded or the run has stopped.
    """

    async def __call__(self, run: "Run", only: RequestFilter | None = None) -> None: ...


async def send_here(run: "Run", only: RequestFilter | None = None) -> None:
    """The shard executor of `runner: threads`: this process sends, all models at once."""
    await asyncio.gather(*(run.send(model, shards, only) for model, shards in run.plan.shards.items()))


class Run:
    """A planned run: what it changes while it goes on. Made by `prepare`."""

    def __init__(
        self,
        context: RunContext,
        plan: Plan,
        locks: RequestLocks,
        progress: ProgressReport,
        leased_shards: LeasedShards | None = None,
    ) -> None:
        self.context, self.plan, self.locks, self.leased_shards = context, plan, locks, leased_shards
        self._progress = progress
        progress.begin(plan)
        self.forecast_json: str | None = None  # for the run's row
        self.stop = StopSignal()
        self.limiters = RunLimiters(context)
        self.dispatcher: Dispatcher | None = None  # while requests are sent, and afterwards
        self._refused_recorded = False

    @classmethod
    def prepare(cls, context: RunContext, make_plan: Callable[[], Plan]) -> Self:
        """Watch what other runs record, from before the plan is made, so that nothing falls between."""
        locks = RequestLocks(context.dataset.root, context.writer("w0"))
        locks.start_watching()
        progress, leased_shards = ProgressReport(context), None
        try:
            leased_shards = LeasedShards.of_bucket(context, progress.heartbeat)
            plan = make_plan()
            if leased_shards is not None:
                plan.cut_by_slices(context.job.shard_size)
        except BaseException:
            progress.close()
            if leased_shards is not None:
                leased_shards.abandon()
            raise
        return cls(context, plan, locks, progress, leased_shards)

    @property
    def all_counters(self) -> list[ModelCounters]:
        return list(self.plan.all_counters.values())

    # -- stages

    async def dispatch(
        self, execute: ShardExecutor, worker: str = "w0", only: RequestFilter | None = None
    ) -> None:
        """Send what the plan has left (of it, what `only` lets through) and record it."""
        async with self.dispatching(worker):
            await execute(self, only)
            if only is None or only.rest:
                self.copy_answers()

    @asynccontextmanager
    async def dispatching(self, worker: str = "w0") -> AsyncIterator[Dispatcher]:
        """The journal, the gateway and all that requests share, open while the block lasts."""
        journal = self._open_journal(self.context.writer(worker))
        async with open_dispatcher(
            self.context, self.stop, journal=journal, locks=self.locks, budget=self.budget()
        ) as dispatcher:
            self.dispatcher = dispatcher
            if not self._refused_recorded:
                self._refused_recorded = True
                self._record_refused(journal)
            background = [
                asyncio.create_task(self._publish_regularly(journal)),
                asyncio.create_task(self._progress.write_regularly(self.plan, self.limiters.by_model)),
            ]
            try:
                if self.leased_shards is not None:
                    background.append(asyncio.create_task(self.leased_shards.watch(dispatcher)))
                yield dispatcher
            finally:
                for task in background:
                    task.cancel()
        if self.leased_shards is not None:
            await self.leased_shards.release_all()
        if self.stop.error is not None:
            raise self.stop.error

    async def send(self, model: str, shards: Sequence[Path], only: RequestFilter | None = None) -> None:
        """Send these shards of one model, or what `only` lets through of them."""
        assert self.dispatcher is not None
        target, counters = self.context.target(model), self.plan.all_counters[model]
        limiter = self.limiters.of(target)
        if self.leased_shards is None:
            requests = filter(only, spool.read(shards)) if only is not None else spool.read(shards)
            await send_all(self.dispatcher, target, limiter, requests, counters)
        else:
            await self.leased_shards.send(self.dispatcher, target, limiter, shards, counters, only)

    def copy_answers(self) -> None:
        """Copy answers to the rows with an equal request; after a stop the next run does it."""
        if self.plan.to_copy and self.dispatcher is not None and self.stop.reason is None:
            journal = self.dispatcher.journal
            duplicates.copy_answers(self.context, self.plan, journal, self.locks)

    def finish(self) -> RunReport:
        """Publish, write the run's row, and report how it ended."""
        context, dataset = self.context, self.context.dataset
        self.locks.close()
        report = run_report(
            context, self.all_counters, self.limiters.by_model, self.stop, context.facts(self.forecast_json)
        )
        # The row first: a run killed here has it, and its answers are in the journal for the next run.
        dataset.write_run(report.row(), date=day_of(context.started_us))
        dataset.publish()
        if dataset.waiting(context.run_id):
            log.warning("%s is being published by another run: some answers follow soon", dataset.root)
        if self.leased_shards is not None:
            self.leased_shards.close()
        self._progress.close()
        self.plan.discard()
        return report

    # -- parts

    def budget(self) -> Budget:
        """The job's budget, less what this run has spent already (in a pilot)."""
        return Budget(
            self.context.budget_pico,
            spent_pico=sum(counters.cost_pico for counters in self.all_counters),
            exposure_pico=sum(counters.exposure_pico for counters in self.all_counters),
        )

    def _open_journal(self, writer: str) -> Journal:
        fence = self.leased_shards.check if self.leased_shards is not None else None
        return open_journal(self.context, writer, self.forecast_json, fence=fence)

    def _record_refused(self, journal: Journal) -> None:
        for target in self.context.targets:
            for refused in self.plan.read_refused(target):
                row = result_row(
                    target,
                    refused.request,
                    RequestResult("skipped", refused.code, refused.reason),
                    endpoint=None,
                    input_mode=None,
                    finished_us=self.context.wall_us(),
                )
                journal.record(None, row)
                self.plan.all_counters[target.model].count("skipped", refused.code)

    async def _publish_regularly(self, journal: Journal) -> None:
        """Publish sealed segments while the run goes on, so that answers can be read meanwhile."""
        dataset, every_s, rolled_s = self.context.dataset, self.context.job.ship_every_s, time.monotonic()
        while True:
            await asyncio.sleep(min(PUBLISH_EVERY_S, every_s or PUBLISH_EVERY_S))
            if every_s is not None and time.monotonic() - rolled_s >= every_s:
                rolled_s = time.monotonic()
                self._roll(journal)
            if any(dataset.journal.glob("*.sealed")):
                try:
                    await asyncio.to_thread(dataset.publish, wait_s=0.0)
                except StorageError as error:
                    log.warning("%s (the answers stay in the journal)", error)

    def _roll(self, journal: Journal) -> None:
        try:
            journal.roll()
        except StorageError as error:
            self.stop("storage", str(error))


def open_journal(
    context: RunContext,
    writer: str,
    forecast_json: str | None = None,
    *,
    fence: Callable[[], None] | None = None,
) -> Journal:
    """A writer's journal. fence: raises StorageError when nothing more may be sent."""
    options: dict[str, Any] = {"durability": context.job.durability, "fence": fence}
    if context.job.ship_every_s is not None:
        options["roll_after_s"] = context.job.ship_every_s
    header = context.journal_header(forecast_json)
    return Journal(context.dataset.journal, writer, header, COLUMNS, **options)
