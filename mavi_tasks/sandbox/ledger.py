"""The bill of the sandbox: exact costs from its own prices, and counts of all requests."""

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

    Input above the last bound is priced at the last tier.
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
    """The maximum number of events in any period of `length_s`."""

    length_s: float
    maximum: int = 0
    times: deque[float] = field(default_factory=deque)

    def add(self, now_s: float) -> None:
        self.times.append(now_s)
        while now_s - self.times[0] >= self.length_s:
            self.times.popleft()
        self.maximum = max(self.maximum, len(self.times))


@dataclass(slots=True)
class ModelBill:
    """The requests of one model, and what it charged."""

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
            "max_in_1s": self.in_1s.maximum,
            "max_in_60s": self.in_60s.maximum,
        }


@dataclass(slots=True)
class BodyCount:
    """One distinct request body: how often it was received and executed, and the cost."""

    model: str
    seen: int = 0
    billed: int = 0
    pico: int = 0


@dataclass(slots=True)
class Bill:
    """All requests since the last reset. Only the server's loop writes it."""

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
    bodies: dict[str, BodyCount] = field(default_factory=dict)
    in_1s: Window = field(default_factory=lambda: Window(1.0))

    def receive(self, now_s: float) -> None:
        self.calls += 1
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        self.in_1s.add(now_s)

    def finish(self) -> None:
        self.in_flight -= 1

    def of(self, model: str) -> ModelBill:
        return self.models.setdefault(model, ModelBill())

    def accept(self, model: str, body_sha256: str, now_s: float) -> ModelBill:
        """Count a request that passed the checks; the caller decrements `in_flight` at its end."""
        bill = self.of(model)
        bill.calls += 1
        bill.in_flight += 1
        bill.in_flight_max = max(bill.in_flight_max, bill.in_flight)
        bill.in_1s.add(now_s)
        bill.in_60s.add(now_s)
        self.bodies.setdefault(body_sha256, BodyCount(model)).seen += 1
        return bill

    def refuse(self, status: int, message: str) -> None:
        self.rejected[status] += 1
        self.messages.append(f"{status} {message}")

    def charge(self, model: str, body_sha256: str, tokens: tuple[int, int], pico: int) -> None:
        bill = self.of(model)
        bill.billed_calls += 1
        bill.input_tokens += tokens[0]
        bill.output_tokens += tokens[1]
        bill.pico += pico
        body = self.bodies.setdefault(body_sha256, BodyCount(model))
        body.billed += 1
        body.pico += pico

    def as_json(self, bodies: bool = False) -> dict[str, Any]:
        models = self.models.values()
        by_body = (
            {"by_body": {key: _body_json(count) for key, count in self.bodies.items()}} if bodies else {}
        )
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
            "max_in_1s": self.in_1s.maximum,
            "bodies": _bodies_json(self.bodies.values()),
            **by_body,
        }


def _body_json(count: BodyCount) -> dict[str, Any]:
    return {"model": count.model, "seen": count.seen, "billed": count.billed, "usd": usd(count.pico)}


def _bodies_json(bodies: Iterable[BodyCount]) -> dict[str, Any]:
    """How many bodies were received more than once, and what was paid more than once."""
    counts = list(bodies)
    paid_again = [count for count in counts if count.billed > 1]
    extra_pico = sum(count.pico - count.pico // count.billed for count in paid_again)
    return {
        "distinct": len(counts),
        "seen_again": sum(count.seen > 1 for count in counts),
        "billed_again": len(paid_again),
        "extra_payments": sum(count.billed - 1 for count in paid_again),
        "extra_usd": usd(extra_pico),
    }
