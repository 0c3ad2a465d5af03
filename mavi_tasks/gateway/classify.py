"""What a reply of the gateway means, as data.

    action                         codes
    ok          keep the answer    -
    throttled   hold the model     rate_limited
    again       send it again      server_error bad_gateway unreadable disconnected timeout unreachable ...
    refetch     once more, then    media_fetch empty_answer
                inline if we can
    final       this request only  bad_request blocked not_found unsupported conflict ...
    stop_model  this model         model_not_found
    stop_run    the whole run      unauthorized no_balance forbidden

Whether an attempt was billed is a separate question: `in_doubt` when a reply may have been lost (a timeout or
a reset after sending, a gateway error, a body that cannot be read), and when a reply neither holds an answer
nor reports an error or usage. The contract has no idempotency key, so such an attempt may have cost money.
A whole answer is kept under every status but an error's (400 to 599), also 206 or 999: it is paid for.
"""

import email.utils
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import orjson

from mavi_tasks.gateway.redaction import NOTHING_SECRET, WINDOW, Redaction
from mavi_tasks.gateway.streams import StreamShape

Action = Literal["ok", "throttled", "again", "refetch", "final", "stop_model", "stop_run"]
Outcome = Literal["answered", "throttled", "rejected", "failed", "in_doubt"]

MAX_MESSAGE_CHARS: Final = 500
MAX_CODE_CHARS: Final = 64


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """What a reply means, as data. `outcome` is the attempt's, `action` is what is done next."""

    action: Action
    outcome: Outcome
    code: str | None = None
    message: str | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """One attempt's end. `payload` is the reply's JSON object when it had one; status None: no reply came.

    first_token_s, stream: when its first text came and in which shape; None = not as a stream.
    """

    decision: RetryDecision
    status: int | None
    payload: Mapping[str, Any] | None
    latency_s: float
    first_token_s: float | None = None
    stream: StreamShape | None = None


OK: Final = RetryDecision("ok", "answered")

# HTTP status, or the same number inside an error body -> (action, outcome, code)
_STATUS: Final[Mapping[int, tuple[Action, Outcome, str]]] = {
    400: ("final", "rejected", "bad_request"),
    401: ("stop_run", "rejected", "unauthorized"),
    402: ("stop_run", "rejected", "no_balance"),
    403: ("stop_run", "rejected", "forbidden"),
    404: ("final", "rejected", "not_found"),
    405: ("final", "rejected", "method_not_allowed"),
    408: ("again", "in_doubt", "timeout"),
    409: ("final", "rejected", "conflict"),
    413: ("final", "rejected", "too_large"),
    415: ("final", "rejected", "unsupported_media_type"),
    422: ("final", "rejected", "bad_request"),
    429: ("throttled", "throttled", "rate_limited"),
    500: ("again", "failed", "server_error"),
    502: ("again", "in_doubt", "bad_gateway"),
    503: ("again", "failed", "unavailable"),
    504: ("again", "in_doubt", "gateway_timeout"),
    529: ("throttled", "throttled", "rate_limited"),
}

# codes that name their meaning, whatever the status; older products' string codes, and the providers' own
_CODES: Final[Mapping[str, tuple[Action, Outcome, str]]] = {
    "0401": _STATUS[401],
    "0402": _STATUS[402],
    "0403": _STATUS[403],
    "0409": _STATUS[409],
    "0429": _STATUS[429],
    "0001": ("again", "failed", "transient"),
    "0003": ("final", "rejected", "bad_request"),
    "9009": _STATUS[403],
    "16": ("throttled", "throttled", "rate_limited"),
    "resource_exhausted": _STATUS[429],
    "rate_limit_exceeded": _STATUS[429],
    "throttlingexception": _STATUS[429],
    "toomanyrequestsexception": _STATUS[429],
    "insufficient_quota": ("stop_run", "rejected", "no_balance"),
    "arrearage": ("stop_run", "rejected", "no_balance"),
    "datainspectionfailed": ("final", "failed", "blocked"),
    "content_filter": ("final", "failed", "blocked"),
    "content_policy_violation": ("final", "failed", "blocked"),
    "serviceunavailableexception": _STATUS[503],
    "unavailable": _STATUS[503],
    "internal": _STATUS[500],
    "deadline_exceeded": _STATUS[504],
    "model_not_found": ("stop_model", "rejected", "model_not_found"),
    "modelnotfound": ("stop_model", "rejected", "model_not_found"),
    "invalid_api_key": _STATUS[401],
    "invalidapikey": _STATUS[401],
}

