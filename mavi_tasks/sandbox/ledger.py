"""The sandbox's own bill: its own prices, exact, and counts of all that came."""

import json
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

Tier = tuple[int | None, str, str]
PRICES: dict[str, dict[str, list[Tier]]] = json.loads(
    Path(__file__).with_name("prices.json").read_text("utf-8")
)


def cost_pico(family: str, model: str, input_tokens: int, output_tokens: int) -> int:
    """The cost in pico-dollars: the tier of the input prices the whole request.

    Input above the last printed bound is priced at the last tier.
    """
    tiers = PRICES[family][model]
    _, per_input, per_output = next((t for t in tiers if t[0] is None or input_tokens <= t[0]), tiers[-1])
    return input_tokens * _pico_per_token(per_input) + output_tokens * _pico_per_token(per_output)


def _pico_per_token(usd_per_million: str) -> int:
    return int(Decimal(usd_per_million) * 10**6)


def usd(pico: int) -> str:
    """Pico-dollars as a decimal string of twelve places, no digit lost."""
    return f"{Decimal(pico).scaleb(-12):.12f}"


@dataclass(slots=True)
class Window:
    """The most events in any stretch of `length_s`."""

    length_s: float
    most: int = 0
    times: deque[float] = field(default_factory=deque)

    def add(self, now_s: float) -> None:
        self.times.append(now_s)
        while now_s - self.times[0] >= self.length_s:
            self.times.popleft()
        self.most = max(self.most, len(self.times))


@dataclass(slots=True)
class ModelBill:
    """What one model was asked and what it charged."""

    calls: int = 0
    throttled: int = 0
    billed_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    pico: int = 0
    in_flight: int = 0
    in_flight_max: int = 0
    in_1s: Window = field(default_factory=lambda: Window(1.0))
    in_60s: Window = field(default_factory=lambda: Window(60.0))

    def as_json(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "throttled": self.throttled,
            "billed_calls": self.billed_calls,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "usd": usd(self.pico),
            "in_flight_max": self.in_flight_max,
            "max_in_1s": self.in_1s.most,
            "max_in_60s": self.in_60s.most,
        }


@dataclass(slots=True)
class Seen:
    """One distinct request body: how often it came, how often it was executed, what that cost."""

    model: str
    seen: int = 0
    billed: int = 0
    pico: int = 0


@dataclass(slots=True)
class Bill:
    """Everything that came since the last reset. Only the server's loop writes it."""

    calls: int = 0
    in_flight: int = 0
    in_flight_max: int = 0
    models: dict[str, ModelBill] = field(default_factory=dict)
    rejected: Counter[int] = field(default_factory=Counter)
    errored: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    spellings: Counter[str] = field(default_factory=Counter)
    nova_shapes: Counter[str] = field(default_factory=Counter)
    messages: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    bodies: dict[str, Seen] = field(default_factory=dict)
    in_1s: Window = field(default_factory=lambda: Window(1.0))

    def arrived(self, now_s: float) -> None:
        self.calls += 1
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        self.in_1s.add(now_s)

    def left(self) -> None:
        self.in_flight -= 1

    def of(self, model: str) -> ModelBill:
        return self.models.setdefault(model, ModelBill())

    def asked(self, model: str, body_sha256: str, now_s: float) -> ModelBill:
        """Counts a request that passed the checks; the caller takes it out of flight."""
        of = self.of(model)
        of.calls += 1
        of.in_flight += 1
        of.in_flight_max = max(of.in_flight_max, of.in_flight)
        of.in_1s.add(now_s)
        of.in_60s.add(now_s)
        self.bodies.setdefault(body_sha256, Seen(model)).seen += 1
        return of

    def refused(self, status: int, message: str) -> None:
        self.rejected[status] += 1
        self.messages.append(f"{status} {message}")

    def charge(self, model: str, body_sha256: str, tokens: tuple[int, int], pico: int) -> None:
        of = self.of(model)
        of.billed_calls += 1
        of.input_tokens += tokens[0]
        of.output_tokens += tokens[1]
        of.pico += pico
        seen = self.bodies.setdefault(body_sha256, Seen(model))
        seen.billed += 1
        seen.pico += pico

    def as_json(self, bodies: bool = False) -> dict[str, Any]:
        models = self.models.values()
        listed = {"by_body": {key: _seen_json(seen) for key, seen in self.bodies.items()}} if bodies else {}
        return {
            "calls": self.calls,
            "billed_calls": sum(one.billed_calls for one in models),
            "total_usd": usd(sum(one.pico for one in models)),
            "models": {name: one.as_json() for name, one in sorted(self.models.items())},
            "rejected": {str(status): count for status, count in sorted(self.rejected.items())},
            "rejections": list(self.messages),
            "errored": dict(self.errored),
            "throttled": sum(one.throttled for one in models),
            "faults": dict(self.faults),
            "spellings": dict(self.spellings),
            "nova_shapes": dict(self.nova_shapes),
            "in_flight": self.in_flight,
            "in_flight_max": self.in_flight_max,
            "max_in_1s": self.in_1s.most,
            "bodies": _bodies_json(self.bodies.values()),
            **listed,
        }


def _seen_json(seen: Seen) -> dict[str, Any]:
    return {"model": seen.model, "seen": seen.seen, "billed": seen.billed, "usd": usd(seen.pico)}


def _bodies_json(bodies: Iterable[Seen]) -> dict[str, Any]:
    """How many bodies came more than once, and what was paid more than once."""
    every = list(bodies)
    again = [seen for seen in every if seen.billed > 1]
    extra_pico = sum(seen.pico - seen.pico // seen.billed for seen in again)
    return {
        "distinct": len(every),
        "seen_again": sum(seen.seen > 1 for seen in every),
        "billed_again": len(again),
        "extra_payments": sum(seen.billed - 1 for seen in again),
        "extra_usd": usd(extra_pico),
    }
