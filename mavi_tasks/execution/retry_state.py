"""How often a request was attempted, whether that is enough, and how long it waits (see request_task.py)."""

import random
from collections.abc import Awaitable, Callable
from typing import Final

from tenacity import AsyncRetrying, RetryCallState, retry_if_result

from mavi_tasks.gateway.classify import Reply, RetryDecision
from mavi_tasks.job import Retry

RETRIED: Final = frozenset({"throttled", "again", "refetch"})
ASKED_AGAIN: Final = frozenset({"repair", "cut_off"})  # nothing failed: asked again at once, and surely
REPEATED_ERROR_LIMIT: Final = 3
THROTTLED_CAP_S: Final = 1.0
"""The longest back-off after a 429: the limiter slows the model down, so a request need not wait for long."""


class RetryState:
    """One request's attempts.

    attempts: all that were sent. counted: those that use up `retry.attempts`. repeated_errors: how often the
    last error came in a row. refetched: the media was fetched once more.
    """

    __slots__ = ("attempts", "counted", "policy", "refetched", "repeated_errors")

    def __init__(self, policy: Retry) -> None:
        self.policy = policy
        self.attempts = self.counted = self.repeated_errors = 0
        self.refetched = False

    def count(self, decision: RetryDecision, *, since_first_s: float) -> None:
        """Count an attempt; a 429 uses up none before the deadline, and all after it."""
        if decision.action != "throttled":
            self.counted += 1
        elif since_first_s >= self.policy.deadline_s:
            self.counted = self.policy.attempts

    def compare(self, before: Reply | None, now: Reply) -> None:
        """Count how often the same reply came in a row."""
        same = before is not None and (before.decision.code, before.status) == (now.decision.code, now.status)
        self.repeated_errors = self.repeated_errors + 1 if same else 1

    def is_final(self, decision: RetryDecision) -> bool:
        """Whether this decision's request is not sent again."""
        if decision.code in ASKED_AGAIN:
            return False
        if decision.action == "refetch":
            return self.refetched
        if decision.action == "again" and self.repeated_errors >= REPEATED_ERROR_LIMIT:
            return True
        return self.counted >= self.policy.attempts

    def pause_s(self, decision: RetryDecision) -> float:
        """The back-off before the next attempt, in seconds."""
        if decision.code in ASKED_AGAIN:
            return 0.0
        throttled = decision.action == "throttled"
        if throttled and decision.retry_after_s is not None:
            return 0.0  # the limiter holds the whole model
        before = self.repeated_errors if throttled else self.counted
        cap_s = min(self.policy.cap_s, THROTTLED_CAP_S) if throttled else self.policy.cap_s
        backoff = min(cap_s, self.policy.base_s * 2.0 ** min(30, max(0, before - 1)))
        return max(decision.retry_after_s or 0.0, backoff * random.uniform(0.5, 1.0))  # noqa: S311

    async def run(
        self,
        first: RetryDecision,
        attempt: Callable[[], Awaitable[RetryDecision]],
        back_off: Callable[[float], Awaitable[None]],
        stopping: Callable[[], bool],
    ) -> RetryDecision:
        """Retry by tenacity, after a first attempt made without it: 30 us less where all goes well."""
        made = iter((first,))

        async def another() -> RetryDecision:
            return next(made, None) or await attempt()

        async def sleep(seconds: float) -> None:
            if seconds > 0:
                await back_off(seconds)

        return await AsyncRetrying(
            sleep=sleep,
            wait=lambda state: self.pause_s(_decision(state)),
            stop=lambda state: stopping() or self.is_final(_decision(state)),
            retry=retry_if_result(lambda decision: decision.action in RETRIED),
            retry_error_callback=_decision,
        )(another)


def _decision(state: RetryCallState) -> RetryDecision:
    assert state.outcome is not None
    decision: RetryDecision = state.outcome.result()
    return decision
