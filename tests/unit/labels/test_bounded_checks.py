"""A schema is checked before a cent is spent, and no answer takes more than a bounded time to check."""

import json
import time

import pytest

from mavi_tasks.labels import read_answer, read_at_once, schema_problem

LONGEST_S = 5.0  # CPU time, on a machine that others use too; without a bound all of these take minutes
TOO_MUCH = "the answer takes too much work to check against answer_schema"


def an_object(**properties):
    return {"type": "object", "properties": properties}


def doubling(levels, keyword="allOf"):
    """Each definition names the next one twice: 2**levels checks of one value."""
    definitions = {f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    return {
        "type": "object",
        "$ref": "#/$defs/d0",
        "$defs": {**definitions, f"d{levels}": {"minProperties": 2}},
    }


BINARY_TREE = {
    "type": "object",
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "anyOf": [
                {"properties": {"c": {"$ref": "#/$defs/node"}}, "required": ["c"]},
                {"properties": {"c": {"$ref": "#/$defs/node"}}, "required": ["d"]},
                {"properties": {"c": {"$ref": "#/$defs/node"}}, "required": ["e"]},
            ]
        }
    },
}
UNIQUE = an_object(a={"type": "array", "uniqueItems": True})
NESTED = '{"c":' * 60 + "{}" + "}" * 60


def read_in_time(text, schema):
    started = time.process_time()
    checked = read_answer(text, schema)
    assert time.process_time() - started < LONGEST_S
    return checked


# ---- patterns


@pytest.mark.parametrize(
    "pattern", ["^(a+)+$", "^(a|a)*$", "^(a|aa)+$", "(.*)*x$", "^(([a-z])+.)+[A-Z]([a-z])+$"]
)
@pytest.mark.timeout(20)
def test_no_pattern_freezes_on_any_answer(pattern):
    text = json.dumps({"a": "a" * 60 + "!"})
    assert read_in_time(text, an_object(a={"type": "string", "pattern": pattern})).error is not None


@pytest.mark.timeout(20)
def test_patterns_of_keys_are_bounded_too():
    text = json.dumps({"a" * 60 + "!": 1})
    schema = {"type": "object", "patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}
    assert read_in_time(text, schema).error == "$: has keys that the schema does not allow"
    assert read_in_time('{"aaa": 1}', schema).error is None


@pytest.mark.timeout(60)
def test_long_text_against_a_large_pattern_is_refused_in_time():
    text = json.dumps({"a": "abba" * 240_000})
    schema = an_object(a={"pattern": "([a-z]|[b-y]|[c-x]){900}9"})
    assert read_in_time(text, schema).error == TOO_MUCH


@pytest.mark.parametrize(
    ("pattern", "fits", "misfits"),
    [
        ("^[a-z]+$", "abc", "aBc"),
        (r"^\d{4}-\d\d$", "2026-01", "2026-1"),
        (r"^[\u4e00-\u9fff]+$", "猫", "cat"),
        (r"^\p{L}+$", "Käse", "3"),
        ("a", "cat", "dog"),  # anywhere in the text
        ("^cat$", "cat", "cat\n"),
        ("^.$", "\ud83d\udc08", "ab"),
    ],
)
def test_patterns_mean_what_json_schema_says(pattern, fits, misfits):
    schema = an_object(a={"type": "string", "pattern": pattern})
    assert schema_problem(schema) is None
    assert read_answer(json.dumps({"a": fits}), schema).error is None
    assert "must match the pattern" in read_answer(json.dumps({"a": misfits}), schema).error


@pytest.mark.parametrize("pattern", ["(?=a)b", "(?<!a)b", r"(a)\1", "a++", "(", "^.{1,2000}$"])
def test_pattern_that_has_no_time_bound_is_refused_before_a_cent(pattern):
    problem = schema_problem(an_object(a={"pattern": pattern}))
    assert problem.startswith(f"properties.a.pattern: {pattern!r}: ")
    assert schema_problem({"type": "object", "patternProperties": {pattern: {}}}) is not None


def test_a_property_called_pattern_is_a_property():
    assert schema_problem(an_object(pattern={"type": "string"}, enum={"type": "string"})) is None


# ---- schemas


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
@pytest.mark.timeout(20)
def test_schema_that_doubles_is_refused_before_a_cent_and_bounded_anyway(keyword):
    assert "checks a value more than 1,000 times" in schema_problem(doubling(15, keyword))
    assert "inside one another" in schema_problem(doubling(40, keyword))
    assert (
        read_in_time('{"a": 1, "b": 2}' if keyword == "allOf" else '{"a": 1}', doubling(40, keyword)).error
        == TOO_MUCH
    )


@pytest.mark.timeout(20)
def test_tree_of_choices_is_bounded_however_deep_the_answer():
    assert schema_problem(BINARY_TREE) is None
    assert read_in_time(NESTED, BINARY_TREE).error == TOO_MUCH


REFUSED = {
    "itself": ({"type": "object", "$ref": "#"}, "refers to itself"),
    "itself through allOf": (
        {
            "type": "object",
            "allOf": [{"$ref": "#/$defs/a"}],
            "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}},
        },
        "refers to itself",
    ),
    "many parts": (an_object(**{f"p{n}": {} for n in range(6000)}), "more than 5,000 parts"),
    "many values": (an_object(a={"enum": list(range(200_000))}), "more than 100,000 values"),
    "many keywords": ({"type": "object", **{f"x-{n}": 1 for n in range(300)}}, "more than 200 keywords"),
    "dynamic references": ({"type": "object", "$dynamicRef": "#a"}, "$dynamicRef"),
    "what is left over": ({"type": "object", "unevaluatedProperties": False}, "unevaluatedProperties"),
    "references into values": (
        {"type": "object", "enum": [{"type": "object"}], "properties": {"a": {"$ref": "#/enum/0"}}},
        "must lead to a schema",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.timeout(20)
def test_schema_without_a_bound_is_refused_before_a_cent(case):
    schema, text = REFUSED[case]
    assert text in schema_problem(schema)


def test_deep_schema_is_refused_before_a_cent():
    schema = {"type": "object"}
    for _ in range(5000):
        schema = an_object(a=schema)
    assert "nested deeper than" in schema_problem(schema)


def test_tree_and_shared_definitions_are_schemas_as_any():
    tree = an_object(children={"type": "array", "items": {"$ref": "#"}}, value={"type": "integer"})
    assert schema_problem(tree) is None
    assert read_answer('{"children": [{"value": 1, "children": []}]}', tree).error is None
    assert "$.children[0].value" in read_answer('{"children": [{"value": "x"}]}', tree).error


@pytest.mark.timeout(20)
def test_another_dialect_named_inside_does_not_lift_the_bounds():
    part = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://a.example/",
        "pattern": "^(a+)+$",
    }
    text = json.dumps({"a": "a" * 60 + "!"})
    assert "must match the pattern" in read_in_time(text, an_object(a=part)).error


# ---- answers


def test_deep_answer_to_a_nested_schema_is_a_verdict():
    part = {"properties": {"c": {"$ref": "#"}}}
    for _ in range(12):
        part = {"allOf": [part]}
    schema = {"type": "object", **part}
    assert schema_problem(schema) is None
    assert read_answer('{"c": {"c": {}}}', schema).error is None
    assert read_answer(NESTED, schema).error == "$: nested too deeply for the schema"


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        (json.dumps({"a": [{"n": n} for n in range(20_000)]}), True),
        (json.dumps({"a": [{"n": n} for n in range(20_000)] + [{"n": 7}]}), False),
        ('{"a": [1, 1.0]}', False),
        ('{"a": [1, true, "1", [1], {"a": 1}, 0, false, null, ""]}', True),
        ('{"a": [{"x": 1, "y": [2]}, {"y": [2.0], "x": 1}]}', False),
        (json.dumps({"a": [n * (2**61 - 1) for n in range(20_000)]}), True),  # one hash for all
    ],
)
@pytest.mark.timeout(20)
def test_unique_items_are_told_in_linear_time(text, fits):
    assert (read_in_time(text, UNIQUE).error is None) is fits


