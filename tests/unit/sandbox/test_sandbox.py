"""The embedded gateway keeps its own promises: strict in, documented out, exact on the bill."""

import json
import re
from decimal import Decimal

import httpx
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mavi_tasks.sandbox import Sandbox, Simulated, completion, parse_request
from mavi_tasks.sandbox.families import FAMILIES
from mavi_tasks.sandbox.ledger import PRICES, cost_pico, usd
from mavi_tasks.sandbox.media import MediaInput, MediaSources
from mavi_tasks.sandbox.refusal import Refusal
from mavi_tasks.sandbox.schemas import KEYWORDS as SCHEMA_KEYWORDS
from tests.support.sandbox_cases import (
    IMAGE_URL,
    JPEG,
    KEY,
    REFUSED,
    TAKEN,
    file,
    gemini,
    gpt,
    image,
    meta,
    nova,
    qwen,
    send,
    t,
    user,
)


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(latency_s=0) as running:
        yield running


@pytest.fixture(autouse=True)
def fresh(sandbox):
    sandbox.reset()


@pytest.fixture(scope="module")
def client():
    with httpx.Client(headers={"Authorization": KEY}, timeout=10) as made:
        yield made


# -- what is refused, and which field the message names


@pytest.mark.parametrize(("endpoint", "body", "named"), REFUSED, ids=[named for *_, named in REFUSED])
def test_what_is_outside_the_contract_is_refused_by_name(client, sandbox, endpoint, body, named):
    reply = send(client, sandbox, endpoint, body)
    assert reply.status_code == 400
    assert reply.json() == {"code": 400, "msg": reply.json()["msg"], "data": None}
    assert named in reply.json()["msg"]
    assert sandbox.bill()["rejected"] == {"400": 1}
    assert sandbox.bill()["billed_calls"] == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": f"Bearer {KEY}"}, 401),
        ({"Authorization": "my-key"}, 401),
        ({"Content-Type": "text/plain"}, 415),
    ],
)
def test_wrong_headers_are_refused(client, sandbox, headers, status):
    url = f"{sandbox.base_url}/vu/chat/completions"
    reply = client.post(
        url, content=json.dumps(gemini()), headers={"Content-Type": "application/json", **headers}
    )
    assert (reply.status_code, reply.json()["code"], reply.json()["data"]) == (status, status, None)


def test_a_missing_key_is_refused_and_a_configured_one_is_taken(sandbox):
    url = f"{sandbox.base_url}/vu/chat/completions"
    assert httpx.post(url, json=gemini()).json() == {"code": 401, "msg": "Unauthorized", "data": None}
    with Sandbox(latency_s=0, api_key="my-key") as other:
        reply = httpx.post(
            f"{other.base_url}/vu/chat/completions", json=gemini(), headers={"Authorization": "my-key"}
        )
    assert reply.status_code == 200


def test_wrong_methods_and_paths_get_the_gateways_own_words(client, sandbox):
    assert client.get(f"{sandbox.base_url}/vu/chat/completions").json()["code"] == 405
    lost = client.post(f"{sandbox.base_url}/chat/completions", json=gemini())
    assert lost.status_code == 404
    assert lost.json().keys() == {"timestamp", "path", "status", "error", "requestId"}


def test_a_retired_model_is_refused(client):
    with Sandbox(latency_s=0, retired=["gemini:gemini-2.0-*"]) as other:
        reply = send(client, other, "/vu", gemini(model="gemini:gemini-2.0-flash"))
    assert "retired" in reply.json()["msg"]


# -- what is taken, and the form of the answer


@pytest.mark.parametrize(("endpoint", "body"), TAKEN)
def test_what_is_documented_is_answered_and_marked(client, sandbox, endpoint, body):
    reply = send(client, sandbox, endpoint, body)
    assert reply.status_code == 200, reply.text
    choice = reply.json()["choices"][0]
    assert (choice.get("text") or choice["message"]["content"]).startswith("[simulated] ")


def test_gemini_replies_in_its_documented_form(client, sandbox):
    reply = send(client, sandbox, "/vu", gemini()).json()
    assert list(reply) == ["id", "object", "model", "created_at", "status", "choices", "usage", "meta"]
    assert re.fullmatch(r"resp_[0-9a-f-]{36}", reply["id"])
    assert (reply["object"], reply["status"], reply["model"]) == (
        "completion",
        "completed",
        "gemini:gemini-2.5-flash",
    )
    assert reply["usage"].keys() == {"input_tokens", "output_tokens", "total_tokens"}
    assert reply["meta"] == {"provider": "gemini", "provider_model": "gemini-2.5-flash"}


