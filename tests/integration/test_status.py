"""`mavi status`: what there is by model and by code, what waits, how far a run is; and `mavi run --only`."""

import csv
import json
import os
import pty
import re
import signal
import subprocess
import sys

import pytest

import mavi_tasks
from tests.support.gateways import (
    ALL_FAMILIES,
    ended,
    environment,
    kill,
    mavi,
    remote_sandbox,
    start,
    url_job,
    wait_for,
    write_job,
)

RUN = ("run", "--quiet", "--json")
FIRST, SECOND = ALL_FAMILIES[0], ALL_FAMILIES[3]
REFUSED = "errored_filter"  # a fault that is final: the row fails


@pytest.fixture(scope="module")
def gateway():
    with remote_sandbox() as remote:
        yield remote


@pytest.fixture(scope="module")
def slow():
    with remote_sandbox(latency_s=0.1) as remote:
        yield remote


@pytest.fixture
def failed(gateway, tmp_path):
    """A job of which 3 of 20 rows failed; the next answers are good."""
    gateway.reset()
    gateway.faults(script=[REFUSED] * 3)
    job = url_job(tmp_path, 20, gateway.base_url)
    assert mavi(*RUN, job).code == 3
    gateway.faults()
    return job


def out(job):
    return job.parent / "out"


def status(job, *more):
    return mavi("status", out(job), "--json", *more).json


def live(job):
    """The one run that has not ended, when it has a plan; else None."""
    if not out(job).is_dir():
        return None
    found = mavi("status", out(job), "--json")
    runs = found.json["live"] if found.code == 0 else []
    return runs[0] if runs and runs[0]["stage"] == "sending" else None


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# -- by model and by code


def test_rows_are_counted_by_model_and_by_code(gateway, tmp_path):
    gateway.faults(rules=[{"kind": REFUSED, "model": SECOND}])
    job = url_job(tmp_path, 5, gateway.base_url, models=[FIRST, SECOND])
    mavi(*RUN, job)
    gateway.faults()
    found = status(job)
    counts = {one["model"]: (one["answered"], one["failed"], one["waiting"]) for one in found["models"]}
    assert counts == {FIRST: (5, 0, 0), SECOND: (0, 5, 0)}
    (code,) = found["codes"]
    assert (code["model"], code["status"], code["rows"]) == (SECOND, "failed", 5)
    assert code["code"]
    assert code["message"]
    assert (found["answered"], found["failed"], found["waiting"]) == (5, 5, 0)
    shown = mavi("status", out(job)).out
    assert re.search(rf"{SECOND} +failed +{code['code']} .* 5\b", shown)


def test_what_a_budget_left_unsent_waits(gateway, tmp_path):
    job = url_job(tmp_path, 20, gateway.base_url, budget_usd="0.004")
    report = mavi(*RUN, job)
    assert report.code == 4
    found = status(job)
    assert found["waiting"] == report.json["unsent"] > 0
    assert found["waiting"] + found["answered"] == 20
    assert [one["waiting"] for one in found["models"]] == [found["waiting"]]


def test_every_model_adds_up_to_the_whole(gateway, tmp_path):
    gateway.faults(rules=[{"kind": REFUSED, "probability": 0.3}])
    job = url_job(tmp_path, 20, gateway.base_url, models=[FIRST, SECOND])
    mavi(*RUN, job)
    gateway.faults()
    found = status(job)
    names = ("answered", "failed", "invalid", "skipped", "waiting", "in_doubt", "in_flight")
    for name in names:
        assert sum(one[name] for one in found["models"]) == found[name]
    assert sum(one["rows"] for one in found["codes"]) == found["failed"] + found["invalid"] + found["skipped"]


# -- while a run goes on, and after a kill


def test_a_running_run_tells_how_far_it_is_its_rate_and_when_it_is_done(slow, tmp_path):
    job = url_job(tmp_path, 2000, slow.base_url, limits={"*": {"concurrency": 8}})
    process = start(*RUN, job)
    try:
        run = wait_for(lambda: (found := live(job)) and found["rate_per_s"] > 0 and found)
        assert run["state"] == "running"
        assert 0 < run["done"] < run["requests"] == 2000
        assert run["done_at"] > run["updated_at"]
        found = status(job)
        done = found["answered"]
        assert found["waiting"] == 2000 - found["live"][0]["done"]
        assert found["live"][0]["done"] >= done
        shown = mavi("status", out(job)).out
        assert re.search(r"\d+ of 2,000, [\d.]+/s, done (\w+ \d+ )?\d\d:\d\d", shown), shown
    finally:
        kill(process)


