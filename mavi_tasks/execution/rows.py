"""Rows for the journal: an attempt and a result, as lists in the order of `dataset.COLUMNS`."""

from dataclasses import dataclass
from typing import Any

import orjson

from mavi_tasks.gateway.classify import Reply
from mavi_tasks.media import Delivery, Media
from mavi_tasks.planning.request import Request
from mavi_tasks.planning.target import ModelTarget
from mavi_tasks.pricing.book import Cost
from mavi_tasks.providers import Answer, Usage

NO_USAGE = Usage()
NO_COST = Cost(None, None, None, "")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One send and what came of it. Instants are microseconds since the epoch."""

    attempt_id: str
    started_us: int
    finished_us: int
    reply: Reply
    usage: Usage
    cost: Cost
    exposure_pico: int | None
    answer: Answer | None


@dataclass(frozen=True, slots=True)
class RequestResult:
    """How a request ended: the row's status and what it says."""

    status: str
    code: str | None = None
    message: str | None = None
    text: str | None = None
    json_text: str | None = None
    extra: dict[str, Any] | None = None


def intent_row(
    attempt_id: str, key: str, model: str, started_us: int, exposure_pico: int | None
) -> list[Any]:
    return [attempt_id, key, model, started_us, exposure_pico]


def attempt_row(done: Attempt, request: Request, target: ModelTarget, code: str | None = None) -> list[Any]:
    verdict = done.reply.decision
    return [
        done.attempt_id,
        request.key,
        target.model,
        done.started_us,
        done.finished_us,
        verdict.outcome,
        done.reply.status,
        code or verdict.code,
        verdict.retry_after_s,
        round(done.reply.latency_s, 6),
        done.usage.input_tokens,
        done.usage.output_tokens,
        done.cost.total_pico,
        done.exposure_pico,
    ]


def result_row(
    target: ModelTarget,
    request: Request,
    outcome: RequestResult,
    *,
    endpoint: str | None,
    input_mode: str | None,
    delivery: Delivery | None = None,
    last: Attempt | None = None,
    attempts: int = 0,
    wait_s: float | None = None,
    started_us: int | None = None,
    finished_us: int | None = None,
) -> list[Any]:
    """One row of results. A row without a try (skipped, shared) has no usage and no cost of its own."""
    media: Media | None = request.media_items[0] if request.media_items else None
    answer = last.answer if last is not None else None
    usage = last.usage if last is not None else NO_USAGE
    cost = last.cost if last is not None else NO_COST
    choices = list(answer.choices) if answer is not None and len(answer.choices) > 1 else None
    return [
        request.key,
        request.item_id,
        request.prompt_id,
        target.model,
        target.family.name,
        endpoint or None,
        media.uri if media else None,
        media.kind if media else "text",
        delivery.sha256 if delivery else (media.sha256 if media else None),
        input_mode,
        delivery.frames_sent if delivery else None,
        delivery.media_bytes if delivery else None,
        delivery.width if delivery else (media.width if media else None),
        delivery.height if delivery else (media.height if media else None),
        delivery.duration_s if delivery else (media.duration_s if media else None),
        request.prompt,
        outcome.status,
        outcome.text,
        outcome.json_text,
        answer.finish_reason if answer else None,
        choices,
        usage.input_tokens,
        usage.output_tokens,
        usage.total_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
        cost.input_pico,
        cost.output_pico,
        cost.total_pico,
        cost.price_id or None,
        attempts,
        round(last.reply.latency_s, 6) if last is not None else None,
        round(wait_s, 6) if wait_s is not None else None,
        started_us,
        finished_us,
        outcome.code,
        outcome.message,
        last.reply.status if last is not None else None,
        answer.response_id if answer else None,
        answer.provider_model if answer else None,
        request.truth,
        orjson.dumps(outcome.extra).decode() if outcome.extra else None,
    ]
