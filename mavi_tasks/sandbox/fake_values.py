"""Simulated values that match a JSON Schema."""

from collections.abc import Callable, Mapping
from typing import Any

from .deterministic import choose, fraction

Json = Mapping[str, Any]


def fake_value(schema: Json, options: list[str], *seed: str) -> Any:
    """A value that matches the schema and depends only on the seed. Free strings say that they are simulated.

    `options`: the choices in the prompt; a free string whose key looks like a label gets one of them.
    """
    return _fake(schema, schema, options, ("value",), seed, 0)


def _fake(
    root: Json, schema: Json, options: list[str], path: tuple[str, ...], seed: tuple[str, ...], depth: int
) -> Any:
    schema = resolved(root, schema)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return choose(list(schema["enum"]), *seed, path[-1])
    kind = _kind(schema)
    if kind == "object":
        return _fake_object(root, schema, options, path, seed, depth)
    if kind == "array":
        return _fake_array(root, schema, options, path, seed, depth)
    return SCALARS.get(kind, _fake_string)(schema, options, path[-1], (*seed, *path))


def resolved(root: Json, schema: Json, depth: int = 0) -> Json:
    """The schema with its references followed, its branches merged and its first alternative taken."""
    if depth > 8:  # the schema refers to itself
        return {}
    rest = {key: value for key, value in schema.items() if key not in REFERENCES}
    inner = [_pointer(root, schema["$ref"])] if "$ref" in schema else []
    inner += schema.get("allOf", [])
    for keyword in ("anyOf", "oneOf"):
        inner += [one for one in schema.get(keyword, []) if one.get("type") != "null"][:1]
    for one in inner:
        found = resolved(root, one, depth + 1)
        merged = {**rest.get("properties", {}), **found.get("properties", {})}
        required = [*rest.get("required", []), *found.get("required", [])]
        rest = {**found, **rest}
        if merged:
            rest |= {"properties": merged, "required": list(dict.fromkeys(required))}
    return rest


REFERENCES = frozenset({"$ref", "allOf", "anyOf", "oneOf"})


def _pointer(root: Json, reference: str) -> Json:
    """The schema that a local reference points to; an empty one, which accepts anything, if there is none."""
    steps = [
        step.replace("~1", "/").replace("~0", "~") for step in reference.removeprefix("#").split("/")[1:]
    ]
    found: Any = root if not steps or steps[0] in ("$defs", "definitions", "properties") else None
    for step in steps:
        found = found.get(step) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _kind(schema: Json) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), "null")
    if isinstance(kind, str):
        return kind
    return "object" if "properties" in schema else "array" if "items" in schema else "string"


def _fake_object(
    root: Json, schema: Json, options: list[str], path: tuple[str, ...], seed: tuple[str, ...], depth: int
) -> dict[str, Any]:
    properties: Json = schema.get("properties", {})
    required = schema.get("required", [])
    # A schema that refers to itself would never end: at depth 4 and below, only required keys are made.
    keys = [key for key in properties if depth < 4 or key in required] if depth < 12 else []
    keys += [key for key in required if key not in properties]
    return {key: _fake(root, properties.get(key, {}), options, (*path, key), seed, depth + 1) for key in keys}


MAX_ITEMS, MAX_CHARS = 64, 4096


def _fake_array(
    root: Json, schema: Json, options: list[str], path: tuple[str, ...], seed: tuple[str, ...], depth: int
) -> list[Any]:
    min_count = min(MAX_ITEMS, int(schema.get("minItems", 1 if depth < 6 else 0)))
    count = min(
        max(min_count, 1 + int(fraction(*seed, *path) * 2)), int(schema.get("maxItems", min_count + 2))
    )
    item = schema.get("items", {})
    found: list[Any] = []
    for index in range(count * 8):
        if len(found) == count:
            break
        value = _fake(root, item, options, (*path, str(index)), (*seed, str(index)), depth + 1)
        if value not in found or not schema.get("uniqueItems"):
            found.append(value)
    return found


def _fake_integer(schema: Json, options: list[str], key: str, seed: tuple[str, ...]) -> int:
    low, high = _bounds(schema, 0, 10, 1)
    step = int(schema.get("multipleOf", 1)) or 1
    first = -(-int(low) // step)
    return step * (first + int(fraction(*seed) * max(1, int(high) // step - first + 1)))


def _fake_number(schema: Json, options: list[str], key: str, seed: tuple[str, ...]) -> float:
    low, high = _bounds(schema, 0, 1, 1e-6)
    step = schema.get("multipleOf")
    if step:
        return float(step * round((low + (high - low) / 2) / step))
    return min(high, max(low, round(low + fraction(*seed) * (high - low), 3)))


def _bounds(schema: Json, low: float, span: float, margin: float) -> tuple[float, float]:
    """Inclusive bounds; an exclusive bound is moved inwards by the margin."""
    lowest = schema.get("minimum", schema.get("exclusiveMinimum"))
    highest = schema.get("maximum", schema.get("exclusiveMaximum"))
    if lowest is None:
        lowest = low if highest is None or highest > low else highest - span
    elif "minimum" not in schema:
        lowest += margin
    if highest is None:
        highest = lowest + span
    elif "maximum" not in schema:
        highest -= margin
    return lowest, highest


def _fake_boolean(schema: Json, options: list[str], key: str, seed: tuple[str, ...]) -> bool:
    return fraction(*seed) < 0.5


def _fake_null(schema: Json, options: list[str], key: str, seed: tuple[str, ...]) -> None:
    return None


FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "uri": "https://example.com/simulated",
    "email": "simulated@example.com",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_LABEL_KEYS = "label labels class category answer choice animal species type kind"
LABEL_KEYS = frozenset(_LABEL_KEYS.split())


def _fake_string(schema: Json, options: list[str], key: str, seed: tuple[str, ...]) -> str:
    if schema.get("format") in FORMATS:
        return FORMATS[schema["format"]]
    if options and (key.lower() in LABEL_KEYS or key.isdigit()):
        return choose(options, *seed[:-2])
    value = f"simulated {key} {int(fraction(*seed) * 4096):03x}"
    return value.ljust(min(MAX_CHARS, schema.get("minLength", 0)), ".")[: schema.get("maxLength")]


SCALARS: Mapping[str, Callable[[Json, list[str], str, tuple[str, ...]], Any]] = {
    "string": _fake_string,
    "integer": _fake_integer,
    "number": _fake_number,
    "boolean": _fake_boolean,
    "null": _fake_null,
}
