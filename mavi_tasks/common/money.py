"""Money: whole pico-dollars inside (int, 1 USD = 10**12), Decimal dollars and text at the edges; no float.

A price of $1 per million tokens is exactly 10**6 pico-dollars per token, so no sum is ever rounded. `None` is
"not known", never 0.
"""

from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any, Final

from mavi_tasks.errors import InputError

PICO_DECIMALS: Final = 12
PICO_PER_USD: Final = 10**PICO_DECIMALS
MAX_PICO: Final = 10**18 - 1  # the most that a column of dollars holds: $999,999 and twelve decimals
EXACT: Final = Context(prec=60, traps=[Inexact, InvalidOperation])


class PriceError(InputError):
    """A price or an amount that cannot be used: says which row, the value, and what is wanted."""


def usd(amount_pico: int) -> Decimal:
    """Dollars with twelve decimals, exact. Print with format(x, "f"): str() shows zero as 0E-12."""
    return Decimal(amount_pico).scaleb(-PICO_DECIMALS, EXACT)


def pico(amount_usd: Decimal | str | int) -> int:
    """Whole pico-dollars, exact. Raises PriceError for what is finer than a pico-dollar or no amount."""
    return whole_units(amount_usd, PICO_DECIMALS, "an amount in dollars with at most 12 decimals")


def exact_text(amount_pico: int) -> str:
    """Exact dollars with all twelve decimals: 325_000_000 is "0.000325000000"."""
    return f"{usd(amount_pico):f}"


def short_text(amount_pico: int) -> str:
    """Exact dollars without trailing zeros: 325_000_000 is "0.000325"."""
    return trimmed(usd(amount_pico))


def pico_name(column: str) -> str:
    """What a column of dollars is called while it holds whole pico-dollars: cost_usd is cost_pico."""
    return f"{column.removesuffix('_usd')}_pico" if column.endswith("_usd") else column


def usd_name(column: str) -> str:
    """The inverse of `pico_name`."""
    return f"{column.removesuffix('_pico')}_usd" if column.endswith("_pico") else column


def trimmed(amount_usd: Decimal) -> str:
    """Exact dollars without trailing zeros and without an exponent."""
    return f"{amount_usd.normalize():f}" if amount_usd else "0"


def whole_units(value: Any, decimals: int, wanted: str) -> int:
    """value * 10**decimals as an int, exact. A float is taken as it was typed (0.1, not its binary value).

    Raises PriceError, which says what is `wanted`.
    """
    typed = repr(value) if isinstance(value, float) else value
    if isinstance(typed, bool) or not isinstance(typed, str | int | Decimal):
        raise PriceError(f"{value!r} must be {wanted}")
    try:
        scaled = Decimal(typed).scaleb(decimals, EXACT)
        return int(scaled.to_integral_exact(context=EXACT))
    except (InvalidOperation, Inexact, ValueError, OverflowError) as error:
        raise PriceError(f"{value!r} must be {wanted}") from error
