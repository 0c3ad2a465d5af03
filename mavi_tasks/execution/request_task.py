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

An answer that was cut off is asked once more with more max_tokens (cut_answers.py), one that does not fit the
schema once more with its error. Both are paid for: if what is asked then fails, the first answer is kept.

The back-off before attempt n + 1 is `base_s * 2**(n - 1)`, at most `cap_s`, times 0.5 to 1.0 at random.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final

from mavi_tasks import estimate, labels, limits
from mavi_tasks.errors import MaviError
from mavi_tasks.execution.answer_checks import remarks_on
from mavi_tasks.execution.budget_stop import does_not_fit
from mavi_tasks.execution.cut_answers import cut_off, with_more_tokens
from mavi_tasks.execution.priced_attempt import priced_attempt, recordable
from mavi_tasks.execution.retry_state import RETRIED, RetryState
from mavi_tasks.execution.rows import Attempt, RequestResult, attempt_row, intent_row, result_row
from mavi_tasks.execution.task_scope import TaskScope, UnsentError
from mavi_tasks.gateway.classify import FATAL_HINTS, Action, Reply, RetryDecision
from mavi_tasks.limits import ModelDown, Permit
from mavi_tasks.limits.budget import Reservation
from mavi_tasks.media import Delivery, LoaderStopped, Refusal
from mavi_tasks.planning.request import Request
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
        self.repaired = self.enlarged = False
        self.paid_answer: tuple[Attempt, RequestResult] | None = None  # kept if what is asked after it fails
        self.retries = RetryState(scope.dispatcher.retry)
        self.last: Attempt | None = None
        self.ready_s = scope.dispatcher.clock.now()
        self.sent_s = self.first_sent_s = self.ready_s
        self.started_us: int | None = None

    async def run(self) -> None:
        """Send it until there is a result, and record that."""
        try:
            await self._run()
        except BaseException:  # stopped before it was asked again, or unable to record that
            if self.paid_answer is not None and not self.recorded:
                with suppress(MaviError):  # the first error is the one to be reported
                    self._record_paid(self.paid_answer)
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
        if self.paid_answer is not None:  # what was asked after it failed: it is still the result
            self._record_paid(self.paid_answer)
            return
        if self.refused is not None:
            status = "failed" if self.refused.code in PASSING_REFUSALS else "skipped"
            self._record_result(None, RequestResult(status, self.refused.code, self.refused.reason))
            return
        self._record_result(None, RequestResult("failed", decision.code, decision.message))

    def _record_paid(self, paid: tuple[Attempt, RequestResult]) -> None:
        self.last, outcome = paid
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
        if reservation is None:
            return self._without_more()
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
            if decision.action == "ok":
                return await self._take_answer()
            return self._without_more() if self._refuses_more(decision) else decision
        finally:
            if not settled:
                if permit is not None:
                    self.limiter.give_back(permit)
                self.dispatcher.budget.give_back(reservation)

    def path(self, delivery: Delivery) -> str:
        return f"{delivery.endpoint}{CHAT_PATH}"

    async def _reserve(self, max_cost_pico: int) -> Reservation | None:
        """None: there is no money for more max_tokens, which ends only that. Without money the run ends."""
        budget, model = self.dispatcher.budget, self.target.model
        reservation = budget.try_reserve(max_cost_pico, model) or await budget.reserve(max_cost_pico, model)
        if reservation is None and not self.dispatcher.stopping and self._asks_for_more:
            return None
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
        finished_us = self.dispatcher.wall_us()
        attempt, spent_pico = priced_attempt(
            attempt_id, started_us, finished_us, reply, self.target, max_cost
        )
        decision = attempt.reply.decision
        self.limiter.release(
            permit,
            "server_error" if decision.code == "not_found" else _LIMITER_OUTCOME[decision.action],
            used_tokens=attempt.tokens,
            retry_after_s=decision.retry_after_s,
        )
        self.dispatcher.budget.settle(reservation, spent_pico, attempt.exposure_pico or 0)
        self._count(attempt, decision)
        self.retries.compare(self.last.reply if self.last is not None else None, attempt.reply)
        self.last = attempt
        if decision.action == "ok":
            return decision
        if decision.code == "empty_answer" and cut_off(attempt, None) and self._enlarge(attempt, None):
            return _CUT_OFF
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
        """A reply with text: answered, cut off (asked again with more tokens), or unfit for the schema."""
        error = checked.error if checked is not None else None
        json_text = checked.json_text if checked is not None else None
        extra = self._remarks(attempt, text)
        if error is None:
            outcome = RequestResult("answered", text=text, json_text=json_text, extra=extra)
        else:
            outcome = RequestResult("invalid", "invalid_answer", error, text, json_text, extra)
        is_cut = cut_off(attempt, checked)
        if is_cut and (checked is None or error is not None) and self._enlarge(attempt, outcome):
            return _CUT_OFF
        if error is not None and not (is_cut and self.dispatcher.on_truncated == "keep") and self._may_repair:
            row = attempt_row(attempt, self.request, self.target, "invalid_answer")
            self.dispatcher.journal.record(row, None)
            return self._repair(attempt, outcome)
        self._record_result(attempt, outcome)
        return attempt.reply.decision

    @property
    def _may_repair(self) -> bool:
        return self.dispatcher.repair and not self.repaired

    def _repair(self, attempt: Attempt, outcome: RequestResult) -> RetryDecision:
        self.repaired, self.paid_answer = True, (attempt, outcome)
        self.retries.counted = 0
        self.prompt = labels.repair_prompt(self.request.prompt, outcome.text, outcome.message or "")
        self.max_input_tokens += estimate.text_bytes(self.prompt)
        return _REPAIR

    def _enlarge(self, attempt: Attempt, outcome: RequestResult | None) -> bool:
        """Whether it is asked once more with more max_tokens. outcome: None when it holds no text."""
        if self.enlarged or self.dispatcher.on_truncated == "keep":
            return False
        larger = with_more_tokens(
            self.target, self.max_input_tokens, self.dispatcher.budget, self.dispatcher.max_item_cost_pico
        )
        if larger is None:
            return False
        row = attempt_row(attempt, self.request, self.target, "cut_off")
        self.dispatcher.journal.record(row, None)
        self.target, self.enlarged = larger, True
        self.retries.counted = 0
        if outcome is not None:
            self.paid_answer = (attempt, outcome)
        self.counters.enlarged += 1
        self.counters.cut_off_pico += attempt.cost.total_pico or 0
        return True

    @property
    def _asks_for_more(self) -> bool:
        """Whether more max_tokens are asked for, and none were given yet."""
        return self.target is not self.scope.target and not self.repaired

    def _refuses_more(self, decision: RetryDecision) -> bool:
        """Whether the model takes no such max_tokens: no maximum of it is known."""
        return decision.action == "final" and decision.outcome == "rejected" and self._asks_for_more

    def _without_more(self) -> RetryDecision:
        """As many tokens cannot be had: the cut answer is repaired, or kept."""
        self.target = self.scope.target
        if self.paid_answer is None:  # it held no text
            assert self.last is not None
            return replace(self.last.reply.decision, action="final")
        attempt, outcome = self.paid_answer
        if outcome.code == "invalid_answer" and self._may_repair:
            return self._repair(attempt, outcome)
        self._record_paid((attempt, outcome))
        return attempt.reply.decision

    def _remarks(self, attempt: Attempt, text: str) -> dict[str, object] | None:
        remarks = remarks_on(attempt, text, self.request, self.target, repaired=self.repaired)
        if self.target is not self.scope.target:
            remarks["max_tokens"] = self.target.answer_limit
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
        self.counters.truncated += "truncated" in (outcome.extra or {})
        if outcome.status in ("failed", "invalid"):
            self.counters.explain(outcome.code or "unknown", outcome.message or "")
        if outcome.status in ("answered", "invalid") and self.last is not None:
            self.counters.latencies.add(self.last.reply.latency_s)
            # Without a usage the price bounds the cost (exposure); without a price nothing does.
            self.counters.unpriced += self.last.cost.total_pico is None and self.last.exposure_pico is None

    async def _back_off(self, seconds: float) -> None:
        with self.scope.backing_off():
            await self.dispatcher.sleep(seconds)


_REFUSED: Final = RetryDecision("final", "rejected", "refused")
_REPAIR: Final = RetryDecision("again", "answered", "repair")
_CUT_OFF: Final = RetryDecision("again", "answered", "cut_off")
_INTERRUPTED: Final = RetryDecision("stop_run", "in_doubt", "interrupted", "stopped before the reply came")
