"""The flows under a real Prefect server: they end with a reason, leave figures in the UI, and no secrets."""

import asyncio
import gc
import json
import os
import signal
import time
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    DeploymentFilter,
    DeploymentFilterId,
)
from prefect.client.schemas.sorting import FlowRunSort

from mavi_tasks.flows import label, serve
from mavi_tasks.flows.bakeoff import bake_off
from mavi_tasks.flows.costs import report_costs
from mavi_tasks.job import job_of
from mavi_tasks.storage.tables import open_table
from tests.support.gateways import (
    ALL_FAMILIES,
    REPOSITORY,
    ended,
    mavi,
    remote_sandbox,
    rows,
    start,
)
from tests.support.openai_server import openai_server

# Prefect's clients leave the closing of some sockets to the collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

MODEL = ALL_FAMILIES[0]


def kinds(*names):
    """An answer schema with one field."""
    return {"type": "object", "properties": {"kind": {"enum": list(names)}}, "required": ["kind"]}


KINDS = kinds("cat", "dog", "bird", "fish")
SECRET = "a1b2c3d4e5f6"


@pytest.fixture(autouse=True)
def _collected():
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def library(tmp_path):
    """Ten small pictures."""
    folder = tmp_path / "library"
    folder.mkdir()
    for n in range(10):
        Image.new("RGB", (20 + n, 20), (20 * n, 0, 90)).save(folder / f"{n}.jpg")
    return folder


def job_for(library, **more):
    fields = {"models": [MODEL], "prompt": "Which word?", "gateway": "sandbox"}
    return job_of(**{"manifest": str(library), "output": str(library.parent / "out"), **fields, **more})


async def last_run():
    async with get_client() as client:
        (run,) = await client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
        found = await client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
        )
    return run, {artifact.key: artifact for artifact in found}


def run_flow(flow, *given, **more):
    """The final state of a flow run, its record and its artifacts as the server keeps them."""

    async def run():
        state = await flow(*given, **more, return_state=True)
        return state, *await last_run()

    return asyncio.run(run())


# -- label_media


def test_a_finished_run_is_completed_with_its_counts_as_message(prefect_server, library):
    state, run, shown = run_flow(label.label_media, job_for(library))
    assert state.is_completed() and run.name == "label library"
    assert state.message.startswith("10 answered; $0.0")
    assert {"mavi-library", "mavi-library-models", "mavi-library-plan", "mavi-library-progress"} == set(shown)
    (model,) = json.loads(shown["mavi-library-models"].data)
    assert (model["model"], model["answered"], model["failed"]) == (MODEL, 10, 0)
    assert shown["mavi-library-progress"].data == 100.0


def test_a_second_night_asks_nothing_that_is_answered(prefect_server, library):
    run_flow(label.label_media, job_for(library))
    Image.new("RGB", (99, 20)).save(library / "new.jpg")
    (library / "3.jpg").unlink()
    state, _, shown = run_flow(label.label_media, job_for(library))
    assert state.message.startswith("1 answered, 9 already answered")
    assert shown["mavi-library-progress"].data == 100.0
    items = open_table(library.parent / "out", "results").to_table(columns=["item_id"])["item_id"].to_pylist()
    assert "3.jpg" in items and len(items) == 11, "what is removed stays in history"


def test_too_many_failed_rows_fail_the_run_with_their_codes(prefect_server, library):
    with remote_sandbox() as gateway:
        gateway.faults(rules=[{"kind": "errored_filter"}])
        job = job_for(library, gateway={"name": "sandbox", "base_url": gateway.base_url})
        state, *_ = run_flow(label.label_media, job)
    assert state.is_failed()
    assert "10 of 10 rows failed: 100.0%, more than fail_above 5.0%; the most frequent: " in state.message
    assert "/results" in state.message


def test_a_budget_that_is_reached_fails_the_run_and_says_how_to_go_on(prefect_server, library):
    state, *_ = run_flow(label.label_media, job_for(library, budget_usd="0.000001"))
    assert state.is_failed()
    assert state.message.startswith("Stopped: ") and "Raise budget_usd" in state.message
    assert "10 unsent" in state.message


def test_a_wrong_manifest_fails_the_run_with_its_own_message(prefect_server, tmp_path):
    (tmp_path / "items.csv").write_text("media_url\nnowhere.jpg\n")
    state, *_ = run_flow(label.label_media, job_for(tmp_path / "items.csv"))
    assert state.is_failed() and "items.csv:2: media_url 'nowhere.jpg' not found" in state.message


