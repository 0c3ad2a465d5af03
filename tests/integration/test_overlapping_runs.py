"""Runs that overlap, folders that fail, signals: nothing is lost, nothing is paid twice."""

import asyncio
import json
import os
import shutil
import signal
import time
from types import SimpleNamespace

import pytest

from mavi_tasks.execution import local
from mavi_tasks.execution.run import send_here
from mavi_tasks.storage.publish import Dataset
from mavi_tasks.storage.request_locks import RequestLocks, SegmentFollower
from tests.support.gateways import (
    ALL_FAMILIES,
    ended,
    kill,
    mavi,
    one,
    remote_sandbox,
    rows,
    says,
    spent,
    start,
    url_job,
    wait_for,
    write_job,
)
from tests.support.rows import attempt, intent, key, open_journal, result

RUN = ("run", "--json", "--quiet")


@pytest.fixture(scope="module", autouse=True)
def outage(tmp_path_factory):
    """A run against a model that is down, begun first: it is probed for half a minute, then given up."""
    folder = tmp_path_factory.mktemp("outage")
    with remote_sandbox() as gateway:
        gateway.faults(rules=[{"kind": "http_503", "model": ALL_FAMILIES[1]}])
        job = job_of(folder, gateway, 60, models=ALL_FAMILIES[:3])
        process = start("run", job, "--json")
        yield folder / "out", job, gateway, process
        process.kill()
        process.communicate()


@pytest.fixture(scope="module", autouse=True)
def astray(tmp_path_factory):
    """A run whose base URL is wrong, begun first likewise."""
    not_found = b'{"status": 404, "error": "Not Found"}'
    with says(not_found, 404, Content_Type="application/json") as base_url:
        limits = {"*": {"concurrency": 4}}
        job = url_job(tmp_path_factory.mktemp("astray"), 500, base_url, limits=limits)
        process = start("run", job, "--json")
        yield process
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def slow_gateway():
    """Every call takes 20 ms, so that runs overlap."""
    with remote_sandbox(latency_s=0.02, hang_s=60) as gateway:
        yield gateway


@pytest.fixture
def gateway(slow_gateway):
    slow_gateway.reset()
    return slow_gateway


def job_of(tmp_path, gateway, count, **fields):
    limits = {"*": {"concurrency": 8}}
    return url_job(
        tmp_path, count, gateway.base_url, limits=limits, prompts={"p": "{{ item_id }}?"}, **fields
    )


def answered(out):
    return {row["request_key"] for row in rows(out, where="status = 'answered'")}


# -- two runs


def test_two_runs_of_one_job_together_pay_for_nothing_twice(tmp_path, gateway):
    job = job_of(tmp_path, gateway, 250)
    both = [start(*RUN, job), start(*RUN, job)]
    told = [ended(process) for process in both]
    assert [one.code for one in told] == [0, 0], [one.err for one in told]
    assert gateway.bill()["bodies"]["extra_payments"] == 0
    assert [one.json["unsent"] for one in told] == [0, 0]
    assert sum(one.json["answered"] for one in told) == 250
    assert one(tmp_path / "out", "results", "count(*)") == len(answered(tmp_path / "out")) == 250


def test_what_a_killed_run_was_asking_the_other_one_asks(tmp_path, gateway):
    job = job_of(tmp_path, gateway, 300)
    out = tmp_path / "out"
    victim, other = start(*RUN, job), start(*RUN, job)
    wait_for(lambda: len(list((out / "_journal").glob("*.jsonl"))) == 2 and gateway.bill()["calls"] > 60)
    kill(victim)
    assert ended(other).code == 0
    last = mavi(*RUN, job)  # publishes what the dead one left; has nothing to ask
    assert (last.code, last.json["already_answered"]) == (0, 300)
    crashed = one(out, "attempts", "count(*)", "error_code = 'crashed'")
    assert gateway.bill()["bodies"]["extra_payments"] <= crashed <= 8
    assert one(out, "results", "count(*)") == len(answered(out)) == 300
    assert {row["status"] for row in rows(out, "runs")} == {"finished", "crashed"}


def test_an_answer_published_by_a_run_that_came_and_went_between_two_looks_is_seen(tmp_path):
    store = Dataset(tmp_path)
    store.create()
    claims = RequestLocks(tmp_path, "me-w0")
    claims.start_watching()
    book = open_journal(tmp_path, writer="other-w0", run_id="other")
    book.intend(intent(1))
    book.record(attempt(1), result(1))
    book.close()
    assert store.publish() == 1  # no trace of it is left in the journal
    assert claims.answered_elsewhere(key(1))
    assert not claims.answered_elsewhere(key(2))
    claims.close()


