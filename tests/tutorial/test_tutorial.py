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

import mavi_tasks
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
from tests.support.known_models import items_csv, known_models
from tests.support.openai_server import KEY, openai_server
from tests.support.view import Served

FLASH, MINI = "gemini:gemini-2.5-flash", "gpt:gpt-4o-mini"
LITE = "gemini:gemini-2.5-flash-lite"
ANSWER = {
    "type": "object",
    "properties": {"label": {"type": "string"}, "confidence": {"type": "number"}},
    "required": ["label"],
}
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


def test_labels_hold_nested_answers_and_columns_of_the_manifest(job, photos, tmp_path):
    """Objects are structs, `keep_columns` stand beside them, and JSON text is said to be that."""
    manifest = photos.parent / "photos.csv"
    manifest.write_text("media_url,album,taken_at\nphotos/cat.jpg,Rome,2021-05-01\nphotos/moose.jpg,,2022\n")
    box = {"type": "object", "properties": {"name": {"type": "string"}, "sure": {"type": "number"}}}
    either = {"anyOf": [{"type": "string"}, {"type": "integer"}]}
    fields = {"place": box, "seen": {"type": "array", "items": box}, "odd": either}
    schema = {"type": "object", "properties": fields, "required": list(fields)}
    path = job(manifest="photos.csv", answer_schema=schema, keep_columns=["album", "taken_at"])
    assert "label 'odd' is JSON text" in " ".join(mavi("plan", path).out.split())
    assert mavi("run", path).code == 0
    out = path.parent / "out"
    one_row = rows(out, "labels", where="item_id = 'photos/cat.jpg'")[0]
    assert (one_row["album"], one_row["taken_at"], one_row["status"]) == ("Rome", "2021-05-01", "answered")
    assert one_row["media_uri"].endswith("cat.jpg")
    assert set(one_row["place"]) == {"name", "sure"}
    assert all(set(seen) == {"name", "sure"} for seen in one_row["seen"])
    assert {json.loads(row["kept"])["taken_at"] for row in rows(out)} == {"2021-05-01", "2022"}
    assert mavi("export", out, "--table", "labels", "--to", tmp_path / "labels.csv").code == 0

    wrong = mavi("plan", job(manifest="photos.csv", keep_columns=["albun", "media_url"]))
    assert wrong.code == 2
    assert "has no column 'albun'; did you mean album?" in wrong.err
    assert "keep_columns: 'media_url' is in results already, as media_uri" in wrong.err


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


def test_a_changed_prompt_is_asked_again_and_the_older_answers_are_kept(job, gateway, tmp_path):
    """`mavi plan` says how many and what it costs; one row of each item counts, the newest text's."""
    mavi("run", job())
    path = job(prompts={"animal": "Which animal is this?"})
    plan = reported(mavi("plan", path, "--json"))
    assert plan["asked_again"]["requests"] == 3
    assert 0 < Decimal(plan["asked_again"]["cost_usd"]["p50"]) == Decimal(plan["cost_usd"]["p50"])
    said = " ".join(mavi("plan", path).out.split())
    assert "3 of these have an answer to an older text of this prompt (kept; compare with" in said

    gateway.faults(script=["errored_filter"])  # one of them fails with the new text
    assert mavi("run", path).code == 3
    out, file = path.parent / "out", tmp_path / "pets.jsonl"
    status = reported(mavi("status", out, "--json"))
    assert (status["answered"], status["failed"]) == (2, 1)
    assert mavi("export", out, "--to", file, "--latest").code == 0
    lines = file.read_text().splitlines()
    assert {json.loads(line)["prompt"] for line in lines} == {"Which animal is this?"}
    assert mavi("export", out, "--to", file, "--all-versions").out == f"6 rows -> {file}\n"
    assert reported(mavi("plan", path, "--only", "failed", "--json"))["to_send"] == 1

    compared = reported(mavi("compare", out, "--by", "prompt_hash", "--json"))
    assert sorted(model["answered"] for model in compared["models"]) == [2, 3]
    assert len({model["model"] for model in compared["models"]}) == 2


def test_a_prompt_that_goes_back_to_its_older_text_asks_nothing(job, gateway):
    """Its answers are there: they count again, at no cost, with what they did cost."""
    first = job()
    mavi("run", first)
    mavi("run", job(prompts={"animal": "Which animal is this?"}))
    billed = gateway.bill()["calls"]
    again = mavi("run", job(), "--json")
    assert "3 answers are to another text of their prompt" in " ".join(again.err.split())
    out = first.parent / "out"
    for _ in range(2):
        assert gateway.bill()["calls"] == billed
        found = mavi_tasks.dataframe(out)
        assert set(found["prompt"]) == {"What animal is this?"}
        assert (found["cost_usd"] > 0).all()
        assert reported(mavi("run", job(), "--json"))["already_answered"] == 3