def test_the_mavi_key_of_the_secret_block_never_stands_in_for_another_key(
    prefect_server, library, monkeypatch
):
    """The block is there, the variable of the foreign server's key is not: nothing is sent there."""
    monkeypatch.delenv("MAVI_API_KEY", raising=False)
    monkeypatch.delenv("MY_API_KEY", raising=False)
    Secret(value=f"sk-mavi-{SECRET}").save("mavi-api-key", overwrite=True)
    with openai_server() as server:
        gateway = {"base_url": server.base_url, "dialect": "openai", "api_key_env": "MY_API_KEY"}
        job = job_for(library, gateway=gateway, models=["openai:llava:7b"])
        state, *_ = run_flow(label.label_media, job)
        assert state.is_failed() and "MY_API_KEY is not set" in state.message
        assert server.keys == set()


def test_answers_prompts_and_keys_are_in_no_artifact(prefect_server, library, monkeypatch):
    monkeypatch.setenv("MAVI_API_KEY", f"sk-mavi-{SECRET}")
    _, run, shown = run_flow(label.label_media, job_for(library))
    answers = open_table(library.parent / "out", "results").to_table(columns=["answer"])["answer"].to_pylist()
    kept = json.dumps([artifact.data for artifact in shown.values()]) + json.dumps(run.parameters)
    assert SECRET not in kept
    assert not [answer for answer in answers if answer in kept]


# -- `mavi run --prefect`


def test_the_flow_prints_and_returns_what_mavi_run_does(prefect_server, library):
    job = library.parent / "job.yaml"
    job.write_text(
        json.dumps({"manifest": "library", "prompts": "Which word?", "models": [MODEL], "gateway": "sandbox"})
    )
    by_prefect = mavi(
        "run", job, "--json", "--quiet", "--out", library.parent / "a", PREFECT_API_URL=prefect_server
    )
    here = mavi("run", job, "--json", "--quiet", "--no-prefect", "--out", library.parent / "b")
    assert by_prefect.code == here.code == 0, by_prefect.err
    changing = {"run_id", "wall_s", "output", "models"}
    assert set(by_prefect.json) == set(here.json)
    assert {k: v for k, v in by_prefect.json.items() if k not in changing} == {
        k: v for k, v in here.json.items() if k not in changing
    }
    known = "item_id, model, prompt, answer, status, cost_usd, request_key"
    assert sorted(map(str, rows(library.parent / "a", columns=known))) == sorted(
        map(str, rows(library.parent / "b", columns=known))
    )


