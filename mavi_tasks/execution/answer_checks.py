"""What a reader of an answer should know: it is empty, stops short, or its media was most likely not seen."""

from typing import Final

from mavi_tasks import estimate, labels
from mavi_tasks.common.format import usd as usd_text
from mavi_tasks.common.money import usd
from mavi_tasks.execution.rows import Attempt
from mavi_tasks.gateway.classify import RetryDecision
from mavi_tasks.planning.request import Request
from mavi_tasks.planning.target import ModelTarget

UNSEEN_FRACTION: Final = 0.1  # fewer of a media's estimated tokens than this, and it was not read
LEAST_MEDIA_TOKENS: Final = 100  # too few to tell a media that was read from one that was not


def empty_answer(billed: bool, finish_reason: str | None) -> RetryDecision:
    """No text: perhaps not fetched, perhaps billed (worth another try), or surely billed (not worth one)."""
    if not billed:
        return RetryDecision(
            "refetch", "in_doubt", "empty_answer", "the reply holds no text and counts no tokens"
        )
    hint = f"finish_reason {finish_reason}; " if finish_reason else ""
    message = f"billed, but the answer is empty ({hint}thinking may have used up max_tokens: raise it)"
    return RetryDecision("final", "failed", "empty_answer", message)


def remarks_on(
    attempt: Attempt, text: str, request: Request, target: ModelTarget, *, repaired: bool
) -> dict[str, object]:
    """`truncated`, `media_unseen`, `repaired`: each there when it is true. `cost_beyond_column`: in words."""
    assert attempt.answer is not None
    usage, reason = attempt.usage, attempt.answer.finish_reason
    found: dict[str, object] = {}
    if (reason or "").lower() in ("length", "max_tokens") or (
        reason is None
        and labels.looks_truncated(text, usage.output_tokens, target.max_tokens, target.schema is not None)
    ):
        found["truncated"] = True
    if request.media_items and usage.input_tokens is not None and _unseen(usage.input_tokens, request):
        found["media_unseen"] = True
    if repaired:
        found["repaired"] = True
    if attempt.beyond_pico is not None:
        found["cost_beyond_column"] = f"{usage_text(attempt)} would cost {usd_text(usd(attempt.beyond_pico))}"
    return found


def usage_text(attempt: Attempt) -> str:
    """The tokens that a reply counts."""
    return f"{attempt.usage.input_tokens:,} input and {attempt.usage.output_tokens:,} output tokens"


def _unseen(input_tokens: int, request: Request) -> bool:
    """Far fewer input tokens than the text and this media need: the media was most likely not read."""
    text_tokens = estimate.text_tokens(estimate.text_chars(request.prompt))
    media_tokens = request.tokens - text_tokens
    return media_tokens >= LEAST_MEDIA_TOKENS and input_tokens < text_tokens + media_tokens * UNSEEN_FRACTION
