"""One request, asked: wait, send, judge, try again, price, record. The only place that retries.

| verdict    | what is done                                                                            |
|------------|-----------------------------------------------------------------------------------------|
| throttled  | the limiter holds the whole model; costs no attempt until `deadline_s` has passed      |
| again      | back-off with jitter, at most `attempts`; the same error three times in a row is final  |
| refetch    | once more, with the media inlined where that can be                                     |
| final      | a failed row                                                                            |
| stop_model | a failed row; the model's other requests stay unsent, the other models go on            |
|            | (so ends, too, a Retry-After beyond `deadline_s`)                                       |
| stop_run   | nothing more is sent; the request stays unsent                                          |

The back-off before try n + 1 is `base_s * 2**(n - 1)`, at most `cap_s`, times 0.5 to 1.0 at random.
"""

import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tenacity import AsyncRetrying, RetryCallState, retry_if_result

from mavi_tasks import estimate, labels, limits
from mavi_tasks.errors import MaviError
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
from mavi_tasks.limits import ModelDown, Permit
from mavi_tasks.limits.budget import Reservation
from mavi_tasks.media import Delivery, Refusal, StoreStopped
from mavi_tasks.planning.target import Request

if TYPE_CHECKING:
    from mavi_tasks.execution.worker_pool import WorkerPool

RETRIED: Final = frozenset({"throttled", "again", "refetch"})
SAME_ERROR_LIMIT: Final = 3
PASSING_REFUSALS: Final = frozenset({"download_failed", "sign_failed", "media_timeout"})  # another day may do
UNSEEN_SHARE: Final = 0.1  # fewer of a media's estimated tokens than this, and it was not read

