"""What a completion costs: dated, tiered prices with their source, in exact whole pico-dollars.

    price = load_prices().price("gemini:gemini-2.5-pro", day)
    usd(price.cost(200_001, 10).total_pico)     # Decimal("0.500152500000")

price.py: one price; parse.py: where prices come from; prices.toml: the data and its rules.
"""

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal

from mavi_tasks.common.money import EXACT, PriceError
from mavi_tasks.pricing.parse import MTOK, Shutdown, prices_of, published_prices, published_shutdowns
from mavi_tasks.pricing.price import Cost, Price, Tier
from mavi_tasks.providers import FAMILIES, nearest_model

__all__ = [
    "Cost", "Finding", "ModelRow", "Price", "PriceBook", "Retirement", "Tier", "load_prices",
]  # fmt: skip

# How each kind of media can be sent, by (by URL, inline).
_FORMS: Final = {(True, True): "by URL or inline", (True, False): "by URL", (False, True): "inline"}


@dataclass(frozen=True, slots=True)
class Retirement:
    """The day on which a provider shuts a model down, and whether it has come."""

    model: str
    on: date
    past: bool
    source: str


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One line of `mavi models`; `media` says how each kind is sent, such as "video by URL"."""

    model: str
    family: str
    endpoints: tuple[str, ...]
    media: tuple[str, ...]
    price: Price | None  # None = no price is in force on that day
    retirement: Retirement | None

    def to_json(self) -> dict[str, Any]:
        """The row for --json; dollars are strings, the last tier has no bound."""
        price, retirement = self.price, self.retirement
        return {
            "model": self.model,
            "family": self.family,
            "endpoints": list(self.endpoints),
            "media": list(self.media),
            "price_id": None if price is None else price.price_id,
            "checked": None if price is None or price.checked is None else price.checked.isoformat(),
            "tiers": None if price is None else [_tier_json(tier) for tier in price.printed_tiers()],
            "retires_on": None if retirement is None else retirement.on.isoformat(),
            "retired": retirement is not None and retirement.past,
        }


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing in the price data that needs attention."""

    kind: Literal["old", "no_price", "retired", "retiring"]
    model: str
    text: str


class PriceBook:
    """All prices and retirement dates; immutable. Every day is an argument, so that a past run can be
    priced as it was then."""

    def __init__(self, prices: Iterable[Price], retirements: Mapping[str, Shutdown]) -> None:
        rows: dict[str, list[Price]] = {}
        for price in prices:
            rows.setdefault(price.model, []).append(price)
        self._prices = {model: _in_order(model, found) for model, found in rows.items()}
        self._retirements = dict(retirements)

    def price(self, model: str, on: date) -> Price | None:
        """The price in force on that day, or None when none is known."""
        for price in self._prices.get(model, ()):  # the latest first
            if price.starts is None or price.starts <= on:
                return price
        return None

    def hint(self, model: str) -> str | None:
        """What to do about a model without a price, with the nearest known name; None when it has a price."""
        if model in self._prices:
            return None
        family, _, name = model.partition(":")
        regional = f"{family}:us.{name}"
        if regional in self._prices:
            return (
                f"{model} has no price of its own: the gateway's examples use this name, its price table "
                f"{regional}; use that one"
            )
        near = nearest_model(model)
        like = f"; the nearest known model is {near}" if near else ""
        return f"{model} has no known price, so its cost stays null{like}; give one under `prices` in the job"

    def retired(self, model: str, on: date) -> Retirement | None:
        """When the provider shuts this model down, seen from that day; None when no date is known."""
        found = self._retirements.get(model)
        return None if found is None else Retirement(model, found.on, found.on <= on, found.source)

    def models(self, on: date) -> list[ModelRow]:
        """Every priced model as of that day, in the order of the data."""
        return [_model_row(model, self.price(model, on), self.retired(model, on)) for model in self._prices]

    def check(self, older_than_days: int, today: date, seen_models: Iterable[str] = ()) -> list[Finding]:
        """What needs attention: old prices, seen models without a price, retired and retiring models."""
        found: list[Finding] = []
        for model in self._prices:
            price = self.price(model, today)
            if price is not None and price.checked and (today - price.checked).days > older_than_days:
                days = (today - price.checked).days
                found.append(Finding("old", model, f"price was checked {days} days ago, on {price.checked}"))
        unpriced = [model for model in dict.fromkeys(seen_models) if self.price(model, today) is None]
        found += [
            Finding("no_price", model, self.hint(model) or f"{model} has no price in force")
            for model in unpriced
        ]
        for model, shutdown in self._retirements.items():
            past = shutdown.on <= today
            text = f"{'was' if past else 'will be'} shut down by its provider on {shutdown.on}"
            found.append(Finding("retired" if past else "retiring", model, f"{text} ({shutdown.source})"))
        return found


def load_prices(extra: Mapping[str, Any] | Iterable[Price] | Path | str | None = None) -> PriceBook:
    """The price book, with other prices over it: a job's own, a mapping, or a TOML file like prices.toml.

    A mapping is {"family:name": {input_usd_per_mtok, output_usd_per_mtok}}, or {"family:name": {tiers: [..]}}
    with the same two amounts and up_to_input_tokens in each tier. Amounts are US dollars per million tokens.
    A price given for a model replaces every published row of that model. Raises PriceError, all problems at
    once.
    """
    if not extra:
        return _published_book()
    rows = prices_of(extra) if isinstance(extra, Mapping | Path | str) else list(extra)
    replaced = {price.model for price in rows}
    kept = [price for price in published_prices() if price.model not in replaced]
    return PriceBook([*kept, *rows], published_shutdowns())


@functools.cache
def _published_book() -> PriceBook:
    return PriceBook(published_prices(), published_shutdowns())


def _in_order(model: str, rows: list[Price]) -> tuple[Price, ...]:
    """The rows of one model, the latest `from` first. Raises PriceError when two start on the same day."""
    starts = [row.starts or date.min for row in rows]
    if len(set(starts)) < len(starts):
        raise PriceError(f"{model}: two prices start on the same day; a later one needs its own `from`")
    return tuple(sorted(rows, key=lambda row: row.starts or date.min, reverse=True))


def _model_row(model: str, price: Price | None, retirement: Retirement | None) -> ModelRow:
    name = model.partition(":")[0]
    family = FAMILIES.get(name)
    routes = family.routes if family is not None else {}
    media = tuple(
        f"{kind} {_FORMS[route.url, route.inline]}" for kind, route in routes.items() if kind != "text"
    )
    return ModelRow(
        model, name, tuple(sorted({route.endpoint for route in routes.values()})), media, price, retirement
    )


def _tier_json(tier: Tier) -> dict[str, Any]:
    inputs, outputs = (
        format(Decimal(amount).scaleb(-MTOK, EXACT).normalize(), "f") for amount in tier.amounts
    )
    return {
        "up_to_input_tokens": tier.up_to_input_tokens,
        "input_usd_per_mtok": inputs,
        "output_usd_per_mtok": outputs,
    }


def tier_bounds(price: Price) -> tuple[float, ...]:
    """The inclusive upper bounds of a price's tiers; the last has none in effect, so it is infinite.

    `bisect_left(bounds, input_tokens)`, or numpy's `searchsorted`, is the tier that prices a request.
    """
    *rest, _ = price.tiers
    return (
        *(math.inf if tier.up_to_input_tokens is None else tier.up_to_input_tokens for tier in rest),
        math.inf,
    )
