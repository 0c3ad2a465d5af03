"""The families: requests exactly as documented, replies read whatever they hold, parameters told apart."""

import copy
import json
from dataclasses import asdict

import pytest

from mavi_tasks import providers
from mavi_tasks.errors import InputError
from mavi_tasks.providers import FAMILIES, KNOWN_PARAMS, Part, PromptRequest, WireOptions
from tests.support.gateways import REPOSITORY

WIRE = sorted((REPOSITORY / "tests/support/wire").glob("*-[vi]u.json"))
CASES = {path.stem: json.loads(path.read_text("utf-8")) for path in WIRE}
wire = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())

IMAGE_URL = Part("image", "image/jpeg", url="https://example.com/a.jpg")
IMAGE_DATA = Part("image", "image/png", data="aGk=")
VIDEO_URL = Part("video", "video/mp4", url="https://example.com/a.mp4")
VIDEO_DATA = Part("video", "video/mp4", data="aGk=")
MODELS = {
    "gemini": "gemini:gemini-2.5-flash",
    "qwen": "qwen:qwen3-vl-plus",
    "nova": "nova:us.amazon.nova-lite-v1:0",
    "gpt": "gpt:gpt-4o",
    "openai": "openai:llava:7b",
}
PET = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["cat", "dog"]}, "legs": {"type": "integer"}},
    "required": ["label"],
}
every_family = pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"openai"}))  # that: test_openai


def ask(family, *parts, **rest):
    return PromptRequest(MODELS[family], "Describe this", parts, **rest)


def body(family, *parts, **rest):
    return FAMILIES[family].body(ask(family, *parts, **rest))


def user_content(request):
    return request["messages"][-1]["content"]


# ---- the documented wire ----


@wire
def test_request_is_the_documented_one(case):
    asked = dict(case["ask"])
    parts = tuple(Part(**part) for part in asked.pop("parts"))
    family = providers.family_of(asked["model"])
    assert family.body(PromptRequest(parts=parts, **asked)) == case["request"]
    assert family.check(asked["params"], asked.get("schema")) == []


@wire
def test_reply_is_read_as_documented(case):
    family = providers.family_of(case["ask"]["model"])
    expected = {**case["answer"], "choices": tuple(case["answer"]["choices"])}
    assert asdict(family.answer(case["reply"])) == expected


def test_every_family_and_endpoint_has_its_wire_file_with_a_source():
    assert sorted(CASES) == ["gemini-iu", "gemini-vu", "gpt-iu", "nova-iu", "nova-vu", "qwen-iu", "qwen-vu"]
    assert all(case["source"].startswith("MAVI documentation, page ") for case in CASES.values())


@wire
def test_bodies_are_plain_json(case):
    assert json.loads(json.dumps(case["request"])) == case["request"]


# ---- requests ----


@every_family
def test_only_given_parameters_go_on_the_wire(family):
    assert set(body(family)) == {"model", "messages"}
    request = body(family, params={"temperature": 0, "max_tokens": None, "stop": None})
    assert {k: v for k, v in request.items() if k not in ("model", "messages")} == {"temperature": 0}


@every_family
def test_user_content_is_an_array_and_system_a_text(family):
    request = body(family, system="Answer briefly.")
    assert request["messages"][0] == {"role": "system", "content": "Answer briefly."}
    assert isinstance(user_content(request), list)


@every_family
def test_without_a_system_prompt_there_is_no_system_message(family):
    assert [message["role"] for message in body(family)["messages"]] == ["user"]


@every_family
def test_the_ask_is_not_changed_by_writing_it(family):
    params = {"temperature": 0.5, "stop": ["a", "b"]}
    asked = ask(family, IMAGE_URL, params=params, schema=PET, system="s")
    before = copy.deepcopy(asdict(asked))
    assert FAMILIES[family].body(asked) == FAMILIES[family].body(asked)
    assert asdict(asked) == before


@pytest.mark.parametrize(
    ("family", "part"),
    [
        (
            "gemini",
            {"type": "input_file", "file_uri": "data:image/png;base64,aGk=", "mime_type": "image/png"},
        ),
        ("qwen", {"image": "data:image/png;base64,aGk="}),
        ("nova", {"type": "image_url", "image_url": "data:image/png;base64,aGk="}),
        ("gpt", {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}),
    ],
)
def test_inlined_image_is_a_data_url_unless_the_job_says_raw(family, part):
    assert part in user_content(body(family, IMAGE_DATA))
    raw = json.loads(json.dumps(part).replace("data:image/png;base64,", ""))
    assert raw in user_content(body(family, IMAGE_DATA, spelling=WireOptions(base64="raw")))