@pytest.mark.parametrize(
    ("schema", "text", "fits"),
    [
        (an_object(a={"enum": [1, "x", None, [1], {"b": 2}]}), '{"a": 1.0}', True),
        (an_object(a={"enum": [1, "x", None, [1], {"b": 2}]}), '{"a": true}', False),
        (an_object(a={"enum": [1, "x", None, [1], {"b": 2}]}), '{"a": {"b": 2.0}}', True),
        (an_object(a={"const": {"b": [1]}}), '{"a": {"b": [1]}}', True),
        (an_object(a={"const": {"b": [1]}}), '{"a": {"b": [2]}}', False),
    ],
)
def test_choices_are_equal_as_json_is(schema, text, fits):
    assert (read_answer(text, schema).error is None) is fits


MANY_CHOICES = an_object(a={"type": "array", "items": {"enum": [f"choice {n}" for n in range(20_000)]}})
BOMBS = {
    "many choices": (MANY_CHOICES, json.dumps({"a": ["choice 19999"] * 30_000})),
    "many misfits under a choice": (
        an_object(
            a={"anyOf": [{"type": "string"}, {"items": {"type": "string"}}, {"items": {"type": "null"}}]}
        ),
        json.dumps({"a": [1] * 200_000}),
    ),
    "large misfits under many choices": (
        an_object(a={"anyOf": [{"type": "string", "title": str(n)} for n in range(900)]}),
        json.dumps({"a": ["x" * 99] * 9_000}),
    ),
    "many objects in prose": (an_object(a={"anyOf": [{"minimum": 3}] * 500}), '{"a": 1} ' * 10_000),
    "many required names": (
        an_object(a={"type": "array", "items": {"required": [f"name {n}" for n in range(20_000)]}}),
        json.dumps({"a": [{}] * 20_000}),
    ),
}


@pytest.mark.parametrize("case", BOMBS)
@pytest.mark.timeout(30)
def test_any_answer_is_checked_in_bounded_time(case):
    read_in_time(BOMBS[case][1], BOMBS[case][0])


def test_arithmetic_of_huge_numbers_is_a_verdict_not_a_crash():
    schema = an_object(a={"type": "number", "multipleOf": 0.5})
    assert read_answer('{"a": 1' + "0" * 400 + "}", schema).error is not None


def test_answer_longer_than_any_model_writes_is_not_read():
    assert "1000001 characters" in read_answer("x" * 1_000_001, UNIQUE).error


# ---- what is read at once


def test_ordinary_answer_is_read_at_once():
    checked = read_at_once('{"a": [1, 2]}', UNIQUE)
    assert checked is not None
    assert checked.json == {"a": [1, 2]}


@pytest.mark.parametrize(
    ("schema", "text"), [(UNIQUE, json.dumps({"a": ["x" * 60_000]})), (BINARY_TREE, NESTED)]
)
def test_what_takes_longer_than_a_moment_is_left_for_later(schema, text):
    started = time.process_time()
    assert read_at_once(text, schema) is None
    assert time.process_time() - started < 1
