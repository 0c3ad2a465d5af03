"""A provider's or gateway's bill as CSV: columns found by name, amounts exact, problems by line."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

from mavi_tasks.common.regular_file import read_text
from mavi_tasks.errors import InputError

# What bills call these columns; the first that is there is taken. FOCUS names are among them.
GUESSES: Mapping[str, Sequence[str]] = {
    "date": (
        "date",
        "day",
        "usage date",
        "usage start date",
        "start date",
        "chargeperiodstart",
        "invoice month",
        "month",
    ),
    "model": (
        "model",
        "model name",
        "skuid",
        "sku",
        "sku description",
        "line item",
        "service",
        "description",
    ),
    "amount": (
        "amount",
        "amount usd",
        "cost",
        "cost usd",
        "billedcost",
        "unrounded cost",
        "total",
        "total cost",
        "spend",
    ),
    "currency": ("currency", "billing currency", "billingcurrency"),
}
MOST_PROBLEMS = 20
AMOUNT = re.compile(r"-?(\d{1,3}(,\d{3})+|\d*)(\.\d+)?(e[+-]?\d+)?", re.IGNORECASE)
DAY = re.compile(r"\d{4}-\d{2}(-\d{2})?(?=$|[T ])")


@dataclass(frozen=True, slots=True)
class Charge:
    """One line of the bill. `when` is a day or a month as printed, None when the bill has no dates."""

    when: str | None
    model: str | None
    pico: int


@dataclass(frozen=True, slots=True)
class Bill:
    """The charges, and which columns were taken for what."""

    name: str
    charges: tuple[Charge, ...]
    columns: Mapping[str, str]


def read_bill(path: Path, columns: Mapping[str, str] | None = None) -> Bill:
    """Read a bill. `columns` names what is not found by itself: {"date": ..., "model": ..., "amount": ...}.

    Dates count as printed (2026-11-03, or 2026-11 for a month), whatever time follows them. An amount finer
    than a pico-dollar is rounded to one. Raises InputError with the first problems, line by line.
    """
    rows = list(_rows(path))
    if not rows:
        raise InputError(f"{path}: holds no line; wanted a CSV with a heading and at least one charge")
    heading, body = rows[0][1], rows[1:]
    found = _columns(path, heading, columns or {})
    charges: list[Charge] = []
    problems: list[str] = []
    for line, row in body:
        if not any(cell.strip() for cell in row):
            continue
        cells = {
            name: row[heading.index(title)] if heading.index(title) < len(row) else ""
            for name, title in found.items()
        }
        try:
            charges.append(_charge(f"{path.name}:{line}", cells))
        except InputError as error:
            problems += error.problems
    if problems:
        more = len(problems) - MOST_PROBLEMS
        raise InputError(problems[:MOST_PROBLEMS] + ([f"and {more} more"] if more > 0 else []))
    return Bill(path.name, tuple(charges), found)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        text = read_text(path, "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a CSV file: {error}") from error
    first = text.partition("\n")[0]
    comma = max(",;\t", key=first.count)
    reader = csv.reader(text.splitlines(), delimiter=comma)
    yield from ((reader.line_num, row) for row in reader)


def _columns(path: Path, heading: Sequence[str], declared: Mapping[str, str]) -> dict[str, str]:
    strange = [name for name in declared if name not in GUESSES]
    missing = [title for title in declared.values() if title not in heading]
    if strange or missing:
        known = f"{path.name} has the columns {', '.join(heading)}"
        raise InputError(
            [f"invoice column '{name}' is not one of {', '.join(GUESSES)}" for name in strange]
            + [f"invoice column '{title}' is not there; {known}" for title in missing]
        )
    plain = {_plain(title): title for title in reversed(heading)}
    found = dict(declared)
    for name, guesses in GUESSES.items():
        title = next((plain[guess] for guess in guesses if guess in plain), None)
        if name not in found and title is not None:
            found[name] = title
    if "amount" not in found:
        raise InputError(f"{path.name}: no column of amounts among {', '.join(heading)}; say which one it is")
    return found


def _plain(title: str) -> str:
    """`Cost ($)`, `cost_usd` and `Cost USD` in one form."""
    return re.sub(r"[^a-z0-9]+", " ", title.lower()).strip()


def _charge(where: str, cells: Mapping[str, str]) -> Charge:
    currency = cells.get("currency", "").strip().upper()
    if currency not in ("", "USD", "$", "US$"):
        raise InputError(f"{where}: currency '{currency}' is not USD; no rate of exchange is assumed")
    when = cells.get("date")
    if when is not None:
        match = DAY.match(when.strip())
        if match is None:
            raise InputError(f"{where}: date '{when}' must begin with 2026-11-03 or 2026-11")
        when = match.group()
    model = cells.get("model")
    return Charge(when, None if model is None else model.strip(), _pico(where, cells["amount"]))


def _pico(where: str, text: str) -> int:
    bare = text.strip().replace("$", "").replace("USD", "").strip()
    negative = bare.startswith("(") and bare.endswith(")")
    bare = bare.strip("()")
    if not AMOUNT.fullmatch(bare) or not any(letter.isdigit() for letter in bare):
        raise InputError(f"{where}: amount '{text}' must be dollars such as 1234.56 or 1,234.56")
    amount = Decimal(bare.replace(",", "")).scaleb(12).quantize(Decimal(1), ROUND_HALF_EVEN)
    return -int(amount) if negative else int(amount)
