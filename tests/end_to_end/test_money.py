"""Budgets hold, refused keys stop a run at once, equal requests get one answer, schemas are kept."""

import json
from decimal import Decimal

import pytest

from tests.support.gateways import ALL_FAMILIES, mavi, one, remote_sandbox, rows, says, spent, url_job

RUN = ("run", "--json", "--quiet")
SMALL = {"max_url_image_px": 1024}  # as the sandbox bills them


@pytest.fixture(scope="module")
def shared_gateway():
    with remote_sandbox(latency_s=0.005) as gateway:
        yield gateway


@pytest.fixture
def gateway(shared_gateway):
    shared_gateway.reset()
    return shared_gateway


def one_line(text):
    return " ".join(text.split())


# -- budget


@pytest.mark.parametrize(("concurrency", "budget"), [(1, "0.011"), (7, "0.02"), (64, "0.0333")])
def test_a_budget_is_never_exceeded_and_a_larger_one_goes_on_where_it_stopped(
    tmp_path, gateway, concurrency, budget
):
    limits = {"*": {"concurrency": concurrency}}
    job = url_job(
        tmp_path,
        120,
        gateway.base_url,
        models=ALL_FAMILIES[::3],
        limits=limits,
        budget_usd=budget,
        media=SMALL,
    )
    done = mavi("run", job, "--json")
    assert done.code == 4, done.err
    assert done.json["status"] == "stopped"
    assert done.json["stop_reason"] == "budget"
    charged = Decimal(gateway.bill()["total_usd"])
    assert Decimal(budget) / 2 < charged <= Decimal(budget)
    assert Decimal(done.json["cost_usd"]) == charged == spent(tmp_path / "out", "attempts")
    assert done.json["unsent"] == 240 - done.json["answered"] > 0
    assert f"{done.json['unsent']} requests were not sent" in one_line(done.err)
    assert "raise budget_usd" in one_line(done.err)
    assert "more, by what was answered" in one_line(done.err)
    again = mavi(*RUN, job, "--budget-usd", "50")
    assert (again.code, again.json["answered"]) == (0, done.json["unsent"]), again.err
    assert gateway.bill()["bodies"]["extra_payments"] == 0


def test_a_budget_holds_when_replies_are_lost_or_do_not_say_what_they_cost(tmp_path, gateway):
    gateway.faults(
        probabilities={"reset_after": 0.15, "truncated": 0.1, "no_usage": 0.15, "http_503": 0.1}, seed=3
    )
    limits = {"*": {"concurrency": 16}}
    job = url_job(tmp_path, 200, gateway.base_url, budget_usd="0.03", limits=limits, media=SMALL)
    done = mavi(*RUN, job)
    assert done.code == 4, done.err
    assert Decimal(gateway.bill()["total_usd"]) <= Decimal("0.03")
    known = Decimal(done.json["cost_usd"]) + Decimal(done.json["exposure_usd"])
    assert Decimal(gateway.bill()["total_usd"]) <= known <= Decimal("0.03")


@pytest.mark.parametrize("probability", [0.3, 1.0])
def test_a_budget_holds_when_a_gateway_bills_replies_that_say_nothing(tmp_path, gateway, probability):
    kinds = {"empty_text_billed": probability / 2, "empty_choices_billed": probability / 2}
    gateway.faults(probabilities=kinds, seed=5)
    limits = {"*": {"concurrency": 16}}
    job = url_job(tmp_path, 150, gateway.base_url, budget_usd="0.02", limits=limits, media=SMALL)
    done = mavi(*RUN, job)
    assert done.code == 4, done.err
    known = Decimal(done.json["cost_usd"]) + Decimal(done.json["exposure_usd"])
    assert 0 < Decimal(gateway.bill()["total_usd"]) <= known <= Decimal("0.02")
    assert one(tmp_path / "out", "attempts", "sum(exposure_usd)", "error_code = 'empty_answer'") > 0


def test_pictures_larger_than_expected_do_not_exceed_a_budget(tmp_path, gateway):
    (tmp_path / "big.csv").write_text(
        "item_id,media_url\n" + "".join(f"i{n},https://media.example/7900x5200/{n}.jpg\n" for n in range(300))
    )
    job = url_job(
        tmp_path, 1, gateway.base_url, manifest=str(tmp_path / "big.csv"), budget_usd="0.2",
        limits={"*": {"concurrency": 200}},
    )  # fmt: skip
    done = mavi(*RUN, job)
    assert done.code == 4, done.err
    assert Decimal("0.15") < Decimal(gateway.bill()["total_usd"]) <= Decimal("0.2")


