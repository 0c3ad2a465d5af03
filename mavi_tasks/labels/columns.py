"""The columns of `labels/`: one for each top-level field of an answer schema, with a type that never changes.

A row belongs to one result that has JSON: `select label, count(*) from labels group by all` counts answers,
not failures. A field whose type changed between runs goes on under `<name>__<type>`, beside the old column;
only what was JSON text stays that. The manifest's columns that a job keeps are texts beside the fields.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mavi_tasks.labels.kinds import ENUM, JSON, JSON_MARK, STRING, Kind, fields_of, kind_of, kind_of_column
from mavi_tasks.schema import LABEL_KEYS, RESULTS

# The names a label must not take: our own columns and the partition.
RESERVED = frozenset({*LABEL_KEYS, "run_date", "schema_version"})
# Keys that labels have not had from the start. One of that name without the mark is a field of the answers.
_LATE_KEYS = ("media_uri", "status", "finished_at")
_KEY_MARK = {b"mavi.key": b"result"}


@dataclass(frozen=True, slots=True)
class Label:
    """One column: which top-level field of the answer it holds (None = the answer as a whole).

    kept: the field is a column of the manifest instead.
    """

    field: str | None
    column: str
    kind: Kind
    kept: bool = False


@dataclass(frozen=True, slots=True)
class LabelColumns:
    """The columns of one run's labels. keys: those of LABEL_KEYS that no field of older answers has taken.

    `notes` are for the user: what a schema change did, and what is JSON text.
    """

    keys: tuple[str, ...]
    labels: tuple[Label, ...]
    schema: pa.Schema
    notes: tuple[str, ...] = ()


def key_fields(names: Iterable[str] = LABEL_KEYS) -> list[pa.Field]:
    """The columns that labels share with results."""
    return [
        pa.field(name, RESULTS.field(name).type, metadata=_KEY_MARK if name in _LATE_KEYS else None)
        for name in names
    ]


def keys_of(existing: pa.Schema | None) -> tuple[str, ...]:
    """The keys that labels with these columns have, or can have: a field of older answers keeps its name."""
    columns = {field.name: field for field in (existing if existing is not None else ())}
    return tuple(
        name for name in LABEL_KEYS if name not in _LATE_KEYS or name not in columns or _is_key(columns[name])
    )


def _is_key(field: pa.Field) -> bool:
    return bool(_KEY_MARK.items() <= (field.metadata or {}).items())


def label_columns(
    answer_schema: Mapping[str, Any], existing: pa.Schema | None = None, keep: Sequence[str] = ()
) -> LabelColumns:
    """The columns that answers of this schema fill, fitted to those that `labels/` already has.

    `existing` is the schema of the parts so far (`open_table(dir, "labels").schema`): its columns are kept,
    null in this run where the answer schema no longer names them, so that every new part has them all.
    keep: columns of the manifest that stand beside them.
    """
    keys = keys_of(existing)
    known = _known(existing, keys)
    taken = {name.casefold() for name in (RESERVED - set(LABEL_KEYS)) | set(keys)}
    labels: list[Label] = []
    notes: list[str] = []
    fields = [(field, kind_of(spec, answer_schema), False) for field, spec in fields_of(answer_schema)]
    for field, kind, kept in (*fields, *((name, STRING, True) for name in keep)):
        name = _free("value" if field is None else field, taken, "manifest_" if kept else "label_")
        there = known.get(name)
        column = name if there is None or _fits(kind, there) else f"{name}__{kind.word}"
        if there is not None and column != name:
            notes.append(f"label {name!r} was {there.word} and is {kind.word} now: it goes into {column!r}")
        column = _free(column, taken)
        taken.add(column.casefold())
        stays = known.get(column, kind)
        kind = kind if stays.word == kind.word else stays  # by its schema it knows what is JSON text in it
        if kind is JSON:
            notes.append(f"label {column!r} is JSON text: {_why_json(column in known)}")
        labels.append(Label(field, column, kind, kept))
    added = [label.column for label in labels if known and label.column not in known]
    if added:
        notes.append(f"new label columns: {', '.join(added)}")
    return LabelColumns(keys, tuple(labels), _arrow(keys, labels, existing), tuple(notes))


def _why_json(before: bool) -> str:
    return "it was before" if before else "its schema names no type, several, or an object without properties"


def labels_schema(answer_schema: Mapping[str, Any], existing: pa.Schema | None = None) -> pa.Schema:
    """The Arrow schema of `labels/`: the keys of the result, then the labels, all nullable."""
    return label_columns(answer_schema, existing).schema


def label_rows(results: Iterable[Mapping[str, Any]] | pa.Table, columns: LabelColumns) -> pa.Table:
    """One row for each result that has `answer_json`, in the order given; no answer makes it raise."""
    rows = _with_json(results)
    answers = [answer for _, answer in rows]
    kept = [json.loads(row.get("kept") or "{}") for row, _ in rows]
    arrays: dict[str, pa.Array] = {
        key: _array([row.get(key) for row, _ in rows], columns.schema.field(key).type) for key in columns.keys
    }
    for label in columns.labels:
        if label.kept:
            cells: list[Any] = [_text(values.get(label.field)) for values in kept]
        else:
            cells = [label.kind.read(_member(answer, label.field)) for answer in answers]
        arrays[label.column] = _array(cells, columns.schema.field(label.column).type)
    return pa.table(
        [arrays.get(field.name, pa.nulls(len(rows), field.type)) for field in columns.schema],
        schema=columns.schema,
    )


def _text(value: Any) -> str | None:
    """A cell of the manifest as text; what is no text, as JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _with_json(results: Iterable[Mapping[str, Any]] | pa.Table) -> list[tuple[Mapping[str, Any], Any]]:
    if isinstance(results, pa.Table | pa.RecordBatch):
        results = results.select([*LABEL_KEYS, "answer_json", "kept"]).to_pylist()
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


# ---- names and types that stay


def _free(name: str, taken: Iterable[str], before: str = "label_") -> str:
    """The name, with a word before it as often as needed; DuckDB tells no case apart, so neither do we."""
    names = set(taken)
    while name.casefold() in names:
        name = before + name
    return name or "label_"


def _known(existing: pa.Schema | None, keys: Sequence[str]) -> dict[str, Kind]:
    ours = (RESERVED - set(LABEL_KEYS)) | set(keys)
    return {
        field.name: kind_of_column(field)
        for field in (existing if existing is not None else ())
        if field.name not in ours
    }


def _fits(kind: Kind, there: Kind) -> bool:
    """Whether a column takes values of a kind: an enum is a string, and JSON takes what nests."""
    if {there.word, kind.word} == {STRING.word, ENUM.word}:
        return True
    return there.word == kind.word or (there is JSON and pa.types.is_nested(kind.type))


def _arrow(keys: Iterable[str], labels: Iterable[Label], existing: pa.Schema | None) -> pa.Schema:
    fields = {field.name: field for field in key_fields(keys)}
    for field in existing if existing is not None else ():
        if field.name != "run_date":
            fields.setdefault(field.name, field)
    for label in labels:
        fields.setdefault(label.column, _field(label))
    return pa.schema(list(fields.values()))


def _field(label: Label) -> pa.Field:
    return pa.field(label.column, label.kind.type, metadata=JSON_MARK if label.kind is JSON else None)