def test_qwen_echoes_the_bare_model(client, sandbox):
    reply = send(client, sandbox, "/vu", qwen()).json()
    assert re.fullmatch(r"[0-9a-f-]{36}", reply["id"])
    assert (reply["model"], reply["choices"][0].keys()) == ("qwen3-vl-plus", {"text", "index"})


def test_nova_counts_output_token_in_the_singular(client, sandbox):
    reply = send(client, sandbox, "/vu", nova()).json()
    assert re.fullmatch(r"chatcmpl_[0-9a-f]{32}", reply["id"])
    assert (reply["model"], reply["object"]) == ("nova:us.amazon.nova-lite-v1:0", "chat.completion")
    assert reply["usage"].keys() == {"prompt_tokens", "output_token", "total_tokens"}
    assert reply["choices"][0].keys() == {"index", "message", "finish_reason"}


def test_gpt_echoes_the_dated_snapshot_with_usage_details(client, sandbox):
    reply = send(client, sandbox, "/iu", gpt(model="gpt:gpt-5-mini")).json()
    assert reply["model"] == "gpt-5-mini-2025-08-07"
    assert reply["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
    assert reply["choices"][0]["message"].keys() == {"role", "content", "refusal", "annotations"}
    assert send(client, sandbox, "/iu", gpt()).json()["model"] == "gpt-4o-2024-08-06"


def test_n_gives_n_choices_and_max_tokens_and_stop_cut_them(client, sandbox):
    reply = send(client, sandbox, "/iu", gpt(n=3, max_tokens=4)).json()
    assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2]
    assert {choice["finish_reason"] for choice in reply["choices"]} == {"length"}
    assert reply["usage"]["completion_tokens"] == 12
    stopped = send(client, sandbox, "/vu", gemini(stop=["]"])).json()
    assert stopped["choices"][0]["text"] == "[simulated"


def test_answers_repeat_for_the_same_words_and_differ_between_models(client, sandbox):
    def label(number, model):
        body = gemini(
            model=f"gemini:{model}", messages=user(t(f"Photo {number}. Which one of: cat, dog, bird?"))
        )
        return send(client, sandbox, "/vu", body).json()["choices"][0]["text"]

    first = [label(number, "gemini-2.5-flash") for number in range(40)]
    assert first == [label(number, "gemini-2.5-flash") for number in range(40)]
    assert set(first) == {"[simulated] cat", "[simulated] dog", "[simulated] bird"}
    same = sum(a == label(number, "gemini-2.5-pro") for number, a in enumerate(first))
    assert 20 <= same < 40


RICH = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": ["cat", "dog"]},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2, "uniqueItems": True},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "count": {"type": "integer", "minimum": 3, "maximum": 5},
        "seen": {"type": "boolean"},
        "box": {
            "type": "object",
            "properties": {"x": {"type": "integer", "exclusiveMinimum": 10}},
            "required": ["x"],
        },
        "note": {"type": "string", "maxLength": 12},
    },
    "required": ["label", "tags", "confidence", "count", "seen", "box"],
}


def upper(schema):
    """The same in Gemini's dialect, which lacks uniqueItems and exclusiveMinimum."""
    fixed = {key: value for key, value in schema.items() if key not in ("uniqueItems", "exclusiveMinimum")}
    fixed["type"] = schema["type"].upper()
    if "properties" in schema:
        fixed["properties"] = {key: upper(inner) for key, inner in schema["properties"].items()}
    return {**fixed, "items": upper(schema["items"])} if "items" in schema else fixed


def answer_text(client, sandbox, endpoint, body):
    choice = send(client, sandbox, endpoint, body).json()["choices"][0]
    return choice["text"] if "text" in choice else choice["message"]["content"]


def test_gemini_fences_json_that_fits_its_schema(client, sandbox):
    request = meta(response_mime_type="application/json", responseSchema=upper(RICH))
    fenced = re.fullmatch(r"```json\n(.*)\n```", answer_text(client, sandbox, "/vu", gemini(**request)))
    jsonschema.validate(json.loads(fenced[1]), {**RICH, "properties": {**RICH["properties"], "box": {}}})


