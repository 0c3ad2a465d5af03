"""Field types shared by everything that users write, each with its own error text.

A value that does not fit raises a pydantic error of type "wanted". Its message reads after the value:
`'fast'` + `must be a number > 0`.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

from mavi_tasks.common.suggest import nearest


def wrong(text: str) -> PydanticCustomError:
    """A problem with one value; `text` reads after the value."""
    return PydanticCustomError("expecting", "{text}", {"text": text})


def expecting(text: str) -> WrapValidator:
    """Report `must be <text>` for whatever the type refuses; numbers may be written as text."""

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


PositiveInt = Annotated[int, Field(gt=0, le=2**31 - 1), expecting("a whole number > 0")]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False), expecting("a number > 0")]
Seconds = Annotated[float, Field(gt=0, le=7 * 86_400), expecting("seconds > 0, at most 604800 (a week)")]


def text(value: Any) -> str:
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, str):
        raise wrong("must not be empty")
    if value is None or isinstance(value, dict | list):
        raise wrong("must be text")
    raise wrong("must be text; put it in quotes")


Text = Annotated[str, BeforeValidator(text)]


def _base_url(value: Any) -> str:
    url = text(value).strip()
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


def one_of(*choices: str) -> Callable[[Any], Any]:
    """A validator that accepts one of a few words, and suggests the nearest for others."""

    def check(value: Any) -> Any:
        if value in choices:
            return value
        near = nearest(str(value), choices, 0.5)
        raise wrong(f"must be {' or '.join(choices)}" + (f"; did you mean {near}?" if near else ""))

    return check
