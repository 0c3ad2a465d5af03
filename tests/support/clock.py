"""Virtual time for asyncio: a test of ten minutes runs in milliseconds, the same way each time."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any


class _Jump(selectors.SelectSelector):
    """Waits for nothing: moves the clock on by what the loop would have slept."""

    def __init__(self, clock: "FakeClock") -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("deadlock: every task waits and no timer is set")
        self._clock.seconds += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: "FakeClock") -> None:
        super().__init__(_Jump(clock))
        self._fake = clock

    def time(self) -> float:
        return self._fake.seconds


class FakeClock:
    """A `Clock` whose seconds pass only while every task waits. Timers of asyncio itself obey it too."""

    def __init__(self, seconds: float = 1000.0) -> None:
        self.seconds = seconds

    def now(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def run(self, main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Run `main()` to its end on a loop of this clock's time."""
        with asyncio.Runner(loop_factory=lambda: _Loop(self)) as runner:
            return runner.run(main())
