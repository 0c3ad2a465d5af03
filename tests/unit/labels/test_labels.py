"""Whatever a model says becomes typed data or a reason in words; never an exception, never a guess."""

import json
from pathlib import Path

import duckdb
import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mavi_tasks.errors import StorageError
from mavi_tasks.labels import (
    label_columns,
    label_rows,
    labels_schema,
    looks_truncated,
    read_answer,
    repair_prompt,
    schema_problem,
)
from mavi_tasks.labels.validate import checker
from mavi_tasks.schema import LABEL_KEYS
from mavi_tasks.storage.tables import open_table

PET = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": ["cat", "dog"]},
        "age": {"type": "integer"},
        "sure": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "required": ["label"],
    "additionalProperties": False,
}
CAT = {"label": "cat"}


# ---- finding


@pytest.mark.parametrize(
    "text",
    [
        '{"label":"cat"}',
        '  {"label": "cat"}\n',
        '```json\n{"label": "cat"}\n```',
        '```\n{"label": "cat"}```',
        '```json {"label": "cat"}```',
        'Sure! Here it is:\n```json\n{"label": "cat"}\n```\nAnything else?',
        'The {pet} is {"label": "cat"}, I think.',
        'In the form {"label": string} it is {"label": "cat"}',
        '{{"label": "cat"}}',
        '{"thought": "whiskers"} {"label": "cat"}',
        '\ufeff{"label": "cat"}',
        '{"label": "cat", "label": "cat"}',
        '{"label": "cat"} {"label": "dog"}',
        '{"label": "cat"}{{{{{',
    ],
)
def test_the_first_fitting_object_is_found_in_prose_and_fences(text):
    checked = read_answer(text, PET)
    assert (checked.json, checked.error, checked.truncated) == (CAT, None, False)
    assert checked.json_text == '{"label":"cat"}'


def test_fields_keep_their_types():
    checked = read_answer('{"label":"dog","age":3,"sure":0.5}', PET)
    assert checked.json == {"label": "dog", "age": 3, "sure": 0.5}


def test_line_breaks_inside_strings_are_taken():
    assert read_answer('{"a": "two\nlines"}', None).json == {"a": "two\nlines"}


def test_a_list_may_be_the_answer_when_the_schema_says_so():
    schema = {"type": "array", "items": {"type": "string"}}
    assert read_answer('Tags: ["a", "b"].', schema).json == ["a", "b"]
    assert read_answer('"cat"', {"type": "string"}).json == "cat"


def test_a_piece_of_a_broken_object_is_not_the_answer():
    assert read_answer('{"label": "cat", "other": {"label": "dog"}, oops}', PET).json is None
    assert read_answer('{"label": "cat", "other": {"label": "dog"}, "age": ', PET).json is None


# ---- saying what is wrong


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"label":"camel"}', "$.label: must be one of ['cat', 'dog']"),
        ('{"label":"cat","age":"3"}', "$.age: must be integer, not string"),
        ('{"label":"cat","age":true}', "$.age: must be integer, not boolean"),
        ('{"label":"cat","sure":2}', "$.sure: must be at most 1"),
        ('{"age":3}', "$: misses 'label'"),
        ('{"label":"cat","secret-key":1}', "$: has keys that the schema does not allow"),
        ("[1]", "$: must be object, not array"),
        ("no idea", "no JSON in the answer; a JSON object is wanted"),
        ("", "the answer is empty; JSON is wanted"),
        ('{"label": "cat",}', "not JSON at character 17: expecting property name enclosed in double quotes"),
        ('{"label":"cat","label":"dog"}', "a key is given twice with different values"),
        ('{"label":"cat","sure":NaN}', "NaN is not JSON; a number or null is wanted"),
        ('{"label":"cat","sure":-Infinity}', "-Infinity is not JSON; a number or null is wanted"),
        ('{"label":"cat","sure":1e999}', "a number is too large for a double"),
        ('{"label":"cat","age":' + "9" * 5000 + "}", "a number is too long to be read"),
        ('{"a":' * 100 + "1" + "}" * 100, "nested deeper than 64 levels"),
    ],
)
def test_an_error_says_where_and_what_is_wanted(text, error):
    checked = read_answer(text, PET)
    assert (checked.json, checked.json_text, checked.error, checked.truncated) == (None, None, error, False)


