"""Sends many requests of one model at once; request_task.py sends one. Nothing here retries.

As many tasks as the limiter lets be in flight, a few ready behind them, and those that back off.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.errors import MaviError
from mavi_tasks.execution.dispatcher import Dispatcher
from mavi_tasks.execution.request_task import RequestTask
from mavi_tasks.execution.task_scope import TaskScope, UnsentError
from mavi_tasks.limits import ModelLimiter
from mavi_tasks.planning.request import Request
from mavi_tasks.planning.target import ModelTarget

SPARE_TASKS: Final = 4  # ready behind those in flight, so that a free slot is taken at once
MOST_BACKING_OFF: Final = 1024  # requests that may wait for another attempt at a time; bounds memory
LOCKED_ELSEWHERE_WAIT_S: Final = 0.25


async def send_all(
    dispatcher: Dispatcher,
    target: ModelTarget,
    limiter: ModelLimiter,
    requests: Iterable[Request],
    counters: ModelCounters,
) -> None:
    """Send these; returns when all are recorded, or the model or the run has stopped.

    Raises nothing for a request's own sake; `dispatcher.stop` has the reason of a run that stopped.
    """
    dispatcher.stop.on_stop(limiter.stop)
    if not dispatcher.stopping:
        await WorkerPool(dispatcher, target, limiter, counters).work(iter(requests))


class WorkerPool:
    """The tasks of one model: those in flight, a few ready behind them, and those backing off."""

    def __init__(
        self, dispatcher: Dispatcher, target: ModelTarget, limiter: ModelLimiter, counters: ModelCounters
    ) -> None:
        self.dispatcher, self.limiter, self.counters = dispatcher, limiter, counters
        self._scope = TaskScope(dispatcher, target, limiter, counters, self._one_more_backing_off)
        self._backing_off = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._locked_elsewhere: list[Request] = []
        self._source: Iterator[Request] = iter(())
        self._exhausted = False

    async def work(self, source: Iterator[Request]) -> None:
        self._source = source
        await self._until_idle()
        while self._locked_elsewhere and not self._scope.stopped:
            await self.dispatcher.sleep(LOCKED_ELSEWHERE_WAIT_S)
            self._source, self._locked_elsewhere = iter(self._locked_elsewhere), []
            self._exhausted = False
            await self._until_idle()

    async def _until_idle(self) -> None:
        self._start_tasks()
        try:
            while self._tasks:
                await asyncio.wait(self._tasks)
        except asyncio.CancelledError:  # stop now: what is in flight becomes in doubt
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            raise

    def _start_tasks(self) -> None:
        """Start as many tasks as can be of use now."""
        useful = self.limiter.concurrency_now + SPARE_TASKS + min(self._backing_off, MOST_BACKING_OFF)
        while len(self._tasks) < useful and not self._exhausted and not self._scope.stopped:
            task = asyncio.create_task(self._run_task())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _too_many(self) -> bool:
        return len(self._tasks) > self.limiter.concurrency_now + 2 * SPARE_TASKS + self._backing_off

    @contextmanager
    def _one_more_backing_off(self) -> Iterator[None]:
        """While a task backs off, another one takes its place."""
        self._backing_off += 1
        try:
            self._start_tasks()
            yield
        finally:
            self._backing_off -= 1

    async def _run_task(self) -> None:
        """Send one request after the other, until there are none left or too many tasks."""
        stop = self.dispatcher.stop
        try:
            for request in self._source:
                if self._scope.stopped:
                    return
                await self._send(request)
                if self._too_many():
                    return
                self._start_tasks()
            self._exhausted = True
        except UnsentError:
            return
        except MaviError as error:
            stop("storage", str(error))
        except Exception as error:
            if isinstance(error, OSError) and error.strerror:  # the disk: no locks, or the folder was removed
                stop("storage", f"{error.filename or 'the dataset'}: {error.strerror}")
                return
            # A defect of ours: what is in flight and paid for is recorded, then it is raised.
            stop.error = error
            stop("defect", f"{type(error).__name__}: {error}")

    async def _send(self, request: Request) -> None:
        locks = self.dispatcher.locks
        if not locks.take(request.key):
            self._locked_elsewhere.append(request)
            return
        try:
            if locks.answered_elsewhere(request.key):
                self.counters.already_answered += 1
                return
            await RequestTask(self._scope, request).run()
        finally:
            locks.release(request.key)
