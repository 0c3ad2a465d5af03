"""Rows for the journal, built by name (money: whole pico-dollars, `cost_pico`) and put into its order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from mavi_tasks.common.money import pico_name
from mavi_tasks.gateway.classify import Reply
from mavi_tasks.media import Delivery, Media
from mavi_tasks.planning.request import Request, copy_key
from mavi_tasks.planning.target import ModelTarget
from mavi_tasks.pricing.book import Cost
from mavi_tasks.providers import Answer, Usage
from mavi_tasks.schema import ResultStatus
from mavi_tasks.storage.journal import draft_class
from mavi_tasks.storage.segments import COLUMNS

NO_USAGE: Final = Usage()
NO_COST: Final = Cost(None, None, None, "")
COPIED: Final = (
    "answer", "answer_json", "choices", "finish_reason", "response_id", "provider_model", "endpoint",
    "input_mode", "frames_sent", "media_bytes", "width", "height", "duration_s", "media_sha256", "status",
    "error_code", "error_message",
)  # fmt: skip

_Intent = draft_class(COLUMNS.intents)
_Attempt = draft_class(COLUMNS.attempts)
_Result = draft_class(COLUMNS.results)


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
    beyond_pico: int | None = None  # what the usage costs, when no column can hold it; then `cost` is unknown


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
) -> Sequence[Any]:
    row = _Intent()
    row.attempt_id = attempt_id
    row.request_key = key
    row.model = model
    row.started_at = started_us
    row.exposure_pico = exposure_pico
    return row.in_order()


def attempt_row(
    done: Attempt, request: Request, target: ModelTarget, code: str | None = None
) -> Sequence[Any]:
    decision = done.reply.decision
    row = _Attempt()
    row.attempt_id = done.attempt_id
    row.request_key = request.key
    row.model = target.model
    row.started_at = done.started_us
    row.finished_at = done.finished_us
    row.outcome = decision.outcome
    row.http_status = done.reply.status
    row.error_code = code or decision.code
    row.retry_after_s = decision.retry_after_s
    row.latency_s = round(done.reply.latency_s, 6)
    row.input_tokens = done.usage.input_tokens
    row.output_tokens = done.usage.output_tokens
    row.cost_pico = done.cost.total_pico
    row.exposure_pico = done.exposure_pico
    return row.in_order()


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
) -> Sequence[Any]:
    """One row of results. A row without an attempt (skipped) has no usage and no cost of its own."""
    media: Media | None = request.media_items[0] if request.media_items else None
    answer = last.answer if last is not None else None
    usage = last.usage if last is not None else NO_USAGE
    cost = last.cost if last is not None else NO_COST
    choices = list(answer.choices) if answer is not None and len(answer.choices) > 1 else None
    row = _Result()
    row.request_key = request.key
    row.item_id = request.item_id
    row.prompt_id = request.prompt_id
    row.model = target.model
    row.family = target.family.name
    row.endpoint = endpoint or None
    row.media_uri = media.uri if media else None
    row.media_kind = (media.kind if media.mime else None) if media else "text"
    row.media_sha256 = delivery.sha256 if delivery else (media.sha256 if media else None)
    row.input_mode = input_mode
    row.frames_sent = delivery.frames_sent if delivery else None
    row.media_bytes = delivery.media_bytes if delivery else None
    row.width = delivery.width if delivery else (media.width if media else None)
    row.height = delivery.height if delivery else (media.height if media else None)
    row.duration_s = delivery.duration_s if delivery else (media.duration_s if media else None)
    row.prompt = request.prompt or None  # a skipped row may have none
    row.status = outcome.status
    row.answer = outcome.text
    row.answer_json = outcome.json_text
    row.finish_reason = answer.finish_reason if answer else None
    row.choices = choices
    row.input_tokens = usage.input_tokens
    row.output_tokens = usage.output_tokens
    row.total_tokens = usage.total_tokens
    row.cached_tokens = usage.cached_tokens
    row.reasoning_tokens = usage.reasoning_tokens
    row.input_cost_pico = cost.input_pico
    row.output_cost_pico = cost.output_pico
    row.cost_pico = cost.total_pico
    row.price_id = cost.price_id or None
    row.attempts = attempts
    row.latency_s = round(last.reply.latency_s, 6) if last is not None else None
    row.wait_s = round(wait_s, 6) if wait_s is not None else None
    row.started_at = started_us
    row.finished_at = finished_us
    row.error_code = outcome.code
    row.error_message = outcome.message
    row.http_status = last.reply.status if last is not None else None
    row.response_id = answer.response_id if answer else None
    row.provider_model = answer.provider_model if answer else None
    row.truth = request.truth
    row.cluster = request.cluster
    row.repeat = request.repeat if request.repeat > 1 else None
    row.extra = orjson.dumps(outcome.extra).decode() if outcome.extra else None
    return row.in_order()


def copied_row(
    target: ModelTarget, request: Request, source: Mapping[str, Any], now_us: int
) -> Sequence[Any]:
    """The row of a request that ended as another row did (`source`): cost 0; `extra` names that row."""
    media: Media | None = request.media_items[0] if request.media_items else None
    row = _Result()
    for column in COLUMNS.results:
        setattr(row, pico_name(column), source[column] if column in COPIED else None)
    row.request_key = copy_key(request)
    row.item_id = request.item_id
    row.prompt_id = request.prompt_id
    row.model = target.model
    row.family = target.family.name
    row.media_uri = media.uri if media else None
    row.media_kind = media.kind if media else "text"
    row.prompt = request.prompt
    if source["status"] == ResultStatus.ANSWERED:
        row.input_tokens = row.output_tokens = row.total_tokens = 0
        row.input_cost_pico = row.output_cost_pico = row.cost_pico = 0
    row.attempts = 0
    row.finished_at = now_us
    row.truth = request.truth
    row.cluster = request.cluster
    row.repeat = request.repeat if request.repeat > 1 else None
    row.extra = orjson.dumps({"shared_from": request.key}).decode()
    return row.in_order()
