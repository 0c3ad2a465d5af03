"""Leases from a Prefect server's global concurrency limits, for workers that have no other store in common.

The limit is used as a queue, not as a gate: its slots are tenths of a millisecond of leased time, they
decay in real time, and the slots still occupied after ours are how long the lease ends from now. So nothing
is ever denied, which matters: each denial resets the decay and loses what had decayed (measured: a 10/s limit
leased slot by slot gives 8.5). Two requests a lease, none of which emits an event.

Limits are created when they are missing, and checked in every answer: Prefect itself treats a missing or a
paused limit as no limit.
"""

from typing import Any, Final

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL

from mavi_tasks.errors import InputError
from mavi_tasks.limits.shared.rate_leases import StoreError

SLOTS_PER_S: Final = 10_000
MAX_AHEAD_S: Final = 3600


class PrefectRateLeases:
    """Leases of the Prefect API that is configured."""

    def __init__(self) -> None:
        """Raises InputError without a configured API: each process would start a server of its own."""
        if not PREFECT_API_URL.value():
            raise InputError("shared_limits: prefect needs a Prefect server: set PREFECT_API_URL")
        self._client: PrefectClient | None = None
        self._known: set[str] = set()

    async def lease(self, limit: str, spacing_s: float) -> float:
        try:
            return await self._lease(limit, max(1, round(spacing_s * SLOTS_PER_S)))
        except (PrefectException, httpx.HTTPError, OSError, RuntimeError) as error:
            raise StoreError(f"Prefect: {type(error).__name__}: {error}") from error

    async def close(self) -> None:
        if self._client is not None:
            await self._client.__aexit__(None, None, None)
            self._client = None

    async def _lease(self, limit: str, slots: int) -> float:
        client = await self._connected()
        if limit not in self._known:
            await client.upsert_global_concurrency_limit_by_name(
                limit, SLOTS_PER_S * MAX_AHEAD_S, float(SLOTS_PER_S)
            )
            self._known.add(limit)
        taken: Any = (await client.increment_concurrency_slots([limit], slots, "rate_limit")).json()
        if [one["name"] for one in taken] != [limit]:
            self._known.discard(limit)  # deleted meanwhile
            raise StoreError(f"Prefect: the global concurrency limit {limit} is gone")
        queue = await client.read_global_concurrency_limit_by_name(limit)
        if not queue.active:
            raise StoreError(f"Prefect: the global concurrency limit {limit} is paused")
        return max(0, int(queue.active_slots) - slots) / SLOTS_PER_S

    async def _connected(self) -> PrefectClient:
        if self._client is None:
            client = get_client()
            self._client = await client.__aenter__()
        return self._client
