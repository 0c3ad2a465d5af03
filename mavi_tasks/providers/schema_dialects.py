"""A JSON Schema in each family's own form; pure.

What a form cannot express is dropped here and kept by our own check of the answer, so a form may be looser
than the schema. It is stricter in one place: Gemini must be told a type, so "anything" becomes a text there.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mavi_tasks.common.json_schema import ReferenceProblem, referred
from mavi_tasks.errors import InputError

MAX_DEPTH = 32  # deeper schemas are cut to "anything" there; the providers allow fewer levels

MAX_NODES = 20_000  # references to references can double at each step

_ANY: dict[str, Any] = {}
_DEFINITIONS = ("$defs", "definitions")
_LITERAL = ("enum", "const", "default", "examples")  # hold values, not schemas
_NAME = "answer"

# JSON Schema types in Gemini's terms; "null" becomes `nullable`.
_TYPES = {
    "string": "STRING", "number": "NUMBER", "integer": "INTEGER",
    "boolean": "BOOLEAN", "array": "ARRAY", "object": "OBJECT",
}  # fmt: skip
# Keywords that Gemini knows and that mean there what they mean here, by type.
_KEPT = {
    "NUMBER": ("minimum", "maximum"),
    "INTEGER": ("minimum", "maximum"),
    "ARRAY": ("minItems", "maxItems"),
}
_FORMATS = {"STRING": ("date-time",), "NUMBER": ("float", "double"), "INTEGER": ("int32", "int64")}


def problems(schema: Any) -> list[str]:
    """What no family can make of this schema: no object, not JSON, or references that lead nowhere."""
    if not isinstance(schema, Mapping):
        return [f"answer_schema: must be an object (a JSON Schema), not {type(schema).__name__}"]
    try:
        inlined(schema)
    except InputError as error:
        return list(error.problems)
    except (TypeError, ValueError, RecursionError) as error:
        return [f"answer_schema: must be plain JSON: {error}"]
    return []


def inlined(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with its local references resolved and $defs gone. Not to be changed: it is shared.

    A reference back into itself (a tree) and anything below MAX_DEPTH becomes "anything".
    Raises InputError for a reference that is not local or leads nowhere, and for a schema that unfolds
    to more than MAX_NODES.
    """
    return _inlined(json.dumps(schema))


# By its text: every request of a job has the same schema, and unfolding it costs more than sending it.
@functools.lru_cache(maxsize=64)
def _inlined(text: str) -> dict[str, Any]:
    schema = json.loads(text)
    unfolded = _Resolver(schema).resolve(schema, (), 0)
    if not isinstance(unfolded, dict):
        raise InputError(f"answer_schema: $ref {schema['$ref']!r} must lead to an object")
    return unfolded


def is_object(schema: Mapping[str, Any]) -> bool:
    """Whether every answer that fits is a JSON object, as far as the top of the schema says."""
    top = inlined(schema)
    return top.get("type") == "object" or ("type" not in top and "properties" in top)


