"""A run's dispatch: the targets of one process, and the workers of each; asking.py asks one request.

As many workers as the limiter lets be in flight, a few ready behind them, and those that back off. Nothing
here retries.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.errors import MaviError
from mavi_tasks.execution.request_task import RequestTask, UnsentError
from mavi_tasks.gateway.client import Gateway
from mavi_tasks.job import Retry
from mavi_tasks.limits import Clock, ModelLimiter
from mavi_tasks.limits.budget import Budget
from mavi_tasks.media import MediaLoader
from mavi_tasks.planning.target import ModelTarget, Request
from mavi_tasks.storage.journal import Journal
from mavi_tasks.storage.request_locks import RequestLocks

SPARE_WORKERS: Final = 4  # ready behind those in flight, so that a free slot is taken at once
MOST_BACKING_OFF: Final = 1024  # requests that may wait for another try at a time; bounds memory
CLAIMED_ELSEWHERE_WAIT_S: Final = 0.25


class Dispatcher:
    """Everything that the targets of one process share. One event loop; not thread safe."""

    def __init__(
        self,
        *,
        gateway: Gateway,
        journal: Journal,
        claims: RequestLocks,
        budget: Budget,
        store: MediaLoader,
        retry: Retry,
        repair: bool,
        clock: Clock,
        wall_us: Callable[[], int],
    ) -> None:
        self.gateway, self.journal, self.claims, self.budget = gateway, journal, claims, budget
        self.store, self.retry, self.repair, self.clock, self.wall_us = store, retry, repair, clock, wall_us
        self.stop_reason: str | None = None  # a code: budget, unauthorized, no_balance, interrupted, disk...
        self.stop_message: str | None = None
        self.error: BaseException | None = None
        self._stopping = asyncio.Event()
        self._limiters: list[ModelLimiter] = []
        self._numbers = itertools.count(1)

    @property
    def stopping(self) -> bool:
        return self.stop_reason is not None

    def stop(self, reason: str, message: str) -> None:
        """Send nothing more; what is in flight is waited for. The first reason stands."""
        if self.stop_reason is None:
            self.stop_reason, self.stop_message = reason, message
            self._stopping.set()
            self.store.stop()
            self.budget.stop()
            for limiter in self._limiters:
                limiter.stop(message)

    def attempt_id(self) -> str:
        return f"{self.journal.writer}-{next(self._numbers)}"

    async def sleep(self, seconds: float) -> None:
        """Sleep, but wake when the run stops."""
        sleeper = asyncio.ensure_future(self.clock.sleep(seconds))
        stopped = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({sleeper, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            stopped.cancel()

    async def run(
        self, target: ModelTarget, limiter: ModelLimiter, requests: Iterable[Request], counters: ModelCounters
    ) -> None:
        """Ask all of these; returns when they are recorded, or the model or the run has stopped.

        Raises nothing for a request's own sake. Afterwards `stop_reason` and `error` tell of the run.
        """
        self._limiters.append(limiter)
        if self.stopping:
            return
        await WorkerPool(self, target, limiter, counters).work(iter(requests))


class WorkerPool:
    """The workers of one target: those in flight, a few ready behind them, and those backing off."""

    def __init__(
        self, dispatcher: Dispatcher, target: ModelTarget, limiter: ModelLimiter, counters: ModelCounters
    ) -> None:
        self.dispatcher, self.target, self.limiter, self.counters = dispatcher, target, limiter, counters
        self.backing_off = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._claimed_elsewhere: list[Request] = []
        self._source: Iterator[Request] = iter(())
        self._exhausted = False

    async def work(self, source: Iterator[Request]) -> None:
        self._source = source
        await self._until_idle()
        while self._claimed_elsewhere and not self.done:
            await self.dispatcher.sleep(CLAIMED_ELSEWHERE_WAIT_S)
            self._source, self._claimed_elsewhere = iter(self._claimed_elsewhere), []
            self._exhausted = False
            await self._until_idle()

    async def _until_idle(self) -> None:
        self.staff()
        try:
            while self._tasks:
                await asyncio.wait(self._tasks)
        except asyncio.CancelledError:  # stop now: what is in flight becomes in doubt
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            raise

    @property
    def done(self) -> bool:
        return self.dispatcher.stopping or self.counters.stopped is not None

    def staff(self) -> None:
        """Hire as many workers as can be of use now."""
        wanted = self.limiter.concurrency_now + SPARE_WORKERS + min(self.backing_off, MOST_BACKING_OFF)
        while len(self._tasks) < wanted and not self._exhausted and not self.done:
            task = asyncio.create_task(self._worker())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _too_many(self) -> bool:
        return len(self._tasks) > self.limiter.concurrency_now + 2 * SPARE_WORKERS + self.backing_off

    async def _worker(self) -> None:
        try:
            for request in self._source:
                if self.done:
                    return
                await self._ask(request)
                if self._too_many():
                    return
                self.staff()
            self._exhausted = True
        except UnsentError:
            return
        except MaviError as error:
            self.dispatcher.stop("storage", str(error))
        except Exception as error:
            if isinstance(error, OSError) and error.strerror:  # the disk: no locks, or the folder was removed
                self.dispatcher.stop("storage", f"{error.filename or 'the dataset'}: {error.strerror}")
                return
            # A defect of ours: drain what is in flight and paid for, then raise it.
            self.dispatcher.error = error
            self.dispatcher.stop("defect", f"{type(error).__name__}: {error}")

    async def _ask(self, request: Request) -> None:
        claims = self.dispatcher.claims
        if not claims.take(request.key):
            self._claimed_elsewhere.append(request)
            return
        try:
            if claims.answered_elsewhere(request.key):
                self.counters.already_answered += 1
                return
            await RequestTask(self, request).ask()
        finally:
            claims.release(request.key)
