"""The ledger against a bill: the drift by day and model, and what explains it. Exact on our side."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Literal

import numpy as np

from mavi_tasks.common.money import exact_text, pico
from mavi_tasks.costs.billed_attempts import billed
from mavi_tasks.costs.cost_report import CostReport
from mavi_tasks.costs.invoice_csv import Bill
from mavi_tasks.pricing.book import Price, PriceBook

ALL = "(all)"
EDGE = 50  # a call within 1/50 (2 %) of a tier's bound may have been counted on its other side
NOISE = frozenset(
    {
        "audio", "cached", "completion", "image", "input", "output", "prompt",
        "reasoning", "text", "token", "tokens", "usage", "video",
    }
)  # fmt: skip
LineStatus = Literal["agrees", "explained", "drifts"]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """A line agrees when its drift is at most `usd` dollars or `share` of the ledger, whichever is more."""

    usd: Decimal = Decimal("0.01")
    share: Decimal = Decimal("0.005")

    def pico(self, ledger_pico: int) -> int:
        return max(pico(self.usd), int(abs(ledger_pico) * self.share))


@dataclass(slots=True)
class Uncertainty:
    """What can make a bill differ from the ledger: calls in doubt, unpriced, or near a tier's bound."""

    exposure_pico: int = 0
    unpriced_calls: int = 0
    edge_up_pico: int = 0
    edge_down_pico: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """One period and model. `drift_pico` is bill minus ledger; `why` explains it."""

    when: str
    model: str
    billed_pico: int
    ledger_pico: int
    doubt: Uncertainty
    verdict: LineStatus
    why: tuple[str, ...]

    @property
    def drift_pico(self) -> int:
        return self.billed_pico - self.ledger_pico


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The comparison. `exit_status` is 0 when all agrees or is explained, 3 when something drifts."""

    invoice: str
    grain: str  # day, month or all
    columns: Mapping[str, str]
    lines: tuple[Line, ...]
    verdict: LineStatus
    outside_pico: int  # ledger spend before or after the dates of the bill
    notes: tuple[str, ...]

    @property
    def billed_pico(self) -> int:
        return sum(line.billed_pico for line in self.lines)

    @property
    def ledger_pico(self) -> int:
        return sum(line.ledger_pico for line in self.lines)

    @property
    def exit_status(self) -> int:
        return 3 if self.verdict == "drifts" else 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; dollars are texts."""
        return {
            "invoice": self.invoice,
            "grain": self.grain,
            "columns": dict(self.columns),
            "verdict": self.verdict,
            "billed_usd": exact_text(self.billed_pico),
            "ledger_usd": exact_text(self.ledger_pico),
            "drift_usd": exact_text(self.billed_pico - self.ledger_pico),
            "outside_usd": exact_text(self.outside_pico),
            "lines": [_line_json(line) for line in self.lines],
            "notes": list(self.notes),
        }


Place = tuple[str, str]  # period, model


def reconcile(
    report: CostReport,
    bill: Bill,
    prices: PriceBook,
    *,
    tolerance: Tolerance | None = None,
    models: Mapping[str, str] | None = None,
) -> Reconciled:
    """Compare the report with a bill, by the finest periods and models of the bill.

    A bill's model matches ours with or without the family, in any case, with text like "input tokens" left
    aside; `models` maps other names. Days count as the bill prints them, ours are cut in the
    report's zone. Only the periods the bill covers are compared.
    """
    grain = _grain(bill)
    has_models = any(charge.model is not None for charge in bill.charges)
    known = sorted({group.keys[0] for group in report.grouped("model")})
    names = _names(known) | {_plain(name): model for name, model in (models or {}).items()}
    charged: dict[Place, int] = defaultdict(int)
    for charge in bill.charges:
        model = ALL if not has_models else names.get(_plain(charge.model or ""), charge.model or "(none)")
        charged[_period(charge.when, grain), model] += charge.pico
    ledger, doubts, outside = _ledger(report, prices, grain, has_models, {when for when, _ in charged})
    places = sorted(set(charged) | set(ledger))
    shifted = _shifted(places, charged, ledger, tolerance or Tolerance()) if grain == "day" else set()
    lines = tuple(
        _line(
            place,
            charged.get(place, 0),
            ledger.get(place, 0),
            doubts[place],
            tolerance or Tolerance(),
            shifted,
        )
        for place in places
    )
    return Reconciled(
        bill.name, grain, bill.columns, lines, _worst(lines), outside, _notes(bill, names, outside)
    )


def _grain(bill: Bill) -> str:
    lengths = {len(charge.when) if charge.when else 0 for charge in bill.charges}
    return {10: "day", 7: "month"}.get(min(lengths, default=0), "all")


def _period(when: str | None, grain: str) -> str:
    return {"day": when or ALL, "month": (when or ALL)[:7]}.get(grain, ALL)


def _names(models: Iterable[str]) -> dict[str, str]:
    """Ways to write each model; a short name that two families share belongs to neither."""
    found: dict[str, str] = {}
    shared: set[str] = set()
    for model in models:
        short = _plain(model.partition(":")[2])
        if short in found:
            shared.add(short)
        found[short] = model
    return {name: model for name, model in found.items() if name not in shared} | {
        _plain(m): m for m in models
    }


def _plain(name: str) -> str:
    parts = "".join(letter if letter.isalnum() else " " for letter in name.lower()).split()
    while parts and parts[-1] in NOISE:
        parts.pop()
    return " ".join(parts)


