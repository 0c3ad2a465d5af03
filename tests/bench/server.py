"""A benchmark server: fixed answers as fast as one core allows, with limits, latency and faults.

`python -m tests.bench.server --rate 100 --burst 10 --latency-s 0.3` prints one JSON line with its URL, then
serves until SIGTERM. It does not check the contract (the sandbox does) and parses only the model of a
request, so that a benchmark measures the client. GET /stats returns the counts, POST /reset clears them.
Bodies need a Content-Length; they are identified by their hash, to count bodies that were paid twice.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

ANSWER = "[simulated] a fixed answer of the benchmark server"
INPUT_TOKENS, OUTPUT_TOKENS = 1000, 20
FAULTS = ("500", "503", "429", "reset", "reset_after", "malformed", "hang")
HANG_S = 60.0


@dataclass(slots=True)
class Rules:
    """The limits of one model. None = no limit; down = it answers 503 to everything."""

    rate: float | None = None
    burst: int = 1
    concurrency: int | None = None
    latency_s: float = 0.0
    retry_after: int | None = None
    down: bool = False
    then_rate: float | None = None
    """The rate from `then_s` after the model's first call on."""
    then_s: float = 0.0
    storm_s: float = 0.0
    """Of every `storm_every_s` seconds it answers 503 for so many."""
    storm_every_s: float = 0.0


class Window:
    """The maximum number of events in any one second."""

    __slots__ = ("maximum", "times")

    def __init__(self) -> None:
        self.maximum = 0
        self.times: deque[float] = deque()

    def add(self, now: float) -> None:
        times = self.times
        times.append(now)
        while now - times[0] >= 1.0:
            times.popleft()
        if len(times) > self.maximum:
            self.maximum = len(times)


class Model:
    """One model's counters, limits and ready-made reply."""

    def __init__(self, name: str, rules: Rules) -> None:
        self.name, self.rules = name, rules
        self.calls = self.billed = self.throttled = self.in_flight = self.in_flight_max = 0
        self.faults: Counter[str] = Counter()
        self.arrived, self.accepted = Window(), Window()
        self.first = self.last = self.last_accepted = 0.0
        self.next_s = 0.0  # GCRA: when the bucket would be full again
        self.reply = http(200, reply_of(name))
        self.throttle = http(429, ENVELOPE_429, rules.retry_after)
        self.paused_until = self.paused_s = 0.0

    def refuse(self, now: float) -> bytes:
        """The 429; counts the time that all of them together ask to pause."""
        self.throttled += 1
        until = now + (self.rules.retry_after or 0)
        self.paused_s += max(0.0, until - max(now, self.paused_until))
        self.paused_until = max(until, self.paused_until)
        return self.throttle

    def is_down(self, now: float) -> bool:
        rules = self.rules
        stormy = (
            rules.storm_every_s
            and (now - self.first) % rules.storm_every_s >= rules.storm_every_s - rules.storm_s
        )
        return rules.down or bool(stormy)

    def admits(self, now: float) -> bool:
        rules = self.rules
        if rules.then_rate is not None and now - self.first >= rules.then_s:
            rules.rate, rules.then_rate = rules.then_rate, None
        if rules.concurrency is not None and self.in_flight >= rules.concurrency:
            return False
        if rules.rate is not None:
            gap = 1.0 / rules.rate
            if self.next_s - now > (rules.burst - 1) * gap + 1e-9:
                return False
            self.next_s = max(self.next_s, now) + gap
        return True

    def stats(self) -> dict:
        return {
            "calls": self.calls,
            "billed": self.billed,
            "throttled": self.throttled,
            "faults": dict(self.faults),
            "in_flight_max": self.in_flight_max,
            "paused_s": round(self.paused_s, 3),
            "max_per_s": self.arrived.maximum,
            "max_accepted_per_s": self.accepted.maximum,
            "span_s": round(self.last - self.first, 6),
            "accepted_span_s": round(self.last_accepted - self.first, 6),
        }