def test_nova_media_is_an_object_when_the_job_says_so():
    spelling = WireOptions(base64="raw", nova_url="object")
    assert user_content(body("nova", VIDEO_DATA, spelling=spelling))[-1] == {
        "type": "video_url",
        "video_url": {"url": "aGk="},
    }
    assert user_content(body("nova", IMAGE_URL, spelling=spelling))[-1] == {
        "type": "image_url",
        "image_url": {"url": "https://example.com/a.jpg"},
    }


def test_several_images_keep_their_order():
    urls = [f"https://example.com/{n}.jpg" for n in range(3)]
    request = body("qwen", *(Part("image", "image/jpeg", url=url) for url in urls))
    assert user_content(request) == [*({"image": url} for url in urls), {"text": "Describe this"}]


@pytest.mark.parametrize(
    ("family", "parts", "said"),
    [
        ("gpt", (VIDEO_URL,), "gpt takes no video"),
        ("gemini", (VIDEO_DATA,), "by URL only"),
        ("qwen", (VIDEO_DATA,), "by URL only"),
        ("nova", (VIDEO_URL, IMAGE_URL), "different endpoints"),
    ],
)
def test_impossible_media_are_refused_in_words(family, parts, said):
    with pytest.raises(InputError, match=said):
        body(family, *parts)


def test_routes_are_the_documented_ones():
    table = {
        (name, kind): (route.endpoint, route.url, route.inline)
        for name, family in FAMILIES.items()
        for kind, route in family.routes.items()
    }
    assert table == {
        ("gemini", "image"): ("/vu", True, True),
        ("gemini", "video"): ("/vu", True, False),
        ("gemini", "text"): ("/vu", False, False),
        ("qwen", "image"): ("/vu", True, True),
        ("qwen", "video"): ("/vu", True, False),
        ("qwen", "text"): ("/vu", False, False),
        ("nova", "image"): ("/iu", True, True),
        ("nova", "video"): ("/vu", True, True),
        ("nova", "text"): ("/vu", False, False),
        ("gpt", "image"): ("/iu", True, True),
        ("gpt", "text"): ("/iu", False, False),
        ("openai", "image"): ("", True, True),
        ("openai", "text"): ("", False, False),
    }


def test_defaults_are_the_documented_ones():
    told = {
        n: (f.defaults["temperature"], f.defaults["max_tokens"], f.defaults["top_p"])
        for n, f in FAMILIES.items()
    }
    assert told == {
        "gemini": (0.7, 1000, 1.0),
        "qwen": (0.7, 1024, 0.9),
        "nova": (1.0, 1000, 1.0),
        "gpt": (0.0, 1000, 1.0),
        "openai": (1.0, 1000, 1.0),
    }


# ---- parameters ----

GOOD = {
    "temperature": [0, 2, 0.7, None],
    "max_tokens": [1, 65_536],
    "top_p": [0, 1, 0.5],
    "frequency_penalty": [-2, 2],
    "presence_penalty": [-2.0, 0],
    "n": [1, 5],
    "stream": [False, True],
    "stop": ["x", ["x", "y"], None],
}
BAD = {
    "temperature": [-0.1, 2.1, True, "0.5", float("nan"), float("inf"), [], 10**400],
    "max_tokens": [0, -1, 1.0, True, "5", 2**31],
    "top_p": [-0.01, 1.01, False, float("-inf")],
    "frequency_penalty": [-2.1, 2.1, True, "a"],
    "presence_penalty": [3, {}, float("nan")],
    "n": [0, 1.5, True],
    "stream": [0, 1, "false"],
    "stop": ["", [], [""], 3, ["a", 3], {"a": 1}],
}


@every_family
@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in GOOD.items() for v in values])
def test_common_parameters_in_range_pass(family, name, value):
    assert FAMILIES[family].check({name: value}, None) == []


@every_family
@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD.items() for v in values])
def test_common_parameters_out_of_range_are_told_by_name(family, name, value):
    (problem,) = FAMILIES[family].check({name: value}, None)
    assert problem.startswith(f"params.{name}: ")
    assert "must be" in problem


@pytest.mark.parametrize(
    ("family", "params"),
    [
        ("gemini", {"thinking_budget": 0}),
        ("gemini", {"thinking_budget": -1}),
        ("gemini", {"response_mime_type": "json_schema", "responseSchema": {"type": "OBJECT"}}),
        ("qwen", {"enable_thinking": True, "thinking_budget": 81_920}),
        ("gpt", {"response_format": {"type": "json_object"}}),
        ("nova", {"structured": "prompt"}),
        ("qwen", {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}}),
    ],
)
def test_family_parameters_pass(family, params):
    assert FAMILIES[family].check(params, None) == []


