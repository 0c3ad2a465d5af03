"""What a worker process does with the shards of a run that another process planned and will publish.

A worker opens a journal writer of its own and a gateway of its own, asks its shards on an event loop of its
own, and returns counts. Limits come from the store that all workers share (`shared/`), concurrency is split
evenly, dollars come from the run's ledger. Whoever runs a shard again asks only what has no result yet.

    Part            a run as one worker has it
    ask(...)        one shard, from any thread of a Dask or Ray worker: opens the part, closes it when idle
    processes.py    the same over pipes, for `runner: processes`
"""

import asyncio
import logging
import os
import secrets
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow.parquet as pq

from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.common.event_loop import fast_loop
from mavi_tasks.errors import MaviError
from mavi_tasks.execution.run import Run, open_run
from mavi_tasks.execution.worker_pool import Dispatcher
from mavi_tasks.job import Job
from mavi_tasks.job import endpoint as settings
from mavi_tasks.job.endpoint import Endpoint
from mavi_tasks.limits import ModelLimiter
from mavi_tasks.limits.budget import Budget
from mavi_tasks.limits.shared import LeasedBudget, RateLeaseStore, SharedModelLimiter, limit_name
from mavi_tasks.limits.shared.budget_ledger import Ledger
from mavi_tasks.limits.shared.factory import ledger, permits
from mavi_tasks.media import MediaOptions
from mavi_tasks.planning.planner import Plan
from mavi_tasks.planning.target import ModelTarget, Request
from mavi_tasks.storage import tables
from mavi_tasks.storage.request_locks import RequestLocks

log = logging.getLogger("mavi")

STOP_FILE: Final = "stop"  # in the plan's folder: the run has stopped, send nothing more
LEDGER_FILE: Final = "ledger.json"
LOOK_EVERY_S: Final = 0.25

