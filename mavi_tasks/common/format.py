"""Numbers as people read them. None is "–": not known, never 0."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal

UNKNOWN = "–"
COST_UNKNOWN = "cost unknown"


def usd(value: Decimal | None, digits: int = 3) -> str:
    """Dollars with cents, or with `digits` significant digits below a dollar: $1,204.10, $0.0123, $0."""
    if value is None:
        return UNKNOWN
    sign, value = ("-" if value < 0 else ""), abs(value)
    if value == 0:
        return "$0"
    if value >= 1:
        return f"{sign}${value:,.2f}"
    places = digits - 1 - value.adjusted()
    text = f"{value:.{places}f}".rstrip("0")
    decimals = len(text.partition(".")[2])
    return f"{sign}${text}" + "0" * max(0, 2 - decimals)


def spent(value: Decimal, unpriced: int, shown: Callable[[Decimal], str] = usd) -> str:
    """Dollars that were spent, when `unpriced` calls have no known price: "≥ $0.05", or "cost unknown"."""
    if not unpriced:
        return shown(value)
    return f"≥ {shown(value)}" if value else COST_UNKNOWN


def exact_usd(value: Decimal | None) -> str:
    """Dollars to the last digit, without an exponent."""
    return UNKNOWN if value is None else f"${value:f}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share of 1 as a percentage: 0.8234 is 82.3%."""
    return UNKNOWN if value is None else f"{100 * value:.{digits}f}%"


def points(value: float | None, digits: int = 1) -> str:
    """A difference of shares in percentage points, with its sign: +3.1; what rounds to 0 has none."""
    if value is None:
        return UNKNOWN
    rounded = round(100 * value, digits)
    return f"{rounded:+.{digits}f}".replace("-", "−") if rounded else f"{0:.{digits}f}"


def verdict(found: str | None, a: str, b: str, margin_points: float) -> str:
    """What a pair of candidates showed: who is better, equal within the margin, or open."""
    equal = f"equal within {margin_points:g}"
    return {"a": f"{a} better", "b": f"{b} better", "equal": equal, "open": "open"}.get(found or "", UNKNOWN)


def count(value: int | float | None) -> str:
    """A whole number with thousands separated."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def seconds(value: float | None) -> str:
    """A duration: 340 ms, 2.10 s, 4 min 05 s."""
    if value is None:
        return UNKNOWN
    if value < 1:
        return f"{1000 * value:.0f} ms"
    if value < 60:
        return f"{value:.2f} s"
    return f"{value // 60:.0f} min {value % 60:02.0f} s"


def number(value: float | None, digits: int = 2) -> str:
    """A plain number with a true minus."""
    return UNKNOWN if value is None else f"{value:.{digits}f}".replace("-", "−")


def p_value(value: float | None) -> str:
    """A probability as statisticians print it: 0.031, < 0.001."""
    if value is None:
        return UNKNOWN
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def all_digits(value: Decimal) -> str:
    """An amount to its last digit, at least cents, without a sign for dollars: 12.50, 0.000325."""
    whole, _, decimals = f"{value:f}".partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


def ledger_usd(value: Decimal) -> str:
    """Dollars to the last digit, at least cents: $12.50, $0.000325."""
    return f"${all_digits(value)}"


def duration(seconds: float) -> str:
    """A length of time that need not be exact: 3.2 s, 45 s, 12 min, 1.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def clock(at: datetime, now: datetime) -> str:
    """A time of day as on a clock; with its date unless that is today: 23:41, Nov 26 01:12."""
    return f"{at:%H:%M}" if at.date() == now.date() else f"{at:%b %d %H:%M}"
