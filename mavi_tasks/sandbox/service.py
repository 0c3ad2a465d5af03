"""The HTTP handlers of a sandbox: completions, media files and the control endpoints."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from . import completion, faults, media_server, parse_request, unknowns
from .answers import Simulated, engine_of
from .config import Limit, SandboxConfig
from .deterministic import first_match
from .families import Call, Endpoint
from .faults import FaultInjector
from .ledger import Bill
from .limits import ModelLimiter
from .media import MediaSources
from .refusal import Errored, Refusal
from .replies import FAULTS, FaultContext, envelope, errored, json_reply, spring, throttled

BASE = "/serve/api/v2"
CHAT: Mapping[str, Endpoint] = {f"{BASE}/vu/chat/completions": "/vu", f"{BASE}/iu/chat/completions": "/iu"}
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Service:
    """The state and the handlers; used by one event loop only."""

    def __init__(self, config: SandboxConfig) -> None:
        self.config = config
        self.bill = Bill()
        self.fault_injector = FaultInjector(config.faults, config.script, config.seed)
        self.media_folders = media_server.MediaFolders(config.media_root)
        self.stopping = asyncio.Event()
        self.port = 0
        self._limiters: dict[str, ModelLimiter] = {}
        self._answerer = config.answerer or Simulated(config.mark)
        self._media_sources = MediaSources(
            self.local, config.default_image_px, config.default_video_px, config.default_video_s
        )
        self._control: Mapping[tuple[str, str], Handler] = {
            ("GET", "/_sandbox/bill"): self.get_bill,
            ("GET", "/_sandbox/faults"): self.get_faults,
            ("POST", "/_sandbox/faults"): self.post_faults,
            ("POST", "/_sandbox/reset"): self.post_reset,
        }

    def app(self) -> web.Application:
        app = web.Application(client_max_size=self.config.max_body_bytes)
        app.router.add_route("*", "/{path:.*}", self.dispatch)
        return app

    async def dispatch(self, http: web.Request) -> web.StreamResponse:
        endpoint = CHAT.get(http.path)
        if endpoint is not None:
            return await self.chat(http, endpoint)
        if http.path.startswith(f"{media_server.PREFIX}/"):
            return self.media(http)
        control = self._control.get((http.method, http.path))
        return spring(404, "Not Found", http.path) if control is None else await control(http)

    async def chat(self, http: web.Request, endpoint: Endpoint) -> web.StreamResponse:
        """Handle one completion; the bill counts it, whether refused or answered."""
        self.bill.receive(time.monotonic())
        try:
            call = unknowns.heeded(await self._call(http, endpoint), self.config.unknowns)
            return await self._admitted(http, call)
        except Refusal as refusal:
            self.bill.refuse(refusal.status, refusal.message)
            return envelope(refusal.status, refusal.message, refusal.headers)
        except Errored as error:
            self.bill.errored[error.code] += 1
            return errored(error.code, error.message)
        finally:
            self.bill.finish()

    async def _call(self, http: web.Request, endpoint: Endpoint) -> Call:
        if http.method != "POST":
            raise Refusal("Method not allowed: use POST", 405, {"Allow": "POST"})
        self._authorize(http.headers.get("Authorization"))
        if http.content_type != "application/json" or "Content-Type" not in http.headers:
            raise Refusal("Unsupported media type: Content-Type must be application/json", 415)
        try:
            raw = await http.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise Refusal(f"request body: at most {self.config.max_body_bytes} bytes", 413) from error
        return parse_request.read(raw, endpoint, self._media_sources, self.config.retired)

    def _authorize(self, key: str | None) -> None:
        """Accept only the raw key: the documentation says to send no `Bearer ` prefix."""
        if not key or (key != self.config.api_key and not key.startswith("sk-")) or " " in key:
            raise Refusal("Unauthorized", 401)

    async def _admitted(self, http: web.Request, call: Call) -> web.StreamResponse:
        now_s = time.monotonic()
        model = self.bill.accept(call.wire_model, call.body_sha256, now_s)
        self._note_spellings(call)
        limiter = self._limiter(call.wire_model)
        try:
            tokens = completion.input_tokens(call)
            wait_s = limiter.acquire(tokens, now_s)
            if wait_s is not None:
                model.throttled += 1
                return _throttled(limiter.limit, wait_s)
            try:
                return await self._executed(http, call, tokens)
            finally:
                limiter.release()
        finally:
            model.in_flight -= 1

    def _limiter(self, model: str) -> ModelLimiter:
        if model not in self._limiters:
            self._limiters[model] = ModelLimiter(first_match(self.config.limits, model) or Limit())
        return self._limiters[model]

    async def _executed(self, http: web.Request, call: Call, tokens: int) -> web.StreamResponse:
        """Answer and charge, unless a fault prevents the completion from running."""
        kind = self.fault_injector.draw(call.wire_model)
        fault = None if kind is None else FAULTS[kind]
        await asyncio.sleep(self.config.latency_of(call.wire_model, call.body_sha256))
        reply = await self._charge(call, tokens) if fault is None or fault.billed else None
        if fault is None:
            return await self._streamed(http, reply) if call.stream and reply else json_reply(reply)
        self.bill.faults[str(kind)] += 1
        context = FaultContext(
            http, call, reply, self.stopping, self.config.hang_s, self.config.huge_body_bytes
        )
        return await fault.act(context)

    async def _charge(self, call: Call, tokens: int) -> Mapping[str, Any]:
        """The reply, after charging it. A real answerer can be slow, so it runs in a thread."""
        arguments = (call, tokens, self._answerer, int(time.time()))
        simulated = isinstance(self._answerer, Simulated)
        charged = (
            completion.execute(*arguments)
            if simulated
            else await asyncio.to_thread(completion.execute, *arguments)
        )
        self.bill.charge(
            call.wire_model, call.body_sha256, (charged.input_tokens, charged.output_tokens), charged.pico
        )
        return unknowns.changed(charged.reply, charged.cut, self.config.unknowns)

    async def _streamed(self, http: web.Request, reply: Mapping[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        with contextlib.suppress(ConnectionError):  # the client stopped reading
            for chunk in unknowns.chunks(reply, self.config.unknowns):
                await asyncio.sleep(self.config.unknowns.before_token_s)
                await response.write(chunk)
            await response.write_eof()
        return response

    def _note_spellings(self, call: Call) -> None:
        for media in call.media:
            self.bill.spellings[f"{call.family.name} {media.kind} {media.spelling}"] += 1
            if media.shape is not None:
                self.bill.nova_shapes[media.shape] += 1

    def local(self, url: str) -> Path | None:
        """The file of a URL of this sandbox, None for a foreign URL. Raises Errored if it does not exist."""
        parts = urlsplit(url)
        if parts.port != self.port or parts.hostname not in LOOPBACK:
            return None
        path = self.media_folders.find(media_server.path_in(url))
        if path is None:
            raise Errored(
                "INVALID_ARGUMENT", "Cannot fetch content from the provided URL. URL_ERROR-ERROR_NOT_FOUND"
            )
        return path

    def media(self, http: web.Request) -> web.StreamResponse:
        """A file of a served folder; aiohttp handles ranges, HEAD and conditional requests."""
        if http.method not in ("GET", "HEAD"):
            return envelope(405, "Method not allowed: use GET or HEAD", {"Allow": "GET, HEAD"})
        path = self.media_folders.find(http.path)
        return spring(404, "Not Found", http.path) if path is None else web.FileResponse(path)

    async def get_bill(self, http: web.Request) -> web.Response:
        return json_reply(self.as_json(bodies="bodies" in http.query))

    def as_json(self, bodies: bool = False) -> dict[str, Any]:
        """The bill, and the name of the answerer."""
        return {**self.bill.as_json(bodies), "answered_by": engine_of(self._answerer) or "simulated"}

    async def get_faults(self, http: web.Request) -> web.Response:
        return json_reply(self.fault_injector.as_json())

    async def post_faults(self, http: web.Request) -> web.Response:
        try:
            self.fault_injector = faults.from_json(orjson.loads(await http.read()))
        except ValueError as error:  # not valid JSON, or an unknown fault
            return envelope(400, str(error))
        return json_reply(self.fault_injector.as_json())

    async def post_reset(self, http: web.Request) -> web.Response:
        self.reset()
        return json_reply(self.bill.as_json())

    def reset(self) -> None:
        """Start a new bill, with full buckets and the faults of the configuration."""
        in_flight = self.bill.in_flight
        self.bill = Bill(in_flight=in_flight)
        self.fault_injector = FaultInjector(self.config.faults, self.config.script, self.config.seed)
        self._limiters.clear()


def _throttled(limit: Limit, wait_s: float) -> web.Response:
    if limit.retry_after is None:
        return throttled()
    return throttled(wait_s, as_date=limit.retry_after == "date")
