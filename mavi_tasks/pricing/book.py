"""What a completion costs: dated, tiered prices with their source, in exact whole pico-dollars.

    price = book().price("gemini:gemini-2.5-pro", day)
    usd(price.cost(200_001, 10).total_pico)     # Decimal("0.500152500000")

Inside, money is an int of pico-dollars (1 USD = 10**12): a price of $1 per million tokens is exactly
10**6 pico-dollars per token, so no sum is ever rounded. `None` is "not known", never 0. The data and its
rules stand in prices.toml.
"""

import functools
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mavi_tasks.common.money import EXACT, PriceError, whole_units
from mavi_tasks.providers import FAMILIES, nearest_model

MTOK = 6


class Cost(NamedTuple):
    """The exact cost of one completion in pico-dollars; a part is None when its tokens are not known.

    A tuple and not a dataclass, because one is made per completion and a tuple is made twice as fast.
    """

    input_pico: int | None
    output_pico: int | None
    total_pico: int | None
    price_id: str


@dataclass(frozen=True, slots=True)
class Tier:
    """Prices per token for requests of at most `up_to_input_tokens` (inclusive; None = any)."""

    up_to_input_tokens: int | None
    input_pico_per_token: int
    output_pico_per_token: int
    price_id: str


def _amounts(tier: Tier) -> tuple[int, int]:
    return tier.input_pico_per_token, tier.output_pico_per_token


def _tier_json(tier: Tier) -> dict[str, Any]:
    inputs, outputs = (
        format(Decimal(amount).scaleb(-MTOK, EXACT).normalize(), "f") for amount in _amounts(tier)
    )
    return {
        "up_to_input_tokens": tier.up_to_input_tokens,
        "input_usd_per_mtok": inputs,
        "output_usd_per_mtok": outputs,
    }


@dataclass(frozen=True, slots=True)
class Price:
    """One row of prices.toml or of a job's own prices."""

    model: str
    endpoint: str | None
    source: str
    page: str | None
    checked: date | None  # None: the job's own
    starts: date | None  # `from` in the data; None = in force since before it was checked
    tiers: tuple[Tier, ...]
    price_id: str  # without the tier

    def cost(self, input_tokens: int | None, output_tokens: int | None) -> Cost:
        """Price one completion; the tier is chosen by its input tokens and prices the whole of it.

        Unknown tokens give None for their part and for the total, and without input tokens only a price
        of one tier can say what the output cost. Raises PriceError on a negative count.
        """
        if input_tokens is None or output_tokens is None:
            return self._partly(input_tokens, output_tokens)
        if input_tokens < 0 or output_tokens < 0:
            raise PriceError(
                f"{self.model}: {input_tokens} in, {output_tokens} out: tokens must be 0 or more"
            )
        for tier in self.tiers:
            bound = tier.up_to_input_tokens
            if bound is None or input_tokens <= bound:
                break
        inputs = input_tokens * tier.input_pico_per_token
        outputs = output_tokens * tier.output_pico_per_token
        return Cost(inputs, outputs, inputs + outputs, tier.price_id)

    def printed_tiers(self) -> tuple[Tier, ...]:
        """The tiers as a reader wants them: what lies above the last printed bound is one with its tier."""
        *rest, last = self.tiers
        if rest and _amounts(rest[-1]) == _amounts(last):
            rest.pop()
        return (*rest, last)

    def _partly(self, input_tokens: int | None, output_tokens: int | None) -> Cost:
        if input_tokens is None and len(self.tiers) > 1:
            return Cost(None, None, None, self.price_id)
        known = self.cost(input_tokens or 0, output_tokens or 0)
        return Cost(
            None if input_tokens is None else known.input_pico,
            None if output_tokens is None else known.output_pico,
            None,
            known.price_id,
        )

    def worst(self, input_tokens: int, max_tokens: int) -> int:
        """The most, in pico-dollars, that a request of at most so many tokens in and out can cost.

        `n` completions are n times the output: multiply max_tokens. Looks at every tier that the input can
        fall into, because a job's own prices may fall as requests grow.
        """
        most = 0
        lowest = 0
        for tier in self.tiers:
            if lowest > input_tokens:
                break
            bound = tier.up_to_input_tokens
            inputs = input_tokens if bound is None else min(input_tokens, bound)
            most = max(most, inputs * tier.input_pico_per_token + max_tokens * tier.output_pico_per_token)
            lowest = inputs + 1
        return most


