"""Self-hosted models: the openai family on the wire, its key, and whole jobs against a strict server."""

import json
from decimal import Decimal

import pytest
from PIL import Image

from mavi_tasks import providers
from mavi_tasks.errors import InputError
from mavi_tasks.job import Gateway
from mavi_tasks.job import endpoint as settings
from mavi_tasks.providers import FAMILIES, Part, PromptRequest, WireOptions
from tests.support.gateways import mavi, rows, write_job
from tests.support.media_files import clip
from tests.support.openai_server import KEY, openai_server

OPENAI = FAMILIES["openai"]
LINKED = Part("image", "image/jpeg", url="https://example.com/a.jpg")
INLINED = Part("image", "image/png", data="aGk=")
PET = {"type": "object", "properties": {"label": {"enum": ["cat", "dog"]}}, "required": ["label"]}


def body(*parts, **rest):
    return OPENAI.body(PromptRequest("openai:llava:7b", "What is it?", parts, **rest))


# ---- the wire; OpenAI's API reference, create chat completion: image input ----


def test_request_is_openais_own():
    params = {"temperature": 0, "max_tokens": 300, "top_p": 1, "seed": 7, "stop": ["END"], "n": 2}
    assert body(LINKED, INLINED, system="Be brief.", params=params) == {
        "model": "llava:7b",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?"},
                    {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                ],
            },
        ],
        **params,
    }


def test_a_data_url_is_sent_even_where_the_job_spells_base64_raw():
    sent = body(INLINED, spelling=WireOptions(base64="raw"))
    assert sent["messages"][0]["content"][1]["image_url"]["url"] == "data:image/png;base64,aGk="


def test_max_tokens_is_always_sent_so_that_a_budget_holds():
    assert body()["max_tokens"] == OPENAI.defaults["max_tokens"] == 1000
    assert body(params={"max_tokens": None})["max_tokens"] == 1000


def test_what_a_server_adds_goes_to_the_top_level():
    sent = body(params={"extra_body": {"top_k": 1, "max_completion_tokens": 50}})
    assert (sent["top_k"], sent["max_completion_tokens"]) == (1, 50)
    assert "extra_body" not in sent
    assert "max_tokens" not in sent


def test_an_answer_schema_becomes_a_json_schema_response_format():
    assert body(schema={**PET, "title": "pet"})["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "pet", "schema": {**PET, "title": "pet"}},
    }


def test_reply_is_read():
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    message = {"role": "assistant", "content": "a cat"}
    payload = {"id": "x", "model": "llava:7b", "usage": usage}
    payload["choices"] = [{"index": 0, "message": message, "finish_reason": "length"}]
    answer = OPENAI.answer(payload)
    assert (answer.text, answer.finish_reason, answer.provider_model) == ("a cat", "length", "llava:7b")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (9, 4)


@pytest.mark.parametrize(
    "params",
    [
        {"seed": -1, "temperature": 2, "presence_penalty": -2},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}},
        {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}},
    ],
)
def test_parameters_of_the_api_pass(params):
    assert OPENAI.check(params, None) == []


