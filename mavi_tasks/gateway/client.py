"""One POST to the gateway, and what its reply means.

    verdict (what dispatch does)   codes
    ok          answer it          -
    throttled   hold the model     rate_limited
    again       try again          server_error bad_gateway unreadable disconnected timeout unreachable ...
    refetch     once more, then    media_fetch empty_answer
                inline if we can
    final       this request only  bad_request blocked not_found unsupported conflict ...
    stop_model  this model         model_not_found
    stop_run    the whole run      unauthorized no_balance forbidden

Whether a try was billed is kept apart: `in_doubt` when a reply may have been lost on its way (a timeout or a
reset after sending, a gateway error, a body that cannot be read), and when a reply neither holds an answer
nor reports an error or usage. The contract names no idempotency key, so such a try may have cost money.
"""

import asyncio
import email.utils
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, cast

import aiohttp
import httpx
import httpx_aiohttp
import orjson

Action = Literal["ok", "throttled", "again", "refetch", "final", "stop_model", "stop_run"]
Outcome = Literal["answered", "throttled", "rejected", "failed", "in_doubt"]

MAX_REPLY_BYTES: Final = 32 << 20
MAX_MESSAGE_CHARS: Final = 500


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """What a reply means, as data. `outcome` is the attempt's, `action` is what dispatch does next."""

    action: Action
    outcome: Outcome
    code: str | None = None
    message: str | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """One try's end. `payload` is the reply's JSON object when it had one; status None: no reply came."""

    verdict: RetryDecision
    status: int | None
    payload: Mapping[str, Any] | None
    latency_s: float


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