def test_an_error_never_carries_the_answers_own_text():
    schema = {
        "type": "object",
        "properties": {"label": {"type": "string", "pattern": "^[a-z]+$"}},
        "additionalProperties": {"type": "integer"},
    }
    error = read_answer('{"label": "SECRET", "HIDDEN": "PRIVATE"}', schema).error
    assert error
    assert not any(word in error for word in ("SECRET", "HIDDEN", "PRIVATE"))


def test_an_error_is_one_short_line():
    wild = {"type": "object", "properties": {"a": {"enum": [f"choice {n}" for n in range(900)]}}}
    error = read_answer('{"a": "x"}', wild).error
    assert "\n" not in error
    assert len(error) <= 300


def test_the_plain_way_agrees_with_the_validator():
    tuple_schema = PET | {"description": "quick", "title": "Pet"}
    quick = checker(
        tuple_schema | {"properties": {k: v for k, v in PET["properties"].items() if k != "sure"}}
    )
    for value in (CAT, {"label": "cow"}, {"label": "cat", "age": 1}, {"label": "cat", "age": True}, [], 3):
        assert (not quick.is_surely_valid(value)) or jsonschema.Draft202012Validator(PET).is_valid(value)
    assert quick.is_surely_valid(CAT)
    assert read_answer('{"label": "cat", "age": 1.0}', PET).error is None  # 1.0 is an integer in JSON Schema


def test_a_schema_is_compiled_once():
    assert checker(PET) is checker(PET)


def test_a_reference_never_reaches_the_network():
    schema = {"$ref": "https://example.com/schema.json"}
    assert read_answer('{"a": 1}', schema).error.startswith("answer_schema: $ref 'https://example.com")


def test_a_schema_that_turns_in_circles_is_an_error_not_a_crash():
    assert "too deeply" in read_answer('{"a": 1}', {"$ref": "#"}).error


def test_a_schema_that_is_none_is_told_when_the_job_is_read():
    assert schema_problem(PET) is None
    assert schema_problem({"type": "cat"}).startswith("is not a valid JSON Schema: type: ")
    assert schema_problem([]) == "must be a JSON object"
    assert read_answer('{"a": 1}', {"type": "cat"}).error == "answer_schema cannot be applied: UnknownType"


# ---- any text

JSONISH = st.text(st.sampled_from('{}[]":,\\ \n`tfnu019.-eEabc\ud800é猫'), max_size=60)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner, max_size=5),
    max_leaves=15,
)


@settings(max_examples=400)
@given(st.text() | JSONISH | VALUES.map(json.dumps), st.sampled_from([None, PET, {"type": "array"}, {}]))
def test_any_text_is_an_answer_or_an_error(text, schema):
    checked = read_answer(text, schema)
    assert (checked.error is None) == (checked.json_text is not None)
    if checked.json_text is not None:
        assert json.loads(checked.json_text.encode().decode()) == checked.json
    looks_truncated(text, 3, 100, True)
    looks_truncated(text, 99, 100, False)
    repair_prompt("p", text, checked.error or "").encode(errors="replace")


@given(VALUES.filter(lambda value: isinstance(value, dict)))
def test_any_object_a_model_could_write_is_read_back(value):
    text = json.dumps(value)
    checked = read_answer(f"Here: {text} done", None)
    if "NaN" not in text and "Infinity" not in text:
        assert checked.error is None


@pytest.mark.parametrize(
    "text",
    [
        "{" * 1_000_000,
        '{"a":' * 200_000,
        '{"a":{}x' * 125_000,
        '{"' * 500_000,
        '{"a":1, ' * 125_000,
        "[" * 1_000_000,
        '"' * 1_000_000,
        "{" + " " * 1_000_000,
        '{"a":"' + "\\" * 1_000_000,
    ],
)
@pytest.mark.timeout(10)  # quadratic work would take minutes
def test_a_hostile_megabyte_is_read_in_linear_time(text):
    assert read_answer(text, PET).json is None
    assert read_answer(text + '{"label":"cat"}', PET).json in (None, CAT)
    looks_truncated(text, 10, 1000, True)
    looks_truncated(text, 10, 1000, False)


