"""What a worker process does with the shards of a run that another process planned and will publish.

A worker opens a journal writer of its own and a gateway of its own, sends its shards on an event loop of its
own, and returns counts. Limits come from the store that all workers share (limits/shared), concurrency is
split evenly, dollars come from the run's ledger. A shard that is run again sends only what has no result yet.

    WorkerSession       a run as one worker has it
    send_shard(...)     one shard, from any thread of a Dask worker: opens the session, closes it when idle
    worker_main.py      the same over pipes, for `runner: processes`
"""

import asyncio
import logging
import os
import secrets
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.common.event_loop import fast_loop
from mavi_tasks.errors import MaviError
from mavi_tasks.execution.dispatcher import open_dispatcher
from mavi_tasks.execution.distributed.coordination import WorkerConfig, stop_workers, watch_stop_file
from mavi_tasks.execution.distributed.counter_snapshot import CounterSnapshot
from mavi_tasks.execution.limiters import RunLimiters
from mavi_tasks.execution.run import open_journal
from mavi_tasks.execution.stop_signal import StopSignal
from mavi_tasks.execution.worker_pool import send_all
from mavi_tasks.job.endpoint import resolve_endpoint
from mavi_tasks.limits.budget import Budget
from mavi_tasks.limits.shared import LeasedBudget
from mavi_tasks.planning import spool
from mavi_tasks.planning.context import RunContext, open_context
from mavi_tasks.planning.request import Request
from mavi_tasks.storage import tables
from mavi_tasks.storage.parts import read_columns
from mavi_tasks.storage.request_locks import RequestLocks

log = logging.getLogger("mavi")


class WorkerSession:
    """A run as one of its workers has it: it sends; it plans nothing and publishes nothing."""

    def __init__(self, config: WorkerConfig, env: Mapping[str, str] = os.environ) -> None:
        """Raises InputError when a key or a package is missing here."""
        self.config, self.context = config, _context_of(config, env)
        self.stop = StopSignal()
        self._leases = config.rate_leases(env)
        self._ledger = config.ledger(env) if config.has_budget else None
        self._limiters = RunLimiters(self.context, leases=self._leases, workers=config.workers)
        self._results = _RecordedResults(self.context)

    @asynccontextmanager
    async def opened(self, worker: str) -> AsyncIterator[None]:
        """The journal, the gateway and the shared stores, open while the block lasts."""
        writer = self.context.writer(worker)
        locks = RequestLocks(self.context.dataset.root, writer)
        locks.start_watching()  # what came since the run began, each shard looks up for itself
        budget, journal = self._budget(writer), open_journal(self.context, writer)
        async with open_dispatcher(
            self.context, self.stop, journal=journal, locks=locks, budget=budget
        ) as self._dispatcher:
            watch = asyncio.create_task(watch_stop_file(self.config.plan_folder, self.stop))
            try:
                yield
            finally:
                watch.cancel()
                await self._close_shared(budget)
                locks.close()
        if self.stop.error is not None:
            raise self.stop.error

    def _budget(self, writer: str) -> Budget:
        if self._ledger is None:
            return Budget(None)
        return LeasedBudget(self._ledger, writer, workers=self.config.workers, clock=self.context.clock)

    async def _close_shared(self, budget: Budget) -> None:
        """Give back what is leased, then close the stores."""
        closing = [
            self._limiters.close,
            *([budget.close] if isinstance(budget, LeasedBudget) else []),
            *(store.close for store in (self._leases, self._ledger) if store is not None),
        ]
        for close in closing:
            try:
                await close()
            except MaviError as error:  # the store is out; what it has of ours comes back by itself
                log.warning("%s", error)

    async def send_shard(
        self, model: str, shard: Path, counters: ModelCounters, *, again: bool = False
    ) -> None:
        """Send what a shard has left; `again`: another worker has had it, and may have done a part."""
        target = self.context.target(model)
        requests = list(spool.read([shard]))
        left = await asyncio.to_thread(self._left, requests, again, counters)
        await send_all(self._dispatcher, target, self._limiters.of(target), left, counters)
        if self.stop.reason is not None:
            stop_workers(self.config.plan_folder, self.stop.reason, self.stop.message or "")

    def _left(self, requests: Sequence[Request], again: bool, counters: ModelCounters) -> list[Request]:
        """Those without a result of this run (when sent again), and without an answer of another since."""
        mine = self._results.of_this_run() if again else set()
        rest = [request for request in requests if request.key not in mine]
        others = self._results.answered_by_others()
        counters.already_answered += sum(request.key in others for request in rest)
        return [request for request in rest if request.key not in others]