@pytest.mark.parametrize(
    ("family", "params", "said"),
    [
        ("gemini", {"thinking_budget": -2}, "whole number from -1"),
        ("gemini", {"thinking_budget": True}, "whole number"),
        ("gemini", {"response_mime_type": "text/plain"}, "application/json or json_schema"),
        ("gemini", {"responseSchema": "x"}, "an object"),
        ("qwen", {"enable_thinking": 1}, "true or false"),
        ("qwen", {"thinking_budget": 81_921}, "from 1 to 81920"),
        ("qwen", {"response_format": {"type": "json_object"}}, "json_schema"),
        ("qwen", {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}, "name"),
        ("gpt", {"response_format": {"type": "json_schema"}}, "json_object"),
        ("gpt", {"response_format": "json_object"}, "json_object"),
        ("nova", {"tools": []}, "toolSpec"),
        ("nova", {"tools": [{"toolSpec": {"name": "a b", "inputSchema": {"json": {}}}}]}, "toolSpec"),
        ("nova", {"toolConfig": {"tools": [], "toolChoice": {}}}, "toolChoice"),
        ("nova", {"structured": "yes"}, "prompt or tool"),
        ("nova", {"structured": "tool"}, "needs an answer_schema"),
        ("gpt", {"thinking_budget": 5}, "known by: gemini, qwen"),
        ("gemini", {"response_format": {}}, "known by: gpt, openai, qwen"),
        ("gpt", {"tempreature": 1}, "nearest is temperature"),
        ("gpt", {"maxTokens": 1}, "nearest is max_tokens"),
        ("gpt", {"max_completion_tokens": 1}, "use max_tokens"),
        ("gpt", {"reasoning_effort": "low"}, "documents none"),
        ("gemini", {"extra_body": {}}, "directly under params"),
        ("gpt", {"thinkingbudget": 1}, "thinking_budget, known by gemini, qwen"),
        ("gpt", {"zzz": 1}, "it knows frequency_penalty"),
        ("gpt", {3: 1}, "no such parameter"),
        ("gpt", {"stream": "yes"}, "true or false"),
    ],
)
def test_wrong_parameters_are_told_in_words(family, params, said):
    (problem,) = FAMILIES[family].check(params, None, KNOWN_PARAMS)
    assert said in problem


@pytest.mark.parametrize(
    ("family", "params"),
    [
        ("gemini", {"responseSchema": {}}),
        ("qwen", {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}}),
        ("nova", {"structured": "tool", "tools": [{"toolSpec": {"name": "a", "inputSchema": {"json": {}}}}]}),
    ],
)
def test_two_schemas_for_one_answer_are_refused(family, params):
    (problem,) = FAMILIES[family].check(params, PET)
    assert "not both" in problem or "leave it out" in problem


def test_nova_tool_needs_an_object():
    (problem,) = FAMILIES["nova"].check({"structured": "tool"}, {"type": "array"})
    assert "type is object" in problem


def test_all_problems_are_told_at_once():
    assert len(FAMILIES["gpt"].check({"temperature": 9, "n": 0, "x": 1}, {"$ref": "#/no"})) == 4


# ---- names ----


def test_model_is_split_at_the_first_colon_only():
    assert providers.split("nova:us.amazon.nova-lite-v1:0") == ("nova", "us.amazon.nova-lite-v1:0")
    assert providers.family_of("nova:us.amazon.nova-lite-v1:0").name == "nova"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("gemini-2.5-flash", "'gemini:gemini-2.5-flash'"),
        ("us.amazon.nova-lite-v1:0", "'nova:us.amazon.nova-lite-v1:0'"),
        ("gpt4o", "'gpt:gpt-4o'"),
        ("openai/gpt-4o-mini", "'gpt:gpt-4o-mini'"),
        ("gemni:gemini-2.5-flash", "nearest is 'gemini'"),
        ("Gemini:gemini-2.5-flash", "nearest is 'gemini'"),
        ("claude:opus", "the families are gemini, gpt, nova, openai, qwen"),
        ("nova:", "must be family:name"),
        (":x", "must be family:name"),
        ("", "the family is missing"),
        (" gpt:gpt-4o", "without spaces"),
    ],
)
def test_a_wrong_model_name_is_told_the_nearest(model, said):
    with pytest.raises(InputError) as caught:
        providers.family_of(model)
    assert said in str(caught.value)


def test_an_unlisted_model_of_a_known_family_is_let_through():
    assert providers.family_of("gpt:gpt-9").name == "gpt"
