"""Tokens of an answer before any was seen: from the schema it must fit, or from the plain defaults."""

import json
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from mavi_tasks.common.json_schema import ReferenceProblem, referred
from mavi_tasks.estimate.token_formulas import DATA, text_tokens

_PRIOR = DATA["output"]
_MOST: Mapping[str, int] = DATA["max_output"]
MAX_TOKENS: int = _PRIOR["max_tokens"]
_STRING_TOKENS = 12.0
_ITEMS = 4
_DEEPEST = 6  # a recursive schema must end somewhere


def output_tokens(max_tokens: int | None, schema: Mapping[str, Any] | None = None) -> tuple[int, int, int]:
    """p10, p50 and p90 of one answer's tokens, never over max_tokens (None = the families' default)."""
    most = max_tokens or MAX_TOKENS
    if schema is None:
        points = _PRIOR["p10"], _PRIOR["p50"], _PRIOR["p90"]
    else:
        middle = _tokens(schema, schema, 0)
        points = middle * 0.6, middle, middle * 1.8
    low, middle, high = (max(1, min(round(tokens), most)) for tokens in points)
    return low, middle, high


def max_output(model: str) -> int | None:
    """The most tokens of one answer that this model's publisher allows; None = not known."""
    return next((tokens for glob, tokens in _MOST.items() if fnmatchcase(model, glob)), None)


def _tokens(spec: Any, root: Mapping[str, Any], depth: int) -> float:
    """Tokens of a typical value of this schema."""
    if not isinstance(spec, Mapping) or depth > _DEEPEST:
        return _STRING_TOKENS
    if isinstance(spec.get("enum"), list) and spec["enum"]:
        return sum(_text(value) for value in spec["enum"]) / len(spec["enum"])
    if "const" in spec:
        return _text(spec["const"])
    if isinstance(spec.get("$ref"), str):
        return _tokens(_referred(spec["$ref"], root), root, depth + 1)
    for choice in ("anyOf", "oneOf", "allOf"):
        if isinstance(spec.get(choice), list) and spec[choice]:
            return max(_tokens(option, root, depth + 1) for option in spec[choice])
    names = spec.get("type")
    name = (
        next((one for one in names if one != "null"), "null") if isinstance(names, list) and names else names
    )
    count = _BY_TYPE.get(name if isinstance(name, str) else "object", _string)
    return count(spec, root, depth)


def _text(value: Any) -> float:
    return max(1, text_tokens(len(json.dumps(value, ensure_ascii=False, default=str))))


def _object(spec: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> float:
    properties = spec.get("properties")
    fields = properties.items() if isinstance(properties, Mapping) else ()
    # A key with its quotes, colon and comma, and its value.
    return 4 + sum(_text(key) + 1.5 + _tokens(field, root, depth + 1) for key, field in fields)


def _array(spec: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> float:
    least, most = spec.get("minItems", 0), spec.get("maxItems", 2 * _ITEMS)
    items = min(max(_ITEMS, least), most) if isinstance(least, int) and isinstance(most, int) else _ITEMS
    return 2 + items * (1 + _tokens(spec.get("items", {}), root, depth + 1))


def _string(spec: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> float:
    most = spec.get("maxLength")
    return min(_STRING_TOKENS, 1 + most / 4) if isinstance(most, int) else _STRING_TOKENS


def _short(spec: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> float:
    return 2.0


_BY_TYPE: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any], int], float]] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _short,
    "number": _short,
    "boolean": _short,
    "null": _short,
}


def _referred(reference: str, root: Mapping[str, Any]) -> Any:
    try:
        return referred(reference, root)
    except ReferenceProblem:
        return None