_THROTTLE_OUTCOME: Final[Mapping[Action, limits.SendOutcome]] = {
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


class RequestTask:
    """One request on its way to a result."""

    def __init__(self, crew: "WorkerPool", request: Request) -> None:
        self.crew, self.request = crew, request
        self.dispatcher, self.target, self.limiter, self.counters = (
            crew.dispatcher,
            crew.target,
            crew.limiter,
            crew.counters,
        )
        self.prompt, self.max_input_tokens = request.prompt, request.max_input_tokens
        self.way = crew.target.way(request.media_items)
        self.delivery: Delivery | None = None
        self.refused: Refusal | None = self.way if isinstance(self.way, Refusal) else None
        self.recorded = False
        self.repaired = False
        self.unfit: tuple[Attempt, RequestResult] | None = None  # paid for; kept should its repair fail
        self.tries = 0
        self.counted = 0
        self.refetched = False
        self.same = 0
        self.last: Attempt | None = None
        self.ready_s = crew.dispatcher.clock.now()
        self.sent_s = self.ready_s
        self.started_us: int | None = None

    async def ask(self) -> None:
        """Try until there is a result, and record it."""
        try:
            await self._ask()
        except BaseException:  # stopped before its repair, or unable to record that
            if self.unfit is not None and not self.recorded:
                with suppress(MaviError):  # the first error is the one to be told
                    self._record_unfit(self.unfit)
            raise

    async def _ask(self) -> None:
        try:
            verdict: RetryDecision | None = await self._try()
            if verdict is not None and verdict.action in RETRIED:
                verdict = await self._try_again(verdict)
        except ModelDown as down:
            self.counters.stopped = self.counters.stopped or str(down)
            verdict = self.last.reply.decision if self.last is not None else None
            if verdict is None or self.dispatcher.stopping:
                raise UnsentError from down
        if not self.recorded and verdict is not None:
            self._finish(verdict)

    async def _try_again(self, first: RetryDecision) -> RetryDecision:
        """As tenacity says, after a first try made without it: that is 30 us less where all goes well."""
        made = iter((first,))

        async def another() -> RetryDecision:
            return next(made, None) or await self._try()

        return await AsyncRetrying(
            sleep=self._back_off,
            wait=self._pause_s,
            stop=self._gives_up,
            retry=_WANTS_RETRY,
            retry_error_callback=_last_result,
        )(another)

    def _finish(self, verdict: RetryDecision) -> None:
        """No answer: a failed (or refused) row, unless it was the run that failed."""
        if verdict.action == "stop_run":
            hint = FATAL_HINTS.get(verdict.code or "", "")
            self.dispatcher.stop(verdict.code or "rejected", f"{verdict.message}: {hint}")
            raise UnsentError
        if self.dispatcher.stopping and verdict.action in RETRIED and not self._is_final(verdict):
            raise UnsentError
        if verdict.action == "stop_model":
            self.counters.stopped = f"{self.target.model}: {verdict.message}"
            self.limiter.stop(self.counters.stopped)
        if self.unfit is not None:  # its repair failed: the answer that was paid for is still the result
            self._record_unfit(self.unfit)
            return
        if self.refused is not None:
            status = "failed" if self.refused.code in PASSING_REFUSALS else "skipped"
            self._record_result(None, RequestResult(status, self.refused.code, self.refused.reason))
            return
        self._record_result(None, RequestResult("failed", verdict.code, verdict.message))

    def _record_unfit(self, unfit: tuple[Attempt, RequestResult]) -> None:
        self.last, outcome = unfit
        self._record_result(None, outcome)

    # -- one try

    async def _try(self) -> RetryDecision:
        if self.dispatcher.stopping:
            raise UnsentError
        if self.last is not None and self.last.reply.decision.action == "refetch":
            self._refetch()
        if isinstance(self.way, Refusal):
            return _REFUSED
        try:
            async with self.dispatcher.store.delivery(self.way) as delivery:
                if isinstance(delivery, Refusal):
                    self.refused = delivery
                    return _REFUSED
                self.delivery = delivery
                return await self._send(self.target.body(self.prompt, delivery.parts), delivery)
        except StoreStopped:
            raise UnsentError from None

    def _refetch(self) -> None:
        """The next try is the last of its kind, with the media inlined where that can be.

        Not in `_pause_s`: tenacity asks for the pause before it asks whether to stop.
        """
        self.refetched = True
        inlined = self.target.way(self.request.media_items, force_inline=True)
        if not isinstance(inlined, Refusal):
            self.way = inlined

    async def _send(self, body: bytes, delivery: Delivery) -> RetryDecision:
        worst = self.target.max_cost_pico(self.max_input_tokens)
        reservation = await self._reserve(worst or 0)
        permit: Permit | None = None
        settled = False
        try:
            permit = self.limiter.try_acquire(self.request.tokens) or await self.limiter.acquire(
                self.request.tokens
            )
            if self.crew.done:  # since it was let in, a reply may have ended the run or the model
                raise UnsentError
            attempt_id, started_us = self._intend(worst)
            settled = True
            try:
                reply = await self.dispatcher.gateway.post(self.path(delivery), body)
            except BaseException:  # cancelled, or a defect: whether it was billed nobody knows
                reply = Reply(_INTERRUPTED, None, None, self.dispatcher.clock.now() - self.sent_s)
                self._settle(attempt_id, started_us, reply, permit, reservation, worst)
                raise
            return self._settle(attempt_id, started_us, reply, permit, reservation, worst)
        finally:
            if not settled:
                if permit is not None:
                    self.limiter.give_back(permit)
                self.dispatcher.budget.give_back(reservation)

    def path(self, delivery: Delivery) -> str:
        return f"{delivery.endpoint}/chat/completions"

    async def _reserve(self, max_cost_pico: int) -> Reservation:
        budget = self.dispatcher.budget
        reservation = budget.try_reserve(max_cost_pico) or await budget.reserve(max_cost_pico)
        if reservation is None:
            self.dispatcher.stop("budget", "the next call might exceed budget_usd")
            raise UnsentError
        return reservation

    def _intend(self, worst: int | None) -> tuple[str, int]:
        attempt_id, started_us = self.dispatcher.attempt_id(), self.dispatcher.wall_us()
        self.dispatcher.journal.intend(
            intent_row(attempt_id, self.request.key, self.target.model, started_us, worst)
        )
        self.sent_s = self.dispatcher.clock.now()
        self.started_us = self.started_us or started_us
        self.tries += 1
        return attempt_id, started_us

    def _settle(
        self,
        attempt_id: str,
        started_us: int,
        reply: Reply,
        permit: Permit,
        reservation: Reservation,
        worst: int | None,
    ) -> RetryDecision:
        """Price the try, give back what was reserved, and record it."""
        answer = self.target.family.answer(reply.payload) if reply.payload is not None else None
        usage = answer.usage if answer is not None else NO_USAGE
        price = self.target.price
        billed = usage.input_tokens is not None or usage.output_tokens is not None
        cost = (
            price.cost(usage.input_tokens, usage.output_tokens) if price is not None and billed else NO_COST
        )
        if answer is not None and reply.decision.action == "ok" and not answer.text:
            reply = Reply(_empty(billed, answer.finish_reason), reply.status, reply.payload, reply.latency_s)
        verdict = reply.decision
        ran = verdict.outcome == "answered" or verdict.code == "empty_answer"
        unsaid = ran and cost.total_pico is None  # billed, most likely, and no word on how much
        exposure = worst if unsaid or verdict.outcome == "in_doubt" else None
        self.limiter.release(
            permit,
            "server_error" if verdict.code == "not_found" else _THROTTLE_OUTCOME[verdict.action],
            used_tokens=_sum(usage.input_tokens, usage.output_tokens),
            retry_after_s=verdict.retry_after_s,
        )
        self.dispatcher.budget.settle(reservation, cost.total_pico or 0, exposure or 0)
        finished_us = self.dispatcher.wall_us()
        done = Attempt(attempt_id, started_us, finished_us, reply, usage, cost, exposure, answer)
        self._count(done, verdict)
        self.same = self.same + 1 if self.last is not None and _alike(self.last.reply, reply) else 1
        self.last = done
        if verdict.action == "ok":
            return self._take_answer(done)
        self.dispatcher.journal.record(attempt_row(done, self.request, self.target), None)
        return self._unless_too_long(verdict)

    def _unless_too_long(self, verdict: RetryDecision) -> RetryDecision:
        """A pause that no request of this run would outlive ends the model: nobody waits hours for it."""
        asked_s, longest_s = verdict.retry_after_s or 0.0, self.dispatcher.retry.deadline_s
        if verdict.action not in ("throttled", "again") or asked_s <= longest_s:
            return verdict
        why = f"asks for a pause of {asked_s:,.0f} s, longer than retry.deadline_s ({longest_s:,.0f} s): "
        message = f"{why}run again after it ({verdict.message})"
        return replace(verdict, action="stop_model", message=message)

    def _count(self, done: Attempt, verdict: RetryDecision) -> None:
        counters = self.counters
        counters.calls += 1
        counters.throttled += verdict.action == "throttled"
        counters.retried += self.tries > 1
        counters.cost_pico += done.cost.total_pico or 0
        counters.exposure_pico += done.exposure_pico or 0
        counters.input_tokens += done.usage.input_tokens or 0
        counters.output_tokens += done.usage.output_tokens or 0
        before_deadline = self.dispatcher.clock.now() - self.ready_s < self.dispatcher.retry.deadline_s
        self.counted += not (verdict.action == "throttled" and before_deadline)

    # -- an answer

    def _take_answer(self, done: Attempt) -> RetryDecision:
        """A reply with text: answered, or not what the schema wants (then repaired once, or invalid)."""
        assert done.answer is not None
        text = done.answer.text or ""
        schema = self.target.schema
        checked = labels.read_answer(text, schema) if schema is not None else None
        if checked is not None and checked.error is not None:
            return self._take_invalid(done, text, checked)
        json_text = checked.json_text if checked is not None else None
        outcome = RequestResult("answered", text=text, json_text=json_text, extra=self._remarks(done, text))
        self._record_result(done, outcome)
        return done.reply.decision

    def _take_invalid(self, done: Attempt, text: str, checked: labels.Checked) -> RetryDecision:
        error = checked.error or ""
        extra = self._remarks(done, text)
        outcome = RequestResult("invalid", "invalid_answer", error, text, checked.json_text, extra)
        if self.dispatcher.repair and not self.repaired and not (extra or {}).get("truncated"):
            self.repaired, self.unfit = True, (done, outcome)
            self.counted = 0
            self.prompt = labels.repair_prompt(self.request.prompt, text, error)
            self.max_input_tokens += estimate.text_chars(self.prompt)  # a token a character, at the very most
            row = attempt_row(done, self.request, self.target, "invalid_answer")
            self.dispatcher.journal.record(row, None)
            return _REPAIR
        self._record_result(done, outcome)
        return done.reply.decision

    def _remarks(self, done: Attempt, text: str) -> dict[str, object] | None:
        """What a reader of this answer should know: it stops short, or the media was most likely not seen."""
        assert done.answer is not None
        extra: dict[str, object] = {}
        reason = done.answer.finish_reason
        if reason in ("length", "max_tokens") or (
            reason is None
            and labels.looks_truncated(
                text, done.usage.output_tokens, self.target.max_tokens, self.target.schema is not None
            )
        ):
            extra["truncated"] = True
            self.counters.truncated += 1
        seen = done.usage.input_tokens
        if self.request.media_items and seen is not None and _unseen(seen, self.request):
            extra["media_unseen"] = True
        if self.repaired:
            extra["repaired"] = True
        return extra or None

    def _record_result(self, done: Attempt | None, outcome: RequestResult) -> None:
        """Write the row: with its last try in the same line when that try decided it."""
        way = self.way
        finished_us = done.finished_us if done is not None else self.dispatcher.wall_us()
        row = result_row(
            self.target,
            self.request,
            outcome,
            endpoint=None if isinstance(way, Refusal) else way.endpoint,
            input_mode=None if isinstance(way, Refusal) else way.input_mode,
            delivery=self.delivery,
            last=self.last,
            attempts=self.tries,
            wait_s=self.sent_s - self.ready_s,
            started_us=self.started_us,
            finished_us=finished_us,
        )
        attempt = attempt_row(done, self.request, self.target, outcome.code) if done is not None else None
        self.dispatcher.journal.record(attempt, row)
        self.recorded = True
        self.counters.count(outcome.status)
        if outcome.status in ("failed", "invalid"):
            self.counters.explain(outcome.code or "unknown", outcome.message or "")
        if outcome.status in ("answered", "invalid") and self.last is not None:
            self.counters.latencies.add(self.last.reply.latency_s)
            self.counters.unpriced += self.last.cost.total_pico is None

    # -- trying again

    def _is_final(self, verdict: RetryDecision) -> bool:
        if verdict.code == "repair":
            return False
        if verdict.action == "refetch":
            return self.refetched
        if verdict.action == "again" and self.same >= SAME_ERROR_LIMIT:
            return True
        return self.counted >= self.dispatcher.retry.attempts

    def _gives_up(self, state: RetryCallState) -> bool:
        return self.dispatcher.stopping or self._is_final(_result(state))

    def _pause_s(self, state: RetryCallState) -> float:
        verdict = _result(state)
        if verdict.action == "throttled" or verdict.code == "repair":
            return 0.0  # the limiter holds the model for as long as it must
        policy = self.dispatcher.retry
        backoff = min(policy.cap_s, policy.base_s * 2.0 ** max(0, self.counted - 1))
        return max(verdict.retry_after_s or 0.0, backoff * random.uniform(0.5, 1.0))  # noqa: S311

    async def _back_off(self, seconds: float) -> None:
        if seconds <= 0:
            return
        self.crew.backing_off += 1
        try:
            self.crew.staff()
            await self.dispatcher.sleep(seconds)
        finally:
            self.crew.backing_off -= 1


_REFUSED: Final = RetryDecision("final", "rejected", "refused")
_REPAIR: Final = RetryDecision("again", "answered", "repair")
_INTERRUPTED: Final = RetryDecision("stop_run", "in_doubt", "interrupted", "stopped before the reply came")
_WANTS_RETRY: Final = retry_if_result(lambda verdict: verdict.action in RETRIED)


def _result(state: RetryCallState) -> RetryDecision:
    assert state.outcome is not None
    verdict: RetryDecision = state.outcome.result()
    return verdict


def _last_result(state: RetryCallState) -> RetryDecision:
    return _result(state)


def _empty(billed: bool, finish_reason: str | None) -> RetryDecision:
    """No text: perhaps not fetched, perhaps billed (worth another try), or surely billed (not worth one)."""
    if not billed:
        return RetryDecision(
            "refetch", "in_doubt", "empty_answer", "the reply holds no text and counts no tokens"
        )
    hint = f"finish_reason {finish_reason}; " if finish_reason else ""
    message = f"billed, but the answer is empty ({hint}thinking may have used up max_tokens: raise it)"
    return RetryDecision("final", "failed", "empty_answer", message)


def _alike(before: Reply, now: Reply) -> bool:
    return (before.decision.code, before.status) == (now.decision.code, now.status)


def _unseen(seen_tokens: int, request: Request) -> bool:
    """Far fewer input tokens than the text and this media need: the media was most likely not read."""
    text_tokens = estimate.text_tokens(estimate.text_chars(request.prompt))
    media_tokens = request.tokens - text_tokens
    return media_tokens >= 100 and seen_tokens < text_tokens + media_tokens * UNSEEN_SHARE


def _sum(a: int | None, b: int | None) -> int | None:
    return None if a is None and b is None else (a or 0) + (b or 0)
