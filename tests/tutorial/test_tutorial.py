"""What the README promises, a few lines each. New here? Read this file first.

`mavi(...)` runs the command line as its users do and returns its exit `code`, `out` and `err`. The gateway is
the embedded sandbox: no key, no network.
"""

import csv
import json
import shutil
import signal
from decimal import Decimal

import pytest

from mavi_tasks.storage import reviews
from tests.support.gateways import (
    REPOSITORY,
    ended,
    kill,
    mavi,
    one,
    remote_sandbox,
    rows,
    spent,
    start,
    wait_for,
    write_job,
)
from tests.support.openai_server import KEY, openai_server
from tests.support.view import Served

FLASH, MINI = "gemini:gemini-2.5-flash", "gpt:gpt-4o-mini"
PET = {
    "type": "object",
    "properties": {"animal": {"type": "string"}, "legs": {"type": "integer"}},
    "required": ["animal", "legs"],
}


@pytest.fixture(scope="module")
def gateway():
    """The sandbox, answering at once."""
    with remote_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def photos(tmp_path):
    """A folder of three photos."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("cat", "goldfish", "moose"):
        shutil.copy(REPOSITORY / "manifests" / "media" / f"{name}.jpg", folder)
    return folder


@pytest.fixture
def job(photos, gateway):
    """Make a job file: "What animal is this?" for every photo, unless other fields are given."""

    def make(**fields):
        return write_job(
            photos.parent,
            **{
                "manifest": "photos",
                "prompts": {"animal": "What animal is this?"},
                "models": [FLASH],
                "params": {"temperature": 0, "max_tokens": 100},
                "gateway": {"name": "sandbox", "base_url": gateway.base_url},
                "output": "out",
                **fields,
            },
        )

    return make


def reported(command):
    """The object that `--json` prints as the last line."""
    return json.loads(command.out.splitlines()[-1])


def test_a_folder_is_labelled_by_one_command(photos, gateway):
    """A folder, a model and a question are enough: one answered row per photo, with its cost."""
    question = ("--model", FLASH, "--prompt", "What animal is this?")
    place = ("--gateway", "sandbox", "--base-url", gateway.base_url, "--out", "out/pets")
    assert mavi("run", "photos", *question, *place, cwd=photos.parent).code == 0
    found = rows(photos.parent / "out" / "pets")
    assert [row["status"] for row in found] == ["answered"] * 3
    assert all(row["answer"] and row["cost_usd"] > 0 for row in found)


def test_a_second_run_sends_nothing(job, gateway):
    """Nothing is paid twice: the same job again finds every answer in the dataset."""
    path = job()
    mavi("run", path)
    billed = gateway.bill()["calls"]
    again = reported(mavi("run", path, "--json"))
    assert (again["answered"], again["already_answered"]) == (0, 3)
    assert gateway.bill()["calls"] == billed


def test_a_plan_says_the_cost_before_anything_is_sent(job):
    """`mavi plan` counts requests and dollars, and leaves no dataset behind."""
    path = job()
    plan = reported(mavi("plan", path, "--json"))
    assert plan["to_send"] == 3
    assert Decimal(plan["cost_usd"]["p50"]) > 0
    assert not (path.parent / "out").exists()


def test_a_budget_stops_the_run_before_it_is_exceeded(job):
    """The worst case of each call is reserved first, so a cent cannot become two."""
    path = job(budget_usd="0.0007")
    run = mavi("run", path)
    assert run.code == 4
    assert "budget" in run.err + run.out
    assert 0 < spent(path.parent / "out", "attempts") <= Decimal("0.0007")


def test_two_models_are_compared(job, photos):
    """With expected answers, `mavi compare` recommends one model and writes a page."""
    manifest = photos.parent / "photos.csv"
    manifest.write_text(
        "media_url,truth\nphotos/cat.jpg,cat\nphotos/goldfish.jpg,fish\nphotos/moose.jpg,moose\n"
    )
    path = job(models=[FLASH, MINI], manifest="photos.csv")
    mavi("run", path)
    compared = mavi("compare", path.parent / "out", "--html", photos.parent / "report.html", "--json")
    assert compared.code == 0
    assert {model["model"] for model in reported(compared)["models"]} == {FLASH, MINI}
    assert "<table" in (photos.parent / "report.html").read_text()


def test_costs_agree_to_the_last_digit(job, gateway):
    """The report, the attempts, the answers and the gateway's own bill are the same decimal."""
    gateway.reset()
    path = job(models=[FLASH, MINI])
    mavi("run", path)
    out = path.parent / "out"
    total = Decimal(reported(mavi("costs", out, "--json"))["total_usd"])
    assert total == spent(out, "attempts") == spent(out, "results") == Decimal(gateway.bill()["total_usd"])


def test_a_schema_gives_typed_columns(job):
    """Fields of the answer schema are columns of labels/, with their types."""
    path = job(answer_schema=PET)
    mavi("run", path)
    labels = rows(path.parent / "out", "labels")
    assert len(labels) == 3
    assert all(isinstance(row["animal"], str) and isinstance(row["legs"], int) for row in labels)