def test_a_segment_that_appears_right_after_a_look_is_seen_at_the_next(tmp_path):
    Dataset(tmp_path).create()
    claims = RequestLocks(tmp_path, "me-w0")
    claims.start_watching()
    for number in range(50):  # within one tick of a coarse file system clock
        claims.answered_elsewhere(key(-1))
        book = open_journal(tmp_path, writer=f"other{number}-w0", run_id=f"other{number}")
        book.record(attempt(number), result(number))
        assert claims.answered_elsewhere(key(number)), number
        book.close()
    claims.close()


def test_a_segment_that_is_published_between_a_look_and_its_reading_is_seen(tmp_path, monkeypatch):
    store = Dataset(tmp_path)
    store.create()
    claims = RequestLocks(tmp_path, "me-w0")
    claims.start_watching()
    book = open_journal(tmp_path, writer="other-w0", run_id="other")
    assert not claims.answered_elsewhere(key(1))
    book.record(attempt(1), result(1))
    read = SegmentFollower._read_lines

    def too_late(tail, answered):
        book.close()
        store.publish()
        read(tail, answered)

    monkeypatch.setattr(SegmentFollower, "_read_lines", too_late)
    assert claims.answered_elsewhere(key(1))
    claims.close()


def test_an_invalid_answer_that_another_run_paid_for_is_not_paid_again(tmp_path):
    Dataset(tmp_path).create()
    claims = RequestLocks(tmp_path, "me-w0")
    claims.start_watching()
    book = open_journal(tmp_path, writer="other-w0", run_id="other")
    book.record(attempt(1), result(1, status="invalid"))
    book.record(attempt(2), result(2, status="failed"))
    assert claims.answered_elsewhere(key(1))
    assert not claims.answered_elsewhere(key(2))
    book.close()
    claims.close()


def test_two_runs_together_share_one_answer_once(tmp_path, gateway):
    manifest = tmp_path / "same.csv"
    manifest.write_text(
        "item_id,media_url\n" + "".join(f"i{n},https://media.example/{n % 40}.jpg\n" for n in range(200))
    )
    job = url_job(tmp_path, 1, gateway.base_url, manifest=str(manifest))
    both = [start(*RUN, job), start(*RUN, job)]
    told = [ended(process) for process in both]
    assert [one.code for one in told] == [0, 0], [one.err for one in told]
    assert gateway.bill()["billed_calls"] == 40
    assert one(tmp_path / "out", "results", "count(*)") == 200
    assert one(tmp_path / "out", "results", "count(distinct item_id)") == 200


# -- signals


def test_ctrl_c_once_waits_for_what_is_in_flight_publishes_and_ends_130(tmp_path, gateway):
    job = job_of(tmp_path, gateway, 300)
    process = start("run", job, "--json")
    wait_for(lambda: gateway.bill()["calls"] > 30)
    process.send_signal(signal.SIGINT)
    done = ended(process)
    assert done.code == 130, done.err
    assert done.json["status"] == "interrupted"
    assert "Traceback" not in done.err
    assert "run the same command again" in " ".join(done.err.split())
    out = tmp_path / "out"
    bill = gateway.bill()
    assert bill["billed_calls"] == done.json["answered"] == one(out, "results", "count(*)")
    assert one(out, "attempts", "count(*)", "outcome <> 'answered'") == 0  # waited for, not thrown away
    assert not list((out / "_journal").glob("*.jsonl"))
    again = mavi(*RUN, job)
    assert (again.code, again.json["already_answered"]) == (0, done.json["answered"])
    assert gateway.bill()["bodies"]["extra_payments"] == 0


def test_ctrl_c_twice_stops_at_once_and_the_next_run_goes_on(tmp_path, gateway):
    job = job_of(tmp_path, gateway, 60)
    gateway.faults(script=["ok"] * 20 + ["hang"] * 8)
    process = start("run", job, "--json")
    wait_for(lambda: gateway.bill()["calls"] >= 28)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    done = ended(process, timeout_s=30)  # the replies would take a minute
    assert done.code == 130, done.err
    assert "Traceback" not in done.err
    in_doubt = rows(tmp_path / "out", "attempts", where="outcome = 'in_doubt'")
    assert {row["error_code"] for row in in_doubt} == {"interrupted"}
    assert all(row["exposure_usd"] > 0 for row in in_doubt)
    gateway.faults()
    again = mavi(*RUN, job)
    assert again.code == 0, again.err
    assert again.json["answered"] + again.json["already_answered"] == 60