@pytest.mark.parametrize(
    ("params", "schema", "expected"),
    [
        ({"seed": 1.5}, None, "whole number"),
        ({"response_format": {"type": "xml"}}, None, "json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}, None, "name: ..."),
        ({"response_format": {"type": "json_object"}}, PET, "not both"),
        ({"extra_body": {"temperature": 1}}, None, "extra_body.temperature"),
        ({"thinking_budget": 5}, None, "known by: gemini, qwen"),
    ],
)
def test_wrong_parameters_are_reported_in_plain_text(params, schema, expected):
    (problem,) = OPENAI.check(params, schema, providers.KNOWN_PARAMS)
    assert expected in problem


def test_a_name_may_hold_colons():
    assert providers.split("openai:llava:7b") == ("openai", "llava:7b")


# ---- the key ----


def endpoint(env, **gateway):
    return settings.resolve_endpoint(
        Gateway(base_url="http://127.0.0.1/v1", dialect="openai", **gateway), env
    )


def test_the_named_key_is_sent_as_bearer():
    assert endpoint({"MY_API_KEY": "abc"}, api_key_env="MY_API_KEY").api_key == "Bearer abc"


def test_no_key_is_sent_where_none_is_named():
    assert endpoint({"MAVI_API_KEY": "sk-mavi-1"}).api_key is None


@pytest.mark.parametrize("name", ["MAVI_API_KEY", "MEMORIES_API_KEY"])
def test_the_mavi_key_never_goes_to_another_server(name):
    with pytest.raises(InputError, match="is for MAVI only"):
        endpoint({name: "sk-mavi-1"}, api_key_env=name)


def test_a_missing_key_is_reported_by_its_name():
    with pytest.raises(InputError, match="MY_API_KEY is not set: export MY_API_KEY"):
        endpoint({}, api_key_env="MY_API_KEY")


# ---- whole jobs ----


@pytest.fixture
def folder(tmp_path):
    for n in range(3):
        Image.new("RGB", (40 + n, 30), (n * 80, 0, 0)).save(tmp_path / f"{n}.jpg")
    clip(tmp_path / "clip.mp4", seconds=2)
    lines = [*(f"p{n},{n}.jpg,cat" for n in range(3)), "film,clip.mp4,dog", "far,https://h.example/x.jpg,cat"]
    (tmp_path / "items.csv").write_text("\n".join(["item_id,media_url,truth", *lines]))
    return tmp_path


def job(folder, server, **fields):
    defaults = {
        "manifest": "items.csv",
        "prompts": {"p": "What is it?"},
        "models": [{"model": "openai:llava:7b", "frames": 2}],
        "params": {"max_tokens": 50, "temperature": 0},
        "gateway": {"base_url": server.base_url, "dialect": "openai", "api_key_env": "MY_API_KEY"},
        "prices": {"openai:llava:7b": {"input_usd_per_mtok": "0.10", "output_usd_per_mtok": "0.50"}},
        "budget_usd": "1.00",
        "output": "out",
    }
    return write_job(folder, **{**defaults, **fields})


def run(folder, server, **fields):
    return mavi("run", job(folder, server, **fields), "--json", "--quiet", MY_API_KEY=KEY)


def test_a_job_is_answered_by_a_strict_server(folder):
    with openai_server(throttled_first=2) as server:
        ended = run(folder, server)
    assert ended.code == 0, ended.err
    assert ended.json["answered"] == 5
    assert [one for one in server.refused if not one.startswith("429")] == []
    assert server.paths == {"/v1/chat/completions"}
    assert server.keys == {f"Bearer {KEY}"}
    found = {row["item_id"]: row for row in rows(folder / "out")}
    expected = {"p0": "40x30", "p1": "41x30", "p2": "42x30", "far": "linked", "film": "160x120 160x120"}
    assert {item: row["answer"] for item, row in found.items()} == expected
    assert {(row["endpoint"], row["gateway"], row["family"]) for row in found.values()} == {
        (None, server.base_url, "openai")
    }


def test_its_own_price_counts_to_the_last_digit(folder):
    with openai_server() as server:
        run(folder, server)
    (row,) = rows(folder / "out", columns="sum(input_tokens) as tokens, sum(cost_usd) as cost_usd")
    assert row["tokens"] == 5 * 2 + 6 * 100  # 11 characters of prompt, 100 a picture, two frames of the film
    assert row["cost_usd"] == Decimal("0.0000785")  # 610*0.10/1e6 + 35*0.50/1e6


def test_a_schema_gives_columns(folder):
    with openai_server() as server:
        ended = run(folder, server, answer_schema=PET)
    assert ended.code == 0, ended.err
    assert {body["response_format"]["type"] for body in server.bodies} == {"json_schema"}
    assert {json.loads(row["answer_json"])["label"] for row in rows(folder / "out")} == {"cat"}


def test_a_model_that_the_server_lacks_stops_alone(folder):
    models = ["openai:tiny", "openai:nobody"]
    with openai_server() as server:
        ended = run(folder, server, models=models, prices={}, budget_usd=None)
    by_model = {model["model"]: model for model in ended.json["models"]}
    assert by_model["openai:tiny"]["answered"] == 4  # without frames, the film is skipped
    assert by_model["openai:nobody"]["answered"] == 0
    assert "404" in " ".join(server.refused)
    assert ended.code in (3, 4)


def test_a_wrong_key_stops_the_run_and_nothing_is_lost(folder):
    with openai_server() as server:
        ended = mavi("run", job(folder, server), "--json", "--quiet", MY_API_KEY="another")
    assert (ended.code, ended.json["status"]) == (4, "stopped")


def test_models_of_both_kinds_in_one_job_are_refused_with_a_reason(folder):
    with openai_server() as server:
        path = job(folder, server, models=["openai:tiny", "gemini:gemini-2.5-flash"])
        ended = mavi("run", path, MY_API_KEY=KEY)
    assert ended.code == 2
    assert "openai:NAME, because the gateway's dialect is openai" in ended.err
    assert server.paths == set()