def test_a_killed_run_is_gone_and_what_it_left_waits_until_it_is_run_again(slow, gateway, tmp_path):
    job = url_job(tmp_path, 600, slow.base_url, limits={"*": {"concurrency": 4}})
    process = start(*RUN, job)
    wait_for(lambda: (found := live(job)) and found["done"] > 3)
    kill(process)
    found = status(job)
    assert [run["state"] for run in found["live"]] == ["gone"]
    assert found["waiting"] == 600 - found["answered"] > 0
    assert found["live"][0]["done_at"] is None
    assert "process gone" in mavi("status", out(job)).out
    mavi_tasks.costs([out(job)])  # publishes what the dead run left: its row says crashed from here on
    again = status(job)
    assert again["live"] == []
    assert again["run_rows"][-1]["status"] == "crashed"
    assert (again["waiting"], again["answered"]) == (found["waiting"], found["answered"])
    assert "process gone" in mavi("status", out(job)).out
    url_job(tmp_path, 600, gateway.base_url)  # the same gateway by its name, and quick
    assert mavi(*RUN, job).code == 0
    last = status(job)
    assert (last["live"], last["waiting"], last["answered"]) == ([], 0, 600)
    assert "process gone" not in mavi("status", out(job)).out
    assert list((out(job) / "_progress").iterdir()) == []


def test_worker_processes_are_told_as_one_run(slow, tmp_path):
    job = url_job(
        tmp_path, 2000, slow.base_url, limits={"*": {"concurrency": 8}}, workers=2, runner="processes",
        shard_size=20,
    )  # fmt: skip
    process = start(*RUN, job)
    try:
        run = wait_for(lambda: (found := live(job)) and found["done"] > 0 and found)
        assert run["requests"] == 2000
    finally:
        kill(process)


def test_a_dataset_that_cannot_be_written_is_read_all_the_same(failed):
    before = status(failed)
    (out(failed) / "_progress" / "x.json").write_text("{")
    assert status(failed) == before


# -- what failed, and asking it again


def test_failed_rows_are_listed_and_written_with_item_media_model_code_and_message(failed, tmp_path):
    target = tmp_path / "failed.csv"
    told = mavi("status", out(failed), "--failed", "--to", target)
    assert (told.code, told.out) == (0, f"3 rows -> {target}\n")
    rows = rows_of(target)
    assert [row["status"] for row in rows] == ["failed"] * 3
    for row in rows:
        assert row["item_id"]
        assert row["media_uri"] == f"https://media.example/{row['item_id'][1:]}.jpg"
        assert (row["model"], row["prompt_id"]) == (FIRST, "p")
        assert row["error_code"]
        assert row["error_message"]
    shown = mavi("status", out(failed), "--failed").out
    assert all(row["item_id"] in shown and row["error_code"] in shown for row in rows)
    listed = status(failed, "--failed")["failed_rows"]
    assert [row["item_id"] for row in listed] == [row["item_id"] for row in rows]


@pytest.mark.parametrize("by_file", [False, True], ids=["failed", "FILE.csv"])
def test_only_what_failed_is_asked_again(failed, gateway, tmp_path, by_file):
    target = tmp_path / "failed.csv"
    mavi("status", out(failed), "--failed", "--to", target)
    (tmp_path / "items.csv").write_text(
        (tmp_path / "items.csv").read_text() + "new,https://media.example/new.jpg\n"
    )
    before = gateway.bill()["calls"]
    plan = mavi("plan", failed, "--only", target if by_file else "failed", "--json").json
    assert (plan["requests"], plan["to_send"]) == (3, 3)
    again = mavi(*RUN, failed, "--only", target if by_file else "failed")
    assert (again.code, again.json["answered"], again.json["requests"]) == (0, 3, 3)
    assert gateway.bill()["calls"] == before + 3
    assert (status(failed)["failed"], status(failed)["answered"]) == (0, 20)
    assert mavi(*RUN, failed).json["answered"] == 1  # the new item