@dataclass(frozen=True, slots=True)
class Retirement:
    """The day on which a provider shuts a model down, and whether it has come."""

    model: str
    on: date
    past: bool
    source: str


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One line of `mavi models`; `media` says how each kind goes, such as "video by URL"."""

    model: str
    family: str
    endpoints: tuple[str, ...]
    media: tuple[str, ...]
    price: Price | None  # None = no price is in force on that day
    retirement: Retirement | None

    def to_json(self) -> dict[str, Any]:
        """The row for --json; dollars are texts, the last tier has no bound."""
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
    """One thing to see to in the price data."""

    kind: Literal["old", "no_price", "retired", "retiring"]
    model: str
    text: str


@dataclass(frozen=True, slots=True)
class _Shutdown:
    on: date
    source: str


class PriceBook:
    """All prices and retirement dates; immutable. Every day is an argument, so that a past run can be
    priced as it was then."""

    def __init__(self, prices: Iterable[Price], retirements: Mapping[str, _Shutdown]) -> None:
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
        """What to do about a model without a price: the known name most like it; None when none is."""
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
        """What wants seeing to: old prices, seen models without a price, retired and retiring models."""
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
            said = f"{'was' if past else 'will be'} shut down by its provider on {shutdown.on}"
            found.append(Finding("retired" if past else "retiring", model, f"{said} ({shutdown.source})"))
        return found


def load_prices(extra: Mapping[str, Any] | Path | str | None = None) -> PriceBook:
    """The price book, with a job's own prices over it: a mapping, or a TOML file in the form of prices.toml.

    A mapping is {"family:name": {input_usd_per_mtok, output_usd_per_mtok}}, or {"family:name": {tiers: [..]}}
    with the same two amounts and up_to_input_tokens in each tier.
    What is given for a model replaces every row of that model. Raises PriceError, all problems at once.
    """
    if not extra:
        return _own_book()
    rows = extra_rows(extra)
    replaced = {price.model for price in rows}
    kept = [price for price in _own_prices() if price.model not in replaced]
    return PriceBook([*kept, *rows], _own_retirements())


def extra_rows(extra: Mapping[str, Any] | Path | str) -> list[Price]:
    """A job's own prices, checked."""
    if isinstance(extra, Mapping):
        return _collected(
            (f"prices.{model}", {"source": "job", **row} if isinstance(row, Mapping) else row, str(model))
            for model, row in extra.items()
        )
    return _rows_of(_toml_file(Path(extra)), str(extra))


# ---- reading ----


@functools.cache
def _own_data() -> dict[str, Any]:
    return tomllib.loads(resources.files("mavi_tasks.pricing").joinpath("prices.toml").read_text("utf-8"))


@functools.cache
def _own_prices() -> tuple[Price, ...]:
    return tuple(_rows_of(_own_data(), "prices.toml"))


@functools.cache
def _own_retirements() -> dict[str, _Shutdown]:
    data = _own_data()
    titles = {name: source["title"] for name, source in data["source"].items()}
    return {
        f"{row['family']}:{row['model']}": _Shutdown(row["on"], titles[row["source"]])
        for row in data["retirement"]
    }


@functools.cache
def _own_book() -> PriceBook:
    return PriceBook(_own_prices(), _own_retirements())


def _toml_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PriceError(f"{path}: cannot be read as TOML prices: {error}") from error


def _rows_of(data: Mapping[str, Any], where: str) -> list[Price]:
    found = data.get("price")
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise PriceError(f"{where}: must hold [[price]] rows")
    return _collected(
        (f"{where}: price {index} ({row.get('family')}:{row.get('model')})", row, _wire_name(row))
        for index, row in enumerate(found, 1)
    )


def _wire_name(row: Mapping[str, Any]) -> str:
    family, name = row.get("family"), row.get("model")
    return f"{family}:{name}" if isinstance(family, str) and isinstance(name, str) else ""


def _collected(rows: Iterable[tuple[str, Any, str]]) -> list[Price]:
    prices: list[Price] = []
    problems: list[str] = []
    for where, row, model in rows:
        try:
            prices.append(_price(where, row, model))
        except PriceError as error:
            problems += error.problems
    if problems:
        raise PriceError(problems)
    return prices


_ROW_KEYS = frozenset(
    {"family", "model", "endpoint", "source", "page", "checked", "from", "tiers"}
    | {"input_usd_per_mtok", "output_usd_per_mtok"}
)
_TIER_KEYS = frozenset({"up_to_input_tokens", "input_usd_per_mtok", "output_usd_per_mtok"})