def qwen(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Qwen's response_format: the schema under a name, its references resolved."""
    title = schema.get("title")
    ascii_name = (
        "".join(c if c.isascii() and c.isalnum() else "_" for c in title) if isinstance(title, str) else ""
    )
    name = ascii_name.strip("_")[:64] or _NAME
    return {"type": "json_schema", "json_schema": {"name": name, "schema": inlined(schema)}}


def gemini(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Gemini's responseSchema: upper-case types and the subset of keywords it knows.

    None when the schema says nothing that Gemini could hold to (any object, any value): it refuses an
    OBJECT without properties, and application/json alone already asks for JSON.
    """
    form = _gemini(inlined(schema), 0)
    if not _says_type(form) or (form.get("type") == "OBJECT" and "properties" not in form):
        return None
    return form


# ---- references ----


@dataclass(slots=True)
class _Resolver:
    root: Mapping[str, Any]
    nodes: int = 0

    def resolve(self, node: Any, seen: tuple[str, ...], depth: int) -> Any:
        """The node without references; `seen` are the references it lies under."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise InputError(f"answer_schema: unfolds to more than {MAX_NODES} parts; make it simpler")
        if depth > MAX_DEPTH:
            return _ANY
        if isinstance(node, list):
            return [self.resolve(item, seen, depth + 1) for item in node]
        if not isinstance(node, dict):
            return node
        reference = node.get("$ref")
        if isinstance(reference, str):
            return self._referred(node, reference, seen, depth)
        return {
            name: self._value(name, value, seen, depth)
            for name, value in node.items()
            if name not in _DEFINITIONS
        }

    def _value(self, name: str, value: Any, seen: tuple[str, ...], depth: int) -> Any:
        if name in _LITERAL:
            return value
        # Under `properties` the names are the user's: one called "$ref" or "enum" is a property.
        if name == "properties" and isinstance(value, dict):
            return {key: self.resolve(inner, seen, depth + 1) for key, inner in value.items()}
        return self.resolve(value, seen, depth + 1)

    def _referred(self, node: dict[str, Any], reference: str, seen: tuple[str, ...], depth: int) -> Any:
        if reference in seen:
            return _ANY
        target = self.resolve(_look_up(reference, self.root), (*seen, reference), depth + 1)
        if not isinstance(target, dict):
            return target
        beside = {name: value for name, value in node.items() if name != "$ref"}
        return {**target, **self.resolve(beside, seen, depth + 1)}


def _look_up(reference: str, root: Mapping[str, Any]) -> Any:
    try:
        return referred(reference, root)
    except ReferenceProblem as problem:
        raise InputError(f"answer_schema: $ref {reference!r} {problem}") from problem


# ---- Gemini's subset ----


def _gemini(node: Any, depth: int) -> dict[str, Any]:
    """One node in Gemini's form; without `type` and `anyOf` it takes anything."""
    if not isinstance(node, Mapping) or depth > MAX_DEPTH:
        return {}
    node = _merged(node)
    form = _any_of(_choices(node), depth)
    if not _says_type(form):
        kinds = [kind for kind in _kinds(node) if kind != "null"]
        if len(kinds) == 1:
            form |= _typed(node, kinds[0], depth)
        else:
            form |= _any_of([{**node, "type": kind, "anyOf": None, "oneOf": None} for kind in kinds], depth)
    form |= {key: node[key] for key in ("title", "description") if isinstance(node.get(key), str)}
    if "null" in _kinds(node) or None in _values(node):
        form["nullable"] = True
    return form


def _says_type(form: Mapping[str, Any]) -> bool:
    return "type" in form or "anyOf" in form


def _part(node: Any, depth: int) -> dict[str, Any]:
    """An inner node: Gemini must be told its type, and a text can carry anything."""
    form = _gemini(node, depth)
    return form if _says_type(form) else {"type": "STRING", **form}


def _merged(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """The node with the parts of its allOf put into it: properties and required joined."""
    parts = node.get("allOf")
    if not isinstance(parts, list):
        return node
    merged: dict[str, Any] = {name: value for name, value in node.items() if name != "allOf"}
    for part in parts:
        for name, value in _merged(part).items() if isinstance(part, Mapping) else ():
            merged[name] = _joined(name, merged[name], value) if name in merged else value
    return merged


def _joined(name: str, first: Any, second: Any) -> Any:
    if name == "properties" and isinstance(first, Mapping) and isinstance(second, Mapping):
        return {**second, **first}
    if name == "required" and isinstance(first, list) and isinstance(second, list):
        return [*first, *(item for item in second if item not in first)]
    return first


def _choices(node: Mapping[str, Any]) -> list[Any]:
    for name in ("anyOf", "oneOf"):
        choices = node.get(name)
        if isinstance(choices, list):
            return choices
    return []


def _any_of(choices: list[Any], depth: int) -> dict[str, Any]:
    """One of several nodes; {} when one of them takes anything, because that frees them all."""
    nulls = [choice for choice in choices if isinstance(choice, Mapping) and _kinds(choice) == ["null"]]
    forms = [_gemini(choice, depth + 1) for choice in choices if choice not in nulls]
    form: dict[str, Any] = {"anyOf": forms} if forms and all(map(_says_type, forms)) else {}
    if len(forms) == 1:
        form = forms[0]
    return {**form, "nullable": True} if nulls else form


def _kinds(node: Mapping[str, Any]) -> list[str]:
    """The JSON types that a node allows, in its order; [] = it does not say."""
    kind = node.get("type")
    if isinstance(kind, str):
        return [kind]
    if isinstance(kind, list):
        return [k for k in kind if isinstance(k, str)]
    if isinstance(node.get("properties"), Mapping):
        return ["object"]
    if "items" in node or "prefixItems" in node:
        return ["array"]
    return list(dict.fromkeys(_json_type(value) for value in _values(node)))


def _values(node: Mapping[str, Any]) -> list[Any]:
    if "const" in node:
        return [node["const"]]
    values = node.get("enum")
    return values if isinstance(values, list) else []


def _json_type(value: Any) -> str:
    names = {
        bool: "boolean",
        int: "integer",
        float: "number",
        str: "string",
        type(None): "null",
        list: "array",
    }
    return names.get(type(value), "object")


def _typed(node: Mapping[str, Any], kind: str, depth: int) -> dict[str, Any]:
    word = _TYPES.get(kind)
    if word is None:
        return {}
    form: dict[str, Any] = {"type": word}
    if node.get("format") in _FORMATS.get(word, ()):
        form["format"] = node["format"]
    form.update({key: node[key] for key in _KEPT.get(word, ()) if _is_number(node.get(key))})
    form.update(_enum(word, [value for value in _values(node) if value is not None]))
    if word == "ARRAY":
        form["items"] = _items(node, depth)
    if word == "OBJECT":
        form.update(_members(node, depth))
    return form


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _enum(word: str, values: list[Any]) -> dict[str, Any]:
    """Gemini's enum holds texts only; of numbers the range is kept."""
    if word == "STRING" and values and all(isinstance(value, str) and value for value in values):
        return {"enum": list(values)}
    if word in ("INTEGER", "NUMBER") and values and all(map(_is_number, values)):
        return {"minimum": min(values), "maximum": max(values)}
    return {}


def _items(node: Mapping[str, Any], depth: int) -> dict[str, Any]:
    listed = node.get("prefixItems")
    if isinstance(listed, list) and listed:
        return _part({"anyOf": [*listed, node["items"]] if "items" in node else listed}, depth + 1)
    return _part(node.get("items"), depth + 1)


def _members(node: Mapping[str, Any], depth: int) -> dict[str, Any]:
    properties = node.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        return {}
    forms = {name: _part(inner, depth + 1) for name, inner in properties.items()}
    required = node.get("required")
    listed = required if isinstance(required, list) else []
    names = [name for name in listed if isinstance(name, str) and name in forms]
    return {"properties": forms, "required": names} if names else {"properties": forms}