@pytest.mark.parametrize("stop", [kill, lambda process: process.send_signal(signal.SIGINT)])
def test_a_stopped_run_goes_on_where_it_stopped(job, photos, stop):
    """After Ctrl-C or kill -9 the next run sends only what has no answer yet."""
    with remote_sandbox(latency_s=0.3) as slow:
        path = job(
            gateway={"name": "sandbox", "base_url": slow.base_url},
            limits={"*": {"concurrency": 1}},
            params={"max_tokens": 100},
        )
        first = start("run", path)
        wait_for(lambda: slow.bill()["calls"])
        stop(first)
        ended(first)
        assert mavi("run", path).code == 0
    assert one(path.parent / "out", "results", "count(distinct item_id)", "status = 'answered'") == 3
    assert one(path.parent / "out", "results", "count(*)", "status = 'answered'") == 3


def test_what_failed_is_listed_and_asked_again(job, gateway, tmp_path):
    """`mavi status` names what failed and why; `--only` asks just those, by word or file."""
    path = job()
    gateway.faults(script=["errored_filter"])  # the first call is refused for good
    assert mavi("run", path).code == 3
    out, file = path.parent / "out", tmp_path / "failed.csv"
    assert reported(mavi("status", out, "--json"))["failed"] == 1
    assert mavi("status", out, "--failed", "--to", file).out == f"1 rows -> {file}\n"
    assert reported(mavi("plan", path, "--only", "failed", "--json"))["to_send"] == 1
    assert mavi("run", path, "--only", file).code == 0
    assert reported(mavi("status", out, "--json"))["answered"] == 3


def test_a_dataset_is_exported_as_one_file(job, tmp_path):
    """CSV, JSONL or Parquet: one row per request, money with all its digits."""
    path = job()
    mavi("run", path)
    target = tmp_path / "pets.csv"
    assert mavi("export", path.parent / "out", "--to", target, "--latest").code == 0
    with target.open(newline="") as file:
        costs = [Decimal(row["cost_usd"]) for row in csv.DictReader(file)]
    assert len(costs) == 3
    assert sum(costs) == spent(path.parent / "out", "results")


def test_a_server_of_your_own_is_a_model_like_any_other(job):
    """Any OpenAI-compatible server, with its own key and your own prices."""
    with openai_server() as server:
        path = job(
            models=["openai:llava:7b"],
            gateway={"base_url": server.base_url, "dialect": "openai", "api_key_env": "LOCAL_API_KEY"},
            prices={"openai:llava:7b": {"input_usd_per_mtok": "0.05", "output_usd_per_mtok": "0.10"}},
        )
        assert mavi("run", path, LOCAL_API_KEY=KEY).code == 0
    assert server.keys == {f"Bearer {KEY}"}
    assert spent(path.parent / "out", "results") > 0


def test_an_answer_is_corrected_in_the_local_app(job):
    """`mavi view` prints a link that lets one browser in; what is said there is a row of reviews/."""
    path = job(answer_schema=PET)
    mavi("run", path)
    view = start("view", path.parent / "out", "--no-open", "--json")
    try:
        app = Served([json.loads(view.stdout.readline())["url"]])
        app.enter()
        item = app.get("/api/page")["items"][0]["id"]
        opened = app.get("/api/item", id=item)
        assert [(field["name"], field["kind"]) for field in opened["form"]] == [
            ("animal", "text"),
            ("legs", "integer"),
        ]
        right = {"item": item, "prompt": "animal", "action": "correct", "value": {"animal": "cat", "legs": 4}}
        assert app.post("/api/review", right).status == 200
        assert (
            app.post("/api/review", right).status == 409
        )  # a second page that has not seen the first review
        wrong = {**right, "value": {"animal": "cat", "legs": "four"}}
        assert "schema" in app.post("/api/review", wrong).json["error"]
    finally:
        view.send_signal(signal.SIGINT)
        assert ended(view).code == 0
    (review,) = reviews.current(path.parent / "out").to_pylist()
    assert (review["item_id"], review["verdict"]) == (item, "corrected")
    assert json.loads(review["value_json"]) == {"animal": "cat", "legs": 4}


def test_the_local_app_is_for_this_machine_unless_it_is_said(job):
    """Other machines need a flag and a password; what is no dataset is named."""
    path = job()
    mavi("run", path)
    out = path.parent / "out"
    assert "--allow-remote" in mavi("view", out, "--host", "0.0.0.0").err
    short = mavi("view", out, "--host", "0.0.0.0", "--allow-remote", MAVI_VIEW_PASSWORD="1234")
    assert (short.code, "MAVI_VIEW_PASSWORD" in short.err) == (2, True)
    nothing = mavi("view", path.parent / "photos")
    assert (nothing.code, "is not a dataset" in nothing.err) == (2, True)
