"""Time as an argument: everything that waits takes a `Clock`, so that tests own the time."""

import asyncio
import time
from datetime import UTC, date, datetime
from typing import Protocol


class Clock(Protocol):
    """Seconds that only go forward, and a way to wait for them."""

    def now(self) -> float:
        """Seconds since some fixed instant; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return once `now()` has grown by about `seconds`."""
        ...


class MonotonicClock:
    """The real clock."""

    __slots__ = ()

    now = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        """Wait on the running event loop."""
        await asyncio.sleep(seconds)


def utc_today() -> date:
    """Today's date in UTC: prices are in force by it."""
    return datetime.now(UTC).date()
