"""A queue of coroutines that each wait for a permit: first come, first served, one timer for all."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from mavi_tasks.common.clock import Clock
from mavi_tasks.limits.events import Permit

FOREVER: Final = float("inf")
LEAST_SLEEP_S: Final = 0.001  # timers are no finer; what is lost is caught up


class WaitQueue:
    """Waiters in order. The first is never overtaken; one that leaves holds nothing."""

    __slots__ = (
        "_clock",
        "_give_back",
        "_grant",
        "_timer",
        "_wait_s",
        "_waiters",
        "_wake_at",
        "least_sleep_s",
    )

    def __init__(
        self,
        clock: Clock,
        *,
        wait_s: Callable[[int, float], float],
        grant: Callable[[int, float], Permit],
        give_back: Callable[[Permit], None],
    ) -> None:
        """`wait_s(tokens, now)`: seconds until a permit is free, infinite when only `serve` may find one."""
        self.least_sleep_s = LEAST_SLEEP_S
        self._clock = clock
        self._wait_s = wait_s
        self._grant = grant
        self._give_back = give_back
        self._waiters: deque[tuple[asyncio.Future[Permit], int]] = deque()
        self._timer: asyncio.Task[None] | None = None
        self._wake_at = FOREVER

    def __bool__(self) -> bool:
        return bool(self._waiters)

    def __len__(self) -> int:
        return sum(not waiter.done() for waiter, _ in self._waiters)

    async def join(self, tokens: int) -> Permit:
        """A permit, when all earlier callers have one."""
        waiter: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        self._waiters.append((waiter, tokens))
        if len(self._waiters) == 1:
            self.serve()
        try:
            return await waiter
        except asyncio.CancelledError:
            self._leave(waiter)
            raise

    def _leave(self, waiter: asyncio.Future[Permit]) -> None:
        """A waiter was cancelled, perhaps just after it was served or failed."""
        if not waiter.done() or waiter.cancelled():
            waiter.cancel()
            self.serve()
        elif waiter.exception() is None:
            self._give_back(waiter.result())

    def serve(self) -> None:
        """Give permits in order while they are free; wake again when the next one is."""
        now = self._clock.now()
        waiters = self._waiters
        while waiters:
            waiter, tokens = waiters[0]
            if waiter.done():  # cancelled while it waited
                waiters.popleft()
                continue
            wait_s = self._wait_s(tokens, now)
            if wait_s:
                self._set_timer(now, wait_s)
                return
            waiters.popleft()
            waiter.set_result(self._grant(tokens, now))
        self._cancel_timer()

    def fail(self, error: Callable[[], Exception]) -> None:
        """All waiters raise `error()`."""
        self._cancel_timer()
        waiters, self._waiters = self._waiters, deque()
        for waiter, _ in waiters:
            if not waiter.done():
                waiter.set_exception(error())

    def _set_timer(self, now: float, wait_s: float) -> None:
        if wait_s == FOREVER or (self._timer is not None and self._wake_at <= now + wait_s):
            return  # a reply, or the timer that is set already, serves again
        self._cancel_timer()
        wait_s = max(wait_s, self.least_sleep_s)
        self._wake_at = now + wait_s
        self._timer = asyncio.get_running_loop().create_task(self._wake(wait_s))

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _wake(self, wait_s: float) -> None:
        await self._clock.sleep(wait_s)
        self._timer = None
        self.serve()
