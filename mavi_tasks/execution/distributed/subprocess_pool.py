"""`runner: processes`: the shards of a run sent by processes of this machine; no Prefect, no cluster.

The parent assigns shards, two of a model to each worker at a time, adds up what they report, and publishes.
A worker (worker_main.py) leaves no shard half-recorded that its journal does not show, so one that dies is
replaced, and its shards are sent again for what they have left.
"""

import asyncio
import base64
import contextlib
import itertools
import logging
import pickle
import sys
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import orjson

from mavi_tasks.errors import MaviError
from mavi_tasks.execution.distributed.coordination import (
    LOOK_EVERY_S,
    WorkerConfig,
    prepare_workers,
    stop_workers,
)
from mavi_tasks.execution.distributed.counter_snapshot import CounterSnapshot
from mavi_tasks.execution.distributed.recovery import copy_counters, reclaim_dead_workers, recount
from mavi_tasks.execution.run import RequestFilter, Run
from mavi_tasks.planning import spool

log = logging.getLogger("mavi")

WORKER_MODULE: Final = "mavi_tasks.execution.distributed.worker_main"
PREFETCH_SHARDS: Final = 2  # of one model a worker has: the next fills in while one's last calls come back
MOST_DEATHS: Final = 3  # of workers in a row that did not finish a single shard
SHUTDOWN_GRACE_S: Final = 20.0  # for workers that must stop now
LINE_BYTES: Final = 64 << 20


async def send_by_processes(run: Run, only: RequestFilter | None = None) -> None:
    """The shard executor of `runner: processes`."""
    if only is not None:
        for shard in itertools.chain(*run.plan.shards.values()):
            spool.rewrite(shard, lambda requests: filter(only, requests))
    config = await prepare_workers(run)
    if config is None:
        return
    before, reported = copy_counters(run), False
    pool = SubprocessPool(run, config)
    try:
        await pool.work()
        reported = not pool.deaths
    finally:
        if not reported:
            recount(run, before)


@dataclass(frozen=True, slots=True)
class ShardAssignment:
    """One shard for one worker; `again`: another worker has had it."""

    model: str
    shard: Path
    again: bool = False


@dataclass
class _Worker:
    """One worker process, as the parent sees it."""

    name: str
    process: asyncio.subprocess.Process
    in_progress: dict[int, ShardAssignment] = field(default_factory=dict)
    reported: dict[str, CounterSnapshot] = field(default_factory=dict)
    shards_done: int = 0
    finished: bool = False

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(orjson.dumps(message) + b"\n")


class SubprocessPool:
    """The worker processes of one run."""

    def __init__(self, run: Run, config: WorkerConfig) -> None:
        self.run, self.config = run, config
        self.deaths = 0
        self._consecutive_failures = 0
        self._queues = {
            model: deque(ShardAssignment(model, shard) for shard in shards)
            for model, shards in run.plan.shards.items()
        }
        self._numbers, self._names = itertools.count(1), itertools.count(1)
        self._workers: list[_Worker] = []

    async def work(self) -> None:
        """Until every shard is done, or the run has stopped and what is in flight has come back."""
        count = min(self.config.workers, sum(map(len, self._queues.values())))
        watch = asyncio.create_task(self._pass_on_stop())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(count):
                    group.create_task(self._keep_one_working())
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
        finally:
            watch.cancel()
            await self._terminate_all()

    async def _keep_one_working(self) -> None:
        """One worker, and another one in its place when it dies, while there is work."""
        while any(self._queues.values()) and self.run.stop.reason is None:
            worker = await self._start()
            try:
                await self._take_reports(worker)
            finally:
                self._workers.remove(worker)
            if worker.finished:
                return
            await self._on_worker_exit(worker)

    async def _start(self) -> _Worker:
        name = f"w{next(self._names)}"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", WORKER_MODULE, name,  # -P: no module of the current folder is run
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
            start_new_session=True,  # Ctrl-C is for the parent, which has them finish
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(base64.b64encode(pickle.dumps(self.config)) + b"\n")
        worker = _Worker(name, process)
        self._workers.append(worker)
        self._assign_shards(worker)
        return worker

    def _assign_shards(self, worker: _Worker) -> None:
        """Fill up the worker's shards; one that gets no more is asked to finish."""
        assert worker.process.stdin is not None
        for model, queue in self._queues.items():
            if self.run.plan.all_counters[model].stopped is not None or self.run.stop.reason is not None:
                queue.clear()
            held = sum(assignment.model == model for assignment in worker.in_progress.values())
            while queue and held < PREFETCH_SHARDS:
                assignment, number, held = queue.popleft(), next(self._numbers), held + 1
                worker.in_progress[number] = assignment
                worker.send(
                    {"id": number, "model": model, "shard": str(assignment.shard), "again": assignment.again}
                )
        if not worker.in_progress and not worker.process.stdin.is_closing():
            worker.process.stdin.close()

    async def _take_reports(self, worker: _Worker) -> None:
        """Take the worker's reports until it ends."""
        assert worker.process.stdout is not None
        async for line in worker.process.stdout:
            if not line.endswith(b"\n"):
                break  # its last report, cut short
            message = orjson.loads(line)
            for values in message.get("counts", ()):
                self._add(worker, CounterSnapshot.from_json(values))
            if "done" in message:
                del worker.in_progress[message["done"]]
                worker.shards_done += 1
                self._assign_shards(worker)
            if "stopped" in message:
                self.run.stop(*message["stopped"])
            worker.finished = worker.finished or "finished" in message
        await worker.process.wait()

    def _add(self, worker: _Worker, snapshot: CounterSnapshot) -> None:
        counters = self.run.plan.all_counters[snapshot.model]
        snapshot.add_to(counters, previous=worker.reported.get(snapshot.model))
        worker.reported[snapshot.model] = snapshot
        if snapshot.run_stopped is not None:
            self.run.stop(*snapshot.run_stopped)

    async def _on_worker_exit(self, worker: _Worker) -> None:
        """A worker died: its shards go to another, for what they have left."""
        self.deaths += 1
        self._consecutive_failures = 0 if worker.shards_done else self._consecutive_failures + 1
        if self.run.stop.reason is None:
            log.warning(
                "worker %s died (exit status %s); another one takes its shards",
                worker.name,
                worker.process.returncode,
            )
        for assignment in reversed(worker.in_progress.values()):
            self._queues[assignment.model].appendleft(replace(assignment, again=True))
        if self._consecutive_failures >= MOST_DEATHS:
            self.run.stop(
                "workers",
                f"{self._consecutive_failures} worker processes in a row died (exit status "
                f"{worker.process.returncode}); what they recorded is kept. See what they wrote to stderr, "
                "or use runner: threads",
            )
        with contextlib.suppress(MaviError):  # the store is out: what the worker had stays counted as spent
            await reclaim_dead_workers(self.run, self.config)

    async def _pass_on_stop(self) -> None:
        """Pass the run's stop on to the workers."""
        stop = self.run.stop
        while stop.reason is None:  # noqa: ASYNC110 - 4 looks a second are cheap
            await asyncio.sleep(LOOK_EVERY_S)
        stop_workers(self.run.plan.folder, stop.reason, stop.message or "")

    async def _terminate_all(self) -> None:
        """Whoever is still there stops now: its calls in flight are in doubt, and recorded so."""
        left = list(self._workers)
        for worker in left:
            with contextlib.suppress(ProcessLookupError):
                worker.process.terminate()
        for worker in left:
            try:
                await asyncio.wait_for(worker.process.wait(), SHUTDOWN_GRACE_S)
            except TimeoutError:
                worker.process.kill()
                await worker.process.wait()