ASKED = t(f"Answer as JSON that fits {json.dumps(RICH)}")
FORM = {"type": "json_schema", "json_schema": {"name": "pet", "schema": RICH}}
TOOLS = {"tools": [{"toolSpec": {"name": "pet", "inputSchema": {"json": RICH}}}]}


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/vu", qwen(**meta(response_format=FORM))),
        ("/vu", nova(**meta(toolConfig=TOOLS))),
        ("/vu", nova(ASKED)),
        ("/iu", gpt(ASKED, response_format={"type": "json_object"})),
    ],
)
def test_json_answers_fit_the_schema_however_it_is_asked(client, sandbox, endpoint, body):
    jsonschema.validate(json.loads(answer_text(client, sandbox, endpoint, body)), RICH)


def test_a_field_list_in_the_prompt_gives_those_fields(client, sandbox):
    request = "Answer as JSON {label, confidence}; label is one of: cat, dog."
    reply = send(client, sandbox, "/iu", gpt(t(request), response_format={"type": "json_object"})).json()
    answer = json.loads(reply["choices"][0]["message"]["content"])
    assert answer.keys() == {"label", "confidence"}
    assert answer["label"] in ("cat", "dog")


# -- tokens and the bill


def media_tokens(model, kind, width, height, duration_s=None):
    family, _, name = model.partition(":")
    return FAMILIES[family].media_tokens(
        name, MediaInput("f", kind, None, "url", "id", width, height, duration_s)
    )


@pytest.mark.parametrize(
    ("model", "media", "tokens"),
    [
        ("gemini:gemini-2.5-flash", ("image", 384, 384), 258),
        ("gemini:gemini-2.5-flash", ("image", 1024, 768), 516),
        (
            "gemini:gemini-2.5-flash",
            ("video", 1280, 720, 60.0),
            16980,
        ),  # the page's example: 16983 with its text
        ("gemini:gemini-3-pro-preview", ("image", 4000, 3000), 1120),
        ("gemini:gemini-3-pro-preview", ("video", 1280, 720, 10.0), 950),
        ("qwen:qwen3-vl-plus", ("image", 640, 480), 302),  # 20 x 15 patches + 2
        ("qwen:qwen-vl-max-2025-04-08", ("image", 280, 280), 102),  # 28 px patches
        ("qwen:qwen3-vl-plus", ("image", 8000, 8000), 2502),  # cut to 2,621,440 px: 50 x 50
        ("qwen:qwen3-vl-plus", ("video", 640, 480, 10.0), 3002),  # 10 pairs of frames x 300 + 2
        ("nova:us.amazon.nova-lite-v1:0", ("video", 1280, 720, 10.0), 2880),
        ("nova:us.amazon.nova-lite-v1:0", ("video", 1280, 720, 3600.0), 276480),
        ("nova:us.amazon.nova-premier-v1:0", ("video", 1280, 720, 3600.0), 921600),
        ("nova:us.amazon.nova-lite-v1:0", ("image", 900, 450), 800),
        ("nova:us.amazon.nova-2-lite-v1:0", ("image", 900, 900), 1035),
        ("gpt:gpt-4o", ("image", 1024, 1024), 765),  # 85 + 4 x 170
        ("gpt:gpt-4o-mini", ("image", 512, 512), 8500),
        ("gpt:gpt-5", ("image", 2048, 4096), 910),  # 768 x 1536: 70 + 6 x 140
        ("gpt:gpt-4.1-mini", ("image", 1024, 1024), 1659),  # 1024 patches x 1.62
        ("gpt:o4-mini", ("image", 4000, 4000), 2642),  # 1536 x 1.72
    ],
)
def test_media_count_as_their_provider_publishes(model, media, tokens):
    assert media_tokens(model, *media) == tokens


def test_every_listed_model_counts_images():
    for family, models in PRICES.items():
        if family in FAMILIES:
            assert all(media_tokens(f"{family}:{name}", "image", 100, 100) > 0 for name in models)
    assert {family: len(PRICES[family]) for family in FAMILIES} == {
        "gemini": 9,
        "qwen": 14,
        "nova": 4,
        "gpt": 33,
    }


@pytest.mark.parametrize(
    ("family", "model", "tokens", "dollars"),
    [
        ("gemini", "gemini-2.5-flash", (1000, 10), "0.000325000000"),  # 1000 x 0.30/1e6 + 10 x 2.50/1e6
        ("gemini", "gemini-2.5-pro", (200_000, 1), "0.250010000000"),
        ("gemini", "gemini-2.5-pro", (200_001, 1), "0.500017500000"),  # the tier prices the whole request
        ("qwen", "qwen3-vl-flash", (32_000, 100), "0.001706000000"),
        ("qwen", "qwen3-vl-flash", (32_001, 100), "0.002591079000"),
        ("qwen", "qwen3-vl-plus", (260_096, 0), "0.163860480000"),  # beyond the printed bound: the last tier
        ("gpt", "gpt-4o-mini", (1, 1), "0.000000750000"),
        ("nova", "us.amazon.nova-lite-v1:0", (1, 0), "0.000000060000"),
    ],
)
def test_prices_are_exact(family, model, tokens, dollars):
    assert usd(cost_pico(family, model, *tokens)) == dollars