# ---- truncation


@given(st.data())
def test_json_cut_anywhere_is_truncated(data):
    text = '{"label": "cat", "age": 12, "sure": 0.25, "tags": [true, null, "a\\u00e9b"]}'
    cut = data.draw(st.integers(1, len(text) - 1))
    checked = read_answer(text[:cut], {})
    assert checked.truncated
    assert checked.error == "the JSON stops before its end"
    assert looks_truncated(text[:cut], None, None, True)


@pytest.mark.parametrize(
    ("text", "tokens", "most", "asked_json", "truncated"),
    [
        ('{"label": "cat"}', 300, 300, True, False),  # whole, however near
        ('```json\n{"label": "ca', 20, 300, True, True),  # thinking ate the rest: not near
        ("A cat sits on a", 16, 300, False, False),  # short: may be a label
        ("A cat sits on the sofa and looks at the", 16, 300, False, True),
        ("This video demonstrates how to peel, cut and serve,", 37, 1000, False, True),
        ("This video demonstrates how to peel a whole orange", 37, 1000, False, False),  # cannot be told
        ("This video demonstrates how to peel a whole orange", 37, 38, False, True),
        ("A cat sits on the sofa.", 300, 300, False, False),
        ("它在沙发上。", 300, 300, False, False),
        ('He said "stop!"', 300, 300, False, False),
        ("**Done.**", 300, 300, False, False),
        ("Nice 🎉", 300, 300, False, False),
        ("", 300, 300, True, True),  # all of it was thought
        ("", 0, 300, True, False),
        ("no json here at all", 300, 300, True, True),
        ("A cat sits on the sofa", 300, None, False, False),
        ("word " * 100, None, 100, False, True),  # no count: by its length
    ],
)
def test_an_answer_that_stops_in_its_middle_is_told(text, tokens, most, asked_json, truncated):
    assert looks_truncated(text, tokens, most, asked_json) is truncated


# ---- repair


def test_the_repair_shows_prompt_answer_and_error():
    text = repair_prompt("What is it?", '{"label":"camel"}', "$.label: must be one of ['cat', 'dog']")
    assert text.startswith("What is it?")
    assert '{"label":"camel"}' in text
    assert "must be one of ['cat', 'dog']" in text
    assert "JSON" in text


def test_the_repair_of_a_huge_answer_is_bounded():
    assert len(repair_prompt("p", "x" * 1_000_000, "e")) < 21_000


# ---- columns


def row(answer, **more):
    return {
        "run_id": "r1",
        "request_key": "k",
        "item_id": "i",
        "prompt_id": "p",
        "model": "m",
        "media_uri": "cat.jpg",
        "status": "answered",
        "finished_at": None,
        "answer_json": answer if isinstance(answer, str) or answer is None else json.dumps(answer),
        "kept": None,
        **more,
    }


def types(schema):
    return {field.name: str(field.type) for field in schema}


WORD = "dictionary<values=string, indices=int32, ordered=0>"


def test_each_field_becomes_a_column_of_its_type():
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "label": {"enum": ["cat", "dog", None]},
            "age": {"type": "integer"},
            "weight": {"type": "number"},
            "tame": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "boxes": {"type": "array", "items": {"type": "object"}},
            "place": {"type": "object"},
            "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "nullable": {"type": ["string", "null"]},
            "kind": {"$ref": "#/$defs/kind"},
            "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
            "grade": {"enum": [1, 2, 3]},
            "colours": {"type": "array", "items": {"enum": ["red", "blue"]}},
        },
        "$defs": {"kind": {"enum": ["a", "b"]}},
    }
    found = types(labels_schema(schema))
    assert found == {
        "run_id": WORD,
        "request_key": "string",
        "item_id": "string",
        "prompt_id": WORD,
        "model": WORD,
        "media_uri": "string",
        "status": WORD,
        "finished_at": "timestamp[us, tz=UTC]",
        "name": "string",
        "label": WORD,
        "age": "int64",
        "weight": "double",
        "tame": "bool",
        "tags": "list<item: string>",
        "boxes": "string",
        "place": "string",
        "maybe": "int64",
        "nullable": "string",
        "kind": WORD,
        "either": "string",
        "grade": "int64",
        "colours": "list<item: string>",
    }
    assert all(field.nullable for field in labels_schema(schema))


