"""An answer that was cut off is asked once more, with room for all of it (docs/limits-and-retries.md)."""

import json
from decimal import Decimal

import pytest

from tests.support.gateways import ALL_FAMILIES, mavi, one, remote_sandbox, rows, spent, url_job

FIELDS = ("animal", "legs", "colour", "habitat")
PET = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in FIELDS},
    "required": list(FIELDS),
}


@pytest.fixture(scope="module")
def gateway():
    with remote_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def run(tmp_path, gateway):
    """Run a job whose answers of some 30 tokens are cut after 20, unless other fields are given."""

    def run(count=5, script=(), **fields):
        gateway.reset()
        gateway.faults(script=script)
        job = url_job(
            tmp_path,
            count,
            gateway.base_url,
            **{
                "models": list(ALL_FAMILIES),
                "answer_schema": PET,
                "params": {"max_tokens": 20},
                **fields,
            },
        )
        return mavi("run", job, "--json")

    return run


def test_a_cut_answer_is_asked_once_more_with_twice_the_max_tokens(tmp_path, gateway, run):
    ended = run()
    out = tmp_path / "out"
    assert ended.code == 0, ended.err
    assert ended.json["answered"] == 20
    assert {(row["status"], row["attempts"]) for row in rows(out)} == {("answered", 2)}
    assert {json.loads(row["extra"])["max_tokens"] for row in rows(out)} == {40}
    assert one(out, "attempts", "count(*)", "error_code = 'cut_off' and cost_usd > 0") == 20
    assert spent(out, "attempts") == Decimal(ended.json["cost_usd"]) == Decimal(gateway.bill()["total_usd"])
    assert "20 answers were cut off and asked once more with a larger max_tokens" in ended.err


def test_on_truncated_keep_keeps_it_as_it_is(tmp_path, gateway, run):
    ended = run(on_truncated="keep")
    assert ended.code == 3
    assert ended.json["invalid"] == 20
    assert gateway.bill()["calls"] == 20
    assert "20 answers were cut off: raise max_tokens" in ended.err


def test_an_answer_that_is_still_cut_is_repaired_and_not_asked_for_ever(tmp_path, gateway, run):
    ended = run(params={"max_tokens": 3})
    assert ended.json["invalid"] == 20
    assert gateway.bill()["calls"] == 60


def test_where_a_model_answers_with_no_more_tokens_a_repair_is_asked(tmp_path, gateway, run):
    """qwen-vl-plus gives 8,192 tokens at most, by its publisher."""
    words = {"type": "array", "minItems": 3000, "items": {"type": "string", "enum": ["a long word indeed"]}}
    schema = {"type": "object", "properties": {"words": words}, "required": ["words"]}
    ended = run(1, models=["qwen:qwen-vl-plus"], params={"max_tokens": 8192}, answer_schema=schema)
    assert ended.json["invalid"] == 1
    assert one(tmp_path / "out", "attempts", "count(*)", "error_code = 'cut_off'") == 0
    assert gateway.bill()["calls"] == 2


def test_a_budget_bounds_the_larger_max_tokens(tmp_path, gateway, run):
    """A budget for one plain call of each request and little more: no call may take it beyond."""
    ended = run(4, models=["gpt:gpt-4o"], params={"max_tokens": 20}, budget_usd="0.014")
    bill = Decimal(gateway.bill()["total_usd"])
    assert bill <= Decimal("0.014")
    assert Decimal(ended.json["cost_usd"]) == bill


def test_prose_that_its_model_calls_cut_is_asked_once_more(tmp_path, gateway, run):
    ended = run(models=["gpt:gpt-4o"], answer_schema=None, params={"max_tokens": 20})
    found = rows(tmp_path / "out")
    assert {(row["status"], row["attempts"], row["finish_reason"]) for row in found} == {
        ("answered", 2, "stop")
    }
    assert ended.json["models"][0]["enlarged"] == 5


def test_what_a_cut_answer_cost_stays_paid_when_asking_again_fails(tmp_path, gateway, run):
    ended = run(1, ["ok", "http_400"], models=["gpt:gpt-4o"], answer_schema=None, params={"max_tokens": 20})
    row = rows(tmp_path / "out")[0]
    assert (row["status"], row["finish_reason"], row["cost_usd"] > 0) == ("answered", "length", True)
    assert Decimal(gateway.bill()["total_usd"]) == spent(tmp_path / "out", "attempts")
    assert ended.code == 0


def test_a_maximum_per_item_bounds_it_too(tmp_path, gateway, run):
    """A call of 20 tokens may cost $0.0055325, one of 40 tokens $0.0002 more."""
    ended = run(1, models=["gpt:gpt-4o"], max_cost_per_item_usd="0.00554", repair=False)
    assert (ended.json["invalid"], ended.json["skipped"], gateway.bill()["calls"]) == (1, 0, 1)
