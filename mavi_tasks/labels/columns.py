"""The columns of `labels/`: one for each top-level field of an answer schema, with a type that never changes.

A row belongs to one result that has JSON: `select label, count(*) from labels group by all` counts answers,
not failures. A field whose type changed between runs goes on under `<name>__<type>`, beside the old column.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mavi_tasks.labels.extract_json import encodable
from mavi_tasks.schema import LABEL_KEYS, RESULTS

# The names a label must not take: our own columns and the partition.
RESERVED = frozenset({*LABEL_KEYS, "run_date", "schema_version"})
JSON_MARK = {b"mavi.encoding": b"json"}  # metadata of a column that holds JSON text
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of label column. `read` gives the value for a cell, None for what does not fit it."""

    word: str  # as in <name>__<word>
    type: pa.DataType
    read: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Label:
    """One column: which top-level field of the answer it holds (None = the answer as a whole)."""

    field: str | None
    column: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class LabelColumns:
    """The columns of one run's labels. `notes` are for the user: what a schema change did."""

    labels: tuple[Label, ...]
    schema: pa.Schema
    notes: tuple[str, ...] = ()


def label_columns(answer_schema: Mapping[str, Any], existing: pa.Schema | None = None) -> LabelColumns:
    """The columns that answers of this schema fill, fitted to those that `labels/` already has.

    `existing` is the schema of the parts so far (`open_table(dir, "labels").schema`): its columns are kept,
    null in this run where the answer schema no longer names them, so that every new part has them all.
    """
    labels: list[Label] = []
    notes: list[str] = []
    known = _known(existing)
    taken = {name.casefold() for name in RESERVED}
    for field, spec in _fields(answer_schema):
        kind = _kind(spec, answer_schema)
        name = _free("value" if field is None else field, taken)
        column = _stable(name, kind, known)
        if column != name:
            notes.append(
                f"label {name!r} was {known[name].word} and is {kind.word} now: it goes into {column!r}"
            )
        column = _free(column, taken)
        taken.add(column.casefold())
        labels.append(Label(field, column, known.get(column, kind)))
    added = [label.column for label in labels if known and label.column not in known]
    if added:
        notes.append(f"new label columns: {', '.join(added)}")
    return LabelColumns(tuple(labels), _arrow(labels, existing), tuple(notes))


def labels_schema(answer_schema: Mapping[str, Any], existing: pa.Schema | None = None) -> pa.Schema:
    """The Arrow schema of `labels/`: five keys of the result, then the labels, all nullable."""
    return label_columns(answer_schema, existing).schema


def label_rows(results: Iterable[Mapping[str, Any]] | pa.Table, columns: LabelColumns) -> pa.Table:
    """One row for each result that has `answer_json`, in the order given; no answer makes it raise."""
    rows = _with_json(results)
    answers = [answer for _, answer in rows]
    arrays: dict[str, pa.Array] = {
        key: _array([row.get(key) for row, _ in rows], columns.schema.field(key).type) for key in LABEL_KEYS
    }
    for label in columns.labels:
        cells = [label.kind.read(_member(answer, label.field)) for answer in answers]
        arrays[label.column] = _array(cells, columns.schema.field(label.column).type)
    return pa.table(
        [arrays.get(field.name, pa.nulls(len(rows), field.type)) for field in columns.schema],
        schema=columns.schema,
    )


def _with_json(results: Iterable[Mapping[str, Any]] | pa.Table) -> list[tuple[Mapping[str, Any], Any]]:
    if isinstance(results, pa.Table | pa.RecordBatch):
        results = results.select([*LABEL_KEYS, "answer_json"]).to_pylist()
    found = []
    for row in results:
        text = row.get("answer_json")
        if not text:
            continue
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):  # not ours: a part written by something else
            continue
        found.append((row, answer))
    return found


def _member(answer: Any, field: str | None) -> Any:
    if field is None:
        return answer
    return answer.get(field) if isinstance(answer, dict) else None


