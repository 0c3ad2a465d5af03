"""A few threads for blocking work; a thread that gets stuck does not stop the program."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


class ThreadPool:
    """Runs blocking calls, at most `threads` at a time, each in a daemon thread of its own.

    A thread starts in some 50 us, next to nothing beside reading a file; and unlike a pool's thread, one that
    is stuck inside a decoder neither blocks a slot for ever nor keeps the process from ending.
    """

    def __init__(self, threads: int) -> None:
        self._slots = asyncio.Semaphore(threads)

    async def run(self, call: Callable[..., Result], *args: object, timeout_s: float) -> Result:
        """The result of the call, or what it raises. Raises TimeoutError when it takes too long."""
        loop = asyncio.get_running_loop()
        async with self._slots:
            outcome: asyncio.Future[Result] = loop.create_future()
            threading.Thread(
                target=_work, args=(loop, outcome, call, args), name="media", daemon=True
            ).start()
            return await asyncio.wait_for(outcome, timeout_s)


def _work(
    loop: asyncio.AbstractEventLoop,
    outcome: asyncio.Future[Any],
    call: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    settle: Callable[[Any], None] = outcome.set_result
    try:
        value: object = call(*args)
    except BaseException as error:  # handed to whoever waits
        settle, value = outcome.set_exception, error
    try:
        loop.call_soon_threadsafe(lambda: None if outcome.done() else settle(value))
    except RuntimeError:
        return  # the loop is closed: nobody waits any more


class ByteBudget:
    """A semaphore that counts bytes, first come first served. A request for more than all gets all."""

    def __init__(self, total_bytes: int) -> None:
        self._total = self._free = total_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, count: int) -> int:
        """Wait until `count` bytes are free and take them; returns how many were taken."""
        count = min(count, self._total)
        if not self._waiting and count <= self._free:
            self._free -= count
            return count
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, ready))
        try:
            await ready
        except asyncio.CancelledError:
            if ready.done() and not ready.cancelled():
                self.give_back(count)  # granted at the very moment of the cancellation
            else:
                self._wake()
            raise
        return count

    def give_back(self, count: int) -> None:
        """Frees what `take` took."""
        self._free += count
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            count, ready = self._waiting[0]
            if ready.cancelled():
                self._waiting.popleft()
                continue
            if count > self._free:
                return
            self._waiting.popleft()
            self._free -= count
            ready.set_result(None)
