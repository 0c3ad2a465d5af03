"""What all requests that one process has in flight share: gateway, journal, locks, budget, media, clock."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mavi_tasks.common.money import pico
from mavi_tasks.execution.stop_signal import StopSignal
from mavi_tasks.gateway.client import Gateway
from mavi_tasks.limits.budget import Budget
from mavi_tasks.media import MediaLoader
from mavi_tasks.planning.context import RunContext
from mavi_tasks.storage.journal import Journal
from mavi_tasks.storage.request_locks import RequestLocks

GATEWAY_TIMEOUT_S = 180.0


class Dispatcher:
    """The open resources of one process. One event loop; not thread safe."""

    def __init__(
        self,
        context: RunContext,
        stop: StopSignal,
        *,
        gateway: Gateway,
        journal: Journal,
        locks: RequestLocks,
        budget: Budget,
        loader: MediaLoader,
    ) -> None:
        self.gateway, self.journal, self.locks, self.budget = gateway, journal, locks, budget
        self.loader, self.stop = loader, stop
        self.retry, self.repair = context.job.retry, context.job.repair
        self.on_truncated = context.job.on_truncated
        most = context.job.max_cost_per_item_usd
        self.max_item_cost_pico = None if most is None else pico(most)
        self.clock, self.wall_us = context.clock, context.wall_us
        self.reading = asyncio.Lock()  # one answer at a time in a thread: more would starve the loop
        self._stopped = asyncio.Event()
        self._numbers = itertools.count(1)
        stop.on_stop(self._on_stop)

    def _on_stop(self, _: str) -> None:
        self._stopped.set()
        self.loader.stop()
        self.budget.stop()

    @property
    def stopping(self) -> bool:
        return self.stop.reason is not None

    def attempt_id(self) -> str:
        return f"{self.journal.writer}-{next(self._numbers)}"

    async def sleep(self, seconds: float) -> None:
        """Sleep, but wake when the run stops."""
        sleeper = asyncio.ensure_future(self.clock.sleep(seconds))
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait({sleeper, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            stopped.cancel()


@asynccontextmanager
async def open_dispatcher(
    context: RunContext, stop: StopSignal, *, journal: Journal, locks: RequestLocks, budget: Budget
) -> AsyncIterator[Dispatcher]:
    """Open the gateway and the media loader; closes the journal at the end of the block."""
    endpoint = context.endpoint
    assert endpoint.base_url is not None
    timeout_s = context.job.gateway.timeout_s or GATEWAY_TIMEOUT_S
    try:
        async with (
            Gateway(endpoint.base_url, endpoint.api_key, read_timeout_s=timeout_s) as gateway,
            MediaLoader(context.options) as loader,
        ):
            yield Dispatcher(
                context, stop, gateway=gateway, journal=journal, locks=locks, budget=budget, loader=loader
            )
    finally:
        journal.close()