def reply_of(model: str) -> bytes:
    """The family's documented form with the fixed answer; a name without a known prefix gets the gpt form."""
    family, _, bare = model.partition(":")
    total = INPUT_TOKENS + OUTPUT_TOKENS
    if family in ("gemini", "qwen"):
        body = {
            "id": "resp_00000000-0000-4000-8000-000000000000",
            "object": "completion",
            "model": model if family == "gemini" else bare,
            "created_at": 1767093284,
            "status": "completed",
            "choices": [{"text": ANSWER, "index": 0}],
            "usage": {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS, "total_tokens": total},
            "meta": {"provider": family, "provider_model": bare},
        }
    else:
        out = "output_token" if family == "nova" else "completion_tokens"
        message = {"role": "assistant", "content": ANSWER}
        body = {
            "id": "chatcmpl-000000000000000000000000000000",
            "object": "chat.completion",
            "created": 1767092232,
            "model": model if family == "nova" else bare or model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": INPUT_TOKENS, out: OUTPUT_TOKENS, "total_tokens": total},
        }
    return json.dumps(body).encode()


def http(status: int, body: bytes, retry_after: int | None = None) -> bytes:
    more = "" if retry_after is None else f"Retry-After: {retry_after}\r\n"
    head = (
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    )
    return head.encode() + body


ENVELOPE_429 = b'{"code":429,"msg":"Rate limit exceeded","data":null}'
ERROR = {
    "500": http(500, b'{"code":500,"msg":"Internal server error","data":null}'),
    "503": http(503, b'{"status":503,"error":"Service Unavailable","path":"/"}'),
    "malformed": http(200, b'{"id": "resp_0", "object": "comple'),
}
NOT_FOUND = http(404, b'{"status":404,"error":"Not Found"}')
NO_LENGTH = http(411, b'{"code":411,"msg":"Content-Length is required","data":null}')


@dataclass
class State:
    """The state of all connections."""

    rules: Rules
    named: dict[str, Rules] = field(default_factory=dict)
    faults: list[tuple[float, str]] = field(default_factory=list)  # (upper edge of its part of [0, 1), kind)
    seed: int = 0
    latency_spread: float = 0.0
    models: dict[str, Model] = field(default_factory=dict)
    by_bytes: dict[bytes, Model] = field(default_factory=dict)
    bodies: dict[int, int] = field(default_factory=dict)  # hash of a body -> times billed
    received: dict[int, int] = field(default_factory=dict)
    calls: int = 0
    in_flight: int = 0
    in_flight_max: int = 0
    window: Window = field(default_factory=Window)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def model(self, name: bytes) -> Model:
        found = self.by_bytes.get(name)
        if found is None:
            text = name.decode("utf-8", "replace")
            found = self.by_bytes[name] = self.models[text] = Model(text, self.named.get(text, self.rules))
        return found

    def fault(self) -> str | None:
        if not self.faults:
            return None
        draw = self.random.random()
        return next((kind for edge, kind in self.faults if draw < edge), None)

    def stats(self) -> dict:
        models = self.models.values()
        return {
            "calls": self.calls,
            "billed": sum(model.billed for model in models),
            "throttled": sum(model.throttled for model in models),
            "max_per_s": self.window.maximum,
            "in_flight_max": self.in_flight_max,
            "distinct_bodies": len(self.received),
            "duplicate_bodies": sum(count > 1 for count in self.received.values()),
            "billed_again": sum(count - 1 for count in self.bodies.values() if count > 1),
            "tokens_per_answer": [INPUT_TOKENS, OUTPUT_TOKENS],
            "cpu_s": round(time.process_time(), 3),
            "models": {name: model.stats() for name, model in sorted(self.models.items())},
        }

    def reset(self) -> None:
        for store in (self.models, self.by_bytes, self.bodies, self.received):
            store.clear()
        self.calls = self.in_flight_max = 0
        self.window = Window()
        self.random.seed(self.seed)


