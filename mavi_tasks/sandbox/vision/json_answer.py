"""JSON answers: each field of the schema gets an answer from the scene, or is listed as unanswered."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..fake_values import resolved
from .facts import Facts

Json = Mapping[str, Any]
Answer = Callable[[Facts], Any]

_LABELS = "label class category subject main_subject object main_object answer animal species name"
_CONFIDENCE = "confidence score probability certainty"
# Of several answers for a field, the first one with the type of the field is used.
_BY_NAME: tuple[tuple[str, *tuple[Answer, ...]], ...] = (
    (_LABELS, Facts.label),
    (_CONFIDENCE, Facts.confidence),
    ("caption description summary title text alt_text explanation reason", Facts.prose),
    ("tags labels keywords objects classes categories", Facts.tags),
    ("colors colours dominant_colors dominant_colours main_colors main_colours palette", Facts.colours),
    ("color colour dominant_color dominant_colour main_color main_colour", Facts.colour),
    ("brightness", Facts.brightness, Facts.brightness_word),
    ("orientation", Facts.orientation),
    ("width width_px", Facts.width),
    ("height height_px", Facts.height),
    ("aspect_ratio", Facts.aspect_ratio),
    ("duration duration_s duration_seconds length_s", Facts.duration),
    ("media_kind media_type", Facts.kind),
)
BY_NAME = {name: answers for names, *answers in _BY_NAME for name in names.split()}
LABELS, CONFIDENCE = frozenset(_LABELS.split()), frozenset(_CONFIDENCE.split())
_KINDS: Mapping[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "array": (list,),
    "object": (dict,),
}  # fmt: skip
_MAX_DEPTH = 6


@dataclass(slots=True)
class SchemaFiller:
    """Makes the value of a schema. `unanswered` collects the paths of the fields without an answer."""

    facts: Facts
    root: Json
    unanswered: list[str] = field(default_factory=list)

    def filled(self) -> Any:
        schema = resolved(self.root, self.root)
        value = self._value(schema, "", "", 0)
        return _empty(schema) if value is None else value

    def _value(self, schema: Json, key: str, path: str, depth: int) -> Any:
        """The value of a resolved schema; None without an answer."""
        if "const" in schema:
            return schema["const"]
        if _kind(schema) == "object" and depth < _MAX_DEPTH:
            return self._object(schema, path, depth)
        found = self._answer(schema, key)
        if found is None:
            self.unanswered.append(path or "answer")
        return found

    def _object(self, schema: Json, path: str, depth: int) -> dict[str, Any]:
        """All fields; one without an answer is null if allowed, else left out unless required."""
        properties: Json = schema.get("properties", {})
        required = schema.get("required", ())
        fields = {key: resolved(self.root, properties.get(key, {})) for key in [*properties, *required]}
        filled: dict[str, Any] = {}
        for key in sorted(fields, key=_is_confidence):
            filled[key] = self._value(fields[key], key, f"{path}.{key}".lstrip("."), depth + 1)
            if filled[key] is None and key in required:
                filled[key] = _empty(fields[key])
        keep = {key for key, inner in fields.items() if key in required or _nullable(inner)}
        return {key: filled[key] for key in fields if filled[key] is not None or key in keep}

    def _answer(self, schema: Json, key: str) -> Any:
        options = [option for option in schema.get("enum") or () if isinstance(option, str)]
        named = () if options and _snake(key) in LABELS else BY_NAME.get(_snake(key), ())
        fitting = (_fitted(answer(self.facts), schema) for answer in named)
        found = next((one for one in fitting if one is not None), None)
        if found is not None:
            return found
        if options:
            return self.facts.forced(options, nullable=None in schema["enum"] or _nullable(schema))
        if _kind(schema) == "array":
            return self._several(schema)
        return self.facts.whether(_snake(key)) if _kind(schema) in ("boolean", None) else None

    def _several(self, schema: Json) -> list[Any] | None:
        """All values of an array's enum with enough probability."""
        items = resolved(self.root, schema.get("items", {}))
        options = [option for option in items.get("enum") or () if isinstance(option, str)]
        found = self.facts.every(options) if options else None
        return _fitted(found, schema) if found else None


def _is_confidence(key: str) -> bool:
    """Whether a field is the probability of the label; it is answered after the label."""
    return _snake(key) in CONFIDENCE


def _snake(key: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[\s-]+", "_", key).lower()


def _kind(schema: Json) -> str | None:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), None)
    return kind or ("object" if "properties" in schema else "array" if "items" in schema else None)


def _nullable(schema: Json) -> bool:
    kind = schema.get("type")
    if isinstance(kind, list):
        return "null" in kind
    return bool(schema.get("nullable")) or kind in (None, "null")


def _fitted(value: Any, schema: Json) -> Any:
    """The value converted to the schema's type and bounds; None when that is impossible."""
    kind = _kind(schema)
    if kind == "string" and isinstance(value, list):
        value = ", ".join(map(str, value))
    elif kind == "string" and isinstance(value, float | int):
        return None
    elif kind == "array" and isinstance(value, str):
        value = [value]
    elif kind == "integer" and isinstance(value, float):
        value = round(value)
    if value is None or (kind is not None and not isinstance(value, _KINDS.get(kind, ()))):
        return None
    return _within(value, schema)


def _within(value: Any, schema: Json) -> Any:
    if "enum" in schema and value not in schema["enum"]:
        return None
    if isinstance(value, str):
        return value[: schema.get("maxLength")] if len(value) >= schema.get("minLength", 0) else None
    if isinstance(value, list):
        return value[: schema.get("maxItems")] if len(value) >= schema.get("minItems", 0) else None
    low, high = schema.get("minimum"), schema.get("maximum")
    fits = (low is None or value >= low) and (high is None or value <= high)
    return value if fits else None


def _empty(schema: Json) -> Any:
    """The value of a required field without an answer: an empty list, the text `unknown`, or null.

    Where null is not allowed, the answer is invalid; that is correct, because the field was not answered.
    """
    if _nullable(schema) or "enum" in schema:
        return None
    kind = _kind(schema)
    if kind == "array" and not schema.get("minItems"):
        return []
    free = not schema.get("format") and not schema.get("pattern")
    return _fitted("unknown", schema) if kind == "string" and free else None


def untyped(schema: Json) -> Json:
    """The schema of fields that are known by name only: each accepts any value, or null."""
    return {"type": "object", "properties": {key: {} for key in schema["properties"]}}