def test_ctrl_c_before_anything_is_sent_ends_at_once_without_a_traceback():
    async def opening(*_):
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)

    limiters = SimpleNamespace(by_model={})
    run = SimpleNamespace(all_counters=[], limiters=limiters, dispatcher=None, dispatch=opening)
    with pytest.raises(KeyboardInterrupt), asyncio.Runner() as runner:
        runner.run(local.dispatch_run(run, send_here, local.SILENT))


# -- the disk


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused_before_anything_is_sent(tmp_path, gateway):
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o500)
    done = mavi(*RUN, job_of(tmp_path, gateway, 5))
    assert done.code == 4
    assert "--out" in done.err
    assert gateway.bill()["calls"] == 0


def test_a_torn_line_and_foreign_files_do_not_stop_the_next_run(tmp_path, gateway):
    job, out = job_of(tmp_path, gateway, 200), tmp_path / "out"
    victim = start(*RUN, job)
    wait_for(lambda: gateway.bill()["calls"] > 60)
    kill(victim)
    segment = next((out / "_journal").glob("*.jsonl"))
    segment.write_bytes(segment.read_bytes()[:-7])
    for folder in ("_journal", "_staging", "_plan", "."):
        (out / folder / "notes from me.txt").write_text("do not touch")
    (out / "_journal" / "foreign.jsonl").write_text("{}\n")
    done = mavi(*RUN, job)
    assert done.code == 0, done.err
    assert one(out, "results", "count(*)") == len(answered(out)) == 200
    crashed = one(out, "attempts", "count(*)", "error_code = 'crashed'")
    assert gateway.bill()["bodies"]["extra_payments"] <= crashed + 1  # what the torn line told of is gone
    assert (out / "_journal" / "notes from me.txt").read_text() == "do not touch"
    assert (out / "_journal" / "foreign.jsonl").exists()


def test_a_damaged_line_costs_that_line_only_and_nothing_is_paid_again_unasked(tmp_path, gateway):
    job, out = job_of(tmp_path, gateway, 200), tmp_path / "out"
    victim = start(*RUN, job)
    wait_for(lambda: gateway.bill()["calls"] > 60)
    kill(victim)
    segment = next((out / "_journal").glob("*.jsonl"))
    lines = segment.read_bytes().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if b'"t":"o"' in line)
    lines[at] = lines[at].replace(b"answered", b"answerEd", 1)
    segment.write_bytes(b"".join(lines))
    calls = gateway.bill()["calls"]
    for _ in range(2):
        refused = mavi(*RUN, job)
        assert refused.code == 4, refused.err
        assert segment.stem in refused.err
        assert "--pay-again" in refused.err
    assert gateway.bill()["calls"] == calls
    status = mavi("status", out, "--json")
    assert (status.json["quarantined"], len(status.json["broken"])) == (1, 1)
    assert mavi("plan", job).code == 3
    done = mavi(*RUN, job, "--pay-again")
    assert done.code == 0, done.err
    assert len(answered(out)) == 200
    assert mavi(*RUN, job).code == 0


def test_a_broken_part_is_not_paid_again_unasked_and_stays_in_quarantine(tmp_path, gateway):
    job, out = job_of(tmp_path, gateway, 20), tmp_path / "out"
    assert mavi(*RUN, job).code == 0
    (part,) = (out / "results").rglob("*.parquet")
    part.write_bytes(part.read_bytes()[:-200])
    refused = mavi(*RUN, job)
    assert (refused.code, gateway.bill()["calls"]) == (4, 20)
    assert str(part.relative_to(tmp_path)) in refused.err
    assert mavi(*RUN, job, "--pay-again").code == 0
    assert (len(answered(out)), gateway.bill()["calls"]) == (20, 40)
    assert (out / "_quarantine" / "settled" / part.relative_to(out)).exists()


def test_a_folder_removed_during_a_run_is_not_said_to_lose_nothing(tmp_path, gateway):
    job, out = job_of(tmp_path, gateway, 500), tmp_path / "out"
    running = start(*RUN, job)
    wait_for(lambda: gateway.bill()["calls"] > 60)
    shutil.rmtree(out, ignore_errors=True)
    done = ended(running)
    assert done.code == 4, done.err
    assert "lost" in done.err
    assert "nothing is lost" not in done.out + done.err
    assert "Traceback" not in done.err


