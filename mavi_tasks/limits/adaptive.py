"""Limits that are not configured: found from replies alone, one cut per burst of 429s.

Two controls, because servers limit two things. The rate (paced evenly) meets requests per minute: a cap on
concurrency alone runs into a rate limit again and again. The concurrency cap meets "N at a time" servers and
slow ones. A 429 blames what was never so high without one: slots when more were in flight than ever before,
else the rate; both when both were new.

Start: 8 requests at a time, spaced a little, doubling each round trip until the first 429, or until latency
grows without throughput. Then both controls go on like BIC-TCP: half-way back to the level that was
throttled, a long rest just below it, and now and then a careful step beyond, in case the server allows more
than it did; the rests double while such steps fail.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

from mavi_tasks.limits.events import Permit
from mavi_tasks.limits.limit_search import CONCURRENCY, RATE, LimitSearch

SAMPLE: Final = 20  # requests, the fewest that show a rate
FAST_PER_S: Final = 1000.0
RESTS_PER_HOLD: Final = 15
CLOSED_AFTER_S: Final = 0.9  # the shortest hold, less what timers are early
LEAST_PER_S: Final = 1 / 60
CONFIGURED_CUT: Final = 0.9


@dataclass(frozen=True, slots=True)
class AdaptiveSettings:
    """Where the search starts and how far it goes."""

    start_concurrency: int = 8
    start_rate_per_s: float = 40.0
    """Until the first reply shows the round trip."""
    max_concurrency: int = 512
    grow_rate_every_s: float = 2.0
    """A rate a little too high shows only once the server's burst is used up, so each level is held."""
    grow_rate_every_requests: int = 10


@dataclass(frozen=True, slots=True)
class _Sending:
    """Requests per second: over the last round trip, and at its fastest."""

    mean: float
    most: float


@dataclass(slots=True)
class _Burst:
    """429s to requests sent before the cut that the first of them caused."""

    first_sent_at: float
    cut_at: float
    last_seq: int
    in_flight: int
    """Requests in flight at the cut."""
    sent: int
    """Requests sent since the one throttled first, it included."""
    first: bool
    """The model was not throttled before."""
    slots_blamed: bool
    rate_blamed: bool
    replies: int = 0
    """Of `in_flight`."""
    throttled_replies: int = 0
    throttled: int = 1
    """Of `sent`."""


@dataclass(slots=True)
class _Round:
    """Answers to the requests sent within one round trip."""

    last_seq: int = 0
    began_at: float = 0.0
    answers: int = 0
    errors: int = 0
    latency_s: float = 0.0
    """Summed."""
    slots: int = 0
    """The most in flight."""


