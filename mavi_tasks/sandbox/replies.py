"""Error replies: the documented envelopes, provider errors, and all faults."""

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
    """The error body of the front proxy, when it finds no route or no backend."""
    body: dict[str, Any] = {
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "path": path,
        "status": status,
        "error": error,
        "requestId": uuid4().hex[:8],
    }
    return json_reply(body, status)


def errored(code: str, message: str) -> web.Response:
    """A provider's error with HTTP 200."""
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
    """The documented 429; Retry-After, if any, in whole seconds or as an HTTP date."""
    headers = {}
    if retry_after_s is not None:
        seconds = max(1, -int(-retry_after_s // 1))
        retry_at = datetime.now(UTC) + timedelta(seconds=seconds)
        headers["Retry-After"] = format_datetime(retry_at, usegmt=True) if as_date else str(seconds)
    return envelope(429, "Rate limit exceeded", headers)


@dataclass(frozen=True, slots=True)
class FaultContext:
    """The data for a fault. reply: the executed answer, None when the fault prevents its execution."""

    http: web.Request
    call: Call
    reply: Mapping[str, Any] | None
    stopping: asyncio.Event
    hang_s: float
    huge_body_bytes: int


FaultAction = Callable[[FaultContext], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Fault:
    """billed: the completion runs and is charged before the fault changes its reply."""

    act: FaultAction
    billed: bool = False


def always(build: Callable[[FaultContext], web.StreamResponse], billed: bool = False) -> Fault:
    async def act(context: FaultContext) -> web.StreamResponse:
        return build(context)

    return Fault(act, billed)


def error(code: int, message: str) -> Fault:
    return always(lambda context: envelope(code, message))


def provider(code: str, message: str) -> Fault:
    return always(lambda context: errored(code, message))


def body_of(context: FaultContext) -> bytes:
    return orjson.dumps(context.reply)


async def reset(context: FaultContext) -> web.StreamResponse:
    """Close the connection with a TCP reset, before any byte of the reply."""
    _abort(context.http)
    return web.Response()


def _abort(http: web.Request) -> None:
    transport = http.transport
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort() if isinstance(transport, asyncio.WriteTransport) else transport.close()


async def hang(context: FaultContext) -> web.StreamResponse:
    """Send nothing for hang_s, then close the connection."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(context.stopping.wait(), context.hang_s)
    return await reset(context)


async def truncated(context: FaultContext) -> web.StreamResponse:
    """Send half of the body that Content-Length states, then close the connection."""
    body = body_of(context)
    response = web.StreamResponse(
        headers={"Content-Type": "application/json", "Content-Length": str(len(body))}
    )
    await response.prepare(context.http)
    await response.write(body[: len(body) // 2])
    if context.http.transport is not None:
        context.http.transport.close()
    return response


async def huge(context: FaultContext) -> web.StreamResponse:
    """A valid reply, padded with blanks to huge_body_bytes."""
    body = body_of(context)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(context.http)
    blanks = b" " * 65536
    try:
        await response.write(body[:-1])
        for _ in range(max(0, context.huge_body_bytes - len(body)) // len(blanks)):
            await response.write(blanks)
        await response.write(b"}")
    except ConnectionError:  # the client stopped reading
        return response
    await response.write_eof()
    return response


def with_reply(change: Callable[[dict[str, Any]], None], billed: bool) -> Fault:
    """A reply in the family's format, changed; an unbilled reply is built without execution."""

    def build(context: FaultContext) -> web.Response:
        reply = orjson.loads(body_of(context)) if context.reply is not None else _empty(context.call)
        change(reply)
        return json_reply(reply)

    return always(build, billed)


def _empty(call: Call) -> dict[str, Any]:
    """A reply in the family's format, with an empty text."""
    return dict(
        call.family.reply(Completion(call, ("",), (False,), 0, 0, 0, int(datetime.now(UTC).timestamp())))
    )


def _null_usage(reply: dict[str, Any]) -> None:
    reply["usage"] = None


def _no_text(reply: dict[str, Any]) -> None:
    """The completion ran, but the reply has neither text nor usage."""
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


def plain_text(context: FaultContext) -> web.Response:
    return web.Response(body=body_of(context), content_type="text/plain")


def invalid_utf8(context: FaultContext) -> web.Response:
    body = body_of(context)
    middle = body.index(b'"id"') + 6  # inside the id's string
    return web.Response(body=body[:middle] + b"\xff\xfe" + body[middle:], content_type="application/json")


def html(status: int) -> Fault:
    page = b"<html><head><title>Proxy</title></head><body><h1>The proxy could not answer</h1></body></html>"
    return always(lambda context: web.Response(body=page, status=status, content_type="text/html"))


FAILED_0001 = {
    "code": "0001",
    "msg": "The network is abnormal, please try again later",
    "data": None,
    "success": False,
    "failed": True,
}

# One fault for each row of the retry table of the contract.
FAULTS: Mapping[str, Fault] = {
    "throttle": always(lambda context: throttled()),
    "throttle_seconds": always(lambda context: throttled(1)),
    "throttle_date": always(lambda context: throttled(2, as_date=True)),
    "throttle_400": error(400, "Request has exceeded the limit."),
    "resource_exhausted": provider("RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later."),
    "throttling": provider("Throttling.RateQuota", "Requests rate limit exceeded, please try again later."),
    "insufficient_quota": error(429, "insufficient_quota: You exceeded your current quota, check your plan"),
    "http_500": error(500, "Internal server error"),
    "http_502": always(lambda context: spring(502, "Bad Gateway", context.http.path)),
    "http_503": always(lambda context: spring(503, "Service Unavailable", context.http.path)),
    "http_504": always(lambda context: spring(504, "Gateway Timeout", context.http.path)),
    "reset": Fault(reset),
    "reset_after": Fault(reset, billed=True),
    "hang": Fault(hang),
    "hang_after": Fault(hang, billed=True),
    "truncated": Fault(truncated, billed=True),
    "html": html(200),
    "html_502": html(502),
    "wrong_content_type": always(plain_text, billed=True),
    "failed_0001": always(lambda context: json_reply(FAILED_0001)),
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
    "model_not_found": always(lambda context: envelope(400, f"model not found: {context.call.wire_model}")),
    "model_retired": always(lambda context: envelope(400, f"{context.call.wire_model} has been retired")),
    "gateway_404": always(lambda context: spring(404, "Not Found", context.http.path)),
    "huge": Fault(huge, billed=True),
    "invalid_utf8": always(invalid_utf8, billed=True),
}
