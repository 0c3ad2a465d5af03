"""A reply becomes an attempt: its answer and usage read, its price, and what it may have cost besides."""

from dataclasses import replace

from mavi_tasks.common.money import MAX_PICO
from mavi_tasks.execution.answer_checks import empty_answer
from mavi_tasks.execution.rows import NO_COST, NO_USAGE, Attempt
from mavi_tasks.gateway.classify import Reply
from mavi_tasks.planning.target import ModelTarget
from mavi_tasks.pricing.book import Cost


def priced_attempt(
    attempt_id: str,
    started_us: int,
    finished_us: int,
    reply: Reply,
    target: ModelTarget,
    max_cost: int | None,
) -> tuple[Attempt, int]:
    """The attempt, and the pico-dollars it has cost (0 where that is not known).

    max_cost: the most it can have cost; None = no price is known.
    """
    answer = target.family.answer(reply.payload) if reply.payload is not None else None
    usage = answer.usage if answer is not None else NO_USAGE
    price = target.price
    billed = usage.input_tokens is not None or usage.output_tokens is not None
    cost = price.cost(usage.input_tokens, usage.output_tokens) if price is not None and billed else NO_COST
    if answer is not None and reply.decision.action == "ok" and not answer.text:
        reply = replace(reply, decision=empty_answer(billed, answer.finish_reason))
    decision = reply.decision
    completed = decision.outcome == "answered" or decision.code == "empty_answer"
    unknown_cost = completed and cost.total_pico is None  # billed, most likely, without a usage
    exposure = recordable(max_cost) if unknown_cost or decision.outcome == "in_doubt" else None
    spent_pico, beyond = cost.total_pico or 0, None
    if spent_pico > MAX_PICO:
        cost, beyond = Cost(None, None, None, cost.price_id), spent_pico
    attempt = Attempt(attempt_id, started_us, finished_us, reply, usage, cost, exposure, answer, beyond)
    return attempt, spent_pico


def recordable(pico: int | None) -> int | None:
    """An upper bound as a column holds it: the most that fits, for what is beyond."""
    return None if pico is None else min(pico, MAX_PICO)
