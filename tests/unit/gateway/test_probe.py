"""The sandbox is each of the gateways that the contract allows, and the probe finds out which."""

import asyncio
from datetime import date

import pytest

from mavi_tasks.gateway import probe
from mavi_tasks.job.endpoint import SANDBOX_KEY
from mavi_tasks.pricing.book import load_prices
from mavi_tasks.providers.probing import CHEAPEST
from mavi_tasks.sandbox import Sandbox, Unknowns
from mavi_tasks.sandbox.unknowns import UnknownSetting, from_settings

GEMINI, QWEN, NOVA, GPT = CHEAPEST
TODAY = date(2026, 11, 30)


def probed(model=GPT, *, key=SANDBOX_KEY, config=None, **unknowns):
    with Sandbox(
        latency_s=0, unknowns=Unknowns(**unknowns), **{"max_body_bytes": 3_000_000, **(config or {})}
    ) as sandbox:
        book = load_prices()
        found = asyncio.run(probe.probe(sandbox.base_url, key, [model], book, TODAY, lambda text: None))
        return found, sandbox.bill()


def of(model=GPT, **unknowns):
    return probed(model, **unknowns)[0].models[model]


@pytest.mark.parametrize("spelling", ["data_url", "raw"])
@pytest.mark.parametrize("wrong", ["refused", "unread"])
@pytest.mark.parametrize("model", CHEAPEST)
def test_the_spelling_of_base64_is_found(model, spelling, wrong):
    found = of(model, base64=spelling, wrong_spelling=wrong)
    assert (found.works, found.base64, found.read_media) == (True, spelling, True)


def test_each_family_may_spell_it_in_its_own_manner():
    with Sandbox(latency_s=0, unknowns=Unknowns(base64={"gemini:*": "raw", "gpt:*": "data_url"})) as sandbox:
        run = probe.probe(
            sandbox.base_url, SANDBOX_KEY, [GEMINI, GPT], load_prices(), TODAY, lambda text: None
        )
        found = asyncio.run(run)
    assert probe.settings_of(found)["base64"] == {"gemini": "raw", "gpt": "data_url"}


@pytest.mark.parametrize("shape", ["string", "object"])
@pytest.mark.parametrize("spelling", ["data_url", "raw"])
@pytest.mark.parametrize("wrong", ["refused", "unread"])
def test_the_shape_of_novas_video_url_is_found(shape, spelling, wrong):
    found = of(NOVA, nova_url=shape, base64=spelling, wrong_spelling=wrong)
    assert (found.nova_url, found.base64) == (shape, spelling)


@pytest.mark.parametrize(("usage", "seen"), [("sent", True), ("missing", False)])
def test_whether_usage_comes_is_found(usage, seen):
    found, bill = probed(usage=usage)
    assert found.models[GPT].usage is seen
    assert (found.exposure_usd > "0.000000000000") is not seen
    assert seen is False or found.cost_usd == bill["total_usd"]


@pytest.mark.parametrize(
    ("model", "reasons", "seen"),
    [
        (GEMINI, "documented", ("absent", "absent")),
        (GPT, "documented", ("stop", "length")),
        (GEMINI, "always", ("stop", "length")),
        (GPT, "never", ("absent", "absent")),
    ],
)
def test_finish_reasons_are_found(model, reasons, seen):
    found = of(model, finish_reason=reasons)
    assert (found.finish_reason, found.finish_reason_cut) == seen


@pytest.mark.parametrize("how", ["honoured", "ignored", "refused"])
@pytest.mark.parametrize("name", ["n", "stop"])
def test_what_a_parameter_does_is_found(name, how):
    assert getattr(of(**{name: how}), name) == how


@pytest.mark.parametrize("how", ["honoured", "ignored", "refused"])
@pytest.mark.parametrize("model", CHEAPEST)
def test_what_a_schema_does_is_found(model, how):
    assert of(model, schema=how).json_answer == how


@pytest.mark.parametrize(
    ("stream", "seen"), [("openai", "openai"), ("mavi", "mavi"), ("refused", "none"), ("ignored", "none")]
)
@pytest.mark.parametrize("model", CHEAPEST)
def test_the_shape_of_streams_is_found(model, stream, seen):
    assert of(model, stream=stream).stream == seen


@pytest.mark.parametrize(("usage", "seen"), [("sent", True), ("missing", False)])
@pytest.mark.parametrize("stream", ["openai", "mavi"])
def test_whether_a_stream_counts_tokens_is_found(stream, usage, seen):
    assert of(stream=stream, stream_usage=usage).stream_usage is seen


def test_the_largest_body_is_found_and_nothing_is_billed_for_it():
    found, bill = probed(config={"max_body_bytes": 6_000_000})
    assert (found.body_taken_bytes, found.body_refused_bytes) == (5_000_000, 10_000_000)
    assert bill["total_usd"] == found.cost_usd
    assert bill["rejected"] == {"400": 2, "413": 1} | {"400": 3}  # the stream, and two sizes


def test_latency_and_first_token_are_measured():
    found = of(stream="openai", before_token_s=0.02)
    assert found.latency_s > 0
    assert found.first_token_s >= 0.02


def test_a_probe_costs_no_more_than_it_said():
    for model in CHEAPEST:
        found, bill = probed(model, base64="raw", nova_url="object", wrong_spelling="unread")
        worst = probe.worst_pico([model], load_prices(), TODAY) / 1e12
        assert float(found.cost_usd) == float(bill["total_usd"]) <= worst


def test_a_refused_key_is_said_and_not_shown():
    found = probed(key="bad-secret-key-0123456789")[0].models[GPT]
    assert (found.works, found.message) == (False, "Unauthorized")
    assert "secret" not in found.model_dump_json()


def test_switches_are_checked():
    assert from_settings({"base64": "raw", "before_token_s": "0.5"}) == Unknowns("raw", before_token_s=0.5)
    with pytest.raises(UnknownSetting, match="base64: 'base32' must be one of any, data_url, raw"):
        from_settings({"base64": "base32"})
    with pytest.raises(UnknownSetting, match="stream_it: no such switch; there are base64, nova_url"):
        from_settings({"stream_it": "yes"})