# words in a message, looked at only where the code says nothing more: (any of these) -> meaning
_WORDS: Final[tuple[tuple[tuple[str, ...], tuple[Action, Outcome, str]], ...]] = (
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

FATAL_HINTS: Final[Mapping[str, str]] = {
    "unauthorized": "the key was refused: check MAVI_API_KEY (sent raw, without 'Bearer'), or the variable "
    "that the job's gateway.api_key_env names",
    "no_balance": "the balance is used up: top it up in the console, then run the same command again",
    "forbidden": "the account is disabled, or this machine's address is not on its allow-list",
}


class Gateway:
    """A client of one gateway; use as an async context manager.

    `connections` bounds the pool. Phases have their own timeouts: connect, and each read.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        *,
        connections: int = 1024,
        connect_timeout_s: float = 10.0,
        read_timeout_s: float = 180.0,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._headers = {"content-type": "application/json", "accept": "application/json"}
        self._secret = (api_key or "").removeprefix("Bearer ")
        if api_key:
            self._headers["authorization"] = api_key
        self._connections = connections
        self._extensions = {"timeout": {"connect": connect_timeout_s, "read": read_timeout_s, "pool": None}}
        self._urls: dict[str, httpx.URL] = {}

    async def __aenter__(self) -> "Gateway":
        limits = httpx.Limits(max_connections=self._connections, keepalive_expiry=30.0)
        self._transport = httpx_aiohttp.AiohttpTransport(limits=limits)
        session = self._transport.get_client()
        session._cookie_jar = (
            aiohttp.DummyCookieJar()
        )  # the gateway sets none worth keeping; saves 4 us a call
        self._transport.client = session
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.aclose()
        await asyncio.sleep(0)  # lets aiohttp's connections see that they are closed

    async def post(self, path: str, body: bytes) -> Reply:
        """Send one body and read its reply; every end of it is a Reply, none raises (but cancellation)."""
        url = self._urls.get(path)
        if url is None:
            url = self._urls.setdefault(path, httpx.URL(self.base_url + path))
        request = httpx.Request("POST", url, headers=self._headers, content=body, extensions=self._extensions)
        request.headers.encoding = "latin-1"  # told, httpx need not try every header for one: 20 us a call
        began = time.perf_counter()
        try:
            # The transport itself: httpx's client adds redirects, cookies and hooks, which a gateway must not
            # use, and doubles the CPU of a call.
            response = await self._transport.handle_async_request(request)
        except (httpx.HTTPError, aiohttp.ClientError, OSError, TimeoutError) as error:
            return Reply(_no_reply(error), None, None, time.perf_counter() - began)
        try:
            raw = await _read(response)
        except (httpx.HTTPError, httpx.StreamError, aiohttp.ClientError, OSError, TimeoutError) as error:
            verdict = RetryDecision(
                "again", "in_doubt", "disconnected", f"the reply broke off ({_name(error)})"
            )
            return Reply(verdict, response.status_code, None, time.perf_counter() - began)
        finally:
            await response.aclose()
        reply = read_reply(response.status_code, response.headers, raw, time.perf_counter() - began)
        return reply if reply.verdict.message is None else self._without_key(reply)

    def _without_key(self, reply: Reply) -> Reply:
        """An error that quotes the key it refused goes into rows and onto screens: not with the key."""
        message = reply.verdict.message or ""
        if not self._secret or self._secret not in message:
            return reply
        verdict = replace(reply.verdict, message=message.replace(self._secret, "[the key]"))
        return replace(reply, verdict=verdict)


async def _read(response: httpx.Response) -> bytes | None:
    """The body, decompressed; None when it is larger than any answer can be."""
    response.headers.encoding = "latin-1"
    packed = "content-encoding" in response.headers
    stream = response.aiter_bytes() if packed else cast("httpx.AsyncByteStream", response.stream)
    chunks, size = [], 0
    async for chunk in stream:
        size += len(chunk)
        if size > MAX_REPLY_BYTES:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _name(error: BaseException) -> str:
    return type(error.__cause__ or error).__name__


def _no_reply(error: BaseException) -> RetryDecision:
    """No reply came: was the request out already? (The transport's own error classes do not tell.)"""
    cause = error.__cause__ or error
    unsent = isinstance(
        cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.InvalidURL
    )
    if unsent or isinstance(error, httpx.ConnectError):
        return RetryDecision(
            "again", "failed", "unreachable", f"cannot connect to the gateway ({cause})"[:MAX_MESSAGE_CHARS]
        )
    if isinstance(cause, TimeoutError | httpx.TimeoutException):
        return RetryDecision("again", "in_doubt", "timeout", "no reply in time")
    return RetryDecision("again", "in_doubt", "disconnected", f"the connection was lost ({_name(error)})")


def read_reply(status: int, headers: Mapping[str, str], raw: bytes | None, latency_s: float) -> Reply:
    """Judge a reply by its status and body. Source: mavi-contract, sections 6.1 to 6.6."""
    payload = _unwrapped(_json_object(raw))
    if status == 200 and payload is not None and _plainly_good(payload):
        return Reply(OK, status, payload, latency_s)
    return Reply(judge(status, headers, payload, raw), status, payload, latency_s)


def _unwrapped(payload: dict[str, Any] | None) -> dict[str, Any] | None:
    """The completion itself where it lies under `data` of an envelope that tells of no error."""
    if payload is None or "choices" in payload or _says_error(payload):
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
    r"""JSON that escapes half a character (`"\ud83d"`), read with `?` for it; None when it is no JSON.

    orjson refuses it, but an answer cut by max_tokens in the middle of an emoji is paid for, and would be
    paid for again with every new try.
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


def judge(
    status: int, headers: Mapping[str, str], payload: Mapping[str, Any] | None, raw: bytes | None
) -> RetryDecision:
    """The verdict on a reply that is not plainly good."""
    if payload is None and status < 400:
        return RetryDecision("again", "in_doubt", "unreadable", f"the reply {_unreadable(raw)}")
    if status < 400 and payload is not None and not _says_error(payload):
        return RetryDecision("refetch", "in_doubt", "empty_answer", "the reply holds no answer")
    code, message = _error_of(payload)
    action, outcome, name = _meaning(status, code, message)
    message = message or _snippet(raw) or f"HTTP {status}"
    retry_after_s = retry_after(headers) if action in ("throttled", "again") else None
    return RetryDecision(action, outcome, name, _unsigned(message)[:MAX_MESSAGE_CHARS], retry_after_s)


def _says_error(payload: Mapping[str, Any]) -> bool:
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
    return str(code), str(message or "")


def _meaning(status: int, code: str, message: str) -> tuple[Action, Outcome, str]:
    named = _CODES.get(code.lower())
    if named is None and code.lower().startswith("throttling"):
        named = _STATUS[429]
    if named is not None:
        return named
    general = _STATUS.get(status) if status >= 400 else _STATUS.get(int(code) if code.isdecimal() else 0)
    if general is None or general[0] in ("final", "again"):
        text = message.lower()
        for words, meaning in _WORDS:
            if any(word in text for word in words) and not (status >= 500 and meaning[0] == "final"):
                return meaning
    if general is not None:
        return general
    if status >= 500:
        return _STATUS[500]
    if status >= 400:
        return _STATUS[400]
    return ("final", "failed", code.lower() or "errored")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from Retry-After as seconds or as a date; None when it is absent or makes no sense."""
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
        return f"is no whole JSON object ({len(raw)} bytes)"
    return f"is no JSON object: {_snippet(raw)}"


_QUERY: Final = re.compile(r"""(https?://[^\s?#"'<>]*)[?#][^\s"'<>)\]]*""", re.IGNORECASE)
_USER: Final = re.compile(r"(https?://)[^\s/@\"'<>]*@", re.IGNORECASE)


def _unsigned(message: str) -> str:
    """A message whose URLs have lost query and user: gateways quote the URL they could not fetch."""
    return _USER.sub(r"\1", _QUERY.sub(r"\1?...", message))


def _snippet(raw: bytes | None) -> str:
    """The start of a body that is no JSON, or of an error's, printable, for an error message."""
    text = _unsigned((raw or b"")[:2000].decode("utf-8", "replace"))[:200]
    return "".join(c if c.isprintable() else " " for c in text).strip()
