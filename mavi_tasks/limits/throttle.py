"""One model's gate: hold, circuit, pace, slot; first come, first served; what nobody told is learned."""

import asyncio
from collections import deque
from collections.abc import Callable

from mavi_tasks.limits.adaptive import Adaptive, AdaptiveSettings
from mavi_tasks.limits.circuit import Circuit, CircuitSettings
from mavi_tasks.limits.clock import Clock
from mavi_tasks.limits.events import LimitChange, ModelDown, Outcome, Permit, What
from mavi_tasks.limits.pacing import CATCH_UP_S, HEADROOM, MINUTE_PS, PICO, Pacer

FOREVER = float("inf")
LEAST_SLEEP_S = 0.001  # timers are no finer; what is lost is caught up
HOLD_S, HOLD_CAP_S = 1.0, 32.0  # after a 429 without Retry-After, doubling


class Throttle:
    """The right to send to one model, given out at the pace it stands.

    A waiter holds nothing: the slot is taken at the moment of sending. The first in line is never overtaken, so a
    request with many tokens is served too. One event loop, no threads.

    Tokens are reserved at the estimate and settled at `release`: at `used_tokens` when known; back to 0 when the
    model read nothing (throttled, rejected); else the estimate stands. A request counts against requests per minute
    even when throttled, because servers count it.

    `stop()` and a circuit that gave up end the throttle: all waiters and all later calls raise `ModelDown` at once;
    tries in flight finish and are released as always.
    """

    def __init__(
        self,
        model: str,
        *,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        concurrency: int | None,
        clock: Clock,
        on_change: Callable[[LimitChange], None] | None = None,
        burst: int | None = None,
        adaptive: AdaptiveSettings | None = None,
        circuit: CircuitSettings | None = None,
    ) -> None:
        """`burst`: requests the server is known to take at once; None catches up at most 30 ms of lost time."""
        self.model = model
        self.requests_per_minute = requests_per_minute
        self.tokens_per_minute = tokens_per_minute
        self.concurrency = concurrency
        self.history: deque[LimitChange] = deque(maxlen=256)
        self.in_flight = 0
        self.throttled_count = 0
        self.tries = 0
        self.held_until = 0.0
        self.tokens_reserved = 0
        """Tokens of tries in flight, as estimated."""
        self.tokens_settled = 0
        """Tokens of tries that came back, as charged."""
        self.stopped: str | None = None
        """Why no more is sent, or None."""
        self._clock = clock
        self._now = clock.now
        self._on_change = on_change
        self._told_rate = None if requests_per_minute is None else requests_per_minute * HEADROOM
        self._catch_up_s = _catch_up_s(burst, self._told_rate)
        self._request_pacer = (
            None if self._told_rate is None else Pacer(self._told_rate, catch_up_s=self._catch_up_s)
        )
        self._token_pacer = None if tokens_per_minute is None else Pacer(tokens_per_minute * HEADROOM)
        self._adaptive = Adaptive(
            told_rate_per_s=None if self._told_rate is None else self._told_rate / 60,
            told_concurrency=concurrency,
            settings=adaptive,
        )
        self._cap = self._adaptive.cap
        self._told_cap = self._cap
        self._told_rate_shown = self._adaptive.rate_per_s
        self._circuit = Circuit(circuit)
        self._waiters: deque[tuple[asyncio.Future[Permit], int]] = deque()
        self._timer: asyncio.Task[None] | None = None
        self._timer_at = FOREVER
        self._next_hold_s = HOLD_S
        self._hold_seq = 0

    # -- what is shown ---------------------------------------------------------------------------------------

    @property
    def concurrency_now(self) -> int:
        """Tries in flight allowed at present."""
        return self._cap

    @property
    def rate_now(self) -> float | None:
        """Requests per minute paced at present; None is not paced."""
        return None if self._request_pacer is None else self._request_pacer.per_minute

    @property
    def waiting(self) -> int:
        """Callers in line."""
        return sum(not waiter.done() for waiter, _ in self._waiters)

    @property
    def circuit_state(self) -> str:
        """closed, open, probing or down."""
        return self._circuit.state

    # -- before a try ----------------------------------------------------------------------------------------

    def try_acquire(self, tokens: int = 0) -> Permit | None:
        """A permit when one is free this instant and nobody is in line, else None. Raises ModelDown."""
        if self.stopped is not None:
            raise ModelDown(self.model, self.stopped)
        if self._waiters:
            return None
        now = self._now()
        return None if self._wait_s(tokens, now) else self._grant(tokens, now)

    async def acquire(self, tokens: int = 0) -> Permit:
        """A permit, in the order of asking. Raises ModelDown when the model is asked no more."""
        permit = self.try_acquire(tokens)
        if permit is not None:
            return permit
        waiter: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        self._waiters.append((waiter, tokens))
        self._serve()
        try:
            return await waiter
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise

    def _withdraw(self, waiter: asyncio.Future[Permit]) -> None:
        """A waiter was cancelled; the permit it may just have got goes back."""
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            self.give_back(waiter.result())
            return
        waiter.cancel()
        self._serve()

    def _wait_s(self, tokens: int, now: float) -> float:
        """Seconds until a try may go; infinite when only a reply can let it go."""
        if self.in_flight >= self._cap:
            self._adaptive.slot_bound = True
            return FOREVER
        wait_s = self.held_until - now if self.held_until > now else 0.0
        if self._circuit.state != "closed":
            wait_s = max(wait_s, self._circuit.wait_s(now))
        if self._token_pacer is not None:
            wait_s = max(wait_s, self._token_pacer.wait_s(tokens, now))
        if self._request_pacer is not None:
            paced_s = self._request_pacer.wait_s(1, now)
            if paced_s > wait_s:
                self._adaptive.rate_bound = True
                return paced_s
        return wait_s

    def _grant(self, tokens: int, now: float) -> Permit:
        self.in_flight += 1
        self.tries += 1
        self.tokens_reserved += tokens
        if self._token_pacer is not None:
            self._token_pacer.take(tokens, now)
        if self._request_pacer is not None:
            self._request_pacer.take(1, now)
        self._adaptive.on_sent(now, self.tries)
        permit = Permit(self.tries, tokens, now, self.in_flight)
        if self._circuit.state != "closed":
            permit.probe = True
            self._change_circuit(self._circuit.start_probe)
        return permit

    # -- after a try -----------------------------------------------------------------------------------------

    def release(
        self,
        permit: Permit,
        outcome: Outcome,
        *,
        used_tokens: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """Say what a try came to; frees its slot, settles its tokens, moves the limits."""
        self._close(permit)
        self._settle(permit, outcome, used_tokens)
        now = self._now()
        AFTER[outcome](self, permit, now, retry_after_s)
        self._apply_limits(now)
        if self._circuit.state == "down" and self.stopped is None:
            self.stop(self._circuit.why)
        if self._waiters:
            self._serve()

    def give_back(self, permit: Permit) -> None:
        """Undo a permit whose try was never sent.

        Its place in the request pace comes back only while no later try has gone out: later on it would let two
        tries go at once.
        """
        self._close(permit)
        self.tokens_reserved -= permit.tokens
        if self._token_pacer is not None:
            self._token_pacer.refund(permit.tokens)
        if self._request_pacer is not None and permit.seq == self.tries:
            self._request_pacer.refund(1)
        if permit.probe:
            self._change_circuit(self._circuit.drop_probe)
        self._adaptive.on_other(permit)
        self._serve()

    def _close(self, permit: Permit) -> None:
        if permit.released:
            raise ValueError(f"{self.model}: permit {permit.seq} was released before")
        permit.released = True
        self.in_flight -= 1

    def _settle(self, permit: Permit, outcome: Outcome, used_tokens: int | None) -> None:
        if used_tokens is None:
            used_tokens = 0 if outcome in ("throttled", "rejected") else permit.tokens
        self.tokens_reserved -= permit.tokens
        self.tokens_settled += used_tokens
        if self._token_pacer is not None and used_tokens != permit.tokens:
            self._token_pacer.refund(permit.tokens - used_tokens)

    def _after_ok(self, permit: Permit, now: float, _retry_after_s: float | None) -> None:
        self._adaptive.on_ok(permit, now)
        if permit.seq > self._hold_seq:
            self._next_hold_s = HOLD_S
        self._succeed()

    def _after_rejected(self, permit: Permit, _now: float, _retry_after_s: float | None) -> None:
        self._adaptive.on_other(permit)
        self._succeed()

    def _after_error(self, permit: Permit, now: float, retry_after_s: float | None) -> None:
        self._adaptive.on_error(permit)
        if retry_after_s is not None:
            self._hold(now, retry_after_s, "the server asked for a pause")
        self._change_circuit(lambda: self._circuit.fail(now, probe=permit.probe))

    def _after_throttled(self, permit: Permit, now: float, retry_after_s: float | None) -> None:
        self.throttled_count += 1
        first = self._adaptive.on_throttled(permit, now, self.in_flight)
        if retry_after_s is not None:
            self._hold(now, retry_after_s, "throttled, Retry-After")
        elif first:
            self._hold(now, self._next_hold_s, "throttled")
            self._next_hold_s = min(2 * self._next_hold_s, HOLD_CAP_S)
        if first:
            self._hold_seq = self.tries
        if permit.probe:
            self._change_circuit(self._circuit.drop_probe)

    def _hold(self, now: float, hold_s: float, why: str) -> None:
        until = now + max(0.0, hold_s)
        if until > self.held_until:
            old = max(0.0, self.held_until - now)
            self.held_until = until
            self._adaptive.on_hold(until)
            self._tell(now, "hold", old, hold_s, why)

    def _succeed(self) -> None:
        circuit = self._circuit
        if circuit.failures_in_a_row or circuit.state != "closed":
            self._change_circuit(circuit.succeed)

    # -- limits that move ------------------------------------------------------------------------------------

    def _apply_limits(self, now: float) -> None:
        adaptive = self._adaptive
        self._cap = adaptive.cap
        rate_per_s = adaptive.rate_per_s
        if rate_per_s is not None and rate_per_s != self._told_rate_shown:
            self._set_rate(rate_per_s, now)
        if abs(self._cap - self._told_cap) >= max(1, 0.1 * self._told_cap):
            self._tell(
                now, "concurrency", self._told_cap, self._cap, self._why_moved(self._cap < self._told_cap)
            )
            self._told_cap = self._cap

    def _set_rate(self, rate_per_s: float, now: float) -> None:
        old = self.rate_now
        if self._request_pacer is None:
            self._request_pacer = Pacer(60 * rate_per_s, catch_up_s=self._catch_up_s)
        else:
            self._request_pacer.set_rate(60 * rate_per_s)
        self._told_rate_shown = rate_per_s
        cut = old is None or 60 * rate_per_s < old
        self._tell(now, "requests_per_minute", old, 60 * rate_per_s, self._why_moved(cut))

    @staticmethod
    def _why_moved(cut: bool) -> str:
        return "throttled" if cut else "no 429 of late"

    def _change_circuit(self, change: Callable[[], None]) -> None:
        old = self._circuit.state
        change()
        if self._circuit.state != old:
            self._tell(self._now(), "circuit", old, self._circuit.state, self._circuit.why)

    def _tell(
        self, now: float, what: What, old: float | str | None, new: float | str | None, why: str
    ) -> None:
        change = LimitChange(now, self.model, what, old, new, why)
        self.history.append(change)
        if self._on_change is not None:
            self._on_change(change)

    # -- the line --------------------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """Ask this model no more; every waiter raises ModelDown now. The first reason stays."""
        if self.stopped is None:
            self.stopped = reason
        self._disarm()
        while self._waiters:
            waiter, _ = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(ModelDown(self.model, self.stopped))

    def _serve(self) -> None:
        """Let go who may go, in order; then wake when the next one may."""
        now = self._now()
        waiters = self._waiters
        while waiters:
            waiter, tokens = waiters[0]
            if waiter.done():  # cancelled while in line
                waiters.popleft()
                continue
            wait_s = self._wait_s(tokens, now)
            if wait_s:
                self._arm(now, wait_s)
                return
            waiters.popleft()
            waiter.set_result(self._grant(tokens, now))
        self._disarm()

    def _arm(self, now: float, wait_s: float) -> None:
        if wait_s == FOREVER or (self._timer is not None and self._timer_at <= now + wait_s):
            return  # a reply, or the timer that is set already, looks again
        self._disarm()
        wait_s = max(wait_s, LEAST_SLEEP_S)
        self._timer_at = now + wait_s
        self._timer = asyncio.get_running_loop().create_task(
            self._wake(wait_s), name=f"throttle {self.model}"
        )

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _wake(self, wait_s: float) -> None:
        await self._clock.sleep(wait_s)
        self._timer = None
        self._serve()


AFTER: dict[Outcome, Callable[[Throttle, Permit, float, float | None], None]] = {
    "ok": Throttle._after_ok,
    "rejected": Throttle._after_rejected,
    "server_error": Throttle._after_error,
    "unknown": Throttle._after_error,
    "throttled": Throttle._after_throttled,
}


def _catch_up_s(burst: int | None, per_minute: float | None) -> float:
    """Seconds of lost time that may be caught up at once, for a server that takes `burst` requests at once."""
    if burst is None or per_minute is None:
        return CATCH_UP_S
    interval_s = -int(-MINUTE_PS // per_minute) / PICO
    return max(0.0, (burst - 1) * interval_s)