def test_a_budget_that_stops_a_run_says_what_the_next_call_may_cost_and_what_is_left(tmp_path, gateway):
    job = url_job(tmp_path, 5, gateway.base_url, params={}, budget_usd="0.001")
    done = mavi("run", job, "--no-prefect")
    # 121 tiles of 258 tokens and 300 for the text at $0.30/M, an answer of 1,000 at $2.50/M
    assert "may cost $0.0119 (max_tokens 1000, up to 31,4" in one_line(done.out + done.err)
    assert "$0.001 is left: raise budget_usd, or set a lower max_tokens, or set media.max_url_image_px" in (
        one_line(done.out + done.err)
    )
    assert gateway.bill()["calls"] == 0


def test_thinking_of_each_of_several_choices_is_held_back_for(tmp_path, gateway):
    job = url_job(
        tmp_path, 60, gateway.base_url, models=["qwen:qwen3-vl-flash"], budget_usd="0.006",
        params={"max_tokens": 5, "n": 4, "enable_thinking": True, "thinking_budget": 200},
        limits={"*": {"concurrency": 64}},
    )  # fmt: skip
    done = mavi(*RUN, job)
    assert done.code == 4, done.err
    assert 0 < Decimal(gateway.bill()["total_usd"]) <= Decimal("0.006")


def test_a_budget_without_a_price_is_refused_before_anything_is_sent(tmp_path, gateway):
    job = url_job(tmp_path, 3, gateway.base_url, models=["gemini:gemini-9-unpriced"], budget_usd="1")
    done = mavi(*RUN, job)
    assert done.code == 2
    assert "gemini-9-unpriced" in done.err
    assert gateway.bill()["calls"] == 0


# -- the account


@pytest.mark.parametrize(
    ("kind", "reason", "hint"),
    [
        ("http_401", "unauthorized", "MAVI_API_KEY"),
        ("http_402", "no_balance", "top it up"),
        ("http_403", "forbidden", "allow-list"),
    ],
)
def test_a_refused_account_stops_the_run_at_once_and_nothing_is_lost(tmp_path, gateway, kind, reason, hint):
    limits = {"*": {"concurrency": 6}}
    job = url_job(tmp_path, 100, gateway.base_url, models=ALL_FAMILIES[:2], limits=limits)
    gateway.faults(script=["ok"] * 30, rules=[{"kind": kind}])
    done = mavi("run", job, "--json")
    assert (done.code, done.json["stop_reason"]) == (4, reason), done.err
    assert hint in one_line(done.err)
    assert done.json["answered"] == 30
    assert done.json["failed"] == 0
    assert gateway.bill()["faults"][kind] <= 12  # what two models had in flight
    gateway.faults()
    again = mavi(*RUN, job)
    assert (again.code, again.json["answered"], again.json["already_answered"]) == (0, 170, 30)


# -- one answer for equal requests


def test_the_same_media_under_many_names_is_asked_once_and_never_again(tmp_path, gateway):
    pictures = tmp_path / "media"
    pictures.mkdir()
    from PIL import Image

    for n in range(12):  # three different pictures
        Image.new("RGB", (32, 32), (n % 3 * 100, 0, 0)).save(pictures / f"{n:02}.png")
    job = url_job(tmp_path, 1, gateway.base_url, manifest="media", models=ALL_FAMILIES[:2])
    done = mavi(*RUN, job)
    out = tmp_path / "out"
    assert (done.code, done.json["answered"]) == (0, 24), done.err
    assert gateway.bill()["billed_calls"] == 6
    shared = rows(out, where="json_extract_string(extra, '$.shared_from') is not null")
    assert len(shared) == 18
    owners = {row["request_key"]: row for row in rows(out, where="cost_usd > 0")}
    for row in shared:
        owner = owners[json.loads(row["extra"])["shared_from"]]
        assert (row["cost_usd"], row["attempts"], row["input_tokens"]) == (0, 0, 0)
        assert (row["answer"], row["model"], row["media_sha256"]) == (
            owner["answer"], owner["model"], owner["media_sha256"]
        )  # fmt: skip
    assert spent(out, "results") == spent(out, "attempts") == Decimal(gateway.bill()["total_usd"])
    again = mavi(*RUN, job)
    assert (again.code, again.json["already_answered"], again.json["answered"]) == (0, 24, 0)
    assert gateway.bill()["billed_calls"] == 6
    assert one(out, "results", "count(*)") == 24