def _ledger(
    report: CostReport, prices: PriceBook, grain: str, has_models: bool, covered: set[str]
) -> tuple[dict[Place, int], dict[Place, Uncertainty], int]:
    first, last = min(covered, default=ALL), max(covered, default=ALL)
    ledger: dict[Place, int] = defaultdict(int)
    doubts: dict[Place, Uncertainty] = defaultdict(Uncertainty)
    outside = 0
    for group in report.grouped("day", "model"):
        day, model = group.keys
        place = _period(day, grain), model if has_models else ALL
        if not first <= place[0] <= last:
            outside += group.spend.cost_pico
            continue
        ledger[place] += group.spend.cost_pico
        doubts[place].exposure_pico += group.spend.exposure_pico
        doubts[place].unpriced_calls += group.spend.unpriced_calls
    for day_at, model, up, down in _edges(report, prices):
        place = _period(day_at.isoformat(), grain), model if has_models else ALL
        doubts[place].edge_up_pico += up
        doubts[place].edge_down_pico += down
    return ledger, doubts, outside


def _edges(report: CostReport, prices: PriceBook) -> Iterable[tuple[date, str, int, int]]:
    """What the calls near a tier's bound would cost more, or less, on its other side."""
    for usage in billed(report):
        price = prices.price(usage.model, usage.day)
        if price is not None and len(price.tiers) > 1:
            rows = usage.has_tokens & usage.priced
            up, down = _swing(price, usage.input_tokens[rows], usage.output_tokens[rows])
            if up or down:
                yield usage.day, usage.model, up, down


def _swing(price: Price, input_tokens: Any, output_tokens: Any) -> tuple[int, int]:
    up = down = 0
    for low, high in zip(price.tiers, price.tiers[1:], strict=False):
        bound = low.up_to_input_tokens or 0  # only the last tier has none
        near = np.abs(input_tokens - bound) * EDGE <= bound
        for inside, sign in ((near & (input_tokens <= bound), 1), (near & (input_tokens > bound), -1)):
            change = sign * (
                int(input_tokens[inside].sum()) * (high.input_pico_per_token - low.input_pico_per_token)
                + int(output_tokens[inside].sum()) * (high.output_pico_per_token - low.output_pico_per_token)
            )
            up, down = up + max(change, 0), down + max(-change, 0)
    return up, down


def _shifted(
    places: Iterable[Place], charged: Mapping[Place, int], ledger: Mapping[Place, int], tolerance: Tolerance
) -> set[str]:
    """Models whose days differ but whose sum over the bill agrees: the bill cuts its days elsewhere."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for place in places:
        sums[place[1]][0] += charged.get(place, 0)
        sums[place[1]][1] += ledger.get(place, 0)
    return {model for model, (bill, own) in sums.items() if abs(bill - own) <= tolerance.pico(own)}


def _line(
    place: Place, charged: int, own: int, doubt: Uncertainty, tolerance: Tolerance, shifted: set[str]
) -> Line:
    drift, slack = charged - own, tolerance.pico(own)
    if abs(drift) <= slack:
        return Line(*place, charged, own, doubt, "agrees", ())
    if place[1] in shifted:
        why = "the model's sum over the whole bill agrees: its days are cut in another time zone"
        return Line(*place, charged, own, doubt, "explained", (why,))
    why_not = {
        "in-doubt calls may have been billed": drift > 0 and doubt.exposure_pico > 0,
        "calls without a known price are in the bill only": drift > 0 and doubt.unpriced_calls > 0,
        "calls near a tier's bound may have been counted on its other side": (
            (doubt.edge_up_pico if drift > 0 else doubt.edge_down_pico) > 0
        ),
    }
    why_texts = tuple(text for text, holds in why_not.items() if holds)
    most = doubt.exposure_pico + doubt.edge_up_pico if drift > 0 else doubt.edge_down_pico
    enough = abs(drift) <= most + slack or (drift > 0 and doubt.unpriced_calls > 0)
    if own == 0 and charged and not why_texts:
        why_texts = ("no call of this model on this day is in the ledger",)
    elif charged == 0 and own:
        why_texts = (*why_texts, "the bill has no line for it")
    return Line(*place, charged, own, doubt, "explained" if enough else "drifts", why_texts)


def _worst(lines: Iterable[Line]) -> LineStatus:
    verdicts = {line.verdict for line in lines}
    order: tuple[LineStatus, ...] = ("drifts", "explained")
    return next((verdict for verdict in order if verdict in verdicts), "agrees")


def _notes(bill: Bill, names: Mapping[str, str], outside: int) -> tuple[str, ...]:
    strange = sorted({c.model for c in bill.charges if c.model and _plain(c.model) not in names})
    notes = [f"the bill's '{name}' matches no model of the ledger; say which one it is" for name in strange]
    if outside:
        notes.append(
            f"${exact_text(outside)} of the ledger lies before or after the bill's dates and is left aside"
        )
    return tuple(notes)


def _line_json(line: Line) -> dict[str, Any]:
    return {
        "when": line.when,
        "model": line.model,
        "billed_usd": exact_text(line.billed_pico),
        "ledger_usd": exact_text(line.ledger_pico),
        "drift_usd": exact_text(line.drift_pico),
        "verdict": line.verdict,
        "why": list(line.why),
        "exposure_usd": exact_text(line.doubt.exposure_pico),
        "unpriced_calls": line.doubt.unpriced_calls,
        "edge_up_usd": exact_text(line.doubt.edge_up_pico),
        "edge_down_usd": exact_text(line.doubt.edge_down_pico),
    }
