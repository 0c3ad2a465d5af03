"""The form by which an answer is corrected: a control for each field of the answer schema."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mavi_tasks.common.json_schema import ReferenceProblem, referred
from mavi_tasks.labels import label_columns
from mavi_tasks.storage import segments
from mavi_tasks.storage.tables import open_table
from mavi_tasks.view.analysis import Analysis
from mavi_tasks.view.values import FREE_TEXT, WHOLE, shown

MOST_BUTTONS: Final = 24
KINDS: Final = {"enum": "enum", "int64": "integer", "double": "number", "bool": "boolean", "string": "text"}
Form = list[dict[str, Any]]


def newest_schema(root: Path) -> Mapping[str, Any] | None:
    """The answer schema of the dataset's newest run that had one; None when no run says."""
    for path in reversed(segments.segments(root / "_journal")):
        with segments.reading(path) as reader:
            if reader is not None and reader.header.get("answer_schema"):
                found: Mapping[str, Any] = reader.header["answer_schema"]
                return found
    if not (root / "runs").is_dir():
        return None
    rows = open_table(root, "runs").to_table(columns=["started_at", "extra"]).to_pylist()
    for row in sorted(rows, key=lambda row: str(row["started_at"] or ""), reverse=True):
        schema = json.loads(row["extra"] or "{}").get("answer_schema")
        if isinstance(schema, dict):
            return schema
    return None


def of_schema(schema: Mapping[str, Any]) -> Form:
    """One control for each field: name (None = the answer as a whole), kind, options of an enum."""
    form = []
    for label in label_columns(schema).labels:
        spec = _spec(schema, label.field)
        options = spec.get("enum") if label.kind.word == "enum" or "enum" in spec else None
        kind = KINDS.get(label.kind.word, "list" if label.kind.word.startswith("list_") else "json")
        form.append(
            {
                "name": label.field,
                "kind": "enum" if isinstance(options, list) else "text" if kind == "enum" else kind,
                "options": options if isinstance(options, list) else [],
                "required": label.field in schema.get("required", ()),
                "description": str(spec.get("description") or "")[:300],
            }
        )
    return form


def of_answers(analysis: Analysis) -> Form:
    """Where no schema is known: by the values that the answers have."""
    form: Form = []
    for name, words in analysis.index.fields.items():
        texts = [text for text, _ in words.counts(analysis.index.current)[: MOST_BUTTONS + 1]]
        few = name in analysis.compared and len(texts) <= MOST_BUTTONS and FREE_TEXT not in texts
        form.append(
            {
                "name": None if name == WHOLE else name,
                "kind": "enum" if few else "text",
                "options": [shown(text) for text in texts] if few else [],
                "required": False,
                "description": "",
                "guessed": True,
            }
        )
    return form


def value_of(form: Sequence[Mapping[str, Any]], given: Any) -> Any:
    """The answer that a filled form stands for: an object, or the one value of an answer without fields."""
    if len(form) == 1 and form[0]["name"] is None and isinstance(given, dict):
        return given.get("")
    return given


def _spec(schema: Mapping[str, Any], field: str | None) -> Mapping[str, Any]:
    found: Any = schema if field is None else _followed(schema, schema).get("properties", {}).get(field, {})
    return _followed(found, schema)


def _followed(spec: Any, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema behind a $ref, or behind `X or null`."""
    for _ in range(16):
        if not isinstance(spec, Mapping):
            return {}
        if "$ref" in spec:
            try:
                spec = referred(spec["$ref"], schema)
            except ReferenceProblem:
                return {}
            continue
        options = spec.get("anyOf") or spec.get("oneOf") or ()
        real = [one for one in options if one != {"type": "null"}]
        if len(real) != 1:
            return spec
        spec = real[0]
    return {}