def test_hundreds_of_segments_are_published_whole(tmp_path):
    """One row a segment, as many short runs leave it; the index reads them all before and after."""
    from mavi_tasks.storage.answered_index import AnsweredIndex

    store = Dataset(tmp_path)
    store.create()
    book = open_journal(tmp_path)
    for number in range(300):
        book.record(attempt(number), result(number))
        book.roll()
    book.close()
    assert len(AnsweredIndex.read(tmp_path)) == 300
    assert store.publish() == 300 + 1  # the last one has a header only
    assert len(AnsweredIndex.read(tmp_path)) == 300
    assert one(tmp_path, "results", "count(distinct request_key)") == 300


def test_the_plans_of_dead_runs_are_removed_and_those_of_living_ones_are_not(tmp_path, gateway):
    job, out = job_of(tmp_path, gateway, 2000), tmp_path / "out"
    victim, living = start(*RUN, job), start(*RUN, job)
    wait_for(lambda: len(list((out / "_plan").glob("*/"))) == 2 and gateway.bill()["calls"] > 30)
    kill(victim)
    assert (
        mavi(
            "run",
            write_job(tmp_path, "other.json.yaml", **json.loads(job.read_text()) | {"limit": 1}),
            "--quiet",
        ).code
        == 0
    )
    assert len(list((out / "_plan").glob("*/"))) == 1
    assert living.poll() is None
    living.send_signal(signal.SIGINT)
    assert ended(living).code == 130
    assert list((out / "_plan").glob("*")) == []


# -- models


def test_a_model_that_does_not_exist_there_ends_alone(tmp_path, gateway):
    job = job_of(tmp_path, gateway, 20, models=ALL_FAMILIES[:2])
    gateway.faults(rules=[{"kind": "model_not_found", "model": ALL_FAMILIES[0]}])
    done = mavi("run", job, "--json")
    assert done.code == 3, done.err
    models = {model["model"]: model for model in done.json["models"]}
    assert (models[ALL_FAMILIES[0]]["answered"], models[ALL_FAMILIES[1]]["answered"]) == (0, 20)
    assert "model not found" in done.err
    assert gateway.bill()["models"][ALL_FAMILIES[0]]["calls"] <= 8


def test_models_with_different_limits_all_finish_within_them(tmp_path, gateway):
    limits = {ALL_FAMILIES[0]: {"concurrency": 2}, ALL_FAMILIES[1]: {"concurrency": 5}}
    job = url_job(tmp_path, 60, gateway.base_url, limits=limits, models=ALL_FAMILIES[:2])
    done = mavi(*RUN, job)
    assert done.code == 0, done.err
    most = {name: model["in_flight_max"] for name, model in gateway.bill()["models"].items()}
    assert most[ALL_FAMILIES[0]] <= 2
    assert most[ALL_FAMILIES[1]] <= 5


def test_one_model_that_is_down_is_given_up_and_the_others_finish(outage):
    out, job, gateway, process = outage
    done = ended(process)
    assert done.code == 3, done.err
    models = {model["model"]: model for model in done.json["models"]}
    assert [models[name]["answered"] for name in ALL_FAMILIES[:3]] == [60, 0, 60]
    assert models[ALL_FAMILIES[1]]["stopped"] is not None
    assert ALL_FAMILIES[1] in done.err
    assert "was stopped after repeated failures" in done.err
    assert "run the same command again" in " ".join(done.err.split())
    gateway.faults()
    again = mavi(*RUN, job)
    assert again.code == 0, again.err
    assert len(answered(out)) == 180
    assert spent(out, "attempts") == spent(out, "results")


def test_a_pause_longer_than_any_request_may_wait_ends_the_model(tmp_path):
    body = b'{"error": {"code": 429, "message": "daily quota"}}'
    with says(body, 429, Retry_After="7200") as base_url:
        job = url_job(tmp_path, 3, base_url, gateway={"base_url": base_url})
        done = mavi(*RUN, job)
    assert done.code == 4, done.err
    assert done.json["failed"] + done.json["unsent"] == 3
    assert "7,200 s" in done.json["message"] and "daily quota" in done.json["message"]


def test_a_wrong_base_url_does_not_cost_a_call_for_every_row(astray):
    done = ended(astray)
    assert done.code == 4, done.err
    assert done.json["failed"] < 30
    assert done.json["unsent"] == 500 - done.json["failed"]
    assert "is the base URL right?" in " ".join(done.err.split())
