"""When one model may be sent a request: hold, circuit, rate and slot; first come, first served."""

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from mavi_tasks.common.clock import Clock
from mavi_tasks.limits.adaptive import Adaptive
from mavi_tasks.limits.circuit_breaker import Circuit, CircuitSettings, State
from mavi_tasks.limits.events import ChangeLog, LimitChange, ModelDown, Permit, SendOutcome
from mavi_tasks.limits.gcra import HEADROOM, SLOW_CATCH_UP_S, TokenBucket, catch_up_s
from mavi_tasks.limits.limit_search import AdaptiveSettings
from mavi_tasks.limits.wait_queue import FOREVER, LEAST_SLEEP_S, WaitQueue

HOLD_S: Final = 1.0  # after a 429 without Retry-After, doubling
HOLD_CAP_S: Final = 32.0
TOGETHER_S: Final = 0.05  # requests are not held back longer than that to be sent together


class RateGate(Protocol):
    """A further limit on the requests of one `ModelLimiter`, for example one that several processes share."""

    def attach(self, limiter: "ModelLimiter") -> None:
        """The gate calls `limiter.serve()` when it lets more through, `limiter.stop()` when it fails."""
        ...

    def wait_s(self, tokens: int, now: float, pause_s: float) -> float:
        """Seconds until this gate lets a request through; `pause_s`: how long none is sent anyway."""
        ...

    def take(self, tokens: int, now: float) -> None:
        """One request with this many tokens is sent."""
        ...

    def refund(self, tokens: int) -> None:
        """So many tokens were not used; below 0: more were used than reserved."""
        ...

    async def close(self) -> None:
        """Release what the gate holds."""
        ...


