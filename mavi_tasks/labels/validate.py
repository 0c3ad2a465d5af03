"""Whether a value fits an answer schema; compiled once per schema, quick for the common plain ones."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from referencing.exceptions import Unresolvable

from mavi_tasks.labels.bounded_validator import TooMuchWork, Work, errors, validator
from mavi_tasks.labels.schema_checks import MAX_WORDS, cleaned

MAX_ERRORS = 3
TOO_MUCH: Final = "the answer takes too much work to check against answer_schema"


@dataclass(frozen=True, slots=True)
class Checker:
    """A compiled schema. `problem(value, work)` is None, or what is wanted and where, in one line."""

    is_surely_valid: Callable[[Any], bool]
    validator: Any
    openers: str  # the brackets with which an answer may begin

    def problem(self, value: Any, work: Work) -> str | None:
        """Raises TooMuchWork."""
        if self.is_surely_valid(value):
            return None
        try:
            found = errors(self.validator, value, work, MAX_ERRORS)
        except TooMuchWork:
            raise
        except RecursionError:
            return "$: nested too deeply for the schema"
        except Unresolvable as error:
            return f"answer_schema: $ref {str(error.ref)[:80]!r} leads nowhere"
        except Exception as error:  # jsonschema raises of many kinds; a paid answer must not end the run
            return f"answer_schema cannot be applied: {type(error).__name__}"
        return "; ".join(_describe(error) for error in found)[:MAX_WORDS] if found else None


def checker(schema: Mapping[str, Any]) -> Checker:
    """The compiled schema, from a small cache by identity: a schema must not change after its first use."""
    known = _CACHE.get(id(schema))
    if known is None or known[0] is not schema:
        known = (schema, _compile(schema))
        _CACHE[id(schema)] = known
        while len(_CACHE) > _CACHE_SIZE:
            _CACHE.popitem(last=False)
    return known[1]


# The schema is kept beside its checker, so that its id cannot be given to another object.
_CACHE: OrderedDict[int, tuple[Mapping[str, Any], Checker]] = OrderedDict()
_CACHE_SIZE = 32


def _compile(schema: Mapping[str, Any]) -> Checker:
    return Checker(
        is_surely_valid=_quick(schema) or _never,
        validator=validator(cleaned(schema)),
        openers=_openers(schema),
    )


def _openers(schema: Mapping[str, Any]) -> str:
    types = schema.get("type")
    named = {types} if isinstance(types, str) else set(types) if isinstance(types, list) else set()
    return "[" if named == {"array"} else "{[" if "array" in named else "{"


# ---- the quick path: plain objects of plain fields; False only means "ask the validator"

_ANNOTATIONS = frozenset(
    {"title", "description", "$schema", "$id", "$comment", "examples", "default", "deprecated"}
)
_QUICK_OBJECT = _ANNOTATIONS | {"type", "properties", "required", "additionalProperties"}
_QUICK_FIELD = _ANNOTATIONS | {"type", "enum"}
_EXACT: Mapping[str, frozenset[type]] = {
    "string": frozenset({str}),
    "integer": frozenset({int}),
    "number": frozenset({int, float}),
    "boolean": frozenset({bool}),
    "null": frozenset({type(None)}),
}


def _never(value: Any) -> bool:
    return False


def _quick(schema: Mapping[str, Any]) -> Callable[[Any], bool] | None:
    properties = schema.get("properties")
    if schema.get("type") != "object" or not isinstance(properties, dict) or set(schema) - _QUICK_OBJECT:
        return None
    if not isinstance(schema.get("additionalProperties", True), bool):
        return None
    fields = {name: _quick_field(field) for name, field in properties.items()}
    if any(field is None for field in fields.values()):
        return None
    return _quick_object(fields, schema.get("required", ()), schema.get("additionalProperties", True))


def _quick_object(
    fields: Mapping[str, Any], required: Iterable[str], open_ended: bool
) -> Callable[[Any], bool]:
    wanted = frozenset(required)

    def is_valid(value: Any) -> bool:
        if type(value) is not dict or not wanted <= value.keys():
            return False
        for name, member in value.items():
            field = fields.get(name)
            if field is None:
                if not open_ended:
                    return False
                continue
            types, allowed = field
            if type(member) not in types or (allowed is not None and member not in allowed):
                return False
        return True

    return is_valid


def _quick_field(field: Any) -> tuple[frozenset[type], frozenset[str] | None] | None:
    if not isinstance(field, dict) or set(field) - _QUICK_FIELD:
        return None
    names, allowed = field.get("type"), field.get("enum")
    names = [names] if isinstance(names, str) else names
    if allowed is not None:
        # 1 == True in Python but not in JSON: only lists of strings are quick.
        if not isinstance(allowed, list) or not all(type(one) is str for one in allowed):
            return None
        return frozenset({str}), frozenset(allowed)
    if not isinstance(names, list) or not names or not all(name in _EXACT for name in names):
        return None
    return frozenset().union(*(_EXACT[name] for name in names)), None


# ---- descriptions; never the answer's own text, because errors are shown and logged


def _describe(error: Any) -> str:
    say = _SAY.get(error.validator)
    wanted = say(error) if say else f"must fit {_short({error.validator: error.validator_value})}"
    return f"{_path(error)}: {wanted}"


def _path(error: Any) -> str:
    """Where, with only such names as the schema itself says; any other key of the answer is a *."""
    known = set(_names(error.absolute_schema_path))
    steps = (
        f"[{step}]" if isinstance(step, int) else f".{step}" if step in known else ".*"
        for step in error.absolute_path
    )
    return "$" + "".join(steps)


def _names(steps: Iterable[Any]) -> Iterator[str]:
    return (step for step in steps if isinstance(step, str))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:157]}..."


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return {
        str: "string",
        int: "integer",
        float: "number",
        dict: "object",
        list: "array",
        type(None): "null",
    }.get(type(value), "another type")


def _say_type(error: Any) -> str:
    wanted = error.validator_value
    names = wanted if isinstance(wanted, str) else " or ".join(map(str, wanted))
    return f"must be {names}, not {_kind(error.instance)}"


def _say_required(error: Any) -> str:
    missing = [name for name in error.validator_value if name not in error.instance]
    return f"misses {', '.join(map(_short, missing))}"


_SAY: Mapping[str, Callable[[Any], str]] = {
    "type": _say_type,
    "required": _say_required,
    "enum": lambda error: f"must be one of {_short(error.validator_value)}",
    "const": lambda error: f"must be {_short(error.validator_value)}",
    "additionalProperties": lambda error: "has keys that the schema does not allow",
    "pattern": lambda error: f"must match the pattern {_short(error.validator_value)}",
    "minimum": lambda error: f"must be at least {error.validator_value}",
    "maximum": lambda error: f"must be at most {error.validator_value}",
    "exclusiveMinimum": lambda error: f"must be more than {error.validator_value}",
    "exclusiveMaximum": lambda error: f"must be less than {error.validator_value}",
    "minLength": lambda error: f"must have at least {error.validator_value} characters",
    "maxLength": lambda error: f"must have at most {error.validator_value} characters",
    "minItems": lambda error: f"must have at least {error.validator_value} items",
    "maxItems": lambda error: f"must have at most {error.validator_value} items",
    "uniqueItems": lambda error: "must not repeat an item",
}
