"""Whether an answer schema is a JSON Schema whose checks are bounded; told before anything is sent.

What is refused here: what is no schema, or is too large, refers to itself in a circle, checks one value too
often, or needs matching without a time bound. What an answer adds is bounded by `bounded_validator`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import jsonschema

from mavi_tasks.common.json_schema import ReferenceProblem, referred
from mavi_tasks.labels.patterns import PatternProblem, compiled

MAX_VALUES: Final = 100_000  # of the schema as JSON, enums and all
MAX_DEPTH: Final = 100
MAX_PARTS: Final = 5_000  # schemas inside the schema
MAX_KEYWORDS: Final = 200  # of one part
MAX_CHECKS: Final = 1_000  # parts that apply to one value, over all references and choices
MAX_CHAIN: Final = 32  # references and choices inside one another for one value
MAX_WORDS: Final = 300

# Keywords that hold a schema, a list of schemas, schemas by name, values that are no schemas.
_ONE: Final = frozenset(
    {"items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"}
)
_LIST: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED: Final = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})
_LITERAL: Final = frozenset({"enum", "const", "default", "examples"})
# Keywords whose schemas apply to the value itself, not to what is inside it.
_SAME_VALUE: Final = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"})

# Names of other dialects and places: validators change their rules where they see them.
_DROPPED: Final = frozenset({"$schema", "$id", "$anchor", "$dynamicAnchor", "$vocabulary"})
_REFUSED: Final[Mapping[str, str]] = {
    "$dynamicRef": "use a local $ref, such as '#/$defs/pet'",
    "unevaluatedProperties": "write `additionalProperties: false` beside `properties`",
    "unevaluatedItems": "write `items: false` beside `prefixItems`",
}

_NO_FORMATS: Final = jsonschema.FormatChecker(formats=())

Place = tuple[str, ...]


class _Unbounded(ValueError):
    """What is wrong, and where; the text of `schema_problem`."""

    def __init__(self, place: Place, text: str) -> None:
        super().__init__(f"{'.'.join(place)[:MAX_WORDS]}: {text}" if place else text)


def schema_problem(schema: Any) -> str | None:
    """What is wrong with a schema itself; None when it is a bounded JSON Schema of draft 2020-12.

    The text begins with the place inside the schema, or goes on after "answer_schema: ".
    """
    if not isinstance(schema, Mapping):
        return "must be a JSON object"
    try:
        _check_size(schema)
        # With a checker of no formats: Python's idea of a pattern is not ours.
        jsonschema.Draft202012Validator.check_schema(dict(schema), format_checker=_NO_FORMATS)
        _check_parts(cleaned(schema))
    except jsonschema.exceptions.SchemaError as error:
        place = ".".join(str(step) for step in error.absolute_path)[:MAX_WORDS]
        return f"is not a valid JSON Schema: {place + ': ' if place else ''}{error.message[:MAX_WORDS]}"
    except _Unbounded as problem:
        return str(problem)
    return None


def cleaned(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A copy without the names of dialects and places; all `#/...` references still lead where they led."""
    kept = {name: value for name, value in schema.items() if name not in _DROPPED}
    return {name: _cleaned(name, value) for name, value in kept.items()}


def _cleaned(name: str, value: Any) -> Any:
    if name in _LITERAL:
        return value
    if name in _NAMED and isinstance(value, Mapping):
        return {key: cleaned(one) if isinstance(one, Mapping) else one for key, one in value.items()}
    if isinstance(value, list):
        return [cleaned(one) if isinstance(one, Mapping) else one for one in value]
    return cleaned(value) if isinstance(value, Mapping) else value


def _check_size(schema: Mapping[str, Any]) -> None:
    count, mappings, level = 0, 0, [schema]
    for _ in range(MAX_DEPTH):
        inner = [child for node in level for child in _children(node)]
        count += len(inner)
        mappings += sum(isinstance(child, Mapping) for child in inner)
        if mappings > 2 * MAX_PARTS:  # a property's schema, and now and then the mapping around it
            raise _Unbounded((), f"has more than {MAX_PARTS:,} parts; make it simpler")
        if count > MAX_VALUES:
            raise _Unbounded((), f"has more than {MAX_VALUES:,} values; make it simpler")
        if not inner:
            return
        level = inner
    raise _Unbounded((), f"is nested deeper than {MAX_DEPTH} levels")


