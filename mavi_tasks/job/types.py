"""The kinds of value a job file holds, each with the words that say what is wanted.

Used as annotations by `job.py`. A value that does not fit raises an error of type "wanted", whose message
reads after the value: `'fast'` + `must be a number > 0`.
"""

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

_PICO_DIGITS: Final = 12  # the dataset keeps dollars to 12 decimals
_MONEY: Final = re.compile(r"\$?\s*(-?[0-9][0-9_]*(?:\.[0-9]+)?|-?\.[0-9]+)\s*(?:\$|usd)?", re.I)
_AGO: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(m|h|d|w)")
_AGO_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def wrong(text: str) -> PydanticCustomError:
    """A problem with one value, in words that follow the value."""
    return PydanticCustomError("wanted", "{words}", {"words": text})


def _wanted(text: str) -> WrapValidator:
    """Say `must be <text>` for whatever the type underneath refuses; numbers may be written as text."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(_as_number(value))
        except ValidationError:
            raise wrong("must be " + text) from None

    return WrapValidator(check)


def _as_number(value: Any) -> Any:
    """YAML reads 1e6 as text and `yes` as true; the first is meant as a number, the second is not."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return int(value) if isinstance(value, float) and math.isfinite(value) and value == int(value) else value


PositiveInt = Annotated[int, Field(gt=0, le=2**31 - 1), _wanted("a whole number > 0")]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False), _wanted("a number > 0")]
Tries = Annotated[int, Field(ge=1, le=50), _wanted("a whole number from 1 to 50")]
Seconds = Annotated[float, Field(gt=0, le=7 * 86_400), _wanted("seconds > 0, at most 604800 (a week)")]
ShardSize = Annotated[int, Field(ge=1, le=1_000_000), _wanted("a whole number from 1 to 1000000")]


def _text(value: Any) -> str:
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, str):
        raise wrong("must not be empty")
    if value is None or isinstance(value, dict | list):
        raise wrong("must be text")
    raise wrong("must be text; put it in quotes")


Text = Annotated[str, BeforeValidator(_text)]


def _money(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise wrong("must be dollars, for example 5.00")
    try:
        amount = _amount(value)
    except InvalidOperation:
        raise wrong("must be dollars, for example 5.00") from None
    if not amount.is_finite():
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
        raise wrong("would send nothing; leave it out to set no bound")
    if amount < 0:
        raise wrong("must be dollars > 0")
    if amount > 999_999:  # as much as decimal128(18, 12) holds
        raise wrong("must be at most 999999 dollars")
    return amount


def _price(value: Any) -> Decimal:
    amount = _money(value)
    if amount < 0:
        raise wrong("must be dollars >= 0")
    return amount


Budget = Annotated[Decimal, BeforeValidator(_budget, json_schema_input_type=float | str)]
Price = Annotated[Decimal, BeforeValidator(_price, json_schema_input_type=float | str)]


def _since(value: Any) -> datetime | timedelta:
    """An instant (naive means UTC), or how long before the start of the run."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    if isinstance(value, timedelta):
        return value
    text = value.strip() if isinstance(value, str) else ""
    if ago := _AGO.fullmatch(text.lower()):
        return timedelta(**{_AGO_UNITS[ago.group(2)]: float(ago.group(1))})
    if iso := re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", text):
        days, hours, minutes, seconds = (float(part or 0) for part in iso.groups())
        return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    try:
        return _since(datetime.fromisoformat(text))
    except ValueError:
        raise wrong("must be a date (2026-11-22), an instant or an age such as 36h or 7d") from None


Since = Annotated[datetime | timedelta, BeforeValidator(_since, json_schema_input_type=str)]


def _env_name(value: Any) -> str:
    name = _text(value)
    if not _ENV_NAME.fullmatch(name) or name.lower().startswith(("sk_", "key_")) or len(name) > 64:
        # The value may be the key itself: it must not be repeated.
        raise PydanticCustomError(
            "secret", "must be the name of an environment variable, never the key itself"
        )
    if not name.endswith("_API_KEY"):  # a job must not send AWS_SECRET_ACCESS_KEY to a server of its choice
        raise wrong("must end in _API_KEY: no other variable of the environment is sent to a server")
    return name


EnvName = Annotated[str, BeforeValidator(_env_name)]


def _base_url(value: Any) -> str:
    url = _text(value).strip()
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError:
        raise wrong("must be a URL such as https://host/path") from None
    if split.username is not None or split.password is not None:
        raise PydanticCustomError(
            "secret", "must not hold a user or password; the key comes from api_key_env"
        )
    if (
        split.scheme not in ("http", "https")
        or not split.hostname
        or port == 0
        or url != "".join(url.split())
    ):
        raise wrong("must be a URL such as https://host/path")
    if split.query or split.fragment:
        raise PydanticCustomError("secret", "must end with its path: no ? and no #")
    return url.rstrip("/")


BaseUrl = Annotated[str, BeforeValidator(_base_url)]


def one_of(*words: str) -> Callable[[Any], Any]:
    """A validator that takes one of a few words, and names the nearest for others."""
    import difflib

    def check(value: Any) -> Any:
        if value in words:
            return value
        near = difflib.get_close_matches(str(value), words, 1, 0.5)
        raise wrong(f"must be {' or '.join(words)}" + (f"; did you mean {near[0]}?" if near else ""))

    return check
