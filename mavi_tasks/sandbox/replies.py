"""What goes over the wire when something is wrong: envelopes, provider errors, and every fault."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import uuid4

import orjson
from aiohttp import web

from .families import Call, Completion


def json_reply(payload: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=orjson.dumps(payload), status=status, content_type="application/json", headers=headers
    )


def envelope(code: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """The documented error body; the HTTP status is the code."""
    return json_reply({"code": code, "msg": message, "data": None}, code, headers)


def spring(status: int, error: str, path: str) -> web.Response:
    """What the gateway in front says when it finds no route or no backend."""
    body: dict[str, Any] = {
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "path": path,
        "status": status,
        "error": error,
        "requestId": uuid4().hex[:8],
    }
    return json_reply(body, status)


def errored(code: str, message: str) -> web.Response:
    """A provider's error under HTTP 200."""
    body: dict[str, Any] = {
        "id": f"resp_{uuid4()}",
        "object": "completion",
        "status": "errored",
        "choices": [],
        "usage": None,
        "error": {"code": code, "message": message},
    }
    return json_reply(body)


def throttled(retry_after_s: float | None = None, as_date: bool = False) -> web.Response:
    """The documented 429, with a Retry-After of whole seconds or as an HTTP date when told."""
    headers = {}
    if retry_after_s is not None:
        seconds = max(1, -int(-retry_after_s // 1))
        at = datetime.now(UTC) + timedelta(seconds=seconds)
        headers["Retry-After"] = format_datetime(at, usegmt=True) if as_date else str(seconds)
    return envelope(429, "Rate limit exceeded", headers)


@dataclass(frozen=True, slots=True)
class Strike:
    """All that a fault may need. reply: the executed answer, None when the fault keeps it from running."""

    http: web.Request
    call: Call
    reply: Mapping[str, Any] | None
    stopping: asyncio.Event
    hang_s: float
    huge_body_bytes: int


Act = Callable[[Strike], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Fault:
    """billed: the completion runs and is charged before the fault spoils its reply."""

    act: Act
    billed: bool = False


def always(build: Callable[[Strike], web.StreamResponse], billed: bool = False) -> Fault:
    async def act(strike: Strike) -> web.StreamResponse:
        return build(strike)

    return Fault(act, billed)


def error(code: int, message: str) -> Fault:
    return always(lambda strike: envelope(code, message))


def provider(code: str, message: str) -> Fault:
    return always(lambda strike: errored(code, message))


def body_of(strike: Strike) -> bytes:
    return orjson.dumps(strike.reply)


async def reset(strike: Strike) -> web.StreamResponse:
    """Closes the connection with a TCP reset, without one byte of reply."""
    _abort(strike.http)
    return web.Response()


def _abort(http: web.Request) -> None:
    transport = http.transport
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort() if isinstance(transport, asyncio.WriteTransport) else transport.close()


async def hang(strike: Strike) -> web.StreamResponse:
    """Says nothing for hang_s, then closes."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(strike.stopping.wait(), strike.hang_s)
    return await reset(strike)


async def truncated(strike: Strike) -> web.StreamResponse:
    """Half of the body that Content-Length announces, then the connection is closed."""
    body = body_of(strike)
    response = web.StreamResponse(
        headers={"Content-Type": "application/json", "Content-Length": str(len(body))}
    )
    await response.prepare(strike.http)
    await response.write(body[: len(body) // 2])
    if strike.http.transport is not None:
        strike.http.transport.close()
    return response


async def huge(strike: Strike) -> web.StreamResponse:
    """A valid reply swollen with blanks to huge_body_bytes."""
    body = body_of(strike)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(strike.http)
    blanks = b" " * 65536
    try:
        await response.write(body[:-1])
        for _ in range(max(0, strike.huge_body_bytes - len(body)) // len(blanks)):
            await response.write(blanks)
        await response.write(b"}")
    except ConnectionError:  # the client has read enough
        return response
    await response.write_eof()
    return response


def with_reply(change: Callable[[dict[str, Any]], None], billed: bool) -> Fault:
    """A reply of the family's own form with something changed; unbilled ones are built without running."""

    def build(strike: Strike) -> web.Response:
        reply = orjson.loads(body_of(strike)) if strike.reply is not None else _empty(strike.call)
        change(reply)
        return json_reply(reply)

    return always(build, billed)


def _empty(call: Call) -> dict[str, Any]:
    """A reply of the family's form in which the model said nothing."""
    return dict(
        call.family.reply(Completion(call, ("",), (False,), 0, 0, 0, int(datetime.now(UTC).timestamp())))
    )


def _null_usage(reply: dict[str, Any]) -> None:
    reply["usage"] = None


def _no_text(reply: dict[str, Any]) -> None:
    """The completion ran, but neither its text nor its usage is told."""
    for choice in reply["choices"]:
        if "text" in choice:
            choice["text"] = ""
        else:
            choice["message"]["content"] = ""
    reply["usage"] = None


def _no_usage(reply: dict[str, Any]) -> None:
    del reply["usage"]


def _no_choices(reply: dict[str, Any]) -> None:
    reply["choices"] = []
    reply["usage"] = None


def plain_text(strike: Strike) -> web.Response:
    return web.Response(body=body_of(strike), content_type="text/plain")


def invalid_utf8(strike: Strike) -> web.Response:
    body = body_of(strike)
    middle = body.index(b'"id"') + 6  # inside the id's string
    return web.Response(body=body[:middle] + b"\xff\xfe" + body[middle:], content_type="application/json")


def html(status: int) -> Fault:
    page = b"<html><head><title>Proxy</title></head><body><h1>The proxy could not answer</h1></body></html>"
    return always(lambda strike: web.Response(body=page, status=status, content_type="text/html"))


FAILED_0001 = {
    "code": "0001",
    "msg": "The network is abnormal, please try again later",
    "data": None,
    "success": False,
    "failed": True,
}

# Every row of the retry table a client must know, under one name each.
FAULTS: Mapping[str, Fault] = {
    "throttle": always(lambda strike: throttled()),
    "throttle_seconds": always(lambda strike: throttled(1)),
    "throttle_date": always(lambda strike: throttled(2, as_date=True)),
    "throttle_400": error(400, "Request has exceeded the limit."),
    "resource_exhausted": provider("RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later."),
    "throttling": provider("Throttling.RateQuota", "Requests rate limit exceeded, please try again later."),
    "insufficient_quota": error(429, "insufficient_quota: You exceeded your current quota, check your plan"),
    "http_500": error(500, "Internal server error"),
    "http_502": always(lambda strike: spring(502, "Bad Gateway", strike.http.path)),
    "http_503": always(lambda strike: spring(503, "Service Unavailable", strike.http.path)),
    "http_504": always(lambda strike: spring(504, "Gateway Timeout", strike.http.path)),
    "reset": Fault(reset),
    "reset_after": Fault(reset, billed=True),
    "hang": Fault(hang),
    "hang_after": Fault(hang, billed=True),
    "truncated": Fault(truncated, billed=True),
    "html": html(200),
    "html_502": html(502),
    "wrong_content_type": always(plain_text, billed=True),
    "failed_0001": always(lambda strike: json_reply(FAILED_0001)),
    "empty_text": with_reply(_null_usage, billed=False),
    "empty_text_billed": with_reply(_no_text, billed=True),
    "no_usage": with_reply(_no_usage, billed=True),
    "empty_choices": with_reply(_no_choices, billed=False),
    "empty_choices_billed": with_reply(_no_choices, billed=True),
    "errored_invalid": provider("INVALID_ARGUMENT", "Request contains an invalid argument."),
    "errored_fetch": provider("INVALID_ARGUMENT", "Cannot fetch content from the provided URL. URL_ERROR"),
    "errored_robots": provider("INVALID_ARGUMENT", "Cannot fetch content: URL_ROBOTED-ROBOTED_DENIED"),
    "errored_filter": provider("DataInspectionFailed", "Input data may contain inappropriate content."),
    "download_timeout": error(400, "timeout while downloading the media from its URL"),
    "http_400": error(400, "Invalid parameters"),
    "http_401": error(401, "Unauthorized"),
    "http_402": error(402, "Insufficient balance"),
    "http_403": error(403, "Account disabled or IP not allowed"),
    "http_409": error(409, "Conflict"),
    "model_not_found": always(lambda strike: envelope(400, f"model not found: {strike.call.wire_model}")),
    "model_retired": always(lambda strike: envelope(400, f"{strike.call.wire_model} has been retired")),
    "gateway_404": always(lambda strike: spring(404, "Not Found", strike.http.path)),
    "huge": Fault(huge, billed=True),
    "invalid_utf8": always(invalid_utf8, billed=True),
}