def model_of(body: bytes) -> bytes:
    """The value of the body's first "model" key; clients put it before the messages."""
    position = body.find(b'"model"')
    start = body.find(b'"', position + 7) + 1
    return body[start : body.find(b'"', start)] if position >= 0 and start else b""


class Connection(asyncio.Protocol):
    """Parses by hand: the header's end, its Content-Length, the body's model."""

    __slots__ = ("buffer", "chunks", "head", "loop", "missing", "state", "transport")

    def __init__(self, state: State, loop: asyncio.AbstractEventLoop) -> None:
        self.state, self.loop = state, loop
        self.buffer = b""
        self.chunks: list[bytes] = []
        self.missing = 0
        self.head = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport) -> None:
        self.transport = transport

    def connection_lost(self, error) -> None:
        self.transport = None

    def data_received(self, data: bytes) -> None:
        if self.missing:  # in the middle of a large body: its chunks are joined once
            if len(data) < self.missing:
                self.chunks.append(data)
                self.missing -= len(data)
                return
            self.chunks.append(data[: self.missing])
            data = data[self.missing :]
            self.missing = 0
            body, self.chunks = b"".join(self.chunks), []
            self.request(self.head, body)
        if self.buffer:
            data, self.buffer = self.buffer + data, b""
        while data:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self.buffer = data
                return
            head, start = data[:end], end + 4
            length = self.length(head)
            if len(data) - start < length:
                self.head, self.missing = head, length - (len(data) - start)
                self.chunks = [data[start:]]
                return
            self.request(head, data[start : start + length])
            data = data[start + length :]

    def length(self, head: bytes) -> int:
        lower = head.lower()
        position = lower.find(b"\r\ncontent-length:")
        if position < 0:
            return 0
        end = lower.find(b"\r\n", position + 17)
        return int(lower[position + 17 : end if end >= 0 else None])

    def request(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"POST ") and b"/chat/completions " in head[:200]:
            self.completion(body)
        elif head.startswith(b"GET /stats "):
            self.send(http(200, json.dumps(self.state.stats()).encode()))
        elif head.startswith(b"POST /reset "):
            self.state.reset()
            self.send(http(200, b"{}"))
        else:
            self.send(NOT_FOUND)

    def completion(self, body: bytes) -> None:
        if not body:
            self.send(NO_LENGTH)
            return
        state = self.state
        now = self.loop.time()
        model = state.model(model_of(body))
        state.calls += 1
        model.calls += 1
        state.window.add(now)
        model.arrived.add(now)
        model.first, model.last = model.first or now, now
        key = hash(body)
        state.received[key] = state.received.get(key, 0) + 1
        if not model.admits(now):
            self.send(model.refuse(now))
            return
        model.accepted.add(now)
        model.last_accepted = now
        state.in_flight += 1
        model.in_flight += 1
        state.in_flight_max = max(state.in_flight_max, state.in_flight)
        model.in_flight_max = max(model.in_flight_max, model.in_flight)
        latency_s = model.rules.latency_s
        if not latency_s:
            self.finish(model, key)
            return
        if state.latency_spread:
            latency_s *= 1 + state.latency_spread * (2 * state.random.random() - 1)
        self.loop.call_later(latency_s, self.finish, model, key)

    def finish(self, model: Model, key: int) -> None:
        """Charge and answer, or apply a fault."""
        state = self.state
        state.in_flight -= 1
        model.in_flight -= 1
        now = self.loop.time()
        kind = "503" if model.is_down(now) else state.fault()
        if kind is not None:
            model.faults[kind] += 1
        if kind is None or kind in ("reset_after", "malformed"):
            model.billed += 1
            state.bodies[key] = state.bodies.get(key, 0) + 1
        if kind is None:
            self.send(model.reply)
        elif kind == "hang":
            self.loop.call_later(HANG_S, self.abort)
        elif kind in ("reset", "reset_after"):
            self.abort()
        elif kind == "429":
            self.send(model.refuse(now))
        else:
            self.send(ERROR[kind])

    def send(self, reply: bytes) -> None:
        if self.transport is not None:
            self.transport.write(reply)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