def test_expected_answers_may_come_later(job, photos, gateway):
    """`mavi compare` takes them from the manifest as it is now, or from a file; nothing is asked again."""
    manifest = photos.parent / "photos.csv"
    manifest.write_text("item_id,media_url\na,photos/cat.jpg\nb,photos/goldfish.jpg\nc,photos/moose.jpg\n")
    path = job(manifest="photos.csv", models=[FLASH, MINI])
    mavi("run", path)
    billed, out = gateway.bill()["calls"], path.parent / "out"
    assert reported(mavi("compare", out, "--json"))["items_with_truth"] == 0

    manifest.write_text("item_id,media_url,truth\na,photos/cat.jpg,cat\nb,photos/goldfish.jpg,fish\n")
    assert reported(mavi("compare", out, "--json"))["items_with_truth"] == 2

    checked = photos.parent / "checked.csv"
    checked.write_text("item_id,animal\na,cat\nb,fish\nc,moose\n")
    assert reported(mavi("compare", out, "--truth", f"{checked}:animal", "--json"))["items_with_truth"] == 3
    assert gateway.bill()["calls"] == billed

    wrong = mavi("compare", out, "--truth", checked)
    assert (wrong.code, wrong.err) == (
        2,
        f"mavi: {checked}:1: has no column 'truth' with the expected answers; it has item_id, animal; "
        "give --truth FILE:COLUMN\n",
    )
    checked.write_text("item_id,animal\na,cat\na,dog\n")
    assert (
        f"{checked.name}:3: duplicate item_id 'a'" in mavi("compare", out, "--truth", f"{checked}:animal").err
    )


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


def test_a_choice_is_named_only_when_the_figures_carry_it(tmp_path, job):
    """Three photos decide nothing: the comparison says so, and what would settle it."""
    photo = {"cat": "cat", "goldfish": "goldfish", "moose": "moose"}
    lines = [{"media_url": f"photos/{name}.jpg", "truth": truth} for name, truth in photo.items()]
    (tmp_path / "pets.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    mavi("run", job(manifest="pets.jsonl", models=[FLASH, MINI]), "--quiet")
    compared = mavi("compare", tmp_path / "out", "--margin", "2", "--json")
    choice = reported(compared)["choice"]
    assert (choice["model"], choice["decided"], choice["margin_points"]) == (None, False, 2.0)
    assert set(choice["undecided"]) == {FLASH, MINI}
    assert choice["more"]["items"]["p50"] > 0
    assert "Undecided: " in compared.err


def test_clips_of_one_video_count_as_one_draw(tmp_path, job, photos):
    """`columns: {cluster: video_id}` says which rows belong together; the dataset keeps it."""
    lines = [{"media_url": f"photos/{name}.jpg", "video_id": "v1"} for name in ("cat", "moose")]
    (tmp_path / "clips.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    mavi("run", job(manifest="clips.jsonl", columns={"cluster": "video_id"}), "--quiet")
    assert [row["cluster"] for row in rows(tmp_path / "out")] == ["v1", "v1"]


def test_a_request_asked_several_times_shows_how_stable_the_answers_are(tmp_path, job):
    """`repeat: 3` pays for three answers to each question, and never again."""
    path = job(repeat=3)
    assert reported(mavi("run", path, "--json"))["answered"] == 9
    assert reported(mavi("run", path, "--json"))["already_answered"] == 9
    found = reported(mavi("compare", tmp_path / "out", "--json"))
    assert found["items"] == 3
    assert 0 <= found["models"][0]["stability"] <= 1


def test_two_prompts_of_one_model_are_compared_as_two_candidates(tmp_path, job):
    """Each model with each prompt is a candidate of its own."""
    mavi("run", job(prompts={"short": "Animal?", "long": "What animal is this?"}), "--quiet")
    found = reported(mavi("compare", tmp_path / "out", "--json"))
    assert {(one["model"], one["prompt_id"]) for one in found["candidates"]} == {
        (FLASH, "short"),
        (FLASH, "long"),
    }
    assert len(found["pairs"]) == 1


@pytest.fixture
def known(tmp_path):
    """A gateway whose cheap model is right on 70 %, the next on 95 %; and a job that races them."""
    with known_models({LITE: 0.70, FLASH: 0.95}) as models:
        job = write_job(
            tmp_path,
            manifest=str(items_csv(tmp_path, 400)),
            prompts={"p": "Item {{ item_id }}. What is it?"},
            models=[LITE, FLASH],
            answer_schema=ANSWER,
            media={"max_url_image_px": 64},
            gateway={"name": "sandbox", "base_url": models.base_url},
            output="out",
        )
        yield models, job


def test_a_race_pays_for_what_decides(known):
    """Models are dropped while the run goes on; the winner then labels everything."""
    models, job = known
    race = mavi("run", job, "--race")
    assert "Choose gemini-2.5-flash: not behind any other (95%)" in race.out
    assert len(models.calls[LITE]) < 400
    everything = reported(mavi("run", job, "--no-race", "--model", FLASH, "--json"))
    assert everything["answered"] + everything["already_answered"] == 400
    assert len(models.calls[FLASH]) == 400  # nothing was paid twice


def test_a_cascade_is_certified_and_run(known):
    """From a bake-off to a job that asks the dear model only where it must; compare shows both figures."""
    models, job = known
    mavi("run", job)
    compared = mavi(
        "compare", "out", "--job", job, "--cascade-out", "cascade.yaml", "--margin", "4", cwd=job.parent
    )
    assert "at most" in compared.out
    models.calls.clear()
    ran = reported(mavi("run", "cascade.yaml", "--json", cwd=job.parent))
    assert len(models.calls[FLASH]) == ran["cascade"]["escalated"] < 400
    shown = mavi("compare", "out-cascade", cwd=job.parent).out
    assert "Cascade of gemini-2.5-flash-lite, then gemini-2.5-flash" in shown
    assert "Certificate: at most" in shown


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
