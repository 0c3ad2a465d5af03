"""Answers that were cut off: which are, and with how many tokens they are asked for once more."""

from bisect import bisect_right
from typing import Final

from mavi_tasks import estimate, labels
from mavi_tasks.execution.rows import Attempt
from mavi_tasks.limits.budget import Budget
from mavi_tasks.planning.target import ModelTarget

CUT_REASONS: Final = frozenset({"length", "max_tokens"})
TIMES: Final = 2


def cut_off(attempt: Attempt, checked: labels.Checked | None) -> bool:
    """Whether an answer has no end: its model says so, or says nothing and its JSON ends in the middle."""
    assert attempt.answer is not None
    reason = attempt.answer.finish_reason
    if reason is None:
        return checked is not None and checked.truncated
    return reason.lower() in CUT_REASONS


def with_more_tokens(
    target: ModelTarget, input_tokens: int, budget: Budget, most_pico: int | None
) -> ModelTarget | None:
    """The same model with twice the max_tokens, or as many as the model and the money allow; None: no more.

    most_pico: what one request may cost at most; None = no limit.
    """
    now = target.answer_limit
    most = min(TIMES * now, estimate.max_output(target.model) or TIMES * now)

    def held_pico(max_tokens: int) -> int:
        return target.with_answer_limit(max_tokens).max_cost_pico(input_tokens) or 0

    def too_dear(max_tokens: int) -> bool:
        cost = held_pico(max_tokens)
        left = budget.left_pico
        beyond_budget = left is not None and budget.scaled_pico(cost) > left
        return beyond_budget or (most_pico is not None and cost > most_pico)

    more = range(now + 1, most + 1)
    fitting = bisect_right(more, False, key=too_dear)  # costs rise with the tokens
    return target.with_answer_limit(more[fitting - 1]) if fitting else None