class ModelLimiter:
    """The right to send to one model, given out no faster than it can take.

    A waiter holds nothing: the slot is taken at the moment of sending. The first in the queue is never
    overtaken, so that a request with many tokens is served too. One event loop, no threads.

    Tokens are reserved at the estimate and settled at `release`: at `used_tokens` when known; back to 0 when
    the model read nothing (throttled, rejected); else the estimate stands. A request counts against requests
    per minute even when throttled, because servers count it.

    `stop()` and a circuit that is down end the limiter: all waiters and all later calls raise `ModelDown` at
    once; requests in flight finish and are released as always.
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
        gate: RateGate | None = None,
    ) -> None:
        """A limit of None is not configured: it is discovered from the replies.

        `burst`: requests the server takes at once; None: as few as timers allow. `gate`: a limit beside
        those of this process.
        """
        self.model = model
        self.requests_per_minute = requests_per_minute
        self.tokens_per_minute = tokens_per_minute
        self.concurrency = concurrency
        self.in_flight = 0
        self.attempts = 0
        self.throttled_count = 0
        self.held_until = 0.0
        self.tokens_reserved = 0
        """Of requests in flight, as estimated."""
        self.tokens_settled = 0
        """Of requests that came back, as charged."""
        self.stopped: str | None = None
        """Why no more is sent, or None."""
        rate_per_s = None if requests_per_minute is None else requests_per_minute * HEADROOM / 60
        self._now = clock.now
        self._adaptive = Adaptive(
            configured_rate_per_s=rate_per_s, configured_concurrency=concurrency, settings=adaptive
        )
        self._burst_s = None if burst is None or rate_per_s is None else (burst - 1) / rate_per_s
        self._tokens = None if tokens_per_minute is None else TokenBucket(tokens_per_minute * HEADROOM)
        self._queue = WaitQueue(clock, wait_s=self._wait_s, grant=self._grant, give_back=self.give_back)
        self._gate = gate
        self._requests: TokenBucket | None = None
        self._pace_per_s: float | None = None
        self._cap = self._adaptive.cap
        self._set_pace(self._adaptive.pace_per_s)
        self._circuit = Circuit(circuit)
        self._next_hold_s = HOLD_S
        self._hold_seq = 0
        self._changes = ChangeLog(model, on_change)
        self._changes.start("concurrency", self._cap)
        self._changes.start("requests_per_minute", self.rate_now)
        if gate is not None:
            gate.attach(self)

    # -- what is shown ---------------------------------------------------------------------------------------

    @property
    def concurrency_now(self) -> int:
        """Requests in flight allowed at present."""
        return self._cap

    @property
    def rate_now(self) -> float | None:
        """Requests per minute allowed at present, configured or discovered; None: no limit is known."""
        rate_per_s = self._adaptive.rate.value
        return None if rate_per_s is None else 60 * rate_per_s

    @property
    def waiting(self) -> int:
        """Callers in the queue."""
        return len(self._queue)

    @property
    def circuit_state(self) -> State:
        """closed, open, probing or down."""
        return self._circuit.state

    @property
    def pausing(self) -> str | None:
        """Why nothing is sent at present, in short; None when requests are sent."""
        if self._circuit.state != "closed":
            return self._circuit.why
        left_s = self.held_until - self._now()
        return f"held for {left_s:.0f} s" if left_s >= 1 else None

    @property
    def history(self) -> deque[LimitChange]:
        """The latest changes, oldest first."""
        return self._changes.history

    # -- before a request ------------------------------------------------------------------------------------

    def try_acquire(self, tokens: int = 0) -> Permit | None:
        """A permit when one is free now and nobody waits, else None. Raises ModelDown."""
        if self.stopped is not None:
            raise ModelDown(self.model, self.stopped)
        if self._queue:
            return None
        now = self._now()
        return None if self._wait_s(tokens, now) else self._grant(tokens, now)

    async def acquire(self, tokens: int = 0) -> Permit:
        """A permit, in the order of the calls. Raises ModelDown when no more is sent to the model."""
        permit = self.try_acquire(tokens)
        return await self._queue.join(tokens) if permit is None else permit

    def stop(self, reason: str) -> None:
        """Send nothing more to this model; every waiter raises ModelDown now. The first reason stays."""
        why = self.stopped = self.stopped or reason
        self._queue.fail(lambda: ModelDown(self.model, why))

    def serve(self) -> None:
        """Let waiting requests go that may go now."""
        if self._queue:
            self._queue.serve()

    async def close(self) -> None:
        """Release what the gate holds."""
        if self._gate is not None:
            await self._gate.close()

    def _wait_s(self, tokens: int, now: float) -> float:
        """Seconds until a request may go; infinite when only a reply can let it go."""
        if self.in_flight >= self._cap:
            self._adaptive.slot_bound = True
            return FOREVER
        pause_s = self.held_until - now if self.held_until > now else 0.0
        if self._circuit.state != "closed":
            pause_s = max(pause_s, self._circuit.wait_s(now))
        wait_s = pause_s
        if self._tokens is not None:
            wait_s = max(wait_s, self._tokens.wait_s(tokens, now))
        if self._requests is not None:
            paced_s = self._requests.wait_s(1, now)
            if paced_s > wait_s:
                self._adaptive.paced = True
                wait_s = paced_s
        return wait_s if self._gate is None else max(wait_s, self._gate.wait_s(tokens, now, pause_s))

    def _grant(self, tokens: int, now: float) -> Permit:
        self.in_flight += 1
        self.attempts += 1
        self.tokens_reserved += tokens
        if self._tokens is not None:
            self._tokens.take(tokens, now)
        if self._requests is not None:
            self._requests.take(1, now)
        if self._gate is not None:
            self._gate.take(tokens, now)
        self._adaptive.on_sent(now, self.attempts)
        permit = Permit(self.attempts, tokens, now, self.in_flight)
        if self._circuit.state != "closed":
            permit.probe = True
            self._change_circuit(self._circuit.start_probe)
        return permit

    # -- after a request -------------------------------------------------------------------------------------

    def release(
        self,
        permit: Permit,
        outcome: SendOutcome,
        *,
        used_tokens: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """Report a request's outcome; frees its slot, settles its tokens, adjusts the limits."""
        self._close(permit)
        self._settle(permit, outcome, used_tokens)
        now = self._now()
        AFTER[outcome](self, permit, now, retry_after_s)
        if self._adaptive.moved:
            self._apply_limits(now)
        if self._circuit.state == "down" and self.stopped is None:
            self.stop(self._circuit.why)
        self.serve()

    def give_back(self, permit: Permit) -> None:
        """Undo a permit whose request was never sent.

        Its place in the request rate comes back only while no later request was sent: later on it would let
        two requests go at once.
        """
        self._close(permit)
        self.tokens_reserved -= permit.tokens
        self._refund(permit.tokens)
        if self._requests is not None and permit.seq == self.attempts:
            self._requests.refund(1)
        if permit.probe:
            self._change_circuit(self._circuit.drop_probe)
        self._adaptive.on_other(permit)
        self._queue.serve()

    def _close(self, permit: Permit) -> None:
        if permit.released:
            raise ValueError(f"{self.model}: permit {permit.seq} was released before")
        permit.released = True
        self.in_flight -= 1

    def _settle(self, permit: Permit, outcome: SendOutcome, used_tokens: int | None) -> None:
        if used_tokens is None:
            used_tokens = 0 if outcome in ("throttled", "rejected") else permit.tokens
        self.tokens_reserved -= permit.tokens
        self.tokens_settled += used_tokens
        if used_tokens != permit.tokens:
            self._refund(permit.tokens - used_tokens)

    def _refund(self, tokens: int) -> None:
        if self._tokens is not None:
            self._tokens.refund(tokens)
        if self._gate is not None:
            self._gate.refund(tokens)

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
        asks_pause = retry_after_s is not None
        how = self._adaptive.on_throttled(permit, now, self.in_flight, asks_pause=asks_pause)
        again = permit.seq > self._hold_seq and (how == "most" or (asks_pause and how != "late"))
        own_s = self._next_hold_s
        if retry_after_s is not None:
            # A Retry-After that was kept and led to the next 429 is not believed twice.
            kept = again and own_s > HOLD_S
            self._hold(now, max(retry_after_s, own_s) if kept else retry_after_s, "throttled, Retry-After")
        elif again:
            self._hold(now, own_s, "most requests are throttled")
        if again:
            self._next_hold_s = min(2 * own_s, HOLD_CAP_S)
            self._hold_seq = self.attempts
        if permit.probe:
            self._change_circuit(self._circuit.drop_probe)

    def _hold(self, now: float, hold_s: float, why: str) -> None:
        until = now + max(0.0, hold_s)
        if until > self.held_until:
            old = max(0.0, self.held_until - now)
            self.held_until = until
            self._adaptive.on_hold(now, until)
            if self._requests is not None:
                self._requests.restart(until)
            self._changes.add(now, "hold", old, hold_s, why)

    def _succeed(self) -> None:
        circuit = self._circuit
        if circuit.failures_in_a_row or circuit.state != "closed":
            self._change_circuit(circuit.succeed)

    # -- limits that adapt ----------------------------------------------------------------------------------

    def _apply_limits(self, now: float) -> None:
        adaptive = self._adaptive
        adaptive.moved = False
        self._cap = adaptive.cap
        pace_per_s = adaptive.pace_per_s
        if pace_per_s != self._pace_per_s:
            self._set_pace(pace_per_s)
        self._changes.update("concurrency", self._cap, now)
        self._changes.update("requests_per_minute", self.rate_now, now)

    def _set_pace(self, pace_per_s: float | None) -> None:
        """Space the requests; None: as fast as slots come free."""
        self._pace_per_s = pace_per_s
        if pace_per_s is None:
            self._requests = None
            return
        per_minute = 60 * pace_per_s
        late_s = self._burst_s
        if late_s is None:
            # A limit that is searched needs no time caught up, and its server may take no two at once.
            late_s = SLOW_CATCH_UP_S if self.requests_per_minute is None else catch_up_s(per_minute)
        # What may be caught up may also be waited for together: fewer wake-ups, each costs CPU.
        # A gate lets through what is caught up nowhere.
        together_s = min(TOGETHER_S, 0.6 * late_s) if late_s > SLOW_CATCH_UP_S and self._gate is None else 0.0
        self._queue.least_sleep_s = max(LEAST_SLEEP_S, together_s)
        if self._requests is None:
            self._requests = TokenBucket(per_minute, catch_up_s=late_s)
        else:
            self._requests.set_rate(per_minute, catch_up_s=late_s)

    def _change_circuit(self, change: Callable[[], None]) -> None:
        old = self._circuit.state
        change()
        if self._circuit.state != old:
            self._changes.add(self._now(), "circuit", old, self._circuit.state, self._circuit.why)


AFTER: dict[SendOutcome, Callable[[ModelLimiter, Permit, float, float | None], None]] = {
    "ok": ModelLimiter._after_ok,
    "rejected": ModelLimiter._after_rejected,
    "server_error": ModelLimiter._after_error,
    "unknown": ModelLimiter._after_error,
    "throttled": ModelLimiter._after_throttled,
}