# phrases in a message, checked only where the code says nothing more: (any of these) -> meaning
_PHRASES: Final[tuple[tuple[tuple[str, ...], tuple[Action, Outcome, str]], ...]] = (
    (("robots", "url_roboted"), ("final", "rejected", "media_refused")),  # before what cannot be fetched
    (
        ("while downloading", "download timeout", "failed to download", "download multimodal",
         "cannot fetch content", "could not fetch"),
        ("refetch", "failed", "media_fetch"),
    ),
    (
        ("rate limit", "too many requests", "throttl", "resource_exhausted", "exceeded the limit"),
        _STATUS[429],
    ),
    (
        ("model not found", "no such model", "model does not exist", "model not exist", "unknown model",
         "model is not supported", "been retired", "been deprecated", "is deprecated", "no longer available"),
        ("stop_model", "rejected", "model_not_found"),
    ),
    (("network is abnormal",), ("again", "failed", "transient")),
)  # fmt: skip

# What this module itself calls it; every other code is the gateway's own text.
_OWN_CODES: Final = frozenset(
    (
        *(code for _, _, code in (*_STATUS.values(), *_CODES.values())),
        *(meaning[2] for _, meaning in _PHRASES),
    )
) | {"unreadable", "empty_answer"}

FATAL_HINTS: Final[Mapping[str, str]] = {
    "unauthorized": "the key was refused: check MAVI_API_KEY (sent raw, without 'Bearer'), or the variable "
    "that the job's gateway.api_key_env names",
    "no_balance": "the balance is used up: top it up in the console, then run the same command again",
    "forbidden": "the account is disabled, or this machine's address is not on its allow-list",
}


def read_reply(
    status: int,
    headers: Mapping[str, str],
    raw: bytes | None,
    latency_s: float,
    redaction: Redaction = NOTHING_SECRET,
    urls: Sequence[str] = (),
) -> Reply:
    """Classify a reply by its status and body. Source: mavi-contract, sections 6.1 to 6.6.

    urls: those that were sent; what they and the key hold of secrets is taken out of all that the reply says.
    """
    payload: Mapping[str, Any] | None = _unwrapped(_json_object(raw))
    if payload is not None and raw is not None:
        payload = redaction.payload(payload, raw, urls)
    if not _is_error(status) and payload is not None and _plainly_good(payload):
        return Reply(OK, status, payload, latency_s)
    decision = decide(status, headers, payload, raw)
    message = redaction.message(decision.message or "", urls, MAX_MESSAGE_CHARS)
    code = decision.code or ""
    if code not in _OWN_CODES:
        code = redaction.message(code, urls, MAX_CODE_CHARS)
    return Reply(replace(decision, code=code, message=message), status, payload, latency_s)


def _is_error(status: int) -> bool:
    """Whether the status alone says that there is no answer; others that HTTP does not know say nothing."""
    return 400 <= status < 600


def _unwrapped(payload: dict[str, Any] | None) -> dict[str, Any] | None:
    """The completion itself where it is under `data` of an envelope that reports no error."""
    if payload is None or "choices" in payload or _reports_error(payload):
        return payload
    inner = payload.get("data")
    return inner if isinstance(inner, dict) and inner.get("choices") else payload


def _json_object(raw: bytes | None) -> dict[str, Any] | None:
    if raw is None:
        return None
    try:
        payload = orjson.loads(raw)
    except orjson.JSONDecodeError:
        payload = _with_half_characters(raw)
    return payload if isinstance(payload, dict) else None


