"""One run of a job, in this process: plan, dispatch, share, publish, and the run's own row.

run = open_run(job, endpoint)
run.make_plan()            # raises InputError before anything is sent
await run.dispatch()
report = run.finish()      # everything is published then
"""

import asyncio
import logging
import platform
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mavi_tasks import __version__
from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.common.money import pico
from mavi_tasks.errors import InputError, StorageError
from mavi_tasks.execution import duplicates
from mavi_tasks.execution.rows import RequestResult, result_row
from mavi_tasks.execution.run_report import RunReport, run_report
from mavi_tasks.execution.worker_pool import Dispatcher
from mavi_tasks.gateway.client import Gateway
from mavi_tasks.job import Job
from mavi_tasks.job.endpoint import Endpoint
from mavi_tasks.limits import Clock, LimitChange, ModelLimiter, MonotonicClock
from mavi_tasks.limits.budget import Budget
from mavi_tasks.media import MediaLoader, MediaOptions, ProbeCache
from mavi_tasks.media.probe_index import ProbeIndex
from mavi_tasks.planning import planner as planning
from mavi_tasks.planning.target import ModelTarget, Request, targets
from mavi_tasks.pricing.book import PriceBook, load_prices
from mavi_tasks.storage.answered_index import AnsweredIndex
from mavi_tasks.storage.journal import Journal
from mavi_tasks.storage.publish import COLUMNS, Dataset, day_of, segment_header
from mavi_tasks.storage.request_locks import RequestLocks
from mavi_tasks.storage.s3 import folder, mirror_of

if TYPE_CHECKING:
    from mavi_tasks.execution.distributed.leased_shards import LeasedShards

log = logging.getLogger("mavi")

PUBLISH_EVERY_S = 15.0


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """The part of a plan that is a pilot, or (`rest`) everything but that."""

    units: frozenset[tuple[str, str]]  # item_id, prompt_id
    rest: bool = False

    def __call__(self, request: Request) -> bool:
        return ((request.item_id, request.prompt_id) in self.units) is not self.rest


