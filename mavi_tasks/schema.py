"""The columns of the dataset. Public: people build dashboards on them, so a column is only ever added.

Null means "not reported" or "not known", never zero. Money is decimal128(18,12) in US dollars: whole
pico-dollars, exact. Instants are microseconds in UTC. Every file carries the whole schema from the first
version on, because readers drop columns that appear late; what is unforeseen goes into `extra` as JSON.
"""

from enum import StrEnum
from typing import Final

import pyarrow as pa

SCHEMA_VERSION = 1

USD = pa.decimal128(18, 12)
INSTANT = pa.timestamp("us", tz="UTC")
WORD = pa.dictionary(pa.int32(), pa.string())  # few distinct values


class ResultStatus(StrEnum):
    """How a request ended: the column `status` of results."""

    ANSWERED = "answered"
    INVALID = "invalid"  # paid for, and not valid against the answer schema
    FAILED = "failed"
    SKIPPED = "skipped"  # not sent: its row cannot be asked, or its model cannot take the media


class AttemptOutcome(StrEnum):
    """What came of one send: the column `outcome` of attempts."""

    ANSWERED = "answered"
    THROTTLED = "throttled"
    REJECTED = "rejected"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"  # perhaps billed


class ReviewVerdict(StrEnum):
    """What a person says of an answer: the column `verdict` of reviews."""

    ACCEPTED = "accepted"  # the value is a model's, and right
    CORRECTED = "corrected"  # the value is the reviewer's
    UNSURE = "unsure"
    REJECTED = "rejected"  # it is wrong, and nobody says what is right


PAID: Final = frozenset({ResultStatus.ANSWERED, ResultStatus.INVALID})

RESULTS = pa.schema(
    [
        ("run_id", WORD),
        ("job", WORD),
        ("gateway", WORD),  # mavi | sandbox | the base URL of another
        ("request_key", pa.string()),  # sha256 over what decides the answer
        ("item_id", pa.string()),
        ("prompt_id", WORD),
        ("model", WORD),  # family:name, as in the job
        ("family", WORD),
        ("endpoint", WORD),  # /vu | /iu; null where the base URL is the only one, or nothing was sent
        ("media_uri", pa.string()),  # without signature
        ("media_kind", WORD),  # image | video | text
        ("media_sha256", pa.string()),  # null for remote media that were not read
        ("input_mode", WORD),  # url | inline | frames | text
        ("frames_sent", pa.int64()),
        ("media_bytes", pa.int64()),  # as sent; null for a URL
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("duration_s", pa.float64()),
        ("prompt", pa.string()),  # as rendered
        ("prompt_hash", WORD),  # of the prompt's template, system text and answer schema; null = not noted
        ("status", WORD),  # ResultStatus
        ("answer", pa.string()),
        ("answer_json", pa.string()),  # the answer as JSON, when the job has an answer schema
        ("finish_reason", WORD),
        ("choices", pa.list_(pa.string())),  # all of them, when n > 1
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("total_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("reasoning_tokens", pa.int64()),
        ("input_cost_usd", USD),
        ("output_cost_usd", USD),
        ("cost_usd", USD),  # of the attempt that gave this row; null = no price known
        ("price_id", WORD),
        ("attempts", pa.int64()),
        ("latency_s", pa.float64()),  # of the last attempt
        ("first_token_s", pa.float64()),  # of the last attempt; null when it was not streamed
        ("wait_s", pa.float64()),  # from first readiness to the last send: limits and back-off
        ("started_at", INSTANT),
        ("finished_at", INSTANT),
        ("error_code", WORD),
        ("error_message", pa.string()),
        ("http_status", pa.int64()),
        ("response_id", pa.string()),
        ("provider_model", WORD),  # as the response names it
        ("truth", pa.string()),
        ("cluster", pa.string()),  # what the item belongs to, where a column says so (columns.cluster)
        ("repeat", pa.int64()),  # 2, 3, ... where the same was asked again; null = the first time
        ("kept", pa.string()),  # JSON object of the manifest's columns that the job keeps; null without any
        ("extra", pa.string()),  # JSON object or null
        ("schema_version", pa.int64()),
    ]
)

ATTEMPTS = pa.schema(
    [
        ("attempt_id", pa.string()),
        ("request_key", pa.string()),
        ("run_id", WORD),
        ("model", WORD),
        ("started_at", INSTANT),
        ("finished_at", INSTANT),  # null when the process died first
        ("outcome", WORD),  # AttemptOutcome
        ("http_status", pa.int64()),
        ("error_code", WORD),
        ("retry_after_s", pa.float64()),
        ("latency_s", pa.float64()),
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("cost_usd", USD),  # billed; null = not billed, not known, or no price
        ("exposure_usd", USD),  # the most an in-doubt attempt may have cost
        ("schema_version", pa.int64()),
    ]
)

RUNS = pa.schema(
    [
        ("run_id", pa.string()),
        ("job", pa.string()),
        ("job_hash", pa.string()),
        ("gateway", pa.string()),
        ("models", pa.list_(pa.string())),
        ("started_at", INSTANT),
        ("finished_at", INSTANT),  # null when the process died first
        ("status", pa.string()),  # finished | stopped | interrupted | crashed
        ("stop_reason", pa.string()),
        ("requests", pa.int64()),
        ("answered", pa.int64()),
        ("failed", pa.int64()),
        ("invalid", pa.int64()),
        ("skipped", pa.int64()),
        ("unsent", pa.int64()),
        ("already_answered", pa.int64()),
        ("cost_usd", USD),
        ("exposure_usd", USD),
        ("budget_usd", USD),
        ("mavi_version", pa.string()),
        ("python_version", pa.string()),
        ("extra", pa.string()),
        ("schema_version", pa.int64()),
    ]
)

REVIEWS = pa.schema(
    [
        ("review_id", pa.string()),
        ("item_id", pa.string()),
        ("prompt_id", WORD),
        ("media_sha256", pa.string()),  # of the media that was looked at; null when it is not known
        ("field", WORD),  # of the answer; null = the whole answer
        ("value_json", pa.string()),  # the right value as JSON; null when nobody said it
        ("verdict", WORD),  # ReviewVerdict; null when the row only takes another one back
        ("chosen_model", WORD),  # whose answer was taken
        ("note", pa.string()),
        ("reviewer", WORD),
        ("reviewed_at", INSTANT),
        ("source", WORD),  # view | csv | label-studio
        ("retracts", pa.string()),  # the review_id that this row takes back
        ("inclusion_probability", pa.float64()),  # with which the item was drawn; null = not drawn
        ("sample_id", WORD),  # the draw; `<draw>.again` when the item was shown a second time
        ("schema_version", pa.int64()),
    ]
)

# The columns of labels that labels share with results; the others are the fields of the run's answer schema.
LABEL_KEYS = ("run_id", "request_key", "item_id", "prompt_id", "model", "media_uri", "status", "finished_at")

TABLES = {"results": RESULTS, "attempts": ATTEMPTS, "runs": RUNS, "reviews": REVIEWS}
