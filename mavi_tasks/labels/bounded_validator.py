"""JSON Schema checks whose work is counted, so that no answer can take longer than its limit.

The validator is jsonschema's. Each keyword it applies is paid for, and what it does in more than linear time
is done here in another way: patterns by RE2, equality by one canonical text.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import partial
from itertools import islice
from typing import Any, Final

import jsonschema
from jsonschema.exceptions import ValidationError
from referencing import Registry

from mavi_tasks.labels import patterns

# Prices in microseconds, measured on one core of a small server.
KEYWORD_US: Final = 1  # one keyword applied to one value
REFERENCE_US: Final = 20  # one $ref followed
ERROR_US: Final = 5  # one error, made or handed on
DESCENT_US: Final = 5  # one member, or the value itself, handed to another schema
LOOKS_PER_US: Final = 8  # members looked at for their names only
CHARS_PER_US: Final = 50  # characters of a text that is built, such as jsonschema's message about a value


# Keywords inside one another, each three of Python's 1,000 frames. The limit is ours, because a library below
# jsonschema does not survive Python's.
MAX_NESTED: Final = 200


class TooMuchWork(Exception):
    """The limit is reached; the check is given up."""


class Work:
    """What checking one answer may still cost, in units of about a microsecond. Counted, not measured: the
    same answer gets the same verdict on every machine.
    """

    __slots__ = ("left_us", "nested")

    def __init__(self, limit_us: int) -> None:
        self.left_us, self.nested = limit_us, 0

    def spend(self, us: int) -> None:
        self.left_us -= us
        if self.left_us < 0:
            raise TooMuchWork


_WORK: ContextVar[Work] = ContextVar("work")


def errors(validator: Any, value: Any, work: Work, most: int) -> list[ValidationError]:
    """The validator's first errors, without messages. Raises TooMuchWork, RecursionError, and of a bad
    schema anything."""
    before = _WORK.set(work)
    try:
        return list(islice(validator.iter_errors(value), most))
    finally:
        _WORK.reset(before)


def validator(schema: Mapping[str, Any]) -> Any:
    """The validator of a schema that is `cleaned`. Not safe for schemas that name another dialect inside."""
    # An empty registry: a schema's $ref never makes the validator fetch something from the network.
    registry: Registry[Any] = Registry()
    return _Validator(dict(schema), registry=registry)


Keyword = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]


def _counted(name: str, keyword: Keyword) -> Keyword:
    price = _PRICES.get(name, _looks)

    def check(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
        work = _WORK.get()
        work.spend(KEYWORD_US + price(wanted, value))
        if work.nested >= MAX_NESTED:
            raise RecursionError
        work.nested += 1
        try:
            for error in keyword(validator, wanted, value, schema) or ():
                work.spend(ERROR_US + len(error.message) // CHARS_PER_US)
                error.message = ""  # it holds the whole value; ours are made in `validate`
                yield error
        finally:
            work.nested -= 1

    return check


def _size(value: Any) -> int:
    return len(value) if isinstance(value, dict | list) else 0


def _looks(wanted: Any, value: Any) -> int:
    return (_size(wanted) + _size(value)) // LOOKS_PER_US


def _each_member(part: Any, value: Any) -> int:
    return DESCENT_US * _size(value) if isinstance(part, dict) else 0


def _each_part(parts: Any, value: Any) -> int:
    return DESCENT_US * _size(parts)


def _each_property(named: Any, value: Any) -> int:
    return DESCENT_US * min(_size(named), _size(value)) + _looks(named, value)


def _each_dependency(named: Any, value: Any) -> int:
    return sum(map(_size, named.values())) // LOOKS_PER_US


_PRICES: Final[Mapping[str, Callable[[Any, Any], int]]] = {
    **dict.fromkeys(("items", "contains", "propertyNames", "additionalProperties"), _each_member),
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems", "dependentSchemas"), _each_part),
    **dict.fromkeys(("$ref", "not", "if"), lambda wanted, value: REFERENCE_US),
    **dict.fromkeys(("enum", "const", "type"), lambda wanted, value: 0),  # by a set, and paid for there
    "properties": _each_property,
    "dependentRequired": _each_dependency,
}


# ---- keywords that jsonschema checks in more than linear time


def _pattern(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and not _occurs(pattern, value):
        yield ValidationError("")


def _occurs(pattern: str, text: str) -> bool:
    _WORK.get().spend(1 + patterns.work_of(pattern, text))
    return patterns.occurs(pattern, text)


def _pattern_properties(validator: Any, named: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    for pattern, part in named.items():
        for key, member in value.items():
            if _occurs(pattern, key):
                _WORK.get().spend(DESCENT_US)
                yield from validator.descend(member, part, path=key, schema_path=pattern)


def _additional_properties(validator: Any, part: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    known, named = schema.get("properties", {}), schema.get("patternProperties", ())
    for key, member in value.items():
        if key in known or any(_occurs(pattern, key) for pattern in named):
            continue
        if part is False:  # one error for all of them, at the object itself
            yield ValidationError("")
            return
        yield from validator.descend(member, part, path=key)


def _unique_items(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    if wanted and isinstance(value, list):
        work = _WORK.get()
        if len({_canonical(member, work) for member in value}) < len(value):
            yield ValidationError("")


def _enum(validator: Any, choices: list[Any], value: Any, schema: Any) -> Iterator[ValidationError]:
    if _canonical(value, _WORK.get()) not in _texts(choices):
        yield ValidationError("")


def _const(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    work = _WORK.get()
    if _canonical(value, work) != _canonical(wanted, work):
        yield ValidationError("")


def _canonical(value: Any, work: Work) -> str:
    """One text for all values that JSON Schema calls equal: 1 and 1.0 are, 1 and true are not.

    A text, because Python's hashes of numbers can be made to collide.
    """
    if isinstance(value, dict):
        members = sorted(f"{json.dumps(key)}:{_canonical(member, work)}" for key, member in value.items())
        text = f"{{{','.join(members)}}}"
    elif isinstance(value, list):
        text = f"[{','.join([_canonical(member, work) for member in value])}]"
    elif isinstance(value, float):
        text = str(int(value)) if value.is_integer() else repr(value)
    else:
        text = json.dumps(value)
    work.spend(1 + len(text) // CHARS_PER_US)
    return text


def _texts(choices: list[Any]) -> frozenset[str]:
    """The canonical texts of an enum, from a small cache by identity, like that of the compiled schemas."""
    known = _TEXTS.get(id(choices))
    if known is None or known[0] is not choices:
        known = (choices, frozenset(_canonical(choice, Work(sys.maxsize)) for choice in choices))
        _TEXTS[id(choices)] = known
        while len(_TEXTS) > MAX_CACHED:
            _TEXTS.pop(next(iter(_TEXTS)), None)
    return known[1]


_TEXTS: Final[dict[int, tuple[list[Any], frozenset[str]]]] = {}
MAX_CACHED: Final = 5_000


def _refused(name: str, *_: Any) -> Iterator[ValidationError]:
    raise ValueError(f"{name} has no bound")


_OWN: Final[Mapping[str, Keyword]] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
    "enum": _enum,
    "const": _const,
    "unevaluatedItems": partial(_refused, "unevaluatedItems"),
    "unevaluatedProperties": partial(_refused, "unevaluatedProperties"),
}
_STANDARD: Final = jsonschema.Draft202012Validator
_Validator: Final = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    _STANDARD,
    {name: _counted(name, keyword) for name, keyword in {**_STANDARD.VALIDATORS, **_OWN}.items()},
)
