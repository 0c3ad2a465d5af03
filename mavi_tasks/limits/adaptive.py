"""Limits that are not configured: found from replies alone.

Two controls, because servers limit two things. The rate (paced evenly) meets requests per minute: a cap on
concurrency alone runs into a rate limit again and again. The concurrency cap meets "N at a time" servers and
slow ones. Too many 429s blame what was never so high without them: slots when more were in flight than ever
before, else the rate; both when both were new. A few scattered 429s blame nothing (refusals.py).

Start: 8 requests at a time, spaced a little, doubling each round trip until too many are refused, or until
latency grows without throughput. Then both controls go on like BIC-TCP: half-way back to the level that was
too much, a rest just below it, and now and then a careful step beyond, in case the server allows more than
it did; the rests double while such steps fail.
"""

import copy
import math
from typing import Final

from mavi_tasks.limits.bursts import Burst, Round, Test
from mavi_tasks.limits.events import Permit, Throttled
from mavi_tasks.limits.limit_search import CONCURRENCY, RATE, AdaptiveSettings, LimitSearch
from mavi_tasks.limits.measured_rates import ProvenRate, Sending, SentTimes
from mavi_tasks.limits.pauses import Pauses
from mavi_tasks.limits.refusals import Refusals

RESTS_PER_HOLD: Final = 15
CLOSED_AFTER_S: Final = 0.9  # the shortest hold, less what timers are early
LEAST_PER_S: Final = 1 / 60
CONFIGURED_CUT: Final = 0.9
REST_REQUESTS: Final = 500
"""A step beyond costs a few refusals: they must stay few among the requests until the next one."""
GROW_FREELY_EVERY_S: Final = 0.5  # while no level is known to be too much
LEAST_TEST: Final = 0.1
"""Of the rate before."""


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
        least_per_s = min(LEAST_PER_S, configured_rate_per_s or 1)
        self.rate = LimitSearch(RATE, configured_rate_per_s, configured_rate_per_s, least=least_per_s)
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
        self._sent = SentTimes()
        self.refusals = Refusals()
        self._test: Test | None = None
        self._proven = ProvenRate()
        self._pauses = Pauses()
        self._before_pauses = (self.rate, self.concurrency, self.slow_start)
        self._burst: Burst | None = None
        self._cut_seq, self._cut_at = 0, 0.0
        self._resumed_at: float | None = None
        self._latency_s: float | None = None
        self._base_latency_s = float("inf")
        self._best_throughput = 0.0
        self._proven_slots = self._round_slots = 0
        self._rate_proofs = self._slot_proofs = 0
        self._round = Round()
        self._grow_rate_at, self._grow_rate_seq = 0.0, 0

    @property
    def cap(self) -> int:
        """Requests in flight at a time."""
        cap = int(self.concurrency.value or 1)
        return cap if self._test is None else min(cap, self._test.cap or cap)

    @property
    def pace_per_s(self) -> float | None:
        """Requests per second, evenly sent; None is as fast as slots come free.

        Slots that come free together must not become a burst that a small bucket refuses: a quarter
        faster than the slots turn over keeps sends apart and binds nothing.
        """
        pace_per_s = self._untested_pace_per_s
        if self._test is None:
            return pace_per_s
        return self._test.pace_per_s if pace_per_s is None else min(pace_per_s, self._test.pace_per_s)

    @property
    def _untested_pace_per_s(self) -> float | None:
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
        self._sent.add(now)

    def on_hold(self, now: float, until: float) -> None:
        """No request is sent before `until`."""
        self._resumed_at = max(self._resumed_at or until, until)
        self._proven.restart(until)
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
        self._proven.on_answer(now, self.refusals.scattered)
        self._judge(permit, now)
        if self.refusals.check_is_due(permit.seq):
            self.refusals.start_check(self.last_seq)
            self._start_test(permit, now, 0, gentle_per_s=None)
        current = self._round
        current.answers += 1
        current.latency_s += latency_s
        if permit.seq > self._cut_seq:  # before it, some that were in flight may have been refused
            current.slots = max(current.slots, permit.in_flight)
        if self.slow_start and self.full and not current.errors and not self.refusals.suspicious:
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

    def on_throttled(self, permit: Permit, now: float, in_flight: int, *, asks_pause: bool) -> Throttled:
        """A 429 while `in_flight` others are in flight. asks_pause: it came with a Retry-After."""
        if permit.seq <= self._cut_seq:
            self._late_reply(permit, throttled=True)
            return "late"
        self._proven.on_refusal()
        self._round.refused = True
        most = False
        if asks_pause:
            self._on_pause(permit, now, in_flight)
        else:
            most = self._on_refusal(permit, now, in_flight)
        if not in_flight:
            self._finish_burst()
        return "most" if most else "scattered"

    def _on_refusal(self, permit: Permit, now: float, in_flight: int) -> bool:
        """Whether most requests are refused of late; starts a test when too many are."""
        refusals = self.refusals
        proven_per_s = self._proven.per_s
        alarm = refusals.add(permit.seq, self._proven.estimate_per_s(now), proven=proven_per_s is not None)
        self._judge(permit, now)
        most = refusals.most_refused(permit.seq)
        if (alarm or most) and not refusals.testing:
            sending = self._sending_rate(permit).mean
            gentle = proven_per_s is not None and 0.5 * sending < proven_per_s < 2 * sending
            refusals.start_test(self.last_seq, *refusals.run(permit.seq), gentle=gentle)
            self._start_test(permit, now, in_flight, gentle_per_s=proven_per_s if gentle else None)
        return most

    def _on_pause(self, permit: Permit, now: float, in_flight: int) -> None:
        """The server asks for a pause: cut the limits, unless pauses do not depend on them."""
        if self._pauses.scattered(now):
            return
        if self._pauses.is_first(now):
            self._before_pauses = copy.copy(self.rate), copy.copy(self.concurrency), self.slow_start
        if self._pauses.add(now, self._sending_rate(permit).mean):
            self.rate, self.concurrency, self.slow_start = self._before_pauses
            self._burst = None
            self.moved = True
            return
        self.refusals.end_test(self.last_seq)
        self._note_burst(permit, now, in_flight, excess=1.0)
        self._end_test(now, limit=True)

    def _note_burst(self, permit: Permit, now: float, in_flight: int, excess: float) -> Burst:
        """Remember what was going on; requests sent until now say nothing about what comes next."""
        unconfigured = not self._slots_configured and not self._rate_configured
        closed = self._is_closed(permit)
        first = self.rate.value is None
        sending = self._sending_rate(permit)
        slots = unconfigured and not closed and self._slots_explain(permit)
        burst = self._burst = Burst(
            permit=permit,
            sending=sending,
            at=now,
            last_seq=self.last_seq,
            in_flight=in_flight,
            sent=self._sent.since(permit.at),
            cap=self.cap,
            first=first,
            closed=closed,
            slots_blamed=slots,
            rate_blamed=not closed and (first or not slots or sending.mean > 1.1 * self._best_throughput),
            sustained_per_s=self._sustained_rate(permit, sending.mean, excess),
        )
        self._cut_seq, self._cut_at = self.last_seq, now
        self._round = Round(last_seq=self.last_seq, began_at=now)
        self._round_slots = 0
        self.slot_bound = self.paced = False
        return burst

    # -- the experiment: is a limit to blame? ----------------------------------------------------------------

    def _start_test(self, permit: Permit, now: float, in_flight: int, *, gentle_per_s: float | None) -> None:
        """Send less: a little below `gentle_per_s`, a rate that is proven, else as much as the share demands.

        So little that refusals stop if the rate causes them, even when their share is misjudged somewhat.
        """
        burst = self._note_burst(permit, now, in_flight, self.refusals.excess())
        part = max(LEAST_TEST, 0.95 * (1 - self.refusals.excess(deviations=1)))
        if gentle_per_s is not None:
            part = 0.95 * min(1.0, gentle_per_s / burst.sending.mean)
        cap = None
        if burst.slots_blamed:
            proven = self._proven_slots if self._proven_slots < burst.cap else 1
            cap = max(1, int(part * burst.cap), proven)
        self._test = Test(part * burst.sending.mean, cap)
        self.moved = True

    def _judge(self, permit: Permit, now: float) -> None:
        """End the test once its replies show the cause."""
        if self._test is None or permit.seq <= self._cut_seq:
            return
        verdict = self.refusals.verdict(permit.seq)
        if verdict == "deeper":
            self._cut_seq = self.last_seq
            self._test.deepen(max(LEAST_TEST, 0.95 * (1 - self.refusals.excess(deviations=1))))
            self.moved = True
        elif verdict != "open":
            self._end_test(now, limit=verdict == "limit")

    def _end_test(self, now: float, *, limit: bool) -> None:
        burst, test = self._burst, self._test
        self._test = None
        self.moved = True
        if burst is None:
            return
        if limit:
            if test is not None and not burst.closed:
                burst.sustained_per_s = self._tested_rate(burst, test)
            self._cut(burst, now)
            return
        self._burst = self.rate.ceiling = self.concurrency.ceiling = None
        self.slow_start = not self._slots_configured and not self._rate_configured

    def _tested_rate(self, burst: Burst, test: Test) -> float:
        """A rate at which no more are refused than anyway."""
        if self.refusals.stage:
            return test.pace_per_s
        known = max(burst.sustained_per_s, test.pace_per_s, 0.97 * (self._proven.per_s or 0.0))
        return min(0.97 * burst.sending.mean, known)

    def _is_closed(self, permit: Permit) -> bool:
        """True: not even the first request after a pause was accepted, so no limit here is to blame."""
        accepted = permit.seq - self._cut_seq - 1
        return bool(self._cut_seq) and not accepted and permit.at - self._cut_at >= CLOSED_AFTER_S

    def _slots_explain(self, permit: Permit) -> bool:
        """True: more were in flight than ever were without a 429, and this server seems to count them."""
        return permit.in_flight > self._proven_slots and self._rate_proofs <= self._slot_proofs

    def _late_reply(self, permit: Permit, *, throttled: bool) -> None:
        """A reply to a request sent before the last cut; the last of them closes the burst."""
        burst = self._burst
        if burst is None or permit.seq > burst.last_seq:
            return
        burst.add_reply(permit, throttled=throttled)
        if burst.complete:
            self._finish_burst()

    # -- cut -------------------------------------------------------------------------------------------------

    def _cut(self, burst: Burst, now: float) -> None:
        """Cut what is to blame, by what is known; replies still to come refine it."""
        burst.cut = True
        slots, rate = burst.slots_blamed, burst.rate_blamed
        self._slot_proofs += slots and not rate
        if rate and not slots and burst.permit.in_flight < self._proven_slots:
            # Fewer in flight than were accepted before: no sign of slots. Let them grow again.
            self._rate_proofs += 1
            self.concurrency.ceiling = None
        if slots:
            self.slow_start = self.slow_start and burst.first
            self.concurrency.cut(max(0.8 * burst.cap, self._proven_slots), ceiling=burst.cap, now=now)
        if rate:
            self.rate.cut(burst.sustained_per_s, ceiling=burst.sending.most, now=now)
            self.rate.rest_until(now + REST_REQUESTS / max(burst.sustained_per_s, LEAST_PER_S))
        self._grow_rate_at, self._grow_rate_seq = now, self.last_seq
        if burst.complete:
            self._finish_burst()

    def _sending_rate(self, permit: Permit) -> Sending:
        """How fast requests were sent just before `permit`."""
        going_s = permit.at - (self._resumed_at or 0.0)
        window_s = max(0.05, min(self._latency_s or 1.0, going_s)) if going_s > 0 else 1.0
        return self._sent.rate(permit.at, window_s, self.rate.value, self.pace_per_s)

    def _sustained_rate(self, permit: Permit, sending: float, excess: float) -> float:
        """Between what was accepted since the last burst and what was being sent.

        The server's bucket was empty at the last burst and is empty now: it filled at least as fast as
        requests were accepted over the whole time (low), at most as fast as without the hold (high).
        """
        if excess < 1.0:
            return 0.97 * sending * (1 - excess)
        if self._rate_configured:  # a group of requests, or another user of the account, was too much
            return CONFIGURED_CUT * (self.rate.value or sending)
        accepted = permit.seq - self._cut_seq - 1
        if not self._cut_seq or not accepted:
            return 0.8 * sending if accepted else 0.5 * sending
        low = accepted / max(permit.at - self._cut_at, 1e-3)
        high = min(sending, accepted / max(permit.at - (self._resumed_at or 0.0), 1e-3))
        return min(0.97 * sending, max(0.5 * sending, math.sqrt(low * high)))

    def _finish_burst(self) -> None:
        """All replies from before are in: what a full server accepted is its limit."""
        burst = self._burst
        if burst is None or not burst.cut:
            return
        self._burst = None
        self.moved = True
        measured = burst.accepted_per_s(self._latency_s or 1.0)
        if burst.rate_blamed and not self._rate_configured and measured is not None:
            self.rate.refine(0.96 * measured, ceiling=1.02 * measured)
        if burst.slots_blamed:
            held = max(1, burst.in_flight - burst.throttled_replies, self._proven_slots)
            self._proven_slots = held
            # While the rate may as well be to blame there is room above; the next 429 shows it.
            self.concurrency.refine(held, ceiling=held + 1 + (max(2, held // 4) if burst.rate_blamed else 0))

    # -- growth ----------------------------------------------------------------------------------------------

    def _finish_round(self, ended: Round, now: float) -> None:
        self.moved = True
        healthy = not ended.errors and not self.refusals.testing
        latency_s = ended.latency_s / ended.answers
        throughput = ended.answers / max(now - ended.began_at, 1e-9)
        # A full server queues instead of refusing: latency grows, throughput does not.
        queueing = latency_s > 1.5 * self._base_latency_s and throughput < 1.1 * self._best_throughput
        self._base_latency_s = min(1.01 * self._base_latency_s, latency_s)
        # A round late: by then the 429s to its requests, if any, are in.
        if not ended.refused:
            self._proven_slots = max(self._proven_slots, self._round_slots)
        self._round_slots = 0 if ended.refused else ended.slots
        if ended.last_seq:
            self._best_throughput = max(0.99 * self._best_throughput, throughput)
        if queueing:
            self.slow_start = False
        elif healthy and self.full and not self.slow_start:
            self.concurrency.grow(now)
        if healthy and self.paced and self._pace_is_rate and not self.refusals.suspicious:
            self._grow_rate(now)
        self.slot_bound = False
        self._round = Round(last_seq=self.last_seq, began_at=now)

    def _grow_rate(self, now: float) -> None:
        settings = self.settings
        every_s = settings.grow_rate_every_s if self.rate.ceiling is not None else GROW_FREELY_EVERY_S
        due = now - self._grow_rate_at >= every_s
        if due and self.last_seq - self._grow_rate_seq >= settings.grow_rate_every_requests:
            self.rate.grow(now)
            self._grow_rate_at, self._grow_rate_seq = now, self.last_seq
            self.paced = False