def test_a_row_holds_the_values_and_as_json_those_without_a_type():
    schema = {
        "type": "object",
        "properties": {
            "label": {"enum": ["cat"]},
            "age": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "place": {"type": "object"},
        },
    }
    answer = {"label": "cat", "age": 3.0, "tags": ["a"], "place": {"x": 1}, "more": 1}
    table = label_rows([row(answer)], label_columns(schema))
    assert table.to_pylist() == [
        {
            "run_id": "r1",
            "request_key": "k",
            "item_id": "i",
            "prompt_id": "p",
            "model": "m",
            "media_uri": "cat.jpg",
            "status": "answered",
            "finished_at": None,
            "label": "cat",
            "age": 3,
            "tags": ["a"],
            "place": '{"x":1}',
        }
    ]
    assert table.schema.equals(labels_schema(schema))


PLACE = {"type": "object", "properties": {"city": {"type": "string"}, "kind": {"enum": ["a", "b"]}}}
BOX = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "corners": {"type": "array", "items": {"type": "number"}},
        "more": {"type": "object"},
    },
}


def test_objects_are_structs_and_lists_of_objects_lists_of_structs():
    schema = {
        "type": "object",
        "properties": {"place": PLACE, "boxes": {"type": "array", "items": {"$ref": "#/$defs/box"}}},
        "$defs": {"box": BOX},
    }
    columns = label_columns(schema)
    assert types(columns.schema)["place"] == "struct<city: string, kind: string>"
    box = "struct<name: string, corners: list<item: double>, more: string>"
    assert types(columns.schema)["boxes"] == f"list<item: {box}>"
    boxes = [{"name": "cat", "corners": [1, 2.5], "more": {"x": [1]}}, {"name": 3, "other": 1}]
    table = label_rows([row({"place": {"city": "Rome", "kind": "a"}, "boxes": boxes}), row({})], columns)
    assert table["place"].to_pylist() == [{"city": "Rome", "kind": "a"}, None]
    assert table["boxes"].to_pylist() == [
        [
            {"name": "cat", "corners": [1.0, 2.5], "more": '{"x":[1]}'},
            {"name": None, "corners": None, "more": None},
        ],
        None,
    ]
    table.validate(full=True)


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "object"},
        {"type": "object", "properties": {"A": {}, "a": {}}},  # SQL cannot tell them apart
        {"type": ["integer", "string"]},
        {"type": "array", "items": {"anyOf": [{"type": "object"}, {"type": "string"}]}},
        {"enum": ["a", 1]},
    ],
)
def test_what_has_no_one_type_is_json_text_and_said_so(spec):
    columns = label_columns(field(odd=spec))
    assert types(columns.schema)["odd"] == "string"
    assert columns.notes == (
        "label 'odd' is JSON text: its schema names no type, several, or an object without properties",
    )


def test_a_schema_that_turns_in_circles_has_an_end():
    tree = {"type": "object", "properties": {"left": {"$ref": "#/$defs/t"}, "right": {"$ref": "#/$defs/t"}}}
    columns = label_columns({"type": "object", "properties": {"tree": tree}, "$defs": {"t": tree}})
    answer = {"tree": {"left": {"left": {"left": None}}, "right": None}}
    assert '"left":' in json.dumps(label_rows([row(answer)], columns)["tree"].to_pylist()).replace("\\", "")