def _children(node: Any) -> list[Any]:
    if isinstance(node, Mapping):
        return list(node.values())
    return node if isinstance(node, list) else []


def _check_parts(schema: dict[str, Any]) -> None:
    parts = dict(_parts(schema))
    for place, part in parts.items():
        _check_part(place, part)
    known: dict[int, tuple[int, int] | None] = {}
    schemas = {id(part) for part in parts.values()}
    for place, part in parts.items():
        if "$ref" in part and id(_target(part["$ref"], schema, place)) not in schemas:
            raise _Unbounded(place, f"$ref {part['$ref']!r} must lead to a schema")
        checks, chain = _checks(part, schema, place, known)
        if checks > MAX_CHECKS:
            raise _Unbounded(place, f"checks a value more than {MAX_CHECKS:,} times; make it simpler")
        if chain > MAX_CHAIN:
            raise _Unbounded(place, f"has more than {MAX_CHAIN} references and choices inside one another")


def _parts(schema: dict[str, Any]) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Every schema inside the schema, itself first, with its place."""
    waiting: list[tuple[Place, dict[str, Any]]] = [((), schema)]
    for count in range(MAX_PARTS):
        if not waiting:
            return
        place, part = waiting.pop()
        yield place, part
        if len(part) > MAX_KEYWORDS:
            raise _Unbounded(place, f"has more than {MAX_KEYWORDS} keywords")
        waiting += _inner(place, part)
        if count + len(waiting) >= MAX_PARTS:
            break
    raise _Unbounded((), f"has more than {MAX_PARTS:,} parts; make it simpler")


def _inner(place: Place, part: Mapping[str, Any]) -> list[tuple[Place, dict[str, Any]]]:
    found: list[tuple[Place, Any]] = []
    for name, value in part.items():
        if name in _ONE:
            found.append(((*place, name), value))
        elif name in _LIST:
            found += [((*place, name, str(at)), one) for at, one in enumerate(value)]
        elif name in _NAMED and isinstance(value, dict):
            found += [((*place, name, key), one) for key, one in value.items()]
    return [(where, one) for where, one in found if isinstance(one, dict)]


def _check_part(place: Place, part: Mapping[str, Any]) -> None:
    for name, hint in _REFUSED.items():
        if name in part:
            raise _Unbounded((*place, name), f"cannot be checked in bounded time; {hint}")
    if isinstance(part.get("pattern"), str):
        _check_pattern((*place, "pattern"), part["pattern"])
    for pattern in part.get("patternProperties", ()):
        _check_pattern((*place, "patternProperties"), pattern)


def _check_pattern(place: Place, pattern: str) -> None:
    try:
        compiled(pattern)
    except PatternProblem as problem:
        raise _Unbounded(place, f"{pattern[:80]!r}: {problem}") from problem


def _target(reference: str, schema: dict[str, Any], place: Place) -> Any:
    try:
        return referred(reference, schema)
    except ReferenceProblem as problem:
        raise _Unbounded(place, f"$ref {reference[:80]!r} {problem}") from problem


def _checks(
    part: Any, schema: dict[str, Any], place: Place, known: dict[int, tuple[int, int] | None], above: int = 0
) -> tuple[int, int]:
    """How many parts are applied to one value, and how many of them inside one another.

    known: both by the part's id; None while it is being counted, so that a circle is seen.
    """
    if not isinstance(part, dict):
        return 1, 1
    if id(part) not in known:
        if above > MAX_CHAIN:
            raise _Unbounded(place, f"has more than {MAX_CHAIN} references and choices inside one another")
        known[id(part)] = None
        inner = [_checks(one, schema, place, known, above + 1) for one in _on_same_value(part, schema, place)]
        known[id(part)] = (
            1 + sum(checks for checks, _ in inner),
            1 + max((chain for _, chain in inner), default=0),
        )
    counted = known[id(part)]
    if counted is None:
        raise _Unbounded(place, "refers to itself without going into the value")
    return counted


def _on_same_value(part: dict[str, Any], schema: dict[str, Any], place: Place) -> Iterator[Any]:
    if "$ref" in part:
        yield _target(part["$ref"], schema, place)
    for name in _SAME_VALUE & part.keys():
        value = part[name]
        yield from value if name in _LIST else value.values() if name == "dependentSchemas" else (value,)