def test_an_answer_is_never_paid_again_by_naming_it(failed, gateway, tmp_path):
    named = tmp_path / "some.csv"
    named.write_text(f"item_id,model,prompt_id\ni19,{FIRST},p\n")
    before = gateway.bill()["calls"]
    again = mavi(*RUN, failed, "--only", named)
    assert (again.code, again.json["already_answered"]) == (0, 1)
    assert gateway.bill()["calls"] == before


def test_a_run_of_failed_rows_leaves_what_waits_as_it_was(gateway, tmp_path):
    gateway.faults(script=[REFUSED] * 2)
    job = url_job(tmp_path, 20, gateway.base_url, budget_usd="0.004")
    mavi(*RUN, job)
    gateway.faults()
    waiting = status(job)["waiting"]
    assert waiting > 0
    assert mavi(*RUN, job, "--only", "failed").code == 0
    assert status(job)["waiting"] == waiting


def test_nothing_failed_is_nothing_asked(gateway, tmp_path):
    job = url_job(tmp_path, 2, gateway.base_url)
    mavi("run", job)
    again = mavi("run", job, "--only", "failed")
    assert again.code == 0
    assert "there are no such rows" in again.err


def test_only_what_was_skipped_is_looked_at_again(gateway, tmp_path):
    (tmp_path / "items.csv").write_text(
        "item_id,media_url\na,https://media.example/a.jpg\nb,https://media.example/b.mp4\n"
    )
    job = write_job(
        tmp_path,
        manifest="items.csv",
        prompts={"p": "What is it?"},
        models=[SECOND],
        params={"max_tokens": 50},
        gateway={"name": "sandbox", "base_url": gateway.base_url},
        output="out",
    )
    mavi(*RUN, job)
    found = status(job)
    again = mavi(*RUN, job, "--only", "skipped")
    assert (found["skipped"], found["answered"]) == (1, 1)
    assert (again.json["requests"], again.json["skipped"]) == (1, 1)


WRONG_FILES = {
    "no column": ("item_id,model\ni1,M\n", [":1:", "prompt_id"]),
    "unknown model": ("item_id,model,prompt_id\ni1,gemini:gemini-2.5-flsh,p\n", [":2:", "model", FIRST]),
    "unknown prompt": (f"item_id,model,prompt_id\n\ni1,{FIRST},q\n", [":3:", "prompt_id", "'q'"]),
    "empty item": (f"item_id,model,prompt_id\n,{FIRST},p\n", [":2:", "item_id", "empty"]),
    "item of no manifest": (f"item_id,model,prompt_id\nx9,{FIRST},p\n", [":2:", "item_id", "'x9'"]),
    "ragged": (f"item_id,model,prompt_id\ni1,{FIRST}\n", [":2:", "2 columns"]),
    "no rows": ("item_id,model,prompt_id\n", ["no rows"]),
    "empty file": ("", ["empty"]),
    "semicolons": (f"item_id;model;prompt_id\ni1;{FIRST};p\n", [":1:", "';'"]),
    "not text": ("item_id,model,prompt_id\n\udcff\udcfe,x,p\n", [":2:", "UTF-8"]),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_a_wrong_file_of_rows_is_told_by_line_and_column(failed, gateway, tmp_path, name):
    text, words = WRONG_FILES[name]
    path = tmp_path / "rows.csv"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    before = gateway.bill()["calls"]
    told = mavi(*RUN, failed, "--only", path)
    assert told.code == 2, told.err
    assert "rows.csv" in told.err
    assert [word for word in words if word not in told.err] == []
    assert "Traceback" not in told.err
    assert gateway.bill()["calls"] == before


def test_rows_that_the_manifest_has_lost_are_told_and_the_others_asked(failed, tmp_path):
    target = tmp_path / "failed.csv"
    mavi("status", out(failed), "--failed", "--to", target)
    gone = rows_of(target)[0]["item_id"]
    items = tmp_path / "items.csv"
    lines = items.read_text().splitlines(keepends=True)
    items.write_text("".join(line for line in lines if not line.startswith(f"{gone},")))
    again = mavi("run", failed, "--only", target, "--json")
    assert (again.code, again.json["answered"]) == (0, 2)
    assert f"1 of 3 rows are not asked; the first:2: item_id '{gone}'" in again.err


def test_a_misspelt_only_says_what_there_is(failed):
    told = mavi(*RUN, failed, "--only", "faild")
    assert told.code == 2
    assert "--only faild: is neither failed, skipped nor a file" in told.err


FORMULAS = ("=1+1", "@x", "'=1+1", "-2", "\t=x", "it's")


def test_ids_that_a_spreadsheet_would_run_come_back_as_they_were(gateway, tmp_path):
    with (tmp_path / "items.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [
                ("item_id", "media_url"),
                *((one, f"https://media.example/{at}.jpg") for at, one in enumerate(FORMULAS)),
            ]
        )
    job = write_job(
        tmp_path,
        manifest="items.csv",
        prompts={"p": "What is it?"},
        models=[FIRST],
        params={"max_tokens": 50},
        gateway={"name": "sandbox", "base_url": gateway.base_url},
        output="out",
    )
    gateway.faults(rules=[{"kind": REFUSED}])
    mavi(*RUN, job)
    gateway.faults()
    target = tmp_path / "failed.csv"
    mavi("status", out(job), "--failed", "--to", target)
    assert not [row for row in rows_of(target) if row["item_id"].strip()[0] in "=@-"]
    assert mavi(*RUN, job, "--only", target).json["answered"] == len(FORMULAS)


