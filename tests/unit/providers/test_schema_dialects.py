"""A JSON Schema in each family's own form: what it keeps, what it drops, what it refuses."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mavi_tasks.providers import FAMILIES, schema_dialects
from tests.unit.providers.test_providers import PET, body, every_family, user_content

# ---- schemas on the wire ----


def test_gemini_gets_the_schema_as_response_schema():
    metadata = body("gemini", schema=PET)["extra_body"]["metadata"]
    assert metadata == {
        "response_mime_type": "application/json",
        "responseSchema": {
            "type": "OBJECT",
            "properties": {"label": {"type": "STRING", "enum": ["cat", "dog"]}, "legs": {"type": "INTEGER"}},
            "required": ["label"],
        },
    }


def test_qwen_gets_the_schema_under_a_name():
    metadata = body("qwen", schema={**PET, "title": "My pet!"})["extra_body"]["metadata"]
    assert metadata["response_format"]["json_schema"]["name"] == "My_pet"
    assert metadata["response_format"]["json_schema"]["schema"]["required"] == ["label"]


def test_gpt_gets_json_mode_and_the_schema_in_the_prompt():
    request = body("gpt", schema=PET)
    assert request["response_format"] == {"type": "json_object"}
    text = user_content(request)[0]["text"]
    assert text.startswith("Describe this\n\n")
    assert "JSON" in text
    assert json.loads(text.splitlines()[-1]) == PET


def test_gpt_without_an_object_schema_stays_out_of_json_mode():
    assert "response_format" not in body("gpt", schema={"type": "array", "items": {"type": "string"}})


def test_gpt_in_json_mode_always_says_the_word_json():
    params = {"response_format": {"type": "json_object"}}
    assert "JSON" in user_content(body("gpt", params=params))[0]["text"]
    assert user_content(body("gpt", params=params, system="As JSON."))[0]["text"] == "Describe this"


def test_nova_gets_the_schema_in_the_prompt_or_as_a_tool():
    text = user_content(body("nova", schema=PET))[0]["text"]
    assert json.loads(text.splitlines()[-1]) == PET
    request = body("nova", schema=PET, params={"structured": "tool"})
    (tool,) = request["extra_body"]["metadata"]["toolConfig"]["tools"]
    assert tool["toolSpec"]["inputSchema"] == {"json": PET}
    assert tool["toolSpec"]["name"] in user_content(request)[0]["text"]
    assert "structured" not in request


def test_nova_tools_may_be_given_without_their_wrapper():
    tools = [{"toolSpec": {"name": "a", "inputSchema": {"json": {}}}}]
    bare, wrapped = ({"tools": tools}, {"toolConfig": {"tools": tools}})
    assert body("nova", params=bare) == body("nova", params=wrapped)


# ---- schema forms ----


@pytest.mark.parametrize(
    ("schema", "form"),
    [
        ({"type": ["string", "null"]}, {"type": "STRING", "nullable": True}),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, {"type": "INTEGER", "nullable": True}),
        ({"type": ["integer", "string"]}, {"anyOf": [{"type": "INTEGER"}, {"type": "STRING"}]}),
        ({"const": "cat"}, {"type": "STRING", "enum": ["cat"]}),
        ({"enum": ["a", None]}, {"type": "STRING", "enum": ["a"], "nullable": True}),
        ({"enum": [3, 1, 2]}, {"type": "INTEGER", "minimum": 1, "maximum": 3}),
        ({"format": "date-time", "type": "string"}, {"type": "STRING", "format": "date-time"}),
        ({"type": "string", "format": "email", "minLength": 2}, {"type": "STRING"}),
        ({"type": "number", "minimum": 0, "multipleOf": 2}, {"type": "NUMBER", "minimum": 0}),
        ({"type": "array"}, {"type": "ARRAY", "items": {"type": "STRING"}}),
        (
            {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "uniqueItems": True},
            {"type": "ARRAY", "items": {"type": "BOOLEAN"}, "minItems": 1},
        ),
        (
            {"prefixItems": [{"type": "string"}, {"type": "number"}]},
            {"type": "ARRAY", "items": {"anyOf": [{"type": "STRING"}, {"type": "NUMBER"}]}},
        ),
        (
            {"allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]}, {"required": ["b"]}],
             "properties": {"b": {"description": "what"}}, "additionalProperties": False},
            {"type": "OBJECT", "required": ["a", "b"], "properties": {
                "a": {"type": "STRING"}, "b": {"type": "STRING", "description": "what"}}},
        ),
        (
            {"type": "object", "properties": {"a": {"type": "string"}}, "anyOf": [{"required": ["a"]}, {}]},
            {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}},
        ),
        ({"type": "object"}, None),
        ({}, None),
        ({"title": "Anything"}, None),
    ],
)  # fmt: skip
def test_gemini_form_keeps_what_gemini_knows(schema, form):
    assert schema_dialects.gemini(schema) == form


def test_local_references_are_resolved():
    schema = {
        "$defs": {
            "Leg": {"type": "object", "properties": {"side": {"$ref": "#/$defs/Side"}}},
            "Side": {"enum": ["l"]},
        },
        "type": "object",
        "properties": {"legs": {"type": "array", "items": {"$ref": "#/$defs/Leg", "description": "one"}}},
    }
    leg = {"type": "object", "properties": {"side": {"enum": ["l"]}}, "description": "one"}
    assert schema_dialects.inlined(schema) == {
        "type": "object",
        "properties": {"legs": {"type": "array", "items": leg}},
    }


def test_a_schema_that_refers_to_itself_ends_in_anything():
    tree = {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}}}
    inner = {"type": "object", "properties": {"kids": {"type": "array", "items": {}}}}
    assert schema_dialects.inlined(tree)["properties"]["kids"]["items"] == inner
    assert schema_dialects.problems(tree) == []


def test_properties_may_be_named_like_keywords():
    schema = {"type": "object", "properties": {"$ref": {"type": "string"}, "$defs": {"type": "string"}}}
    assert schema_dialects.inlined(schema) == schema
    assert set(schema_dialects.gemini(schema)["properties"]) == {"$ref", "$defs"}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (["type"], "must be an object"),
        ({"$ref": "https://example.com/s.json"}, "must be local"),
        ({"properties": {"a": {"$ref": "#/$defs/no"}}}, "leads nowhere"),
        ({"properties": {"a": {1, 2}}}, "plain JSON"),
    ],
)
@every_family
def test_a_schema_that_cannot_be_used_is_told(family, schema, said):
    assert any(said in problem for problem in FAMILIES[family].check({}, schema))


def test_a_schema_that_unfolds_without_end_is_told():
    steps = {
        f"d{n}": {"properties": {"a": {"$ref": f"#/$defs/d{n + 1}"}, "b": {"$ref": f"#/$defs/d{n + 1}"}}}
        for n in range(15)
    }
    schema = {"$defs": {**steps, "d15": {}}, "$ref": "#/$defs/d0"}
    assert "make it simpler" in schema_dialects.problems(schema)[0]


GEMINI_KEYWORDS = {
    "type", "format", "title", "description", "nullable", "enum", "items", "minItems", "maxItems",
    "properties", "required", "minimum", "maximum", "anyOf",
}  # fmt: skip


def assert_gemini_form(form):
    assert set(form) <= GEMINI_KEYWORDS
    assert "type" in form or "anyOf" in form
    for inner in [*form.get("properties", {}).values(), *form.get("anyOf", ())]:
        assert_gemini_form(inner)
    if "items" in form:
        assert_gemini_form(form["items"])
    assert set(form.get("required", ())) <= set(form.get("properties", {}))


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
WORDS = "type properties items enum const anyOf oneOf allOf  required prefixItems minimum format title $defs"
KEYWORDS = st.sampled_from(WORDS.split())
TYPES = st.sampled_from(["string", "integer", "object", "array", "null", "number", "boolean"])
SCHEMAS = st.recursive(
    ANY_JSON | TYPES,
    lambda inner: (
        st.dictionaries(KEYWORDS, inner | TYPES | st.lists(inner, max_size=3), max_size=5)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=25,
)


@settings(max_examples=500)
@given(st.dictionaries(KEYWORDS, SCHEMAS, max_size=6))
def test_any_schema_has_a_form_in_every_family(schema):
    if schema_dialects.problems(schema):
        return
    form = schema_dialects.gemini(schema)
    if form is not None:
        assert_gemini_form(form)
    for family in FAMILIES:
        json.dumps(body(family, schema=schema))
