"""Where leases come from: the interface, the one rule all stores follow, and a store in memory."""

from hashlib import sha256
from typing import Protocol

from mavi_tasks.errors import StoppedError
from mavi_tasks.limits import Clock


class StoreError(StoppedError):
    """The store does not answer, or does not know the limit; nothing may be sent."""


class RateLeaseStore(Protocol):
    """Leases of named limits."""

    async def lease(self, limit: str, spacing_s: float) -> float:
        """Take the next lease; returns the seconds until it starts, 0.0 for now. Raises StoreError.

        The one after it starts `spacing_s` later at the earliest, whichever worker takes it.
        """
        ...

    async def close(self) -> None:
        """Close the connection to the store."""
        ...


def reserve(free_at_s: float, now_s: float, spacing_s: float) -> tuple[float, float]:
    """(start of the lease, when the limit is free for the one after it): first come, first served."""
    start_s = max(free_at_s, now_s)
    return start_s, start_s + spacing_s


def limit_name(gateway: str, api_key: str | None, model: str) -> str:
    """One model's limit of one account, as the store names it; the key cannot be found from it."""
    digest = sha256("\0".join((gateway, api_key or "", model)).encode()).hexdigest()
    return f"mavi-{digest[:24]}"


class MemoryRateLeases:
    """Leases for the limiters of one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._free_at_s: dict[str, float] = {}

    async def lease(self, limit: str, spacing_s: float) -> float:
        now_s = self._clock.now()
        start_s, self._free_at_s[limit] = reserve(self._free_at_s.get(limit, 0.0), now_s, spacing_s)
        return start_s - now_s

    async def close(self) -> None:
        """Nothing is held open."""