def test_copies_of_what_is_too_dear_are_skipped_like_it_not_left_unsent(tmp_path, gateway):
    from PIL import Image

    (tmp_path / "media").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (32, 32)).save(tmp_path / "media" / f"{name}.png")
    job = url_job(tmp_path, 1, gateway.base_url, manifest="media", max_cost_per_item_usd="0.000001")
    done = mavi(*RUN, job)
    assert (done.code, done.json["skipped"], done.json["unsent"]) == (3, 2, 0), done.err


def test_a_copy_that_comes_later_shares_the_answer_of_an_earlier_run(tmp_path, gateway):
    job = url_job(tmp_path, 5, gateway.base_url)
    assert mavi(*RUN, job).code == 0
    manifest = tmp_path / "items.csv"
    manifest.write_text(manifest.read_text() + "later,https://media.example/3.jpg\n")
    done = mavi(*RUN, job)
    assert (done.code, done.json["answered"], done.json["already_answered"]) == (0, 1, 5), done.err
    assert gateway.bill()["billed_calls"] == 5
    assert one(tmp_path / "out", "results", "answer", "item_id = 'later'") == one(
        tmp_path / "out", "results", "answer", "item_id = 'i3'"
    )


@pytest.mark.parametrize("status", [201, 206, 302, 999])
def test_a_whole_answer_under_a_strange_status_is_kept_and_never_paid_again(tmp_path, status):
    usage = {"prompt_tokens": 1000, "completion_tokens": 10}
    good = json.dumps({"choices": [{"message": {"content": "a cat"}}], "usage": usage}).encode()
    with says(good, status) as base_url:
        done = mavi(*RUN, url_job(tmp_path, 1, base_url, gateway={"base_url": base_url}))
    assert (done.code, done.json["answered"]) == (0, 1), done.err
    (row,) = rows(tmp_path / "out")
    assert (row["answer"], row["attempts"]) == ("a cat", 1)
    assert row["cost_usd"] == spent(tmp_path / "out", "attempts") == Decimal("0.000325")


@pytest.mark.parametrize("status", [500, 503])
def test_a_whole_answer_under_an_error_is_paid_for_every_time_it_comes(tmp_path, status):
    usage = {"prompt_tokens": 1000, "completion_tokens": 10}
    good = json.dumps({"choices": [{"message": {"content": "a cat"}}], "usage": usage}).encode()
    with says(good, status, then=(good, 200)) as base_url:
        done = mavi(*RUN, url_job(tmp_path, 1, base_url, gateway={"base_url": base_url}))
    assert (done.code, done.json["answered"]) == (0, 1), done.err
    assert one(tmp_path / "out", "results", "attempts") == 2
    assert spent(tmp_path / "out", "attempts") == Decimal("0.000650")  # twice 1000*0.30/1e6 + 10*2.50/1e6


# -- schemas

PET = {
    "type": "object",
    "properties": {"animal": {"type": "string"}, "legs": {"type": "integer"}, "wild": {"type": "boolean"}},
    "required": ["animal", "legs", "wild"],
    "additionalProperties": False,
}


def test_answers_that_fit_a_schema_come_as_json(tmp_path, gateway):
    job = url_job(
        tmp_path, 10, gateway.base_url, models=ALL_FAMILIES, answer_schema=PET, params={"max_tokens": 200}
    )
    done = mavi(*RUN, job)
    assert (done.code, done.json["answered"]) == (0, 40), done.err
    for row in rows(tmp_path / "out"):
        found = json.loads(row["answer_json"])
        assert (type(found["animal"]), type(found["legs"]), type(found["wild"])) == (str, int, bool)
    assert gateway.bill()["rejected"] == {}


def test_an_invalid_answer_is_repaired_once_counted_and_asked_again_only_when_told(tmp_path, gateway):
    # three tokens are not enough for a complete JSON object
    job = url_job(tmp_path, 6, gateway.base_url, answer_schema=PET, params={"max_tokens": 200})
    impossible = {**PET, "properties": {**PET["properties"], "legs": {"type": "integer", "not": {}}}}
    text = json.loads(job.read_text())
    job.write_text(json.dumps({**text, "answer_schema": impossible}))
    done = mavi(*RUN, job)
    out = tmp_path / "out"
    assert (done.code, done.json["invalid"]) == (3, 6), done.err
    assert one(out, "attempts", "count(*)") == gateway.bill()["billed_calls"] == 12  # each was repaired once
    assert {row["error_code"] for row in rows(out)} == {"invalid_answer"}
    assert spent(out, "attempts") == Decimal(gateway.bill()["total_usd"]) > spent(out, "results")
    again = mavi(*RUN, job)
    assert gateway.bill()["billed_calls"] == 12
    assert (again.json["already_answered"], again.json["models"][0]["invalid_before"]) == (6, 6)
    assert (again.code, "--retry-invalid" in again.err) == (3, False)  # --quiet
    assert "--retry-invalid" in mavi("run", "--no-prefect", job).out
    third = mavi(*RUN, "--retry-invalid", job)
    assert (third.code, gateway.bill()["billed_calls"]) == (3, 24), third.err