COUNTED: Final = (
    "answered", "failed", "invalid", "skipped", "already_answered", "calls", "throttled", "retried",
    "truncated", "input_tokens", "output_tokens", "cost_pico", "exposure_pico", "unpriced",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What a worker must know of a run; goes to it by value. The key goes only through a pipe."""

    job: Job
    endpoint: Endpoint
    options: MediaOptions
    run_id: str
    started_us: int
    plan_folder: Path
    workers: int
    on_ledger: bool  # the job has a budget

    def without_key(self) -> "WorkerConfig":
        """For what may be written down on its way: the worker takes the key from its own environment."""
        return replace(self, endpoint=replace(self.endpoint, api_key=None))


def setting_of(run: Run) -> WorkerConfig:
    """What the workers of this run are told. They are never more than a told concurrency allows.

    Raises InputError when the store they are to share cannot be used.
    """
    assert run.plan is not None
    permits(run.job.shared_limits, os.environ)
    told = [run.job.limits_for(target.model).concurrency for target in run.targets]
    workers = min([run.job.workers or os.cpu_count() or 1, *(limit for limit in told if limit is not None)])
    return WorkerConfig(
        job=run.job,
        endpoint=run.endpoint,
        options=run.options,
        run_id=run.run_id,
        started_us=run.started_us,
        plan_folder=run.plan.folder,
        workers=workers,
        on_ledger=run.job.budget_usd is not None,
    )


def stop(plan_folder: Path, reason: str, message: str) -> None:
    """Have all workers of a run send nothing more; the first reason stands."""
    path = plan_folder / STOP_FILE
    staged = path.with_suffix(f".{os.getpid()}")
    try:
        staged.write_bytes(orjson.dumps((reason, message)))
        os.link(staged, path)
    except FileExistsError:
        pass
    except OSError:  # no hard links there, or no room: that they stop matters more than why
        with suppress(OSError):
            path.touch()
    finally:
        with suppress(OSError):
            staged.unlink()


async def probe(setting: WorkerConfig) -> None:
    """Raise StoreError when the store of the limits cannot be asked."""
    shared = permits(setting.job.shared_limits, os.environ)
    try:
        await shared.lease("mavi-probe", 0.0)
    finally:
        await shared.close()


def ledger_of(setting: WorkerConfig) -> Ledger:
    """The dollars that this run's workers share."""
    path = setting.plan_folder / LEDGER_FILE
    return ledger(setting.job.shared_limits, os.environ, path, setting.run_id)


# -- what came of it


@dataclass(frozen=True, slots=True)
class CounterSnapshot:
    """Counts of one model: of a shard, or of a worker so far."""

    model: str
    counts: dict[str, int]
    errors: dict[str, tuple[int, str]]
    stopped: str | None = None  # the model was given up
    latencies: tuple[float, ...] = ()
    run_stopped: tuple[str, str] | None = None  # reason and message

    @classmethod
    def of(
        cls, counters: ModelCounters, dispatcher: Dispatcher | None, *, latencies: bool = True
    ) -> "CounterSnapshot":
        reason = dispatcher.stop_reason if dispatcher is not None else None
        assert dispatcher is not None or reason is None
        return cls(
            counters.model,
            {name: getattr(counters, name) for name in COUNTED},
            dict(counters.errors),
            counters.stopped,
            tuple(counters.latencies) if latencies else (),
            (reason, dispatcher.stop_message or reason) if dispatcher is not None and reason else None,
        )

    def to_json(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "CounterSnapshot":
        stopped = values["run_stopped"]
        errors = {code: (times, text) for code, (times, text) in values["errors"].items()}
        return cls(**{**values, "errors": errors, "run_stopped": stopped and tuple(stopped)})


def add(told: CounterSnapshot, counters: ModelCounters, *, but: CounterSnapshot | None = None) -> None:
    """Add these counts to a counters, less those it had of the same worker before (`but`)."""
    for name in COUNTED:
        before = but.counts[name] if but is not None else 0
        setattr(counters, name, getattr(counters, name) + told.counts[name] - before)
    for code, (times, text) in told.errors.items():
        before = but.errors.get(code, (0, ""))[0] if but is not None else 0
        had, first = counters.errors.get(code, (0, text))
        counters.errors[code] = (had + times - before, first)
    for latency_s in told.latencies:
        counters.latencies.add(latency_s)
    counters.stopped = counters.stopped or told.stopped


# -- the worker


@dataclass
class WorkerSession(Run):
    """A run as one of its workers has it: it asks; it plans nothing and publishes nothing."""

    workers: int = 1
    permits: RateLeaseStore | None = None
    ledger: Ledger | None = None
    writer: str = ""
    _seen: "dict[Path, set[str]]" = field(default_factory=dict)

    @classmethod
    def open(cls, setting: WorkerConfig, env: Mapping[str, str] = os.environ) -> "WorkerSession":
        """Make ready; raises InputError when a key or a package is missing here."""
        endpoint = setting.endpoint
        if endpoint.api_key is None:
            key = settings.resolve_endpoint(setting.job.gateway, env).api_key
            endpoint = replace(endpoint, api_key=key)
        run = open_run(setting.job, endpoint, run_id=setting.run_id, options=setting.options, dry=True)
        part = cls(**{one.name: getattr(run, one.name) for one in fields(Run)})
        part.started_us, part.workers = setting.started_us, setting.workers
        part.plan = Plan(
            setting.plan_folder,
            part.targets,
            {target.model: ModelCounters(target.model) for target in part.targets},
        )
        part.permits = permits(setting.job.shared_limits, env)
        part.ledger = ledger_of(setting) if setting.on_ledger else None
        return part

    @asynccontextmanager
    async def working(self, worker: str = "w0") -> AsyncIterator[Dispatcher]:
        """The journal, the gateway and the shared stores, open while the block lasts."""
        self.writer = self._writer(worker)
        self.claims = RequestLocks(self.dataset.root, self.writer)
        self.claims.start_watching()  # what came since the run began, each shard asks for itself
        async with self._dispatcher(worker) as dispatcher:
            self.dispatcher = dispatcher
            watch = asyncio.create_task(self._watch_stop())
            try:
                yield dispatcher
            finally:
                watch.cancel()
                await self._let_go(dispatcher)
        if dispatcher.error is not None:
            raise dispatcher.error

    async def _let_go(self, dispatcher: Dispatcher) -> None:
        limiters = [one for one in self.limiters.values() if isinstance(one, SharedModelLimiter)]
        budgets = [dispatcher.budget] if isinstance(dispatcher.budget, LeasedBudget) else []
        stores = [one for one in (self.permits, self.ledger) if one is not None]
        for shared in (*limiters, *budgets, *stores):
            try:
                await shared.close()
            except MaviError as error:  # the store is out; what it has of ours comes back by itself
                log.warning("%s", error)
        if self.claims is not None:
            self.claims.close()

    async def _watch_stop(self) -> None:
        assert self.plan is not None and self.dispatcher is not None
        path = self.plan.folder / STOP_FILE
        while not path.exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(LOOK_EVERY_S)
        told = path.read_bytes()
        self.dispatcher.stop(*(orjson.loads(told) if told else ("stopped", "the run was stopped")))

    async def ask_shard(
        self, model: str, shard: Path, counters: ModelCounters, *, again: bool = False
    ) -> None:
        """Ask what a shard has left; `again`: another worker has had it, and may have done a part."""
        assert self.plan is not None and self.dispatcher is not None
        target = next(target for target in self.targets if target.model == model)
        requests = list(self.plan.read([shard]))
        left = await asyncio.to_thread(self._left, requests, again, counters)
        await self.dispatcher.run(target, self._limiter(target), left, counters)
        if self.dispatcher.stop_reason is not None:
            stop(self.plan.folder, self.dispatcher.stop_reason, self.dispatcher.stop_message or "")

    def _left(self, requests: Sequence[Request], again: bool, counters: ModelCounters) -> list[Request]:
        """Those without a result of this run (when asked again), and without an answer of another since."""
        mine = self._results_of_this_run() if again else set()
        rest = [request for request in requests if request.key not in mine]
        others = self._answered_by_others()
        counters.already_answered += sum(request.key in others for request in rest)
        return [request for request in rest if request.key not in others]

    def _results_of_this_run(self) -> set[str]:
        done: set[str] = set()
        for header, row in tables.unpublished(self.dataset.root):
            if header["run_id"] == self.run_id:
                done.add(row.request_key)
        for path in self._new_parts(f"part-{self.run_id}-*.parquet"):
            done |= self._keys(path, answered=False)
        return done

    def _answered_by_others(self) -> set[str]:
        """In parts that came since the run began; what is in a journal still, the claims see."""
        ours = f"part-{self.run_id}-"
        return {
            key
            for path in self._new_parts("part-*.parquet")
            if not path.name.startswith(ours)
            for key in self._keys(path, answered=True)
        }

    def _new_parts(self, names: str) -> Iterator[Path]:
        for path in (self.dataset.root / "results").rglob(names):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime >= self.started_us / 1e6 - 60:
                    yield path

    def _keys(self, path: Path, *, answered: bool) -> set[str]:
        """The keys of a part, which never changes: read once."""
        if path not in self._seen:
            table = pq.read_table(path, columns=["request_key", "status"], partitioning=None)
            rows = zip(table["request_key"].to_pylist(), table["status"].to_pylist(), strict=True)
            self._seen[path] = {key for key, status in rows if not answered or status == "answered"}
        return self._seen[path]

    # -- what is shared

    def _limiter(self, target: ModelTarget) -> ModelLimiter:
        limits = self.job.limits_for(target.model)
        told = limits.requests_per_minute or limits.tokens_per_minute
        if target.model not in self.limiters:
            each = None if limits.concurrency is None else max(1, limits.concurrency // self.workers)
            plain: dict[str, Any] = {
                "requests_per_minute": limits.requests_per_minute,
                "tokens_per_minute": limits.tokens_per_minute,
                "concurrency": each,
                "clock": self.clock,
                "on_change": self._limit_changed,
            }
            if told is None or self.permits is None:
                self.limiters[target.model] = ModelLimiter(target.model, **plain)
            else:
                name = limit_name(self.endpoint.identity, self.endpoint.api_key, target.model)
                self.limiters[target.model] = SharedModelLimiter(
                    target.model, permits=self.permits, limit=name, workers=self.workers, **plain
                )
        return self.limiters[target.model]

    def _budget(self) -> Budget:
        if self.ledger is None:
            return Budget(None)
        return LeasedBudget(self.ledger, self.writer, workers=self.workers, clock=self.clock)


# -- one shard, from any thread


class _Open:
    """The part of one run in this process: opened by its first shard, closed when none is in hand."""

    def __init__(self, setting: WorkerConfig, env: Mapping[str, str]) -> None:
        self.users = 0
        self.part = WorkerSession.open(setting, env)
        self.loop = (fast_loop() or asyncio.new_event_loop)()
        self._thread = threading.Thread(target=self.loop.run_forever, name="mavi-worker", daemon=True)
        self._thread.start()
        self._working = self.part.working(f"w{secrets.token_hex(3)}")
        self.dispatcher = self.run(self._working.__aenter__())

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def close(self) -> None:
        try:
            self.run(self._working.__aexit__(None, None, None))
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()


_OPEN: dict[str, _Open] = {}
_GUARD = threading.Lock()


@contextmanager
def _part(setting: WorkerConfig, env: Mapping[str, str]) -> Iterator[_Open]:
    with _GUARD:
        opened = _OPEN.get(setting.run_id)
        if opened is None:
            opened = _OPEN[setting.run_id] = _Open(setting, env)
        opened.users += 1
    try:
        yield opened
    finally:
        with _GUARD:
            opened.users -= 1
            if not opened.users:
                del _OPEN[setting.run_id]
                opened.close()


def ask(
    setting: WorkerConfig, model: str, shard: Path, env: Mapping[str, str] = os.environ
) -> CounterSnapshot:
    """Ask one shard in this process and return its counts. Safe to run again, here or elsewhere."""
    again = not _begin(shard)
    counters = ModelCounters(model)
    with _part(setting, env) as opened:
        opened.run(opened.part.ask_shard(model, shard, counters, again=again))
        return CounterSnapshot.of(counters, opened.dispatcher)


def _begin(shard: Path) -> bool:
    """Leave a mark that a worker has this shard; False when one has had it before."""
    try:
        shard.with_suffix(".begun").open("x").close()
    except FileExistsError:
        return False
    return True
