"""Prices and retirement dates from prices.toml, from a TOML file of the same form, or from a job."""

import functools
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple

from mavi_tasks.common.money import PriceError, whole_units
from mavi_tasks.common.regular_file import read_text
from mavi_tasks.pricing.price import Price, Tier

MTOK: Final = 6  # prices are per 10**6 tokens
_Tier = tuple[int | None, int, int]  # up_to_input_tokens, pico-dollars per token of input and of output


class Shutdown(NamedTuple):
    """The day on which a provider shuts a model down, and the title of the source."""

    on: date
    source: str


@functools.cache
def _published() -> dict[str, Any]:
    return tomllib.loads(resources.files("mavi_tasks.pricing").joinpath("prices.toml").read_text("utf-8"))


@functools.cache
def published_prices() -> tuple[Price, ...]:
    """The rows of prices.toml."""
    return tuple(_rows_of(_published(), "prices.toml"))


@functools.cache
def published_shutdowns() -> Mapping[str, Shutdown]:
    """The retirement dates in prices.toml, by model."""
    data = _published()
    titles = {name: source["title"] for name, source in data["source"].items()}
    return {
        f"{row['family']}:{row['model']}": Shutdown(row["on"], titles[row["source"]])
        for row in data["retirement"]
    }


def own_price(model: str, tiers: Iterable[tuple[int | None, Decimal, Decimal]]) -> Price:
    """The price that a job gives for a model, from tiers that were checked.

    A tier is (up_to_input_tokens, input and output in US dollars per million tokens).
    """
    rows = list(tiers)
    base = f"{model}@job:" + ",".join(f"{inputs}/{outputs}" for _, inputs, outputs in rows)
    amounts = [
        (bound, int(inputs.scaleb(MTOK)), int(outputs.scaleb(MTOK))) for bound, inputs, outputs in rows
    ]
    return Price(model, None, "job", None, None, None, _closed(amounts, base), base)


def prices_of(extra: Mapping[str, Any] | Path | str) -> list[Price]:
    """Prices from a mapping or from a TOML file. Raises PriceError, all problems at once."""
    if isinstance(extra, Mapping):
        return _collected(
            (f"prices.{model}", {"source": "job", **row} if isinstance(row, Mapping) else row, str(model))
            for model, row in extra.items()
        )
    return _rows_of(_toml_file(Path(extra)), str(extra))


def _toml_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path))
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
    # A price with a day is identified by its source and day, one without by its amounts.
    base = f"{model}@{source}-{checked}" if checked else f"{model}@{source}:{_amounts_id(amounts)}"
    base = f"{base},from-{starts}" if starts else base
    tiers = _closed(_tiers(where, amounts), base)
    return Price(model, row.get("endpoint"), source, row.get("page"), checked, starts, tiers, base)


def _only(where: str, row: Mapping[str, Any], known: frozenset[str]) -> None:
    unknown = sorted(str(name) for name in row if name not in known)
    if unknown:
        raise PriceError(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}")


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


def _tiers(where: str, rows: list[Mapping[str, Any]]) -> list[_Tier]:
    """The bounds and amounts of each tier, checked."""
    tiers: list[_Tier] = []
    below = 0
    for index, row in enumerate(rows):
        amounts = _per_token(where, row, "input_usd_per_mtok"), _per_token(where, row, "output_usd_per_mtok")
        bound = row.get("up_to_input_tokens")
        if bound is None and index < len(rows) - 1:
            raise PriceError(f"{where}: tier {index + 1} has no up_to_input_tokens, which only the last may")
        if bound is not None and (type(bound) is not int or bound <= below):
            raise PriceError(f"{where}: up_to_input_tokens {bound!r} must be a whole number over {below}")
        tiers.append((bound, *amounts))
        below = bound or below
    return tiers


def _closed(rows: Sequence[_Tier], base: str) -> tuple[Tier, ...]:
    """The tiers, the last one without a bound: inputs above the last published bound cost the same."""
    tiers = [Tier(*row, f"{base}<={row[0]}") for row in rows if row[0] is not None]
    price_id = f"{base}>{rows[-1][0] or rows[-2][0]}" if tiers else base
    return (*tiers, Tier(None, *rows[-1][1:], price_id))


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
