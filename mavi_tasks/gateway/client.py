"""One POST to the gateway: an HTTP client without redirects, cookies or hooks."""

import asyncio
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, cast

import aiohttp
import httpx
import httpx_aiohttp
import orjson

from mavi_tasks.gateway.classify import MAX_MESSAGE_CHARS, Reply, RetryDecision, read_reply
from mavi_tasks.gateway.redaction import Redaction
from mavi_tasks.gateway.streams import EVENT_STREAM, FirstToken, assembled

MAX_REPLY_BYTES: Final = 32 << 20
KEEP_ALIVE_S: Final = 30.0


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
        self._headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        self._redaction = Redaction((api_key or "").removeprefix("Bearer "))
        if api_key:
            self._headers["authorization"] = api_key
        self._connections, self._timeout_s = connections, connect_timeout_s + read_timeout_s
        self._extensions = {"timeout": {"connect": connect_timeout_s, "read": read_timeout_s, "pool": None}}
        self._urls: dict[str, httpx.URL] = {}

    async def __aenter__(self) -> "Gateway":
        self._transport = httpx_aiohttp.AiohttpTransport()
        connector = aiohttp.TCPConnector(
            limit=self._connections, keepalive_timeout=KEEP_ALIVE_S, ssl=self._transport.ssl_context
        )
        # The gateway sets no cookie worth keeping; no jar saves 4 us a call.
        self._transport.client = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.aclose()
        await asyncio.sleep(0)  # lets aiohttp's connections see that they are closed

    async def post(self, path: str, body: bytes, urls: Sequence[str] = ()) -> Reply:
        """Send one body and read its reply; every end of it is a Reply, none raises (but cancellation).

        urls: those in the body; neither their secrets nor the key are left in what the reply says.
        """
        url = self._urls.get(path)
        if url is None:
            url = self._urls.setdefault(path, httpx.URL(self.base_url + path))
        request = httpx.Request("POST", url, headers=self._headers, content=body, extensions=self._extensions)
        request.headers.encoding = "latin-1"  # else httpx tries every header for one: 20 us a call
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_s):  # a server may send a byte a second
                return await self._exchange(request, began, urls)
        except TimeoutError:
            decision = RetryDecision("again", "in_doubt", "timeout", "no whole reply in time")
            return Reply(decision, None, None, time.perf_counter() - began)

    async def _exchange(self, request: httpx.Request, began: float, urls: Sequence[str]) -> Reply:
        try:
            # The transport itself: httpx's client adds redirects, cookies and hooks, which a gateway must not
            # use, and doubles the CPU of a call.
            response = await self._transport.handle_async_request(request)
        except (httpx.HTTPError, aiohttp.ClientError, OSError, TimeoutError) as error:
            return Reply(_no_reply(error), None, None, time.perf_counter() - began)
        encoding = response.headers.get("content-encoding", "")
        first = FirstToken(began, encoding)
        is_stream = EVENT_STREAM in response.headers.get("content-type", "").lower()
        try:
            raw = await _body(response, first.feed if is_stream else _ignore)
        except (httpx.HTTPError, httpx.StreamError, aiohttp.ClientError, OSError, TimeoutError) as error:
            decision = RetryDecision(
                "again", "in_doubt", "disconnected", f"the reply broke off ({_name(error)})"
            )
            return Reply(decision, response.status_code, None, time.perf_counter() - began)
        finally:
            await response.aclose()
        latency_s = time.perf_counter() - began
        if not is_stream or raw is None:
            return read_reply(response.status_code, response.headers, raw, latency_s, self._redaction, urls)
        return self._streamed(response, raw, latency_s, first, urls)

    def _streamed(
        self, response: httpx.Response, raw: bytes, latency_s: float, first: FirstToken, urls: Sequence[str]
    ) -> Reply:
        """A stream as a whole reply; one of another shape, or without its end, may have been billed."""
        shape, payload = assembled(raw)
        if payload is None:
            what = "broke off" if shape else "has a shape that is not known (mavi doctor --probe)"
            decision = RetryDecision("again", "in_doubt", "disconnected", f"the stream {what}")
            return Reply(decision, response.status_code, None, latency_s, first.after_s, shape)
        whole = orjson.dumps(payload)
        status, headers = response.status_code, response.headers
        reply = read_reply(status, headers, whole, latency_s, self._redaction, urls)
        return replace(reply, first_token_s=first.after_s, stream=shape)


def _ignore(chunk: bytes) -> None:
    """Nobody waits for the first token."""


async def _body(response: httpx.Response, watch: Callable[[bytes], None]) -> bytes | None:
    """The body, decompressed; None when it is larger than any answer can be. watch: sees it as it comes."""
    response.headers.encoding = "latin-1"
    chunks, size = [], 0
    async for chunk in cast("httpx.AsyncByteStream", response.stream):
        size += len(chunk)
        if size > MAX_REPLY_BYTES:
            return None
        chunks.append(chunk)
        watch(chunk)
    raw = b"".join(chunks)
    if "content-encoding" not in response.headers:
        return raw
    return _decompressed(raw, response.headers["content-encoding"])


def _decompressed(raw: bytes, encoding: str) -> bytes | None:
    """One encoding undone, with a bound on what comes out; None beyond the bound or for another encoding.

    303 bytes that were compressed three times would become 7.8 GB.
    """
    name = encoding.strip().lower()
    if name not in ("gzip", "x-gzip", "deflate"):
        return raw if name in ("", "identity") else None
    window = zlib.MAX_WBITS | 32 if name != "deflate" or raw[:1] == b"\x78" else -zlib.MAX_WBITS
    try:
        decompress = zlib.decompressobj(window)
        body = decompress.decompress(raw, MAX_REPLY_BYTES)
    except zlib.error:
        return raw  # not what it claims to be: read as it is, and most likely not readable
    return None if decompress.unconsumed_tail else body


def _name(error: BaseException) -> str:
    return type(error.__cause__ or error).__name__


def _no_reply(error: BaseException) -> RetryDecision:
    """No reply came: was the request sent already? (The transport's own error classes do not say.)"""
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