def _price(where: str, row: Any, model: str) -> Price:
    if not isinstance(row, Mapping):
        raise PriceError(f"{where}: {row!r} must be input_usd_per_mtok and output_usd_per_mtok, or tiers")
    family, _, name = model.partition(":")
    if not family or not name:
        raise PriceError(f"{where}: the model must be family:name")
    _only(where, row, _ROW_KEYS)
    checked, starts = _day(where, row, "checked"), _day(where, row, "from")
    source = str(row.get("source", "file"))
    amounts = _tier_rows(where, row)
    # A price that was read on a day is told by source and day; one that was not, by its amounts.
    base = f"{model}@{source}-{checked}" if checked else f"{model}@{source}:{_amounts_id(amounts)}"
    base = f"{base},from-{starts}" if starts else base
    tiers = tuple(_tiers(where, amounts, base))
    return Price(model, row.get("endpoint"), source, row.get("page"), checked, starts, tiers, base)


def _only(where: str, row: Mapping[str, Any], known: frozenset[str]) -> None:
    strange = sorted(str(name) for name in row if name not in known)
    if strange:
        raise PriceError(f"{where}: unknown {', '.join(strange)}; known are {', '.join(sorted(known))}")


def _day(where: str, row: Mapping[str, Any], name: str) -> date | None:
    value = row.get(name)
    if value is None or type(value) is date:
        return value
    raise PriceError(f"{where}: {name} = {value!r} must be a date, such as 2026-11-22 without quotes")


def _tier_rows(where: str, row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    tiers = row.get("tiers")
    if tiers is None:
        return [{name: row[name] for name in _TIER_KEYS if name in row}]
    if not isinstance(tiers, Sequence) or not tiers or not all(isinstance(tier, Mapping) for tier in tiers):
        raise PriceError(f"{where}: tiers must be a list of objects")
    for tier in tiers:
        _only(f"{where}: tiers", tier, _TIER_KEYS)
    return list(tiers)


def _amounts_id(rows: list[Mapping[str, Any]]) -> str:
    return ",".join(f"{row.get('input_usd_per_mtok')}/{row.get('output_usd_per_mtok')}" for row in rows)


def _tiers(where: str, rows: list[Mapping[str, Any]], base: str) -> Iterable[Tier]:
    """The tiers, the last one without a bound: inputs above the last printed bound cost what it says."""
    below = 0
    for index, row in enumerate(rows):
        amounts = _per_token(where, row, "input_usd_per_mtok"), _per_token(where, row, "output_usd_per_mtok")
        bound = row.get("up_to_input_tokens")
        last = index == len(rows) - 1
        if bound is None and not last:
            raise PriceError(f"{where}: tier {index + 1} has no up_to_input_tokens, which only the last may")
        if bound is not None:
            if type(bound) is not int or bound <= below:
                raise PriceError(f"{where}: up_to_input_tokens {bound!r} must be a whole number over {below}")
            yield Tier(bound, *amounts, f"{base}<={bound}")
            below = bound
        if last:
            yield Tier(None, *amounts, f"{base}>{below}" if below else base)


def _per_token(where: str, row: Mapping[str, Any], name: str) -> int:
    if name not in row:
        raise PriceError(f"{where}: {name} is missing")
    wanted = "dollars per million tokens, 0 or more, with at most 6 decimals"
    try:
        amount = whole_units(row[name], MTOK, wanted)
    except PriceError as error:
        raise PriceError(f"{where}: {name}: {error}") from error
    if amount < 0:
        raise PriceError(f"{where}: {name}: {row[name]!r} must be {wanted}")
    return amount


# ---- looking ----


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
    ways = {(True, True): "by URL or inline", (True, False): "by URL", (False, True): "inline"}
    media = tuple(
        f"{kind} {ways[route.url, route.inline]}" for kind, route in routes.items() if kind != "text"
    )
    return ModelRow(
        model, name, tuple(sorted({route.endpoint for route in routes.values()})), media, price, retirement
    )


def tier_bounds(price: Price) -> tuple[float, ...]:
    """The inclusive upper bounds of a price's tiers; the last has none in effect, so it is infinite.

    `bisect_left(bounds, input_tokens)`, or numpy's `searchsorted`, is the tier that prices a request.
    """
    *rest, _ = price.tiers
    return (
        *(math.inf if tier.up_to_input_tokens is None else tier.up_to_input_tokens for tier in rest),
        math.inf,
    )