@dataclass
class Run:
    """The state of one run. Made by `open_run`."""

    job: Job
    endpoint: Endpoint
    run_id: str
    dataset: Dataset
    prices: PriceBook
    targets: list[ModelTarget]
    options: MediaOptions
    clock: Clock
    wall_us: Callable[[], int]
    started_us: int
    dry: bool = False
    plan: planning.Plan | None = None
    claims: RequestLocks | None = None
    planned: str | None = None  # the forecast, as JSON for the run's row
    turns: "LeasedShards | None" = None  # of a dataset in a bucket
    _refused_recorded: bool = False
    dispatcher: Dispatcher | None = None
    limiters: dict[str, ModelLimiter] = field(default_factory=dict)
    limit_changes: list[LimitChange] = field(default_factory=list)

    @property
    def all_counters(self) -> list[ModelCounters]:
        return list(self.plan.all_counters.values()) if self.plan is not None else []

    # -- stages

    def make_plan(
        self,
        *,
        retry_invalid: bool = False,
        listen: planning.Listener | None = None,
        watch: planning.Watcher | None = None,
        probes: ProbeCache | None = None,
    ) -> planning.Plan:
        """Read and check the whole input. Raises InputError; nothing has been sent then."""
        if not self.dry:  # watched from before the index is read, so that nothing falls between
            self.claims = RequestLocks(self.dataset.root, self._writer("w0"))
            self.claims.start_watching()
            self._begin_turns()
        try:
            return self._make_plan(retry_invalid, listen, watch, probes)
        except BaseException:
            if self.turns is not None:
                self.turns.leases.close()
            raise

    def _make_plan(
        self,
        retry_invalid: bool,
        listen: planning.Listener | None,
        watch: planning.Watcher | None,
        probes: ProbeCache | None,
    ) -> planning.Plan:
        with ProbeIndex(self.dataset.root / "_library", keep=self.dataset.root.is_dir()) as library:
            self.plan = planning.make(
                self.job,
                self.targets,
                AnsweredIndex.read(self.dataset.root),
                self.plan_folder,
                options=self.options,
                retry_invalid=retry_invalid,
                listen=listen,
                watch=watch,
                probes=probes or ProbeCache(library),
            )
        if self.turns is not None:
            self.turns.cut(self.plan)
        return self.plan

    def _begin_turns(self) -> None:
        """A dataset in a bucket: other machines may ask the same, so requests are asked under leases."""
        mirror = mirror_of(self.dataset.root)
        if mirror is not None:
            from mavi_tasks.execution.distributed.leased_shards import LeasedShards

            self.turns = LeasedShards(mirror, self.dataset, self.run_id, shard_size=self.job.shard_size)
            self.turns.begin()

    @property
    def plan_folder(self) -> Path:
        return (Path(tempfile.gettempdir()) if self.dry else self.dataset.root / "_plan") / self.run_id

    async def dispatch(self, worker: str = "w0", want: RequestFilter | None = None) -> None:
        """Send what the plan has left (of it, what `want` says), all models at once, and record it."""
        assert self.plan is not None
        async with self.working(worker):
            if self.job.runner == "threads" or (want is not None and not want.rest):
                await asyncio.gather(
                    *(self.ask(model, shards, want) for model, shards in self.plan.shards.items())
                )
            else:
                from mavi_tasks.execution.distributed import subprocess_pool

                await subprocess_pool.ask_all(self, want)
            if want is None or want.rest:
                self.share()

    @asynccontextmanager
    async def working(self, worker: str = "w0") -> AsyncIterator[Dispatcher]:
        """The journal, the gateway and all that dispatch shares, open while the block lasts."""
        async with self._dispatcher(worker) as dispatcher:
            self.dispatcher = dispatcher
            if not self._refused_recorded:
                self._refused_recorded = True
                self._record_refused(dispatcher)
            along = [asyncio.create_task(self._publish_along())]
            try:
                if self.turns is not None:
                    along.append(asyncio.create_task(self.turns.watch(dispatcher)))
                    if self.job.runner != "threads" and self.plan is not None:
                        await self.turns.hold_all(self.plan, self.targets, dispatcher)
                yield dispatcher
            finally:
                for task in along:
                    task.cancel()
        if self.turns is not None:
            await self.turns.settle()
        if dispatcher.error is not None:
            raise dispatcher.error

    async def ask(self, model: str, shards: Sequence[Path], want: RequestFilter | None = None) -> None:
        """Send these shards of one model, or what `want` says of them."""
        assert self.plan is not None and self.dispatcher is not None
        target = next(target for target in self.targets if target.model == model)
        dispatcher, counters = self.dispatcher, self.plan.all_counters[model]

        async def send(requests: Iterator[Request]) -> None:
            await dispatcher.run(target, self._limiter(target), requests, counters)

        if self.turns is None:
            requests = self.plan.read(shards)
            await send(requests if want is None else filter(want, requests))
        else:
            await self.turns.ask(target, counters, shards, dispatcher, send, want)

    def share(self) -> None:
        """Copy answers to the rows that asked the same; when the run stopped, the next one does it."""
        assert self.plan is not None and self.dispatcher is not None
        if self.plan.to_share and not self.dispatcher.stopping:
            to = self.dispatcher
            duplicates.copy_answers(
                self.dataset, self.plan, self.targets, to.journal, to.claims, self.wall_us
            )

    def finish(self) -> RunReport:
        """Publish, write the run's row, and say how it ended."""
        assert self.plan is not None
        if self.claims is not None:
            self.claims.close()
        ended = run_report(self)
        # The row first: a run killed here has it, and its answers are in the journal for the next run.
        self.dataset.write_run(ended.row(), date=day_of(self.started_us))
        self.dataset.publish()
        if self.dataset.waiting(self.run_id):
            log.warning("%s is being published by another run: some answers follow soon", self.dataset.root)
        if self.turns is not None:
            self.turns.close()
        self.plan.discard()
        return ended

    # -- parts

    @asynccontextmanager
    async def _dispatcher(self, worker: str) -> AsyncIterator[Dispatcher]:
        assert self.endpoint.base_url is not None
        writer = self._writer(worker)
        journal = self._journal(writer)
        claims = self.claims = self.claims or RequestLocks(self.dataset.root, writer)
        try:
            timeout_s = self.job.gateway.timeout_s or 180.0
            async with (
                Gateway(self.endpoint.base_url, self.endpoint.api_key, read_timeout_s=timeout_s) as gateway,
                MediaLoader(self.options) as store,
            ):
                yield Dispatcher(
                    gateway=gateway,
                    journal=journal,
                    claims=claims,
                    budget=self._budget(),
                    store=store,
                    retry=self.job.retry,
                    repair=self.job.repair,
                    clock=self.clock,
                    wall_us=self.wall_us,
                )
        finally:
            journal.close()

    def _journal(self, writer: str) -> Journal:
        told: dict[str, Any] = {"durability": self.job.durability}
        if self.job.ship_every_s is not None:
            told["roll_after_s"] = self.job.ship_every_s
        if self.turns is None:
            return Journal(self.dataset.journal, writer, self._header(), COLUMNS, **told)
        return self.turns.journal(writer, self._header(), **told)

    def _budget(self) -> Budget:
        """The job's budget, less what this run has spent already (in a pilot)."""
        limit = pico(self.job.budget_usd) if self.job.budget_usd is not None else None
        return Budget(
            limit,
            spent_pico=sum(counters.cost_pico for counters in self.all_counters),
            exposure_pico=sum(counters.exposure_pico for counters in self.all_counters),
        )

    def _writer(self, worker: str) -> str:
        return f"{self.run_id}-{worker}"

    def _header(self) -> dict[str, Any]:
        return segment_header(self.facts(), self.job.answer_schema)

    def facts(self) -> dict[str, Any]:
        """What is known of the run from its start: the run's row, before its figures."""
        return {
            "run_id": self.run_id,
            "job": self.job.name,
            "job_hash": self.job.hash(),
            "gateway": self.endpoint.identity,
            "models": [target.model for target in self.targets],
            "started_at": self.started_us,
            "budget_pico": pico(self.job.budget_usd) if self.job.budget_usd is not None else None,
            "mavi_version": __version__,
            "python_version": platform.python_version(),
            "extra": self.planned,
        }

    def _limiter(self, target: ModelTarget) -> ModelLimiter:
        if target.model not in self.limiters:
            limits = self.job.limits_for(target.model)
            self.limiters[target.model] = ModelLimiter(
                target.model,
                requests_per_minute=limits.requests_per_minute,
                tokens_per_minute=limits.tokens_per_minute,
                concurrency=limits.concurrency,
                clock=self.clock,
                on_change=self._limit_changed,
            )
        return self.limiters[target.model]

    def _limit_changed(self, change: LimitChange) -> None:
        self.limit_changes.append(change)
        del self.limit_changes[:-1000]
        log.info("%s: %s %s -> %s (%s)", change.model, change.what, change.old, change.new, change.why)

    def _record_refused(self, dispatcher: Dispatcher) -> None:
        assert self.plan is not None
        for target in self.targets:
            for refused in self.plan.read_refused(target):
                outcome = RequestResult("skipped", refused.code, refused.reason)
                row = result_row(
                    target,
                    refused.request,
                    outcome,
                    endpoint=None,
                    input_mode=None,
                    finished_us=self.wall_us(),
                )
                dispatcher.journal.record(None, row)
                self.plan.all_counters[target.model].skipped += 1

    async def _publish_along(self) -> None:
        """Publish sealed segments while the run goes on, so that answers can be read meanwhile."""
        every_s, rolled_s = self.job.ship_every_s, time.monotonic()
        while True:
            await asyncio.sleep(min(PUBLISH_EVERY_S, every_s or PUBLISH_EVERY_S))
            if every_s is not None and self.dispatcher is not None and time.monotonic() - rolled_s >= every_s:
                rolled_s = time.monotonic()
                self._roll(self.dispatcher)
            if any(self.dataset.journal.glob("*.sealed")):
                try:
                    await asyncio.to_thread(self.dataset.publish, wait_s=0.0)
                except StorageError as error:
                    log.warning("%s (the answers stay in the journal)", error)

    @staticmethod
    def _roll(dispatcher: Dispatcher) -> None:
        try:
            dispatcher.journal.roll()
        except StorageError as error:
            dispatcher.stop("storage", str(error))