class Adaptive:
    """Concurrency and rate of one model. Pure: the caller brings the time, obeys `cap` and `pace_per_s`."""

    def __init__(
        self,
        *,
        configured_rate_per_s: float | None = None,
        configured_concurrency: int | None = None,
        settings: AdaptiveSettings | None = None,
    ) -> None:
        self.settings = settings or AdaptiveSettings()
        most = configured_concurrency or self.settings.max_concurrency
        # A configured rate already spreads the requests, so that only a server with slots needs a cap at all.
        unconfigured = configured_concurrency is None and configured_rate_per_s is None
        start = min(most, self.settings.start_concurrency) if unconfigured else most
        self.concurrency = LimitSearch(CONCURRENCY, start, most)
        self.rate = LimitSearch(
            RATE,
            configured_rate_per_s,
            configured_rate_per_s,
            least=min(LEAST_PER_S, configured_rate_per_s or 1),
        )
        self.slow_start = unconfigured
        self.slot_bound = False
        """Set by the caller: a request had to wait for a slot."""
        self.paced = False
        """Set by the caller: a request had to wait for the pace."""
        self.moved = False
        """`cap` or `pace_per_s` may differ from before; the caller clears it."""
        self.last_seq = 0
        self._slots_configured = configured_concurrency is not None
        self._rate_configured = configured_rate_per_s is not None
        self._sent_at: deque[float] = deque(maxlen=2048)
        self._burst: _Burst | None = None
        self._cut_seq = 0
        self._cut_at = 0.0
        self._resumed_at: float | None = None
        self._latency_s: float | None = None
        self._base_latency_s = float("inf")
        self._best_throughput = 0.0
        self._proven_slots = 0
        self._rate_proofs = 0
        self._slot_proofs = 0
        self._round_slots = 0
        self._round = _Round()
        self._grow_rate_at = 0.0
        self._grow_rate_seq = 0

    @property
    def cap(self) -> int:
        """Requests in flight at a time."""
        return int(self.concurrency.value or 1)

    @property
    def pace_per_s(self) -> float | None:
        """Requests per second, evenly sent; None is as fast as slots come free.

        Slots that come free together must not become a burst that a small bucket refuses: a quarter
        faster than the slots turn over keeps sends apart and binds nothing.
        """
        rate_per_s = self.rate.value
        if self._slots_configured:
            return rate_per_s
        if self._latency_s is None:
            return rate_per_s or self.settings.start_rate_per_s
        turnover = 1.25 * self.cap / max(self._latency_s, 1e-3)
        return turnover if rate_per_s is None else min(rate_per_s, turnover)

    @property
    def _pace_is_rate(self) -> bool:
        return self.rate.value is not None and self.rate.value == self.pace_per_s

    @property
    def full(self) -> bool:
        """More slots would have been used."""
        return self.slot_bound or (self.paced and not self._pace_is_rate)

    def on_sent(self, now: float, seq: int) -> None:
        """A request is sent."""
        if self._resumed_at is None:
            self._resumed_at = now
        self.last_seq = seq
        self._sent_at.append(now)

    def on_hold(self, now: float, until: float) -> None:
        """No request is sent before `until`."""
        self._resumed_at = max(self._resumed_at or until, until)
        if self._cut_at == now:
            # What a careful step beyond may cost must stay small against the time in which it is gained back.
            self.rate.rest_until(until + RESTS_PER_HOLD * (until - now))
            self.concurrency.rest_until(until + RESTS_PER_HOLD * (until - now))

    # -- replies ---------------------------------------------------------------------------------------------

    def on_ok(self, permit: Permit, now: float) -> None:
        """An answer: measures the round trip; grows the limits once a round."""
        latency_s = now - permit.at
        self._latency_s = latency_s if self._latency_s is None else 0.9 * self._latency_s + 0.1 * latency_s
        self._late_reply(permit, throttled=False)
        current = self._round
        current.answers += 1
        current.latency_s += latency_s
        if permit.seq > self._cut_seq:  # before it, some that were in flight may have been refused
            current.slots = max(current.slots, permit.in_flight)
        if self.slow_start and self.full and not current.errors:
            self.moved = True
            self.concurrency.set(self.cap + 1)  # each answer makes room for two: doubles per round trip
        if permit.seq > current.last_seq:
            self._finish_round(current, now)

    def on_error(self, permit: Permit) -> None:
        """A 5xx or no reply: grow no further in this round; nothing shrinks."""
        self._late_reply(permit, throttled=False)
        self._round.errors += 1

    def on_other(self, permit: Permit) -> None:
        """A reply that says nothing about limits."""
        self._late_reply(permit, throttled=False)

    def on_throttled(self, permit: Permit, now: float, in_flight: int) -> bool:
        """A 429 while `in_flight` others are in flight. True: first of its burst, and the limits were cut."""
        if permit.seq <= self._cut_seq:
            self._late_reply(permit, throttled=True)
            return False
        first = self.rate.value is None
        unconfigured = not self._slots_configured and not self._rate_configured
        closed = self._is_closed(permit)
        sending = self._sending_rate(permit)
        slots = unconfigured and not closed and self._slots_explain(permit)
        rate = not closed and (first or not slots or sending.mean > 1.1 * self._best_throughput)
        self._attribute_blame(permit, slots=slots, rate=rate)
        self._burst = burst = _Burst(
            first_sent_at=permit.at,
            cut_at=now,
            last_seq=self.last_seq,
            in_flight=in_flight,
            sent=sum(1 for at in self._sent_at if at >= permit.at),
            first=first,
            slots_blamed=slots,
            rate_blamed=rate,
        )
        self._cut(burst, permit, sending)
        if not in_flight:
            self._finish_burst(burst)
        return True

    def _is_closed(self, permit: Permit) -> bool:
        """True: not even the first request after a pause was accepted, so no limit here is to blame."""
        accepted = permit.seq - self._cut_seq - 1
        return bool(self._cut_seq) and not accepted and permit.at - self._cut_at >= CLOSED_AFTER_S

    def _slots_explain(self, permit: Permit) -> bool:
        """True: more were in flight than ever were without a 429, and this server seems to count them."""
        return permit.in_flight > self._proven_slots and self._rate_proofs <= self._slot_proofs

    def _attribute_blame(self, permit: Permit, *, slots: bool, rate: bool) -> None:
        """A 429 with fewer in flight than were accepted before is no sign of slots: let them grow again."""
        self._slot_proofs += slots and not rate
        if rate and not slots and permit.in_flight < self._proven_slots:
            self._rate_proofs += 1
            self.concurrency.ceiling = None

    def _late_reply(self, permit: Permit, *, throttled: bool) -> None:
        """A reply to a request sent before the last cut; the last of them closes the burst."""
        burst = self._burst
        if burst is None or permit.seq > burst.last_seq:
            return
        burst.replies += 1
        burst.throttled_replies += throttled
        burst.throttled += throttled and permit.at >= burst.first_sent_at
        if burst.replies >= burst.in_flight:
            self._finish_burst(burst)

    # -- cut -------------------------------------------------------------------------------------------------

    def _cut(self, burst: _Burst, permit: Permit, sending: "_Sending") -> None:
        """Cut at once by what is known; the replies to come refine it."""
        now = burst.cut_at
        self.moved = True
        self._round = _Round(last_seq=burst.last_seq, began_at=now)
        self._round_slots = 0
        self.slot_bound = self.paced = False
        if burst.slots_blamed:
            self.slow_start = self.slow_start and burst.first
            self.concurrency.cut(max(0.8 * self.cap, self._proven_slots), ceiling=self.cap, now=now)
        if burst.rate_blamed:
            self.rate.cut(self._sustained_rate(permit, sending.mean), ceiling=sending.most, now=now)
        self._cut_seq, self._cut_at = burst.last_seq, now
        self._grow_rate_at, self._grow_rate_seq = now, burst.last_seq

    def _sending_rate(self, permit: Permit) -> "_Sending":
        """How fast requests were sent just before `permit`."""
        going_s = permit.at - (self._resumed_at or 0.0)
        window_s = max(0.05, min(self._latency_s or 1.0, going_s)) if going_s > 0 else 1.0
        before = [at for at in self._sent_at if at <= permit.at]
        mean = sum(1 for at in before if at > permit.at - window_s) / window_s
        if self.rate.value is not None:
            return _Sending(min(mean, self.rate.value), self.rate.value)
        pace = self.pace_per_s or FAST_PER_S
        if len(before) < SAMPLE:
            return _Sending(min(mean, pace), pace)
        span_s = before[-1] - before[-SAMPLE]
        return _Sending(min(mean, pace), max(mean, min(pace, (SAMPLE - 1) / max(span_s, 1e-3))))

    def _sustained_rate(self, permit: Permit, sending: float) -> float:
        """Between what was accepted since the last burst and what was being sent.

        The server's bucket was empty at the last burst and is empty now: it filled at least as fast as
        requests were accepted over the whole time (low), at most as fast as without the hold (high).
        """
        if self._rate_configured:  # a group of requests, or another user of the account, was too much
            return CONFIGURED_CUT * (self.rate.value or sending)
        accepted = permit.seq - self._cut_seq - 1
        if not self._cut_seq or not accepted:
            return 0.8 * sending if accepted else 0.5 * sending
        low = accepted / max(permit.at - self._cut_at, 1e-3)
        high = min(sending, accepted / max(permit.at - (self._resumed_at or 0.0), 1e-3))
        return min(0.97 * sending, max(0.5 * sending, math.sqrt(low * high)))

    def _finish_burst(self, burst: _Burst) -> None:
        """All replies from before the cut are in: what a full server accepted is its limit."""
        self._burst = None
        self.moved = True
        window_s = burst.cut_at - burst.first_sent_at
        accepted = burst.sent - burst.throttled
        if (
            burst.rate_blamed
            and not self._rate_configured
            and accepted >= 10
            and window_s >= 0.25 * (self._latency_s or 1.0)
        ):
            measured = accepted / window_s
            self.rate.refine(0.96 * measured, ceiling=1.02 * measured)
        if burst.slots_blamed:
            held = max(1, burst.in_flight - burst.throttled_replies, self._proven_slots)
            self._proven_slots = held
            # While the rate may as well be to blame there is room above; the next 429 shows it.
            self.concurrency.refine(held, ceiling=held + 1 + (max(2, held // 4) if burst.rate_blamed else 0))

    # -- growth ----------------------------------------------------------------------------------------------

    def _finish_round(self, ended: _Round, now: float) -> None:
        self.moved = True
        healthy = not ended.errors
        latency_s = ended.latency_s / ended.answers
        throughput = ended.answers / max(now - ended.began_at, 1e-9)
        # A full server queues instead of refusing: latency grows, throughput does not.
        queueing = latency_s > 1.5 * self._base_latency_s and throughput < 1.1 * self._best_throughput
        self._base_latency_s = min(1.01 * self._base_latency_s, latency_s)
        # A round late: by then the 429s to its requests, if any, are in.
        self._proven_slots = max(self._proven_slots, self._round_slots)
        self._round_slots = ended.slots
        if ended.last_seq:
            self._best_throughput = max(0.99 * self._best_throughput, throughput)
        if queueing:
            self.slow_start = False
        elif healthy and self.full and not self.slow_start:
            self.concurrency.grow(now)
        if healthy and self.paced and self._pace_is_rate:
            self._grow_rate(now)
        self.slot_bound = False
        self._round = _Round(last_seq=self.last_seq, began_at=now)

    def _grow_rate(self, now: float) -> None:
        settings = self.settings
        due = now - self._grow_rate_at >= settings.grow_rate_every_s
        if due and self.last_seq - self._grow_rate_seq >= settings.grow_rate_every_requests:
            self.rate.grow(now)
            self._grow_rate_at, self._grow_rate_seq = now, self.last_seq
            self.paced = False