def test_the_bill_is_the_sum_of_the_replies_usage(client, sandbox):
    first = send(client, sandbox, "/vu", gemini(file(JPEG))).json()["usage"]
    second = send(client, sandbox, "/vu", gemini(file(JPEG))).json()["usage"]
    assert (
        first == second == {"input_tokens": 262, **{k: first[k] for k in ("output_tokens", "total_tokens")}}
    )
    bill = sandbox.bill(bodies=True)
    dollars = 2 * (262 * Decimal("0.3") + first["output_tokens"] * Decimal("2.5")) / 10**6
    assert Decimal(bill["total_usd"]) == dollars
    model = bill["models"]["gemini:gemini-2.5-flash"]
    assert (model["calls"], model["billed_calls"], model["input_tokens"]) == (2, 2, 524)
    assert bill["bodies"] == {
        "distinct": 1,
        "seen_again": 1,
        "billed_again": 1,
        "extra_payments": 1,
        "extra_usd": usd(int(dollars * 10**12 / 2)),
    }
    assert [body["billed"] for body in bill["by_body"].values()] == [2]
    assert client.get(f"{sandbox.origin}/_sandbox/bill?bodies=1").json() == bill


def test_the_bill_notes_how_media_were_spelled(client, sandbox):
    send(client, sandbox, "/iu", gpt(image(JPEG), image(f"data:image/jpeg;base64,{JPEG}"), image()))
    send(client, sandbox, "/iu", nova(image(JPEG), {"type": "image_url", "image_url": IMAGE_URL}))
    bill = sandbox.bill()
    assert bill["spellings"] == {
        "gpt image raw": 1,
        "gpt image data_url": 1,
        "gpt image url": 1,
        "nova image raw": 1,
        "nova image url": 1,
    }
    assert bill["nova_shapes"] == {"object": 1, "string": 1}


def test_rejections_are_counted_and_the_last_twenty_told(client, sandbox):
    for number in range(25):
        send(client, sandbox, "/vu", gemini(n=-number))
    bill = sandbox.bill()
    assert bill["rejected"] == {"400": 25}
    assert len(bill["rejections"]) == 20
    assert bill["rejections"][-1] == "400 n: -24 must be from 1 to 128"


# -- whatever comes

BODIES = [*TAKEN, ("/vu", qwen(**meta(response_format=FORM))), ("/vu", nova(**meta(toolConfig=TOOLS)))]
WORDS = st.sampled_from([*SCHEMA_KEYWORDS, "type", "text", "url", "image", "$ref", "properties"])
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=8)
LEAVES |= st.sampled_from(
    ["object", "STRING", "array", "#", "#/properties/a", "http://[::1", "https://a:99999"]
)
JSON = st.recursive(
    LEAVES, lambda one: st.lists(one, max_size=3) | st.dictionaries(WORDS, one, max_size=4), max_leaves=8
)
LIBRARY = MediaSources(lambda url: None, (1024, 1024), (1280, 720), 60.0)


def places(value, path=()):
    """Every place in a JSON value."""
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from places(inner, (*path, key))


def replaced(value, path, new):
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@given(data=st.data())
def test_any_body_is_answered_or_refused_never_a_crash(data):
    endpoint, body = data.draw(st.sampled_from(BODIES))
    spoilt = replaced(body, data.draw(st.sampled_from(list(places(body)))), data.draw(JSON))
    try:
        call = parse_request.read(json.dumps(spoilt).encode(), endpoint, LIBRARY)
    except Refusal:
        return
    assert completion.execute(call, completion.input_tokens(call), Simulated(), 0).pico > 0


@pytest.mark.parametrize("deep", [b'{"a":' * 100_000, b'{"a":' * 900 + b"1" + b"}" * 900])
def test_deep_nesting_is_refused(client, sandbox, deep):
    body = json.dumps(nova(**meta(toolConfig="DEEP"))).encode().replace(b'"DEEP"', deep)
    assert send(client, sandbox, "/vu", body).status_code == 400
    request = gpt(t("JSON like " + deep.decode()), response_format={"type": "json_object"})
    assert send(client, sandbox, "/iu", request).status_code == 200