def open_run(
    job: Job,
    endpoint: Endpoint,
    *,
    run_id: str | None = None,
    options: MediaOptions | None = None,
    clock: Clock | None = None,
    dry: bool = False,
) -> Run:
    """A run on a dataset folder that can be written, with what dead runs left behind published.

    dry: only to plan; the dataset is left as it is, or absent. Raises InputError (no price for a budget) or
    StorageError.
    """
    wall_us = wall_clock()
    started_us = wall_us()
    today = datetime.fromtimestamp(started_us / 1e6, UTC).date()
    prices = load_prices(job.extra_prices())
    options = options or MediaOptions.of(job.media)
    found = targets(job, prices, gateway=endpoint.identity, options=options, on=today)
    _check_budget(job, found, prices)
    dataset = Dataset(folder(job.output))
    mirror = mirror_of(dataset.root)
    if mirror is not None:
        mirror.check(writes=not dry)
    if not dry:
        dataset.create()
        dataset.publish()
        planning.sweep(dataset.root / "_plan")
    return Run(
        job=job,
        endpoint=endpoint,
        run_id=run_id or new_run_id(started_us),
        dataset=dataset,
        prices=prices,
        targets=found,
        options=options,
        clock=clock or MonotonicClock(),
        wall_us=wall_us,
        started_us=started_us,
        dry=dry,
    )


def _check_budget(job: Job, found: Sequence[ModelTarget], prices: PriceBook) -> None:
    """A budget can only be kept when every call has a price."""
    unpriced = [target.model for target in found if target.price is None]
    if job.budget_usd is not None and unpriced:
        raise InputError(
            [f"budget_usd: cannot be kept, because {prices.hint(model) or model}" for model in unpriced]
        )


def new_run_id(started_us: int) -> str:
    """Sorts by time; the random tail keeps runs of one second apart."""
    return f"{datetime.fromtimestamp(started_us / 1e6, UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def wall_clock() -> Callable[[], int]:
    """Microseconds since the epoch; never going back in this process, whatever is done to the clock."""
    offset = time.time_ns() - time.monotonic_ns()
    return lambda: (time.monotonic_ns() + offset) // 1000