def fault_edges(faults: Sequence[str]) -> list[tuple[float, str]]:
    """`kind=percent` texts as upper edges of their parts of [0, 1)."""
    edges, edge = [], 0.0
    for spec in faults:
        kind, _, percent = spec.partition("=")
        if kind not in FAULTS:
            raise SystemExit(f"--fault {kind!r} must be one of {', '.join(FAULTS)}")
        edge += float(percent) / 100
        edges.append((edge, kind))
    return edges


def rules_of(specs: Sequence[str], default: Rules) -> dict[str, Rules]:
    """`name;rate=100;burst=10;latency_s=0.3;concurrency=8;retry_after=1;down=1` texts, by model."""
    kinds = {
        "rate": float,
        "burst": int,
        "latency_s": float,
        "concurrency": int,
        "retry_after": int,
        "down": bool,
        "then_rate": float,
        "then_s": float,
        "storm_s": float,
        "storm_every_s": float,
    }
    found = {}
    for spec in specs:
        name, *settings = spec.split(";")
        values = {field: getattr(default, field) for field in Rules.__slots__}
        for setting in settings:
            key, _, value = setting.partition("=")
            if key not in kinds:
                raise SystemExit(f"--models: {setting!r} must be one of {', '.join(kinds)} = a number")
            values[key] = kinds[key](float(value))
        found[name] = Rules(**values)
    return found


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tests.bench.server", description=__doc__.splitlines()[0])
    made.add_argument("--port", type=int, default=0, help="0 = any free one")
    made.add_argument("--latency-s", type=float, default=0.0)
    made.add_argument("--latency-spread", type=float, default=0.0, help="0.2 = 20 %% up or down, by chance")
    made.add_argument("--rate", type=float, help="requests per second of each model")
    made.add_argument("--burst", type=int, default=1)
    made.add_argument("--concurrency", type=int, help="in flight of each model")
    made.add_argument("--retry-after", type=int, help="Retry-After seconds of each 429; none by default")
    made.add_argument(
        "--models", nargs="*", default=[], metavar="NAME;rate=..;latency_s=..", help="rules of one"
    )
    made.add_argument("--fault", nargs="*", default=[], metavar="KIND=PERCENT", help=", ".join(FAULTS))
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--cpu", type=int, help="use only this core, if the system allows it")
    return made


async def serve(options: argparse.Namespace) -> None:
    rules = Rules(options.rate, options.burst, options.concurrency, options.latency_s, options.retry_after)
    named = rules_of(options.models, rules)
    state = State(rules, named, fault_edges(options.fault), options.seed, options.latency_spread)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(
        lambda: Connection(state, loop), "127.0.0.1", options.port, backlog=4096
    )
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"url": f"http://127.0.0.1:{port}", "pid": os.getpid()}), flush=True)
    await stop.wait()
    server.close()


def main() -> None:
    options = parser().parse_args()
    if options.cpu is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.cpu})
    try:
        from uvloop import new_event_loop
    except ImportError:
        from asyncio import new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(options))


@dataclass(frozen=True, slots=True)
class Served:
    """A benchmark server in a process of its own."""

    url: str
    pid: int

    @property
    def base_url(self) -> str:
        """What `/vu/chat/completions` is appended to."""
        return f"{self.url}/serve/api/v2"

    def stats(self) -> dict:
        with urllib.request.urlopen(f"{self.url}/stats", timeout=30) as reply:
            return json.load(reply)

    def reset(self) -> None:
        request = urllib.request.Request(f"{self.url}/reset", data=b"{}", method="POST")
        urllib.request.urlopen(request, timeout=30).close()


@contextlib.contextmanager
def serving(*options: object) -> Iterator[Served]:
    """Starts the server with these command-line options; ends it with SIGTERM."""
    command = [sys.executable, "-m", "tests.bench.server", *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Served(**json.loads(process.stdout.readline()))
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
