"""One sandbox's behaviour: routes, the way of a completion, the control endpoints."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from . import completion, faults, media_server, parse_request
from .answers import Simulated, engine_of
from .config import Limit, SandboxConfig
from .deterministic import first_match
from .families import Call, Endpoint
from .faults import FaultInjector
from .ledger import Bill
from .limits import Gate
from .media import Library
from .refusal import Errored, Refusal
from .replies import FAULTS, Strike, envelope, errored, json_reply, spring, throttled

BASE = "/serve/api/v2"
CHAT: Mapping[str, Endpoint] = {f"{BASE}/vu/chat/completions": "/vu", f"{BASE}/iu/chat/completions": "/iu"}
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Service:
    """The state and the handlers; it lives on one event loop."""

    def __init__(self, config: SandboxConfig) -> None:
        self.config = config
        self.bill = Bill()
        self.switchboard = FaultInjector(config.faults, config.script, config.seed)
        self.shelf = media_server.Shelf(config.media_root)
        self.stopping = asyncio.Event()
        self.port = 0
        self._gates: dict[str, Gate] = {}
        self._answerer = config.answerer or Simulated(config.mark)
        self._library = Library(
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
        """One completion, refused or answered; whatever happens is on the bill."""
        self.bill.arrived(time.monotonic())
        try:
            call = await self._call(http, endpoint)
            return await self._admitted(http, call)
        except Refusal as refusal:
            self.bill.refused(refusal.status, refusal.message)
            return envelope(refusal.status, refusal.message, refusal.headers)
        except Errored as error:
            self.bill.errored[error.code] += 1
            return errored(error.code, error.message)
        finally:
            self.bill.left()

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
        return parse_request.read(raw, endpoint, self._library, self.config.retired)

    def _authorize(self, key: str | None) -> None:
        """Takes the raw key; a `Bearer ` before it is refused, as the page says to send none."""
        if not key or (key != self.config.api_key and not key.startswith("sk-")) or " " in key:
            raise Refusal("Unauthorized", 401)

    async def _admitted(self, http: web.Request, call: Call) -> web.StreamResponse:
        now_s = time.monotonic()
        model = self.bill.asked(call.wire_model, call.body_sha256, now_s)
        self._note_spellings(call)
        gate = self._gate(call.wire_model)
        try:
            tokens = completion.input_tokens(call)
            wait_s = gate.enter(tokens, now_s)
            if wait_s is not None:
                model.throttled += 1
                return _throttled(gate.limit, wait_s)
            try:
                return await self._executed(http, call, tokens)
            finally:
                gate.leave()
        finally:
            model.in_flight -= 1

    def _gate(self, model: str) -> Gate:
        if model not in self._gates:
            self._gates[model] = Gate(first_match(self.config.limits, model) or Limit())
        return self._gates[model]

    async def _executed(self, http: web.Request, call: Call, tokens: int) -> web.StreamResponse:
        """Answers and charges, unless a fault strikes that keeps the completion from running."""
        kind = self.switchboard.draw(call.wire_model)
        fault = None if kind is None else FAULTS[kind]
        await asyncio.sleep(self.config.latency_of(call.wire_model, call.body_sha256))
        reply = await self._charge(call, tokens) if fault is None or fault.billed else None
        if fault is None:
            return json_reply(reply)
        self.bill.faults[str(kind)] += 1
        strike = Strike(http, call, reply, self.stopping, self.config.hang_s, self.config.huge_body_bytes)
        return await fault.act(strike)

    async def _charge(self, call: Call, tokens: int) -> Mapping[str, Any]:
        """The reply, paid for. A real answerer may think long, so it does that off the loop."""
        work = (call, tokens, self._answerer, int(time.time()))
        simulated = isinstance(self._answerer, Simulated)
        done = completion.execute(*work) if simulated else await asyncio.to_thread(completion.execute, *work)
        self.bill.charge(
            call.wire_model, call.body_sha256, (done.input_tokens, done.output_tokens), done.pico
        )
        return done.reply

    def _note_spellings(self, call: Call) -> None:
        for media in call.media:
            self.bill.spellings[f"{call.family.name} {media.kind} {media.spelling}"] += 1
            if media.shape is not None:
                self.bill.nova_shapes[media.shape] += 1

    def local(self, url: str) -> Path | None:
        """The file behind a URL of this sandbox, None for a foreign URL. Raises Errored when it has none."""
        parts = urlsplit(url)
        if parts.port != self.port or parts.hostname not in LOOPBACK:
            return None
        path = self.shelf.find(media_server.path_in(url))
        if path is None:
            raise Errored(
                "INVALID_ARGUMENT", "Cannot fetch content from the provided URL. URL_ERROR-ERROR_NOT_FOUND"
            )
        return path

    def media(self, http: web.Request) -> web.StreamResponse:
        """A file of a served folder; ranges, HEAD and conditional requests are aiohttp's."""
        if http.method not in ("GET", "HEAD"):
            return envelope(405, "Method not allowed: use GET or HEAD", {"Allow": "GET, HEAD"})
        path = self.shelf.find(http.path)
        return spring(404, "Not Found", http.path) if path is None else web.FileResponse(path)

    async def get_bill(self, http: web.Request) -> web.Response:
        return json_reply(self.as_json(bodies="bodies" in http.query))

    def as_json(self, bodies: bool = False) -> dict[str, Any]:
        """The bill, and who answered."""
        return {**self.bill.as_json(bodies), "answered_by": engine_of(self._answerer) or "simulated"}

    async def get_faults(self, http: web.Request) -> web.Response:
        return json_reply(self.switchboard.as_json())

    async def post_faults(self, http: web.Request) -> web.Response:
        try:
            self.switchboard = faults.from_json(orjson.loads(await http.read()))
        except ValueError as error:  # not JSON, or no such fault
            return envelope(400, str(error))
        return json_reply(self.switchboard.as_json())

    async def post_reset(self, http: web.Request) -> web.Response:
        self.reset()
        return json_reply(self.bill.as_json())

    def reset(self) -> None:
        """Starts a new bill with full buckets and the faults it was made with."""
        in_flight = self.bill.in_flight
        self.bill = Bill(in_flight=in_flight)
        self.switchboard = FaultInjector(self.config.faults, self.config.script, self.config.seed)
        self._gates.clear()


def _throttled(limit: Limit, wait_s: float) -> web.Response:
    if limit.retry_after is None:
        return throttled()
    return throttled(wait_s, as_date=limit.retry_after == "date")
