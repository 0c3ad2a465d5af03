"""Field types that only a job has: money, dates, names of environment variables."""

import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from mavi_tasks.common.field_types import expecting, text, wrong

_PICO_DIGITS: Final = 12  # the dataset keeps dollars to 12 decimals
_MOST_DIGITS: Final = 30  # before the point
_MONEY: Final = re.compile(r"\$?\s*(-?[0-9][0-9_]*(?:\.[0-9]+)?|-?\.[0-9]+)\s*(?:\$|usd)?", re.I)
_AGO: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(m|h|d|w)")
_AGO_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LONGEST_AGE: Final = timedelta(days=36_500)
_SINCE_CHARS: Final = 60
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


Attempts = Annotated[int, Field(ge=1, le=50), expecting("a whole number from 1 to 50")]
Share = Annotated[float, Field(ge=0, le=1), expecting("a share from 0 to 1, such as 0.05")]
Points = Annotated[float, Field(gt=0, le=50), expecting("points above 0, at most 50, such as 2")]
ShardSize = Annotated[int, Field(ge=1, le=1_000_000), expecting("a whole number from 1 to 1000000")]


def _money(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise wrong("must be dollars, for example 5.00")
    try:
        amount = _amount(value)
    except InvalidOperation:
        raise wrong("must be dollars, for example 5.00") from None
    if not amount.is_finite() or amount.adjusted() > _MOST_DIGITS:  # written out, 1e999999999 is a gigabyte
        raise wrong("must be dollars, for example 5.00")
    if -int(amount.as_tuple().exponent) > _PICO_DIGITS and amount != round(amount, _PICO_DIGITS):
        raise wrong("must have at most 12 decimals")
    return Decimal(format(amount.normalize(), "f"))  # 5.00 and 5 are the same job


def _amount(value: int | float | str | Decimal) -> Decimal:
    """The dollars as written: the shortest text of a float is what stood in the file."""
    if not isinstance(value, str):
        return value if isinstance(value, Decimal) else Decimal(repr(value))
    found = _MONEY.fullmatch(value.strip())
    return Decimal(found.group(1)) if found else Decimal(value.strip())


def _budget(value: Any) -> Decimal:
    amount = _money(value)
    if amount == 0:
        raise wrong("would send nothing; leave it out to set no limit")
    if amount < 0:
        raise wrong("must be dollars > 0")
    if amount > 999_999:  # as much as decimal128(18, 12) holds
        raise wrong("must be at most 999999 dollars")
    return amount


def _price(value: Any) -> Decimal:
    amount = _money(value)
    if amount < 0:
        raise wrong("must be dollars >= 0")
    if int(amount.as_tuple().exponent) < -6:  # finer than a pico-dollar per token
        raise wrong("must have at most 6 decimals")
    return amount


Budget = Annotated[Decimal, BeforeValidator(_budget, json_schema_input_type=float | str)]
UsdPerMtok = Annotated[Decimal, BeforeValidator(_price, json_schema_input_type=float | str)]


def _since(value: Any) -> datetime | timedelta:
    """An instant (naive means UTC), or how long before the start of the run."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    if isinstance(value, timedelta):
        return _age(seconds=value.total_seconds())
    text = value.strip() if isinstance(value, str) else ""
    if len(text) > _SINCE_CHARS:
        raise _no_instant()
    if ago := _AGO.fullmatch(text.lower()):
        return _age(**{_AGO_UNITS[ago.group(2)]: float(ago.group(1))})
    if iso := re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", text):
        days, hours, minutes, seconds = (float(part or 0) for part in iso.groups())
        return _age(days=days, hours=hours, minutes=minutes, seconds=seconds)
    try:
        return _since(datetime.fromisoformat(text))
    except ValueError:
        raise _no_instant() from None


def _no_instant() -> PydanticCustomError:
    return wrong(
        "must be a date (2026-11-22), an instant (2026-11-22T06:00:00+02:00) or an age such as 36h or 7d"
    )


def _age(**parts: float) -> timedelta:
    try:
        age = timedelta(**parts)
    except OverflowError:
        raise _no_instant() from None
    if age > _LONGEST_AGE:
        raise wrong("must be an age of at most 36500d (a hundred years)")
    return age


Since = Annotated[datetime | timedelta, BeforeValidator(_since, json_schema_input_type=str)]


def _env_name(value: Any) -> str:
    name = text(value)
    if not _ENV_NAME.fullmatch(name) or name.lower().startswith(("sk_", "key_")) or len(name) > 64:
        # The value may be the key itself: it must not be repeated.
        raise PydanticCustomError(
            "secret", "must be the name of an environment variable, never the key itself"
        )
    if not name.endswith("_API_KEY"):  # a job must not send AWS_SECRET_ACCESS_KEY to a server of its choice
        raise wrong("must end in _API_KEY: no other variable of the environment is sent to a server")
    return name


EnvName = Annotated[str, BeforeValidator(_env_name)]