def _with_half_characters(raw: bytes) -> Any:
    r"""JSON that escapes half a character (`"\ud83d"`), read with `?` for it; None when it is not JSON.

    orjson refuses it, but an answer cut by max_tokens in the middle of an emoji is paid for, and would be
    paid for again with every new attempt.
    """
    if rb"\ud" not in raw.lower():
        return None
    try:
        whole = json.dumps(json.loads(raw), ensure_ascii=False).encode("utf-8", "replace")
        return orjson.loads(whole)
    except (ValueError, RecursionError):
        return None


_GOOD_CODES: Final = (None, 0, 200, "0", "200", "0000")
_DONE: Final = (None, "completed")


def _plainly_good(payload: Mapping[str, Any]) -> bool:
    return (
        bool(payload.get("choices"))
        and payload.get("status") in _DONE
        and payload.get("error") is None
        and payload.get("code") in _GOOD_CODES
        and payload.get("failed") is not True
        and payload.get("success") is not False
    )


def decide(
    status: int, headers: Mapping[str, str], payload: Mapping[str, Any] | None, raw: bytes | None
) -> RetryDecision:
    """The decision on a reply that is not plainly good; code and message are not yet redacted, nor cut."""
    if payload is None and not _is_error(status):
        return RetryDecision("again", "in_doubt", "unreadable", f"the reply {_unreadable(raw)}")
    if not _is_error(status) and payload is not None and not _reports_error(payload):
        return RetryDecision("refetch", "in_doubt", "empty_answer", "the reply holds no answer")
    code, message = _error_of(payload)
    action, outcome, name = _meaning(status, code, message)
    message = message or _snippet(raw) or f"HTTP {status}"
    retry_after_s = retry_after(headers) if action in ("throttled", "again") else None
    return RetryDecision(action, outcome, name, message, retry_after_s)


def _reports_error(payload: Mapping[str, Any]) -> bool:
    return (
        payload.get("error") is not None
        or payload.get("failed") is True
        or payload.get("success") is False
        or payload.get("code") not in _GOOD_CODES
        or payload.get("status") not in _DONE
    )


def _error_of(payload: Mapping[str, Any] | None) -> tuple[str, str]:
    """The error's own code and message, from whichever of the known envelopes this is."""
    if payload is None:
        return "", ""
    error = payload.get("error")
    inner = error if isinstance(error, dict) else {}
    code = inner.get("code") or inner.get("type") or payload.get("code") or inner.get("status") or ""
    message = inner.get("message") or payload.get("msg") or payload.get("message")
    if not message and isinstance(error, str):
        message = error
    return _short(code), message[:WINDOW] if isinstance(message, str) else ""


def _short(code: object) -> str:
    """A code is a short word: never a container's text, nor megabytes of it."""
    return str(code)[:WINDOW] if isinstance(code, str | int | float) else type(code).__name__


def _meaning(status: int, code: str, message: str) -> tuple[Action, Outcome, str]:
    named = _CODES.get(code.lower())
    if named is None and code.lower().startswith("throttling"):
        named = _STATUS[429]
    if named is not None:
        return named
    general = _STATUS.get(status) if _is_error(status) else _STATUS.get(_number(code))
    if general is None or general[0] in ("final", "again"):
        text = message.lower()
        for phrases, meaning in _PHRASES:
            if any(phrase in text for phrase in phrases) and not (status >= 500 and meaning[0] == "final"):
                return meaning
    if general is not None:
        return general
    if _is_error(status):
        return _STATUS[500 if status >= 500 else 400]
    return ("final", "failed", code.lower() or "errored")


def _number(code: str) -> int:
    return int(code) if code.isdecimal() and len(code) < 5 else 0


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from Retry-After as seconds or as a date; None when it is absent or not valid."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if seconds < 86_400 * 7 else None


def _unreadable(raw: bytes | None) -> str:
    if raw is None:
        return "is larger than 32 MiB"
    if raw.lstrip()[:1] in (b"{", b"["):  # no snippet: it may hold an answer
        return f"is not a whole JSON object ({len(raw)} bytes)"
    return f"is not a JSON object: {_snippet(raw)}"


def _snippet(raw: bytes | None) -> str:
    """The start of a body that is not JSON, or of an error's without a message, on one line."""
    return " ".join((raw or b"")[:2000].decode("utf-8", "replace").split())
