"""JSON Schemas: checks of the two dialects of the families, and schemas found in a prompt."""

import json
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

from .refusal import Refusal
from .validators import Check, anything, array, integer, number, refuse

Json = Mapping[str, Any]

LOWER = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
UPPER = frozenset(kind.upper() for kind in LOWER)
# Vertex's Schema object; other JSON Schema keywords ($ref, const, additionalProperties ...) are not in it.
_UPPER_KEYWORDS = (
    "type format title description nullable enum items properties required minimum maximum minItems maxItems "
    "minLength maxLength minProperties maxProperties pattern example default anyOf propertyOrdering"
)
UPPER_KEYWORDS = frozenset(_UPPER_KEYWORDS.split())


def upper(field: str, value: Any) -> None:
    """Check the Gemini dialect: type names in capitals, and only known keywords."""
    _require_object(field, value)
    for keyword in value:
        if keyword not in UPPER_KEYWORDS:
            raise Refusal(f"{field}.{keyword}: not a word of responseSchema")
    if "anyOf" not in value and (not isinstance(value.get("type"), str) or value["type"] not in UPPER):
        raise refuse(
            f"{field}.type", value.get("type"), "one of OBJECT, ARRAY, STRING, NUMBER, INTEGER, BOOLEAN"
        )
    if "enum" in value and value.get("type") != "STRING":
        raise Refusal(f"{field}.enum: only a STRING may have one")
    array(_string)(f"{field}.enum", value.get("enum", []))
    _walk(field, value, upper)


def lower(field: str, value: Any) -> None:
    """Check standard JSON Schema: type names in lower case."""
    _require_object(field, value)
    kinds = value.get("type", [])
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if not isinstance(kind, str) or kind not in LOWER:
            raise refuse(f"{field}.type", kind, "one of " + ", ".join(sorted(LOWER)))
    _walk(field, value, lower)


def top_object(field: str, value: Any) -> None:
    """Check standard JSON Schema whose top level is an object."""
    lower(field, value)
    if value.get("type") != "object":
        raise refuse(f"{field}.type", value.get("type"), "'object'")


def _require_object(field: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise refuse(field, value, "a schema object")


def _walk(field: str, value: Json, check: Check) -> None:
    """Check the value of each keyword of a schema, and all nested schemas."""
    for keyword, allowed in KEYWORDS.items():
        if keyword in value:
            allowed(f"{field}.{keyword}", value[keyword])
    for keyword in ("properties", "$defs", "definitions"):
        _require_object(f"{field}.{keyword}", value.get(keyword, {}))
        for key, inner in value.get(keyword, {}).items():
            check(f"{field}.{keyword}.{key}", inner)
    if "items" in value:
        check(f"{field}.items", value["items"])
    for keyword in ("anyOf", "oneOf", "allOf"):
        for index, inner in enumerate(value.get(keyword, [])):
            check(f"{field}.{keyword}[{index}]", inner)
    properties = value.get("properties", {})
    for key in value.get("required", []):
        if properties and key not in properties:
            raise Refusal(f"{field}.required: {key!r} is not among its properties")


def _string(field: str, value: Any) -> None:
    if not isinstance(value, str):
        raise refuse(field, value, "a string")


COUNT = integer(0, 1_000_000)
REAL = number(-1e300, 1e300)
KEYWORDS: Mapping[str, Check] = {
    "enum": array(anything, min_items=1),
    "required": array(_string),
    "anyOf": array(_require_object, min_items=1),
    "oneOf": array(_require_object, min_items=1),
    "allOf": array(_require_object),
    "propertyOrdering": array(_string),
    **dict.fromkeys(("minItems", "maxItems", "minLength", "maxLength"), COUNT),
    **dict.fromkeys(("minProperties", "maxProperties"), COUNT),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), REAL),
    **dict.fromkeys(("$ref", "title", "description", "format", "pattern"), _string),
    "multipleOf": number(1e-12, 1e300),
}


def normal(schema: Json) -> dict[str, Any]:
    """The same schema with type names in lower case, so that both dialects are read alike."""
    return {key: _normal_value(key, value) for key, value in schema.items()}


def _normal_value(key: str, value: Any) -> Any:
    if key == "type" and isinstance(value, str):
        return value.lower()
    if key in {"properties", "$defs", "definitions"} and isinstance(value, dict):
        return {keyword: normal(inner) for keyword, inner in value.items() if isinstance(inner, dict)}
    if key in {"anyOf", "oneOf", "allOf"} and isinstance(value, list):
        return [normal(inner) for inner in value if isinstance(inner, dict)]
    return normal(value) if key == "items" and isinstance(value, dict) else value


def find(prose: str) -> dict[str, Any] | None:
    """The first JSON Schema or example object in a prompt, as a schema; None if there is none.

    Only the first 32 braces are parsed, and text nested too deep is ignored.
    """
    decoder = json.JSONDecoder()
    for brace in islice(re.finditer(r"\{", prose), 32):
        try:
            value, _ = decoder.raw_decode(prose, brace.start())
            if value:
                return value if _is_schema(value) else like(value)
        except (ValueError, RecursionError):
            continue
    return None


def _is_schema(value: Json) -> bool:
    if not isinstance(value.get("properties"), dict) and not (len(value) > 1 and "type" in value):
        return False
    try:
        lower("prompt", value)
    except Refusal:
        return False
    return True


def like(example: Any) -> dict[str, Any]:
    """The schema of an example object."""
    if isinstance(example, dict):
        return {"type": "object", "properties": {key: like(inner) for key, inner in example.items()}}
    if isinstance(example, list):
        return {"type": "array", "items": like(example[0]) if example else {}}
    kinds = {bool: "boolean", int: "integer", float: "number"}
    return {"type": kinds.get(type(example), "string")}