def test_columns_of_the_manifest_are_texts_beside_the_fields():
    columns = label_columns(field(label={"type": "string"}), keep=["album", "label", "year"])
    kept = '{"album": "Rome", "label": "old", "year": 2021}'
    (made,) = label_rows([row({"label": "cat"}, kept=kept)], columns).to_pylist()
    assert (made["album"], made["label"], made["manifest_label"], made["year"]) == (
        "Rome", "cat", "old", "2021",
    )  # fmt: skip


def test_a_result_without_json_has_no_row():
    assert label_rows([row(None), row("{broken"), row({"label": "cat"})], label_columns(PET)).num_rows == 1


def test_a_value_that_does_not_fit_its_column_is_null():
    table = label_rows([row({"label": 3, "age": 10**30, "sure": "x"})], label_columns(PET))
    assert [table[name][0].as_py() for name in ("label", "age", "sure")] == [None, None, None]


def test_a_results_table_can_be_given():
    table = pa.Table.from_pylist([row({"label": "dog"}), row(None)])
    assert label_rows(table, label_columns(PET))["label"].to_pylist() == ["dog"]


def test_a_name_of_ours_gets_a_prefix():
    schema = {
        "type": "object",
        "properties": {
            "model": {"type": "string"},
            "Run_ID": {"type": "string"},
            "label": {"type": "string"},
            "Label": {"type": "string"},  # DuckDB tells no case apart
        },
    }
    assert labels_schema(schema).names[8:] == ["label_model", "label_Run_ID", "label", "label_Label"]


def test_an_answer_that_is_no_object_is_one_column():
    columns = label_columns({"type": "array", "items": {"type": "integer"}})
    assert label_rows([row([1, 2])], columns)["value"].to_pylist() == [[1, 2]]


OBJECTS = st.dictionaries(st.sampled_from(["label", "age", "sure", "model", ""]), VALUES)


@given(st.lists(VALUES | OBJECTS), st.sampled_from([PET, {"type": "array"}, {"type": "string"}, {}]))
def test_any_answer_makes_rows(answers, schema):
    texts = [json.dumps(answer) for answer in answers]
    table = label_rows([row(text) for text in texts], label_columns(schema))
    assert table.num_rows == len(answers)
    table.validate(full=True)


# ---- over time


def write(root: Path, day: str, name: str, columns, *answers):
    folder = root / "labels" / f"run_date={day}"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(label_rows([row(answer) for answer in answers], columns), folder / name)


def field(**properties):
    return {"type": "object", "properties": properties}


def test_new_fields_are_added_and_old_rows_are_null(tmp_path):
    one = field(label={"enum": ["cat"]})
    two = field(label={"type": "string"}, age={"type": "integer"})
    write(tmp_path, "2026-11-01", "a.parquet", label_columns(one), {"label": "cat"})
    columns = label_columns(two, open_table(tmp_path, "labels").schema)
    assert columns.notes == ("new label columns: age",)
    write(tmp_path, "2026-11-02", "b.parquet", columns, {"label": "horse", "age": 4})
    table = open_table(tmp_path, "labels").to_table()
    assert table["label"].to_pylist() == ["cat", "horse"]
    assert table["age"].to_pylist() == [None, 4]


def test_a_type_never_changes_under_a_name(tmp_path):
    write(tmp_path, "2026-11-01", "a.parquet", label_columns(field(age={"type": "integer"})), {"age": 3})
    changed = field(age={"type": "number"})
    columns = label_columns(changed, open_table(tmp_path, "labels").schema)
    assert columns.notes[0] == "label 'age' was int64 and is double now: it goes into 'age__double'"
    write(tmp_path, "2026-11-02", "b.parquet", columns, {"age": 3.5})
    table = open_table(tmp_path, "labels").to_table()
    assert table["age"].to_pylist() == [3, None]
    assert table["age__double"].to_pylist() == [None, 3.5]
    again = label_columns(changed, open_table(tmp_path, "labels").schema)
    assert again.labels[0].column == "age__double"


def test_text_and_json_text_are_different_types(tmp_path):
    write(tmp_path, "2026-11-01", "a.parquet", label_columns(field(box={"type": "object"})), {"box": {}})
    columns = label_columns(field(box={"type": "string"}), open_table(tmp_path, "labels").schema)
    assert columns.labels[0].column == "box__string"