def _context_of(config: WorkerConfig, env: Mapping[str, str]) -> RunContext:
    endpoint = config.endpoint
    if endpoint.api_key is None:
        endpoint = replace(endpoint, api_key=resolve_endpoint(config.job.gateway, env).api_key)
    return open_context(
        config.job,
        endpoint,
        run_id=config.run_id,
        started_us=config.started_us,
        options=config.options,
        dry=True,
    )


class _RecordedResults:
    """Request keys with a result, recorded since the run began."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._seen: dict[Path, set[str]] = {}

    def of_this_run(self) -> set[str]:
        """With any result, in the journal or in parts."""
        run_id, done = self._context.run_id, set[str]()
        for header, row in tables.unpublished(self._context.dataset.root):
            if header["run_id"] == run_id:
                done.add(row.request_key)
        for path in self._new_parts(f"part-{run_id}-*.parquet"):
            done |= self._keys(path, answered=False)
        return done

    def answered_by_others(self) -> set[str]:
        """In parts; what another run has in its journal still, the locks see."""
        ours = f"part-{self._context.run_id}-"
        return {
            key
            for path in self._new_parts("part-*.parquet")
            if not path.name.startswith(ours)
            for key in self._keys(path, answered=True)
        }

    def _new_parts(self, names: str) -> Iterator[Path]:
        for path in (self._context.dataset.root / "results").rglob(names):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime >= self._context.started_us / 1e6 - 60:
                    yield path

    def _keys(self, path: Path, *, answered: bool) -> set[str]:
        """The keys of a part, which never changes: read once."""
        if path not in self._seen:
            table = read_columns(path, ["request_key", "status"])
            rows = zip(table["request_key"].to_pylist(), table["status"].to_pylist(), strict=True)
            self._seen[path] = {key for key, status in rows if not answered or status == "answered"}
        return self._seen[path]


# -- one shard, from any thread


class _SharedSession:
    """The session of one run in this process, on a loop of its own: opened by its first shard."""

    def __init__(self, config: WorkerConfig, env: Mapping[str, str]) -> None:
        self.users = 0
        self.session = WorkerSession(config, env)
        self._loop = (fast_loop() or asyncio.new_event_loop)()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mavi-worker", daemon=True)
        self._thread.start()
        self._opened = self.session.opened(f"w{secrets.token_hex(3)}")
        self.run(self._opened.__aenter__())

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        try:
            self.run(self._opened.__aexit__(None, None, None))
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


_SESSIONS: dict[str, _SharedSession] = {}
_SESSIONS_LOCK = threading.Lock()


@contextmanager
def _shared_session(config: WorkerConfig, env: Mapping[str, str]) -> Iterator[_SharedSession]:
    """The process's session of this run; the last user closes it."""
    with _SESSIONS_LOCK:
        shared = _SESSIONS.get(config.run_id)
        if shared is None:
            shared = _SESSIONS[config.run_id] = _SharedSession(config, env)
        shared.users += 1
    try:
        yield shared
    finally:
        with _SESSIONS_LOCK:
            shared.users -= 1
            if not shared.users:
                del _SESSIONS[config.run_id]
                shared.close()


def send_shard(
    config: WorkerConfig, model: str, shard: Path, env: Mapping[str, str] = os.environ
) -> CounterSnapshot:
    """Send one shard in this process and return its counts. Safe to run again, here or elsewhere."""
    again = not spool.mark_begun(shard)
    counters = ModelCounters(model)
    with _shared_session(config, env) as shared:
        shared.run(shared.session.send_shard(model, shard, counters, again=again))
        return CounterSnapshot.of(counters, shared.session.stop)
