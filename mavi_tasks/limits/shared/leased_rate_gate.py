"""A rate gate for limits that several processes share: it lets requests through on leased time only."""

import asyncio
from typing import Final

from mavi_tasks.common.clock import Clock
from mavi_tasks.limits.gcra import CATCH_UP_S, HEADROOM, SLOW_CATCH_UP_S, TokenBucket
from mavi_tasks.limits.limiter import ModelLimiter
from mavi_tasks.limits.shared.lease_clock import LEASE_S, LeaseClock
from mavi_tasks.limits.shared.rate_leases import RateLeaseStore

OUTAGE_S: Final = 60.0  # a store that is unavailable for longer ends the model's run
RETRY_S: Final = 0.5
SOON_S: Final = 1e-6


class LeasedRateGate:
    """Requests and tokens per minute of a whole account, for one of its workers.

    In any window of w seconds all workers together send at most `rate * w`, one request for each worker and
    what 30 ms of lost time let them catch up. A worker leases only while a request waits, so what one does
    not use the others get. Concurrency is not shared: give each worker its part.

    Limits that are not configured are discovered by the limiter, for its process alone.
    """

    def __init__(
        self,
        store: RateLeaseStore,
        limit: str,
        *,
        workers: int,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        clock: Clock,
    ) -> None:
        """`limit`: the limit's name in the store, the same for all workers (`limit_name`)."""
        self._clock, self._store, self._limit = clock, store, limit
        # A lease is worth one request or more: then the leases' even spacing is that of slow requests.
        lease_s = max(LEASE_S, workers * 60 / requests_per_minute if requests_per_minute else 0.0)
        self._spacing_s = lease_s / workers
        self._ahead_s = lease_s / 2  # take the next lease that long before the last one starts
        self._leased = LeaseClock(self._spacing_s, lease_s)
        self._requests = self._bucket(requests_per_minute)
        self._tokens = self._bucket(tokens_per_minute)
        self._limiter: ModelLimiter | None = None
        self._leasing: asyncio.Task[None] | None = None

    def _bucket(self, per_minute: float | None) -> TokenBucket | None:
        """Fills in leased time, and starts empty: workers that begin together must not add up."""
        if per_minute is None:
            return None
        fraction = self._leased.fraction
        slow = 60 / per_minute / fraction > CATCH_UP_S  # as of this worker's own requests
        catch_up_s = fraction * (SLOW_CATCH_UP_S if slow else CATCH_UP_S)
        bucket = TokenBucket(per_minute * HEADROOM, catch_up_s=catch_up_s)
        bucket.take(1, 0.0)
        return bucket

    def attach(self, limiter: ModelLimiter) -> None:
        self._limiter = limiter

    async def close(self) -> None:
        """Take no more leases."""
        if self._leasing is not None:
            self._leasing.cancel()
            await asyncio.gather(self._leasing, return_exceptions=True)

    def wait_s(self, tokens: int, now: float, pause_s: float) -> float:
        if pause_s > self._ahead_s:
            return 0.0  # the limiter waits for something else: no time is leased meanwhile
        self._start_leasing(now)
        leased_s = self._leased.leased_by(now)
        more_s = max(
            self._requests.wait_s(1, leased_s) if self._requests is not None else 0.0,
            self._tokens.wait_s(tokens, leased_s) if self._tokens is not None else 0.0,
        )
        if not more_s:
            return 0.0
        free_at_s = self._leased.when(leased_s + more_s, now)
        if self._leasing is None:  # wake in time to take the next lease
            free_at_s = min(free_at_s, self._leased.last_start_s - self._ahead_s)
        return max(free_at_s - now, SOON_S)

    def take(self, tokens: int, now: float) -> None:
        leased_s = self._leased.leased_by(now)
        if self._requests is not None:
            self._requests.take(1, leased_s)
        if self._tokens is not None:
            self._tokens.take(tokens, leased_s)

    def refund(self, tokens: int) -> None:
        if self._tokens is not None:
            self._tokens.refund(tokens)

    def _start_leasing(self, now: float) -> None:
        if self._leasing is None and self._leased.last_start_s - now <= self._ahead_s:
            self._leasing = asyncio.get_running_loop().create_task(self._lease())

    async def _lease(self) -> None:
        """Take one lease; a store that is unavailable is called again, for `OUTAGE_S` at most."""
        assert self._limiter is not None
        began = self._clock.now()
        while self._limiter.stopped is None:
            try:
                wait_s = await self._store.lease(self._limit, self._spacing_s)
            except Exception as error:  # a StoreError, or whatever a proxy's answer made of its client
                if self._clock.now() - began >= OUTAGE_S:
                    self._limiter.stop(f"the store of its shared limit is out: {error}")
                    break
                await self._clock.sleep(RETRY_S)
                continue
            self._leased.add(self._clock.now() + wait_s)
            break
        self._leasing = None
        self._limiter.serve()