def test_an_api_that_is_not_there_is_told_in_words(library):
    asked = ("--model", MODEL, "--prompt", "x", "--gateway", "sandbox", "--out", library.parent / "out")
    told = mavi("run", library, *asked, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert told.code == 4 and "--no-prefect" in told.err and "Traceback" not in told.err


@pytest.mark.skipif(os.name == "nt", reason="no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_cancelled_flow_waits_for_its_calls_and_publishes(prefect_server, library, number):
    with remote_sandbox(latency_s=0.3) as gateway:
        job = library.parent / "job.yaml"
        fields = {"manifest": "library", "prompts": "Which word?", "models": [MODEL], "output": "out"}
        fields |= {"gateway": {"name": "sandbox", "base_url": gateway.base_url}}
        job.write_text(json.dumps(fields | {"limits": {"*": {"concurrency": 2}}}))
        going = start("run", job, "--json", "--quiet", PREFECT_API_URL=prefect_server)
        while gateway.bill()["billed_calls"] < 2:
            time.sleep(0.02)
        going.send_signal(number)
        told = ended(going)
        billed = gateway.bill()["billed_calls"]
    answered = rows(library.parent / "out", where="status = 'answered'")
    assert 2 <= len(answered) == billed < 10, told.err
    assert [row["status"] for row in rows(library.parent / "out", "runs")] == ["interrupted"]
    assert told.code != 0
    if number == signal.SIGINT:
        assert (told.code, told.json["status"], told.json["unsent"]) == (130, "interrupted", 10 - billed)


# -- bake_off


def test_a_bake_off_leaves_its_page_and_its_verdict(prefect_server, library):
    job = job_for(library, models=list(ALL_FAMILIES[:2]))
    state, _, shown = run_flow(bake_off, job)
    assert state.is_completed(), state.message
    assert {"mavi-library-compared", "mavi-library-compared-models", "mavi-library-compared-page"} <= set(
        shown
    )
    page = library.parent / "out" / "reports" / "bakeoff.html"
    assert page.is_file() and page.as_uri() in shown["mavi-library-compared-page"].data


def test_drift_above_the_threshold_fails_the_run(prefect_server, library):
    old = job_for(library, output=str(library.parent / "old"), answer_schema=KINDS)
    run_flow(label.label_media, old)
    new = job_for(library, answer_schema=kinds("cow", "hen", "pig"))
    state, _, shown = run_flow(bake_off, new, baseline=old.output, fail_if_flips=0.0)
    assert state.is_failed() and state.message.startswith("Drift: Since "), state.message
    assert "more than fail_if_flips 0.0%" in state.message and "drift.html" in state.message
    assert "mavi-library-drift" in shown


def test_the_first_period_has_nothing_to_compare_with(prefect_server, library):
    state, *_ = run_flow(bake_off, job_for(library), period="week", baseline="previous", fail_if_flips=0.1)
    assert state.is_completed() and "no dataset before this one" in state.message


def test_the_same_answers_in_the_next_period_are_no_drift(prefect_server, library):
    job = job_for(library, answer_schema=KINDS)
    before = job_for(library, output=f"{job.output}/2026-W01", answer_schema=KINDS)
    run_flow(label.label_media, before)
    state, *_ = run_flow(bake_off, job, period="week", baseline="previous", fail_if_flips=0.0)
    assert state.is_completed() and "No label changed" in state.message, state.message


def test_a_drift_check_that_can_compare_nothing_fails_rather_than_passes(prefect_server, library):
    old = job_for(library, output=str(library.parent / "old"))
    run_flow(label.label_media, old)
    state, *_ = run_flow(bake_off, job_for(library), baseline=old.output, fail_if_flips=0.1)
    assert state.is_failed() and state.message.startswith("Drift cannot be checked."), state.message


# -- report_costs


def test_spend_is_shown_and_written_as_a_page(prefect_server, library):
    run_flow(label.label_media, job_for(library))
    page = library.parent / "costs.html"
    state, _, shown = run_flow(report_costs, [str(library.parent / "o*")], page=str(page))
    assert state.is_completed() and state.message.startswith("$0.0")
    assert {"mavi-costs", "mavi-costs-table", "mavi-costs-page"} <= set(shown)
    assert "<html" in page.read_text(encoding="utf-8")


def test_a_month_over_its_budget_fails_the_run(prefect_server, library):
    run_flow(label.label_media, job_for(library))
    page = str(library.parent / "costs.html")
    state, *_ = run_flow(report_costs, [str(library.parent / "out")], page=page, budget_usd="0.000001")
    assert state.is_failed() and "overrun by" in state.message


# -- deployments


def test_the_deployments_of_prefect_yaml_can_be_served(prefect_server, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    found = {one.name: one for one in serve.deployments(Path("prefect.yaml"))}
    assert list(found) == ["nightly-label", "weekly-bake-off", "daily-costs"]
    assert found["nightly-label"].schedules[0].schedule.cron == "0 2 * * *"
    assert all(one.concurrency_limit == 1 for one in found.values())
    assert found["nightly-label"].entrypoint == "mavi_tasks.flows.label.label_media"


def test_a_deployed_schedule_makes_runs_at_its_times(prefect_server, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    (night,) = serve.deployments(Path("prefect.yaml"), ["nightly-label"])

    async def scheduled():
        await night.aapply()
        async with get_client() as client:
            found = await client.read_deployment_by_name("label-media/nightly-label")
            week = {"end_time": (datetime.now(UTC) + timedelta(days=7)).isoformat(), "max_runs": 3}
            await client._client.post(
                f"/deployments/{found.id}/schedule", json=week
            )  # what the scheduler does
            where = DeploymentFilter(id=DeploymentFilterId(any_=[found.id]))
            return [
                run.next_scheduled_start_time for run in await client.read_flow_runs(deployment_filter=where)
            ]

    assert {(time.hour, time.minute) for time in asyncio.run(scheduled())} == {(2, 0)}


def test_a_job_that_does_not_fit_is_refused_by_its_form(prefect_server):
    schema = label.label_media.parameters.model_dump()
    assert schema["properties"]["job"]["anyOf"][0] == {"$ref": "#/definitions/Job"}
    assert "limits" in schema["definitions"]["Job"]["properties"]