def test_an_object_that_gets_another_field_goes_on_beside(tmp_path):
    one, two = field(at=PLACE), field(at={**PLACE, "properties": {"city": {"type": "string"}}})
    write(tmp_path, "2026-11-01", "a.parquet", label_columns(one), {"at": {"city": "Rome", "kind": "a"}})
    columns = label_columns(two, open_table(tmp_path, "labels").schema)
    write(tmp_path, "2026-11-02", "b.parquet", columns, {"at": {"city": "Oslo"}})
    table = open_table(tmp_path, "labels").to_table()
    (beside,) = [name for name in table.column_names if name.startswith("at__struct_")]
    assert table["at"].to_pylist() == [{"city": "Rome", "kind": "a"}, None]
    assert table[beside].to_pylist() == [None, {"city": "Oslo"}]


def test_what_was_json_text_stays_so(tmp_path):
    """Datasets from before structs keep one column for a nested field."""
    write(tmp_path, "2026-11-01", "a.parquet", label_columns(field(at={"type": "object"})), {"at": {"a": 1}})
    columns = label_columns(field(at=PLACE), open_table(tmp_path, "labels").schema)
    assert columns.notes == ("label 'at' is JSON text: it was before",)
    write(tmp_path, "2026-11-02", "b.parquet", columns, {"at": {"city": "Oslo"}})
    table = open_table(tmp_path, "labels").to_table()
    assert table["at"].to_pylist() == ['{"a":1}', '{"city":"Oslo"}']


def test_a_field_that_had_the_name_of_a_later_key_keeps_it(tmp_path):
    folder = tmp_path / "labels" / "run_date=2026-11-01"
    folder.mkdir(parents=True)
    pq.write_table(
        pa.table({"run_id": ["r0"], "request_key": ["k"], "status": ["open"]}), folder / "a.parquet"
    )
    columns = label_columns(field(status={"type": "string"}), pq.read_schema(folder / "a.parquet"))
    write(tmp_path, "2026-11-02", "b.parquet", columns, {"status": "closed"})
    table = open_table(tmp_path, "labels").to_table()
    assert table["status"].to_pylist() == ["open", "closed"]
    assert table["media_uri"].to_pylist() == [None, "cat.jpg"]


def test_duckdb_reads_all_parts_by_name(tmp_path):
    write(tmp_path, "2026-11-01", "a.parquet", label_columns(field(a={"type": "integer"})), {"a": 1})
    columns = label_columns(field(b={"type": "boolean"}), open_table(tmp_path, "labels").schema)
    write(tmp_path, "2026-11-02", "b.parquet", columns, {"b": True})
    glob = f"{tmp_path}/labels/**/*.parquet"
    rows = duckdb.sql(f"select a, b from read_parquet('{glob}', union_by_name=true) order by a").fetchall()
    assert sorted(rows, key=str) == [(1, None), (None, True)]


def test_a_folder_without_labels_is_empty(tmp_path):
    (tmp_path / "results").mkdir()
    labels = open_table(tmp_path, "labels")
    assert (labels.count_rows(), labels.schema.names) == (0, [*LABEL_KEYS, "run_date"])
    assert label_columns(field(age={"type": "integer"}), labels.schema).notes == ()


def test_a_part_that_contradicts_the_others_is_named(tmp_path):
    write(tmp_path, "2026-11-01", "a.parquet", label_columns(field(age={"type": "integer"})), {"age": 3})
    write(tmp_path, "2026-11-02", "b.parquet", label_columns(field(age={"type": "boolean"})), {"age": True})
    with pytest.raises(StorageError, match=r"b\.parquet: label column 'age' is bool, but int64"):
        open_table(tmp_path, "labels")


def test_a_part_that_is_no_parquet_is_named_and_left_out(tmp_path, caplog):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "x.parquet").write_bytes(b"nonsense")
    assert open_table(tmp_path, "labels").count_rows() == 0
    assert "x.parquet: is broken (cut off, or not Parquet)" in caplog.text
