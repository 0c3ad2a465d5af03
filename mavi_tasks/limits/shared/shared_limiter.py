"""A limiter whose told limits are shared with other processes: it sends on leased time only."""

import asyncio
from collections.abc import Callable
from typing import Final

from mavi_tasks.limits import Clock, LimitChange, ModelLimiter, Outcome, Permit
from mavi_tasks.limits.gcra import CATCH_UP_S, HEADROOM, SLOW_CATCH_UP_S, TokenBucket
from mavi_tasks.limits.shared.lease_clock import LEASE_S, LeaseClock
from mavi_tasks.limits.shared.rate_leases import RateLeaseStore
from mavi_tasks.limits.wait_queue import FOREVER

OUTAGE_S: Final = 60.0  # a store that is out for longer ends the model's run
RETRY_S: Final = 0.5
SOON_S: Final = 1e-6


class SharedModelLimiter(ModelLimiter):
    """Like `ModelLimiter`; requests and tokens per minute told to it are the whole account's.

    In any window of w seconds all workers together send at most `rate * w`, one request for each worker and
    what 30 ms of lost time let them catch up. A worker leases only while somebody waits to send, so what one
    does not use the others get. Concurrency is not shared: give each worker its part.

    What nobody told is measured here, for this process alone.
    """

    def __init__(
        self,
        model: str,
        *,
        permits: RateLeaseStore,
        limit: str,
        workers: int,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        concurrency: int | None,
        clock: Clock,
        on_change: Callable[[LimitChange], None] | None = None,
    ) -> None:
        super().__init__(
            model,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            concurrency=concurrency,
            clock=clock,
            on_change=on_change,
        )
        self._clock, self._permits, self._limit = clock, permits, limit
        # A lease is worth one request or more: then the leases' even spacing is that of slow requests.
        lease_s = max(LEASE_S, workers * 60 / requests_per_minute if requests_per_minute else 0.0)
        self._spacing_s = lease_s / workers
        self._ahead_s = lease_s / 2  # ask for the next lease that long before the last one starts
        self._leased = LeaseClock(self._spacing_s, lease_s)
        self._shared_requests = self._pacer(requests_per_minute)
        self._shared_tokens = self._pacer(tokens_per_minute)
        self._asking: asyncio.Task[None] | None = None

    def _pacer(self, per_minute: float | None) -> TokenBucket | None:
        """Paces in leased time, from an empty bucket: workers that begin together must not add up."""
        if per_minute is None:
            return None
        share = self._leased.share
        slow = 60 / per_minute / share > CATCH_UP_S  # as of this worker's own sends
        pacer = TokenBucket(
            per_minute * HEADROOM, catch_up_s=share * (SLOW_CATCH_UP_S if slow else CATCH_UP_S)
        )
        pacer.take(1, 0.0)
        return pacer

    async def close(self) -> None:
        """Take no more leases."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    def _wait_s(self, tokens: int, now: float) -> float:
        wait_s = super()._wait_s(tokens, now)
        idle = wait_s == FOREVER or self.held_until - now > self._ahead_s or self.circuit_state != "closed"
        if idle and wait_s > self._ahead_s:
            return wait_s  # a slot, a hold or the circuit is awaited: no time is leased meanwhile
        self._ask(now)
        had_s = self._leased.at(now)
        more_s = max(
            self._shared_requests.wait_s(1, had_s) if self._shared_requests is not None else 0.0,
            self._shared_tokens.wait_s(tokens, had_s) if self._shared_tokens is not None else 0.0,
        )
        if not more_s:
            return wait_s
        at_s = self._leased.when(had_s + more_s, now)
        if self._asking is None:  # wake in time to ask for the next lease
            at_s = min(at_s, self._leased.last_start_s - self._ahead_s)
        return max(wait_s, at_s - now, SOON_S)

    def _grant(self, tokens: int, now: float) -> Permit:
        had_s = self._leased.at(now)
        if self._shared_requests is not None:
            self._shared_requests.take(1, had_s)
        if self._shared_tokens is not None:
            self._shared_tokens.take(tokens, had_s)
        return super()._grant(tokens, now)

    def give_back(self, permit: Permit) -> None:
        if self._shared_tokens is not None and not permit.released:
            self._shared_tokens.refund(permit.tokens)
        super().give_back(permit)

    def _settle(self, permit: Permit, outcome: Outcome, used_tokens: int | None) -> None:
        settled = self.tokens_settled
        super()._settle(permit, outcome, used_tokens)
        if self._shared_tokens is not None:
            self._shared_tokens.refund(permit.tokens - (self.tokens_settled - settled))

    # -- leases

    def _ask(self, now: float) -> None:
        if self._asking is None and self._leased.last_start_s - now <= self._ahead_s:
            self._asking = asyncio.get_running_loop().create_task(self._lease())

    async def _lease(self) -> None:
        """Take one lease; a store that is out is asked again until it is given up."""
        began = self._clock.now()
        while self.stopped is None:
            try:
                wait_s = await self._permits.lease(self._limit, self._spacing_s)
            except Exception as error:  # a StoreError, or whatever a proxy's answer made of its client
                if self._clock.now() - began >= OUTAGE_S:
                    self.stop(f"the store of its shared limit is out: {error}")
                    break
                await self._clock.sleep(RETRY_S)
                continue
            self._leased.add(self._clock.now() + wait_s)
            break
        self._asking = None
        if self._line:
            self._line.serve()