def _array(cells: list[Any], type_: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(type_):
        return pa.array(cells, pa.string()).dictionary_encode().cast(type_)
    return pa.array(cells, type_)


# ---- kinds of columns


def _string(value: Any) -> str | None:
    return encodable(value) if isinstance(value, str) else None


def _int64(value: Any) -> int | None:
    """A whole number as an integer (JSON Schema calls 3.0 one); beyond 64 bits it stays in answer_json."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int:
        return None
    return value if INT64_MIN <= value <= INT64_MAX else None


def _double(value: Any) -> float | None:
    if type(value) not in (int, float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _bool(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _json(value: Any) -> str | None:
    if value is None:
        return None
    return encodable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _list_of(member: Kind) -> Kind:
    def read(value: Any) -> list[Any] | None:
        return [member.read(one) for one in value] if isinstance(value, list) else None

    # Values inside a list are plain strings: few readers take dictionaries there.
    inner = pa.string() if member is ENUM else member.type
    word = STRING.word if member is ENUM else member.word
    return Kind(f"list_{word}", pa.list_(inner), read)


STRING = Kind("string", pa.string(), _string)
ENUM = Kind("enum", pa.dictionary(pa.int32(), pa.string()), _string)
INTEGER = Kind("int64", pa.int64(), _int64)
NUMBER = Kind("double", pa.float64(), _double)
BOOLEAN = Kind("bool", pa.bool_(), _bool)
JSON = Kind("json", pa.string(), _json)
_BY_TYPE = {"string": STRING, "integer": INTEGER, "number": NUMBER, "boolean": BOOLEAN}
_SCALARS = (STRING, ENUM, INTEGER, NUMBER, BOOLEAN)
_BY_PYTHON = {str: ENUM, int: INTEGER, float: NUMBER, bool: BOOLEAN}


def _fields(schema: Mapping[str, Any]) -> list[tuple[str | None, Any]]:
    """The top-level fields of an object; an answer that is no object is one column, `value`."""
    top = _resolved(schema, schema)
    properties = top.get("properties")
    if isinstance(properties, Mapping) and properties:
        return list(properties.items())
    return [(None, top)]


def _kind(spec: Any, root: Mapping[str, Any]) -> Kind:
    spec = _resolved(spec, root)
    values = (
        spec["enum"] if isinstance(spec.get("enum"), list) else [spec["const"]] if "const" in spec else []
    )
    if values:
        return _kind_of_values(values)
    types = spec.get("type")
    names = {types} if isinstance(types, str) else set(types) if isinstance(types, list) else set()
    names.discard("null")
    if names == {"array"}:
        member = _kind(spec.get("items", {}), root)
        return _list_of(member) if member in _SCALARS else JSON
    if names == {"integer", "number"}:
        return NUMBER
    return _BY_TYPE.get(names.pop(), JSON) if len(names) == 1 else JSON


def _kind_of_values(values: list[Any]) -> Kind:
    types = {type(value) for value in values if value is not None}
    if types == {int, float}:
        return NUMBER
    return _BY_PYTHON.get(types.pop(), JSON) if len(types) == 1 else JSON


def _resolved(spec: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """A field's own schema: local $ref followed, `X or null` and a single allOf reduced to X."""
    for _ in range(16):
        if not isinstance(spec, Mapping):
            return {}
        if isinstance(spec.get("$ref"), str):
            spec = _pointed(spec["$ref"], root)
            continue
        options = spec.get("anyOf") or spec.get("oneOf") or spec.get("allOf")
        if "type" in spec or "enum" in spec or not isinstance(options, list):
            return spec
        real = [option for option in options if option != {"type": "null"}]
        if len(real) != 1:
            return {}
        spec = real[0]
    return {}


def _pointed(ref: str, root: Mapping[str, Any]) -> Any:
    if not ref.startswith("#"):
        return {}
    node: Any = root
    for step in ref[1:].split("/")[1:]:
        node = node.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(node, Mapping) else None
    return node


# ---- names and types that stay


def _free(name: str, taken: Iterable[str]) -> str:
    """The name, with `label_` before it as often as needed; DuckDB tells no case apart, so neither do we."""
    names = set(taken)
    while name.casefold() in names:
        name = f"label_{name}"
    return name or "label_"


def _known(existing: pa.Schema | None) -> dict[str, Kind]:
    return {
        field.name: _kind_of_column(field)
        for field in (existing if existing is not None else ())
        if field.name not in RESERVED
    }


def _kind_of_column(field: pa.Field) -> Kind:
    if (field.metadata or {}).get(b"mavi.encoding") == b"json":
        return JSON
    for kind in _SCALARS:
        if field.type.equals(kind.type):
            return kind
    if pa.types.is_list(field.type):
        for kind in _SCALARS:
            if field.type.value_type.equals(kind.type):
                return _list_of(kind)
    return Kind(str(field.type), field.type, lambda value: None)


def _stable(name: str, kind: Kind, known: Mapping[str, Kind]) -> str:
    """The name, or `<name>__<type>` when a column of that name has another type. An enum is a string too."""
    there = known.get(name)
    if there is None or there.word == kind.word or {there.word, kind.word} == {STRING.word, ENUM.word}:
        return name
    return f"{name}__{kind.word}"


def _arrow(labels: Iterable[Label], existing: pa.Schema | None) -> pa.Schema:
    fields = {key: pa.field(key, RESULTS.field(key).type) for key in LABEL_KEYS}
    for field in existing if existing is not None else ():
        if field.name != "run_date":
            fields.setdefault(field.name, field)
    for label in labels:
        fields.setdefault(label.column, _field(label))
    return pa.schema(list(fields.values()))


def _field(label: Label) -> pa.Field:
    return pa.field(label.column, label.kind.type, metadata=JSON_MARK if label.kind is JSON else None)
