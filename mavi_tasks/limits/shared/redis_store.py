"""Leases and dollars in Redis or Valkey, for any number of machines (extra `redis`).

The lease is one Lua script, timed by the server's clock. A server that forgets (no persistence, restarted)
loses at most the second that is leased ahead.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import redis.asyncio as redis
from redis.exceptions import RedisError, WatchError

from mavi_tasks.limits.shared.budget_ledger import BudgetGrant, State, exchange, opened
from mavi_tasks.limits.shared.rate_leases import StoreError

T = TypeVar("T")
TIMEOUT_S: Final = 5.0
KEPT_MS: Final = 3_600_000
LEDGER_KEPT_S: Final = 30 * 86_400

LEASE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local start = math.max(now, tonumber(redis.call('GET', KEYS[1]) or '0'))
redis.call('SET', KEYS[1], string.format('%.0f', start + ARGV[1]), 'PX', ARGV[2])
return start - now
"""


def connect(url: str) -> Any:
    """A client that fails after a few seconds when the server does not answer."""
    return redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)


async def _reply(answer: Awaitable[T]) -> T:
    try:
        return await answer
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreError(f"Redis: {type(error).__name__}: {error}") from error


class RedisRateLeases:
    """Leases of one Redis database."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._script = client.register_script(LEASE)

    async def lease(self, limit: str, spacing_s: float) -> float:
        spacing_us = round(spacing_s * 1e6)
        return int(await _reply(self._script(keys=[f"mavi:{limit}"], args=[spacing_us, KEPT_MS]))) / 1e6

    async def close(self) -> None:
        await self._client.aclose()


class RedisLedger:
    """The dollars of one run in Redis; changed only when no other worker changed them meanwhile."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self._key = client, f"mavi:ledger:{run_id}"

    async def open(self, left_pico: int) -> None:
        await _reply(self._client.set(self._key, json.dumps(opened(left_pico).values()), ex=LEDGER_KEPT_S))

    async def exchange(
        self, holder: str, *, back_pico: int, least_pico: int, parts: int, last: bool, number: int
    ) -> BudgetGrant:
        return await _reply(
            self._change(
                lambda state: exchange(state, holder, back_pico, least_pico, parts, number, last=last)
            )
        )

    async def reclaim(self, holder: str, spent_pico: int) -> None:
        await _reply(self._change(lambda state: state.reclaim(holder, spent_pico)))

    async def holders(self) -> list[str]:
        return list(_state(await _reply(self._client.get(self._key))).open)

    async def close(self) -> None:
        await self._client.aclose()

    async def _change(self, change: Callable[[State], T]) -> T:
        while True:
            async with self._client.pipeline(transaction=True) as pipe:
                await pipe.watch(self._key)
                state = _state(await pipe.get(self._key))
                result = change(state)
                pipe.multi()
                pipe.set(self._key, json.dumps(state.values()), ex=LEDGER_KEPT_S)
                try:
                    await pipe.execute()
                except WatchError:
                    continue
                return result


def _state(raw: bytes | None) -> State:
    if raw is None:
        raise StoreError("Redis: the run's budget is not there any more")  # never a budget without bound
    return State.of(json.loads(raw))