def test_an_answer_whose_repair_fails_is_kept_with_its_cost(tmp_path):
    usage = {"prompt_tokens": 1000, "completion_tokens": 10}
    unfit = json.dumps({"choices": [{"message": {"content": "a cat"}}], "usage": usage}).encode()
    with says(unfit, then=(b'{"error": {"code": 400, "message": "too long"}}', 400)) as base_url:
        job = url_job(tmp_path, 1, base_url, answer_schema=PET, gateway={"base_url": base_url})
        done = mavi(*RUN, job)
    assert (done.code, done.json["invalid"], done.json["failed"]) == (3, 1, 0), done.err
    (row,) = rows(tmp_path / "out")
    assert (row["answer"], row["error_code"], row["attempts"]) == ("a cat", "invalid_answer", 2)
    assert row["cost_usd"] == Decimal("0.000325")  # 1000*0.30/1e6 + 10*2.50/1e6
    assert spent(tmp_path / "out", "attempts") == Decimal("0.000325")


def test_an_answer_is_kept_when_the_run_stops_before_its_repair(tmp_path):
    usage = {"prompt_tokens": 1000, "completion_tokens": 10}
    unfit = json.dumps({"choices": [{"message": {"content": "a cat"}}], "usage": usage}).encode()
    with says(unfit, then=(b'{"error": {"code": 402, "message": "no balance"}}', 402)) as base_url:
        job = url_job(tmp_path, 1, base_url, answer_schema=PET, gateway={"base_url": base_url})
        done = mavi(*RUN, job)
    assert (done.code, done.json["invalid"], done.json["unsent"]) == (4, 1, 0), done.err
    (row,) = rows(tmp_path / "out")
    assert (row["answer"], row["cost_usd"]) == ("a cat", Decimal("0.000325"))


# -- costs beyond the columns

HUGE = {"gemini:gemini-2.5-flash": {"input_usd_per_mtok": 6000, "output_usd_per_mtok": 6000}}


@pytest.mark.parametrize(("budget", "max_tokens"), [(None, 2_000_000_000), ("999999", 100)])
def test_a_cost_beyond_what_a_column_holds_is_unknown_and_told_and_the_answer_is_kept(
    tmp_path, budget, max_tokens
):
    usage = {"prompt_tokens": 10**9, "completion_tokens": 10**9}
    body = json.dumps({"choices": [{"message": {"content": "a cat"}}], "usage": usage}).encode()
    small = {"prompt_tokens": 1000, "completion_tokens": 10}
    modest = json.dumps({"choices": [{"message": {"content": "a dog"}}], "usage": small}).encode()
    with says(body, then=(modest, 200)) as base_url:
        job = url_job(
            tmp_path, 3, base_url, prices=HUGE, gateway={"base_url": base_url}, budget_usd=budget,
            params={"max_tokens": max_tokens}, limits={"*": {"concurrency": 1}},
        )  # fmt: skip
        done = mavi(*RUN, job)
        again = mavi(*RUN, job)
    out = tmp_path / "out"
    assert "Traceback" not in done.err + again.err
    assert again.code == 0, again.err
    assert done.json["answered"] + again.json["answered"] == 3
    found = rows(out, where="answer = 'a cat'")
    assert [(row["cost_usd"], row["input_tokens"]) for row in found] == [(None, 10**9)]
    assert "12,000,000" in json.loads(found[0]["extra"])["cost_beyond_column"]
    assert {row["cost_usd"] for row in rows(out, where="answer = 'a dog'")} == {Decimal("6.06")}
    for table in ("attempts", "runs", "results"):
        assert rows(out, table)
    assert mavi("status", out, "--json").code == mavi("costs", out, "--json").code == 0
    assert not list((out / "_journal").glob("*.sealed"))