# -- watching


def test_watching_prints_once_where_there_is_no_terminal(slow, tmp_path):
    job = url_job(tmp_path, 2000, slow.base_url, limits={"*": {"concurrency": 4}})
    process = start(*RUN, job)
    try:
        wait_for(lambda: live(job))
        watched = mavi("status", out(job), "--watch")
        assert (watched.code, watched.out.count(" of 2,000")) == (0, 1)
        assert "\x1b" not in watched.out
        assert process.poll() is None
    finally:
        kill(process)


def test_watching_shows_a_run_on_a_terminal_until_it_ends(slow, tmp_path):
    job = url_job(tmp_path, 2000, slow.base_url, limits={"*": {"concurrency": 4}})
    process = start(*RUN, job)
    wait_for(lambda: live(job))
    screen, terminal = pty.openpty()
    command = [sys.executable, "-m", "mavi_tasks", "status", str(out(job)), "--watch"]
    watching = subprocess.Popen(
        command, stdout=terminal, stderr=terminal, env=environment(TERM="xterm", COLUMNS="160")
    )
    os.close(terminal)
    text, interrupted = b"", False
    try:
        while block := os.read(screen, 65536):
            text += block
            counts = [int(found) for found in re.findall(rb"(\d+) of 2,000", text)]
            if len(set(counts)) > 2 and not interrupted:
                process.send_signal(signal.SIGINT)  # the run ends, and so does the watching
                interrupted = True
    except OSError:  # Linux: the other end is closed
        pass
    finally:
        os.close(screen)
    assert watching.wait(30) == 0
    assert ended(process).code == 130
    assert len(set(counts)) > 2
    assert counts == sorted(counts)
    assert b"interrupted" in text


# -- from Python


def test_python_has_the_same(failed, gateway):
    found = mavi_tasks.status(out(failed))
    assert (found.running, found.waiting) == (False, 0)
    assert found.to_json() == status(failed)
    assert list(found.failed["status"]) == ["failed"] * 3
    assert repr(found) == "<DatasetStatus 17 answered, 3 failed>"
    assert mavi_tasks.plan(failed, only="failed").to_send == 3
    again = mavi_tasks.run(failed, only="failed")
    assert again.report.total("answered") == 3
    assert json.loads(json.dumps(mavi_tasks.status(again).to_json()))["failed"] == 0


def test_options_that_do_not_go_together_are_refused(failed):
    for arguments, words in (
        (("--to", "x.csv"), "give --failed, too"),
        (("--failed", "--watch"), "give one of them"),
        (("--failed", "--to", "x.xml"), "must end in .parquet, .csv, .jsonl"),
    ):
        told = mavi("status", out(failed), *arguments)
        assert (told.code, words in told.err) == (2, True), told.err
