"""Checks of JSON values, combined in tables: `check(field, value)` returns, or raises a Refusal."""

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from .refusal import Refusal

Check = Callable[[str, Any], None]


def refuse(field: str, value: Any, expected: str) -> Refusal:
    """A Refusal that names the field, the value and what is expected; long values are cut."""
    shown = repr(value)
    return Refusal(f"{field}: {shown if len(shown) <= 80 else shown[:77] + '...'} must be {expected}")


def number(low: float, high: float) -> Check:
    def check(field: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise refuse(field, value, "a number")
        if not low <= value <= high:
            raise refuse(field, value, f"from {low:g} to {high:g}")

    return check


def integer(low: int, high: int | None = None) -> Check:
    def check(field: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise refuse(field, value, "an integer")
        if value < low or (high is not None and value > high):
            raise refuse(field, value, f"at least {low}" if high is None else f"from {low} to {high}")

    return check


def boolean(field: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise refuse(field, value, "true or false")


def text(field: str, value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise refuse(field, value, "a string that is not empty")


def name(field: str, value: Any) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        raise refuse(field, value, "a name of 1 to 64 letters, digits, _ or -")


def one_of(*allowed: str) -> Check:
    def check(field: str, value: Any) -> None:
        if value not in allowed:
            raise refuse(field, value, " or ".join(map(repr, allowed)))

    return check


def array(item: Check, min_items: int = 0) -> Check:
    def check(field: str, value: Any) -> None:
        if not isinstance(value, list):
            raise refuse(field, value, "an array")
        if len(value) < min_items:
            raise refuse(field, value, f"an array of at least {min_items}")
        for index, element in enumerate(value):
            item(f"{field}[{index}]", element)

    return check


def obj(known: Mapping[str, Check], required: Collection[str] = ()) -> Check:
    """An object with only these keys, including those in `required`."""

    def check(field: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise refuse(field, value, "an object")
        known_keys(field, value, known, required)
        for key, element in value.items():
            known[key](f"{field}.{key}", element)

    return check


def known_keys(
    field: str, value: Mapping[str, Any], known: Collection[str], required: Collection[str]
) -> None:
    """Check that all keys are known and all required keys are present."""
    prefix = f"{field}." if field else ""
    for key in value:
        if key not in known:
            raise Refusal(f"{prefix}{key}: unknown parameter; known: {', '.join(sorted(known))}")
    for key in required:
        if key not in value:
            raise Refusal(f"{prefix}{key}: required parameter is missing")


def stop(field: str, value: Any) -> None:
    if value is None or isinstance(value, str):
        return
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise refuse(field, value, "a string, an array of strings, or null")


def anything(field: str, value: Any) -> None:
    """Accept any value; the caller checks it."""


# Parameters that all four model pages document in the same form.
COMMON: Mapping[str, Check] = {
    "model": text,
    "messages": anything,
    "temperature": number(0, 2),
    "max_tokens": integer(1),
    "top_p": number(0, 1),
    "frequency_penalty": number(-2, 2),
    "presence_penalty": number(-2, 2),
    "n": integer(1, 128),
    "stream": boolean,
    "stop": stop,
}
