"""JSON Schemas: the two dialects the families take, checked, and a value that fits one."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from .fields import refuse
from .pick import choose, fraction
from .refusal import Refusal

Json = Mapping[str, Any]

LOWER = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
UPPER = frozenset(kind.upper() for kind in LOWER)
# Vertex's Schema object; JSON Schema's other words ($ref, const, additionalProperties ...) are not in it.
_UPPER_WORDS = (
    "type format title description nullable enum items properties required minimum maximum minItems maxItems "
    "minLength maxLength minProperties maxProperties pattern example default anyOf propertyOrdering"
)
UPPER_WORDS = frozenset(_UPPER_WORDS.split())


def upper(field: str, value: Any) -> None:
    """Passes for the Gemini dialect: type names in capitals, and only the words it knows."""
    _require_object(field, value)
    for word in value:
        if word not in UPPER_WORDS:
            raise Refusal(f"{field}.{word}: not a word of responseSchema")
    if value.get("type") not in UPPER and "anyOf" not in value:
        raise refuse(
            f"{field}.type", value.get("type"), "one of OBJECT, ARRAY, STRING, NUMBER, INTEGER, BOOLEAN"
        )
    if "enum" in value and value.get("type") != "STRING":
        raise Refusal(f"{field}.enum: only a STRING may have one")
    if "enum" in value and not all(isinstance(item, str) for item in value["enum"]):
        raise Refusal(f"{field}.enum: every value must be a string")
    _walk(field, value, upper)


def lower(field: str, value: Any) -> None:
    """Passes for JSON Schema proper: type names in small letters."""
    _require_object(field, value)
    kinds = value.get("type", [])
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if kind not in LOWER:
            raise refuse(f"{field}.type", kind, "one of " + ", ".join(sorted(LOWER)))
    _walk(field, value, lower)


def top_object(field: str, value: Any) -> None:
    """Passes for JSON Schema proper whose top level is an object."""
    lower(field, value)
    if value.get("type") != "object":
        raise refuse(f"{field}.type", value.get("type"), "'object'")


def _require_object(field: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise refuse(field, value, "a schema object")


def _walk(field: str, value: Json, check: Callable[[str, Any], None]) -> None:
    properties = value.get("properties", {})
    _require_object(f"{field}.properties", properties)
    for key, inner in properties.items():
        check(f"{field}.properties.{key}", inner)
    if isinstance(value.get("items"), dict):
        check(f"{field}.items", value["items"])
    for index, inner in enumerate(value.get("anyOf", [])):
        check(f"{field}.anyOf[{index}]", inner)
    for key in value.get("required", []):
        if properties and key not in properties:
            raise Refusal(f"{field}.required: {key!r} is not among its properties")


def normal(schema: Json) -> dict[str, Any]:
    """The same schema with type names in small letters, so that one filler reads both dialects."""
    return {key: _normal_value(key, value) for key, value in schema.items()}


def _normal_value(key: str, value: Any) -> Any:
    if key == "type" and isinstance(value, str):
        return value.lower()
    if key in {"properties", "$defs", "definitions"} and isinstance(value, dict):
        return {word: normal(inner) for word, inner in value.items() if isinstance(inner, dict)}
    if key in {"anyOf", "oneOf", "allOf"} and isinstance(value, list):
        return [normal(inner) for inner in value if isinstance(inner, dict)]
    return normal(value) if key == "items" and isinstance(value, dict) else value


def fill(schema: Json, options: list[str], *words: str) -> Any:
    """A value that fits the schema, depending on the words alone. Free strings say that they are simulated.

    `options`: what the question asks to choose from; a free string named like a label takes one of them.
    """
    return _fill(schema, schema, options, ("value",), words, 0)


def _fill(
    root: Json, schema: Json, options: list[str], path: tuple[str, ...], words: tuple[str, ...], depth: int
) -> Any:
    schema = _resolved(root, schema, words)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return choose(list(schema["enum"]), *words, path[-1])
    kind = _kind(schema)
    if kind == "object":
        return _fill_object(root, schema, options, path, words, depth)
    if kind == "array":
        return _fill_array(root, schema, options, path, words, depth)
    return SCALARS.get(kind, _fill_string)(schema, options, path[-1], (*words, *path))


def _resolved(root: Json, schema: Json, words: tuple[str, ...]) -> Json:
    """The schema with its reference followed, its branches merged and its first alternative taken."""
    for _ in range(20):  # a chain of references longer than this is a circle
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            break
        schema = {**_pointer(root, reference), **{k: v for k, v in schema.items() if k != "$ref"}}
    for branch in schema.get("allOf", []):
        inner = _resolved(root, branch, words)
        merged = {**schema.get("properties", {}), **inner.get("properties", {})}
        required = [*schema.get("required", []), *inner.get("required", [])]
        schema = {**schema, **inner, "properties": merged, "required": required}
    for word in ("anyOf", "oneOf"):
        alternatives = [a for a in schema.get(word, []) if a.get("type") != "null"]
        if alternatives:
            schema = {
                **{k: v for k, v in schema.items() if k != word},
                **_resolved(root, alternatives[0], words),
            }
    return schema


def _pointer(root: Json, reference: str) -> Json:
    found: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        found = (
            found.get(step.replace("~1", "/").replace("~0", "~"), {})
            if isinstance(found, dict) and step
            else found
        )
    return found if isinstance(found, dict) else {}


def _kind(schema: Json) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), "null")
    if isinstance(kind, str):
        return kind
    return "object" if "properties" in schema else "array" if "items" in schema else "string"


def _fill_object(
    root: Json, schema: Json, options: list[str], path: tuple[str, ...], words: tuple[str, ...], depth: int
) -> dict[str, Any]:
    properties: Json = schema.get("properties", {})
    required = schema.get("required", [])
    # A schema that refers to itself would never end: deep down, only what is required is filled.
    keys = [key for key in properties if depth < 4 or key in required] if depth < 12 else []
    keys += [key for key in required if key not in properties]
    return {
        key: _fill(root, properties.get(key, {}), options, (*path, key), words, depth + 1) for key in keys
    }


def _fill_array(
    root: Json, schema: Json, options: list[str], path: tuple[str, ...], words: tuple[str, ...], depth: int
) -> list[Any]:
    least = int(schema.get("minItems", 1 if depth < 6 else 0))
    count = min(max(least, 1 + int(fraction(*words, *path) * 2)), int(schema.get("maxItems", least + 2)))
    item = schema.get("items") if isinstance(schema.get("items"), dict) else {}
    found: list[Any] = []
    for index in range(count * 8):
        if len(found) == count:
            break
        value = _fill(root, item or {}, options, (*path, str(index)), (*words, str(index)), depth + 1)
        if value not in found or not schema.get("uniqueItems"):
            found.append(value)
    return found


def _fill_integer(schema: Json, options: list[str], key: str, words: tuple[str, ...]) -> int:
    low, high = _bounds(schema, 0, 10, 1)
    step = int(schema.get("multipleOf", 1)) or 1
    first = -(-int(low) // step)
    return step * (first + int(fraction(*words) * max(1, int(high) // step - first + 1)))


def _fill_number(schema: Json, options: list[str], key: str, words: tuple[str, ...]) -> float:
    low, high = _bounds(schema, 0, 1, 1e-6)
    step = schema.get("multipleOf")
    if step:
        return float(step * round((low + (high - low) / 2) / step))
    return min(high, max(low, round(low + fraction(*words) * (high - low), 3)))


def _bounds(schema: Json, low: float, span: float, margin: float) -> tuple[float, float]:
    """Inclusive bounds; an exclusive one is moved inside by the margin."""
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


def _fill_boolean(schema: Json, options: list[str], key: str, words: tuple[str, ...]) -> bool:
    return fraction(*words) < 0.5


def _fill_null(schema: Json, options: list[str], key: str, words: tuple[str, ...]) -> None:
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


def _fill_string(schema: Json, options: list[str], key: str, words: tuple[str, ...]) -> str:
    if schema.get("format") in FORMATS:
        return FORMATS[schema["format"]]
    if options and (key.lower() in LABEL_KEYS or key.isdigit()):
        return choose(options, *words[:-2])
    value = f"simulated {key} {int(fraction(*words) * 4096):03x}"
    return value.ljust(int(schema.get("minLength", 0)), ".")[: schema.get("maxLength")]


SCALARS: Mapping[str, Callable[[Json, list[str], str, tuple[str, ...]], Any]] = {
    "string": _fill_string,
    "integer": _fill_integer,
    "number": _fill_number,
    "boolean": _fill_boolean,
    "null": _fill_null,
}


def find(prose: str) -> dict[str, Any] | None:
    """The first JSON Schema or example object that stands in a prompt, as a schema; None when none does."""
    decoder = json.JSONDecoder()
    start = prose.find("{")
    while start >= 0:
        try:
            value, _ = decoder.raw_decode(prose, start)
        except ValueError:
            value = None
        if isinstance(value, dict) and value:
            return value if _is_schema(value) else like(value)
        start = prose.find("{", start + 1)
    return None


def _is_schema(value: Json) -> bool:
    return isinstance(value.get("properties"), dict) or (value.get("type") in LOWER and len(value) > 1)


def like(example: Any) -> dict[str, Any]:
    """The schema an example object stands for."""
    if isinstance(example, dict):
        return {"type": "object", "properties": {key: like(inner) for key, inner in example.items()}}
    if isinstance(example, list):
        return {"type": "array", "items": like(example[0]) if example else {}}
    kinds = {bool: "boolean", int: "integer", float: "number"}
    return {"type": kinds.get(type(example), "string")}
