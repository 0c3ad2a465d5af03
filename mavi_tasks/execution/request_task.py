"""One request: wait, send, judge, retry, price, record. The only place that retries.

| decision   | what is done                                                                            |
|------------|-----------------------------------------------------------------------------------------|
| throttled  | 1 s at most, or the model's Retry-After; costs no attempt; final after `deadline_s`     |
| again      | back-off with jitter, at most `attempts`; the same error three times in a row is final  |
| refetch    | once more, with the media inlined where that can be                                     |
| final      | a failed row                                                                            |
| stop_model | a failed row; the model's other requests stay unsent, the other models go on            |
|            | (so ends, too, a Retry-After beyond `deadline_s`)                                       |
| stop_run   | nothing more is sent; the request stays unsent                                          |

The back-off before attempt n + 1 is `base_s * 2**(n - 1)`, at most `cap_s`, times 0.5 to 1.0 at random.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import Final

from mavi_tasks import estimate, labels, limits
from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.common.money import MAX_PICO
from mavi_tasks.errors import MaviError
from mavi_tasks.execution.answer_checks import empty_answer, remarks_on
from mavi_tasks.execution.budget_stop import does_not_fit
from mavi_tasks.execution.dispatcher import Dispatcher
from mavi_tasks.execution.retry_state import RETRIED, RetryState
from mavi_tasks.execution.rows import (
    NO_COST,
    NO_USAGE,
    Attempt,
    RequestResult,
    attempt_row,
    intent_row,
    result_row,
)
from mavi_tasks.gateway.classify import FATAL_HINTS, Action, Reply, RetryDecision
from mavi_tasks.limits import ModelDown, ModelLimiter, Permit
from mavi_tasks.limits.budget import Reservation
from mavi_tasks.media import Delivery, LoaderStopped, Refusal
from mavi_tasks.planning.request import Request
from mavi_tasks.planning.target import ModelTarget
from mavi_tasks.pricing.book import Cost
from mavi_tasks.providers import CHAT_PATH

PASSING_REFUSALS: Final = frozenset({"download_failed", "sign_failed", "media_timeout"})  # another day may do

_LIMITER_OUTCOME: Final[Mapping[Action, limits.SendOutcome]] = {
    "ok": "ok",
    "throttled": "throttled",
    "again": "server_error",
    "refetch": "rejected",
    "final": "rejected",
    "stop_model": "rejected",
    "stop_run": "rejected",
}


class UnsentError(Exception):
    """This request will not be sent in this run; it gets no row."""


class TaskScope:
    """What the requests of one model share; `backing_off` is held open while one of them backs off."""

    __slots__ = ("backing_off", "counters", "dispatcher", "limiter", "target")

    def __init__(
        self,
        dispatcher: Dispatcher,
        target: ModelTarget,
        limiter: ModelLimiter,
        counters: ModelCounters,
        backing_off: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.dispatcher, self.target, self.limiter, self.counters = dispatcher, target, limiter, counters
        self.backing_off = backing_off

    @property
    def stopped(self) -> bool:
        """The run or this model sends nothing more."""
        return self.dispatcher.stopping or self.counters.stopped is not None


class RequestTask:
    """One request on its route to a result."""

    def __init__(self, scope: TaskScope, request: Request) -> None:
        self.scope, self.request = scope, request
        self.dispatcher, self.target, self.limiter, self.counters = (
            scope.dispatcher,
            scope.target,
            scope.limiter,
            scope.counters,
        )
        self.prompt, self.max_input_tokens = request.prompt, request.max_input_tokens
        self.route = scope.target.route(request.media_items)
        self.delivery: Delivery | None = None
        self.refused: Refusal | None = self.route if isinstance(self.route, Refusal) else None
        self.recorded = False
        self.repaired = False
        self.invalid_answer: tuple[Attempt, RequestResult] | None = None  # paid for; kept if its repair fails
        self.retries = RetryState(scope.dispatcher.retry)
        self.last: Attempt | None = None
        self.ready_s = scope.dispatcher.clock.now()
        self.sent_s = self.first_sent_s = self.ready_s
        self.started_us: int | None = None

    async def run(self) -> None:
        """Send it until there is a result, and record that."""
        try:
            await self._run()
        except BaseException:  # stopped before its repair, or unable to record that
            if self.invalid_answer is not None and not self.recorded:
                with suppress(MaviError):  # the first error is the one to be reported
                    self._record_invalid(self.invalid_answer)
            raise

    async def _run(self) -> None:
        try:
            decision: RetryDecision | None = await self._attempt()
            if decision is not None and decision.action in RETRIED:
                decision = await self.retries.run(
                    decision, self._attempt, self._back_off, lambda: self.dispatcher.stopping
                )
        except ModelDown as down:
            self.counters.stopped = self.counters.stopped or str(down)
            decision = self.last.reply.decision if self.last is not None else None
            if decision is None or self.dispatcher.stopping:
                raise UnsentError from down
        if not self.recorded and decision is not None:
            self._finish(decision)

    def _finish(self, decision: RetryDecision) -> None:
        """No answer: a failed (or refused) row, unless it was the run that failed."""
        if decision.action == "stop_run":
            hint = FATAL_HINTS.get(decision.code or "", "")
            self.dispatcher.stop(decision.code or "rejected", f"{decision.message}: {hint}")
            raise UnsentError
        if self.dispatcher.stopping and decision.action in RETRIED and not self.retries.is_final(decision):
            raise UnsentError
        if decision.action == "stop_model":
            self.counters.stopped = f"{self.target.model}: {decision.message}"
            self.limiter.stop(self.counters.stopped)
        if self.invalid_answer is not None:  # its repair failed: what was paid for is still the result
            self._record_invalid(self.invalid_answer)
            return
        if self.refused is not None:
            status = "failed" if self.refused.code in PASSING_REFUSALS else "skipped"
            self._record_result(None, RequestResult(status, self.refused.code, self.refused.reason))
            return
        self._record_result(None, RequestResult("failed", decision.code, decision.message))

    def _record_invalid(self, invalid: tuple[Attempt, RequestResult]) -> None:
        self.last, outcome = invalid
        self._record_result(None, outcome)

    # -- one attempt

    async def _attempt(self) -> RetryDecision:
        if self.dispatcher.stopping:
            raise UnsentError
        if self.last is not None and self.last.reply.decision.action == "refetch":
            self._refetch()
        if isinstance(self.route, Refusal):
            return _REFUSED
        try:
            async with self.dispatcher.loader.delivery(self.route) as delivery:
                if isinstance(delivery, Refusal):
                    self.refused = delivery
                    return _REFUSED
                self.delivery = delivery
                return await self._send(self.target.body(self.prompt, delivery.parts), delivery)
        except LoaderStopped:
            raise UnsentError from None

    def _refetch(self) -> None:
        """The next attempt is the last of its kind, with the media inlined where that can be.

        Not in `_pause_s`: tenacity asks for the pause before it asks whether to stop.
        """
        self.retries.refetched = True
        inlined = self.target.route(self.request.media_items, force_inline=True)
        if not isinstance(inlined, Refusal):
            self.route = inlined

    async def _send(self, body: bytes, delivery: Delivery) -> RetryDecision:
        max_cost = self.target.max_cost_pico(self.max_input_tokens)
        reservation = await self._reserve(max_cost or 0)
        permit: Permit | None = None
        settled = False
        try:
            tokens = self.request.tokens
            permit = self.limiter.try_acquire(tokens) or await self.limiter.acquire(tokens)
            if self.scope.stopped:  # since it was let in, a reply may have ended the run or the model
                raise UnsentError
            attempt_id, started_us = self._intend(max_cost)
            settled = True
            try:
                urls = [part.url for part in delivery.parts if part.url is not None]
                reply = await self.dispatcher.gateway.post(self.path(delivery), body, urls)
            except BaseException:  # cancelled, or a defect: it may have been billed
                reply = Reply(_INTERRUPTED, None, None, self.dispatcher.clock.now() - self.sent_s)
                self._settle(attempt_id, started_us, reply, permit, reservation, max_cost)
                raise
            decision = self._settle(attempt_id, started_us, reply, permit, reservation, max_cost)
            return await self._take_answer() if decision.action == "ok" else decision
        finally:
            if not settled:
                if permit is not None:
                    self.limiter.give_back(permit)
                self.dispatcher.budget.give_back(reservation)

    def path(self, delivery: Delivery) -> str:
        return f"{delivery.endpoint}{CHAT_PATH}"

    async def _reserve(self, max_cost_pico: int) -> Reservation:
        budget, model = self.dispatcher.budget, self.target.model
        reservation = budget.try_reserve(max_cost_pico, model) or await budget.reserve(max_cost_pico, model)
        if reservation is None:
            reason = does_not_fit(self.target, self.request, self.max_input_tokens, budget)
            self.dispatcher.stop("budget", reason)
            raise UnsentError
        return reservation

    def _intend(self, max_cost: int | None) -> tuple[str, int]:
        attempt_id, started_us = self.dispatcher.attempt_id(), self.dispatcher.wall_us()
        self.dispatcher.journal.intend(
            intent_row(attempt_id, self.request.key, self.target.model, started_us, recordable(max_cost))
        )
        self.sent_s = self.dispatcher.clock.now()
        if self.started_us is None:
            self.started_us, self.first_sent_s = started_us, self.sent_s
        self.retries.attempts += 1
        return attempt_id, started_us

    def _settle(
        self,
        attempt_id: str,
        started_us: int,
        reply: Reply,
        permit: Permit,
        reservation: Reservation,
        max_cost: int | None,
    ) -> RetryDecision:
        """Price the attempt, give back what was reserved, and record it; an answer is still to be taken."""
        answer = self.target.family.answer(reply.payload) if reply.payload is not None else None
        usage = answer.usage if answer is not None else NO_USAGE
        price = self.target.price
        billed = usage.input_tokens is not None or usage.output_tokens is not None
        cost = (
            price.cost(usage.input_tokens, usage.output_tokens) if price is not None and billed else NO_COST
        )
        if answer is not None and reply.decision.action == "ok" and not answer.text:
            reply = replace(reply, decision=empty_answer(billed, answer.finish_reason))
        decision = reply.decision
        completed = decision.outcome == "answered" or decision.code == "empty_answer"
        unknown_cost = completed and cost.total_pico is None  # billed, most likely, without a usage
        exposure = recordable(max_cost) if unknown_cost or decision.outcome == "in_doubt" else None
        beyond = cost.total_pico if cost.total_pico is not None and cost.total_pico > MAX_PICO else None
        self.limiter.release(
            permit,
            "server_error" if decision.code == "not_found" else _LIMITER_OUTCOME[decision.action],
            used_tokens=_sum(usage.input_tokens, usage.output_tokens),
            retry_after_s=decision.retry_after_s,
        )
        self.dispatcher.budget.settle(reservation, cost.total_pico or 0, exposure or 0)
        finished_us = self.dispatcher.wall_us()
        if beyond is not None:
            cost = Cost(None, None, None, cost.price_id)
        attempt = Attempt(attempt_id, started_us, finished_us, reply, usage, cost, exposure, answer, beyond)
        self._count(attempt, decision)
        self.retries.compare(self.last.reply if self.last is not None else None, reply)
        self.last = attempt
        if decision.action == "ok":
            return decision
        self.dispatcher.journal.record(attempt_row(attempt, self.request, self.target), None)
        return self._unless_too_long(decision)

    def _unless_too_long(self, decision: RetryDecision) -> RetryDecision:
        """A pause longer than any request of this run may take stops the model: no run waits for hours."""
        pause_s, longest_s = decision.retry_after_s or 0.0, self.dispatcher.retry.deadline_s
        if decision.action not in ("throttled", "again") or pause_s <= longest_s:
            return decision
        message = (
            f"the server requested Retry-After {pause_s:,.0f} s, longer than retry.deadline_s "
            f"({longest_s:,.0f} s): run again after that ({decision.message})"
        )
        return replace(decision, action="stop_model", message=message)

    def _count(self, attempt: Attempt, decision: RetryDecision) -> None:
        counters = self.counters
        counters.calls += 1
        counters.throttled += decision.action == "throttled"
        counters.retried += self.retries.attempts > 1
        counters.cost_pico += attempt.cost.total_pico or 0
        counters.exposure_pico += attempt.exposure_pico or 0
        counters.input_tokens += attempt.usage.input_tokens or 0
        counters.output_tokens += attempt.usage.output_tokens or 0
        self.retries.count(decision, since_first_s=self.dispatcher.clock.now() - self.first_sent_s)

    # -- an answer

    async def _take_answer(self) -> RetryDecision:
        """Read the last attempt's answer: at once, or in a thread when it takes more than a moment."""
        assert self.last is not None and self.last.answer is not None
        text, schema = self.last.answer.text or "", self.target.schema
        if schema is None:
            return self._judge(self.last, text, None)
        checked = labels.read_at_once(text, schema)
        if checked is None:
            try:
                async with self.dispatcher.reading:
                    checked = await asyncio.to_thread(labels.read_answer, text, schema)
            except BaseException:  # stopped meanwhile; it is paid for, so it is read and recorded here
                self._judge(self.last, text, labels.read_answer(text, schema))
                raise
        return self._judge(self.last, text, checked)

    def _judge(self, attempt: Attempt, text: str, checked: labels.Checked | None) -> RetryDecision:
        """A reply with text: answered, or not what the schema wants (then repaired once, or invalid)."""
        if checked is not None and checked.error is not None:
            return self._take_invalid(attempt, text, checked)
        json_text = checked.json_text if checked is not None else None
        outcome = RequestResult(
            "answered", text=text, json_text=json_text, extra=self._remarks(attempt, text)
        )
        self._record_result(attempt, outcome)
        return attempt.reply.decision

    def _take_invalid(self, attempt: Attempt, text: str, checked: labels.Checked) -> RetryDecision:
        error = checked.error or ""
        extra = self._remarks(attempt, text)
        outcome = RequestResult("invalid", "invalid_answer", error, text, checked.json_text, extra)
        if self.dispatcher.repair and not self.repaired and not (extra or {}).get("truncated"):
            self.repaired, self.invalid_answer = True, (attempt, outcome)
            self.retries.counted = 0
            self.prompt = labels.repair_prompt(self.request.prompt, text, error)
            self.max_input_tokens += estimate.text_bytes(self.prompt)
            row = attempt_row(attempt, self.request, self.target, "invalid_answer")
            self.dispatcher.journal.record(row, None)
            return _REPAIR
        self._record_result(attempt, outcome)
        return attempt.reply.decision

    def _remarks(self, attempt: Attempt, text: str) -> dict[str, object] | None:
        remarks = remarks_on(attempt, text, self.request, self.target, repaired=self.repaired)
        self.counters.truncated += "truncated" in remarks
        return remarks or None

    def _record_result(self, attempt: Attempt | None, outcome: RequestResult) -> None:
        """Write the row: with its last attempt in the same line when that attempt decided it."""
        route = self.route
        finished_us = attempt.finished_us if attempt is not None else self.dispatcher.wall_us()
        row = result_row(
            self.target,
            self.request,
            outcome,
            endpoint=None if isinstance(route, Refusal) else route.endpoint,
            input_mode=None if isinstance(route, Refusal) else route.input_mode,
            delivery=self.delivery,
            last=self.last,
            attempts=self.retries.attempts,
            wait_s=self.sent_s - self.ready_s,
            started_us=self.started_us,
            finished_us=finished_us,
        )
        line = attempt_row(attempt, self.request, self.target, outcome.code) if attempt is not None else None
        self.dispatcher.journal.record(line, row)
        self.recorded = True
        self.counters.count(outcome.status, outcome.code)
        if outcome.status in ("failed", "invalid"):
            self.counters.explain(outcome.code or "unknown", outcome.message or "")
        if outcome.status in ("answered", "invalid") and self.last is not None:
            self.counters.latencies.add(self.last.reply.latency_s)
            # Without a usage the price bounds the cost (exposure); without a price nothing does.
            self.counters.unpriced += self.last.cost.total_pico is None and self.last.exposure_pico is None

    async def _back_off(self, seconds: float) -> None:
        with self.scope.backing_off():
            await self.dispatcher.sleep(seconds)


def recordable(pico: int | None) -> int | None:
    """An upper bound as a column holds it: the most that fits, for what is beyond."""
    return None if pico is None else min(pico, MAX_PICO)


_REFUSED: Final = RetryDecision("final", "rejected", "refused")
_REPAIR: Final = RetryDecision("again", "answered", "repair")
_INTERRUPTED: Final = RetryDecision("stop_run", "in_doubt", "interrupted", "stopped before the reply came")


def _sum(a: int | None, b: int | None) -> int | None:
    return None if a is None and b is None else (a or 0) + (b or 0)
