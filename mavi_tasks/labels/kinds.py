"""What a label column can hold: texts, numbers, lists and structs; JSON text where there is no one type.

A JSON Schema says which; `kind_of` reads one field of it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import pyarrow as pa

from mavi_tasks.labels.extract_json import encodable

JSON_MARK: Final = {b"mavi.encoding": b"json"}  # metadata of a column that holds JSON text
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
DEEPEST: Final = 8  # levels of nested types; what lies deeper is JSON text


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of label column. `read` gives the value for a cell, None for what does not fit it."""

    word: str  # as in <name>__<word>
    type: pa.DataType
    read: Callable[[Any], Any]


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
    inner = _inside(member)

    def read(value: Any) -> list[Any] | None:
        return [inner.read(one) for one in value] if isinstance(value, list) else None

    return Kind(f"list_{inner.word}", pa.list_(inner.type), read)


def _struct_of(members: Mapping[str, Kind]) -> Kind:
    inner = {name: _inside(member) for name, member in members.items()}
    type_ = pa.struct([(name, member.type) for name, member in inner.items()])

    def read(value: Any) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            return None
        return {name: member.read(value.get(name)) for name, member in inner.items()}

    # Structs of other fields are other types, so the word tells them apart.
    return Kind(f"struct_{sha256(str(type_).encode()).hexdigest()[:6]}", type_, read)


def _inside(member: Kind) -> Kind:
    """Values inside a list or a struct are plain strings: few readers take dictionaries there."""
    return STRING if member is ENUM else member


STRING = Kind("string", pa.string(), _string)
ENUM = Kind("enum", pa.dictionary(pa.int32(), pa.string()), _string)
INTEGER = Kind("int64", pa.int64(), _int64)
NUMBER = Kind("double", pa.float64(), _double)
BOOLEAN = Kind("bool", pa.bool_(), _bool)
JSON = Kind("json", pa.string(), _json)
_BY_TYPE = {"string": STRING, "integer": INTEGER, "number": NUMBER, "boolean": BOOLEAN}
_SCALARS = (STRING, ENUM, INTEGER, NUMBER, BOOLEAN)
_BY_PYTHON = {str: ENUM, int: INTEGER, float: NUMBER, bool: BOOLEAN}


def kind_of_column(field: pa.Field) -> Kind:
    """The kind of a column that is there already. Its values are checked by their schema, not here."""
    if (field.metadata or {}).get(b"mavi.encoding") == b"json":
        return JSON
    return _kind_of_type(field.type)


def _kind_of_type(type_: pa.DataType) -> Kind:
    for kind in _SCALARS:
        if type_.equals(kind.type):
            return kind
    if pa.types.is_list(type_):
        return _list_of(_kind_of_type(type_.value_type))
    if pa.types.is_struct(type_):
        return _struct_of({field.name: _kind_of_type(field.type) for field in type_})
    return Kind(str(type_), type_, lambda value: None)


def fields_of(schema: Mapping[str, Any]) -> list[tuple[str | None, Any]]:
    """The top-level fields of an object; an answer that is no object is one column, `value`."""
    top = _resolved(schema, schema)
    properties = top.get("properties")
    if isinstance(properties, Mapping) and properties:
        return list(properties.items())
    return [(None, top)]


def kind_of(spec: Any, root: Mapping[str, Any], within: tuple[int, ...] = ()) -> Kind:
    """The kind of one field, by its part of the schema (`root`).

    within: the parts that it lies in, by `id`; a part within itself is JSON text.
    """
    spec = _resolved(spec, root)
    if id(spec) in within or len(within) >= DEEPEST:
        return JSON
    within = (*within, id(spec))
    values = (
        spec["enum"] if isinstance(spec.get("enum"), list) else [spec["const"]] if "const" in spec else []
    )
    if values:
        return _kind_of_values(values)
    types = spec.get("type")
    names = {types} if isinstance(types, str) else set(types) if isinstance(types, list) else set()
    names.discard("null")
    if names == {"integer", "number"}:
        return NUMBER
    if len(names) != 1:
        return JSON
    if names == {"array"}:
        member = kind_of(spec.get("items", {}), root, within)
        return JSON if member is JSON else _list_of(member)
    if names == {"object"}:
        return _kind_of_object(spec.get("properties"), root, within)
    return _BY_TYPE.get(names.pop(), JSON)


def _kind_of_object(properties: Any, root: Mapping[str, Any], within: tuple[int, ...]) -> Kind:
    """A struct of the properties; JSON text when there are none, or SQL could not tell their names apart."""
    if not isinstance(properties, Mapping) or not properties or "" in properties:
        return JSON
    if len({name.casefold() for name in properties}) < len(properties):
        return JSON
    return _struct_of({name: kind_of(member, root, within) for name, member in properties.items()})


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
