"""docs/decisions.md, as its reader does it: few labels, graded answers, and a judge of free text."""

import csv
import json

import pytest

from tests.support.gateways import REPOSITORY, mavi, write_job

QUICK = REPOSITORY / "manifests"
TRUTH = {
    "cat": "cat", "goldfish": "fish", "crocodile": "crocodile", "moose": "ungulate", "bunny": "rabbit",
    "astronaut": "person", "coffee": "espresso", "pan": "frying pan", "flower": "flower", "palace": "palace",
}  # fmt: skip


def reported(done):
    assert done.code == 0, done.err
    return json.loads(done.out.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """A folder in which two models have answered the quickstart's questions, without expected answers."""
    folder = tmp_path_factory.mktemp("decisions")
    with (QUICK / "quickstart.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    media = [(row["item_id"], QUICK / row["media_url"]) for row in rows]
    lines = [f"{item},{path}" for item, path in media]
    (folder / "items.csv").write_text("\n".join(["item_id,media_url", *lines]) + "\n")
    job = write_job(
        folder,
        manifest="items.csv",
        gateway="sandbox",
        output="out",
        prompts={
            "subject": "What is the main subject? One of: cat, fish, crocodile, ungulate, person, palace."
        },
        models=["qwen:qwen3-vl-flash", "nova:us.amazon.nova-pro-v1:0"],
    )
    assert mavi("run", job, cwd=folder).code in (0, 3)
    return folder


def test_a_few_labels_where_the_models_differ_speak_of_all_items(answered):
    """Draw a sample, fill in its truth, compare: the figures say that they come from a sample."""
    drawn = mavi("compare", "out", "--label-sample", "6", "--to", "labels.csv", cwd=answered)
    assert drawn.code == 0
    with (answered / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert all(0 < float(row["inclusion_probability"]) <= 1 for row in rows)
    for row in rows:
        row["truth"] = TRUTH.get(row["item_id"], "other")
    with (answered / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    found = reported(mavi("compare", "out", "--truth", "labels.csv", "--json", cwd=answered))
    assert found["labels"]["used"] == 6
    assert any("a sample of 6 labels" in warning for warning in found["warnings"])


def test_a_judge_prefers_blindly_and_pays_from_its_own_budget(answered):
    """Write the judge's job, run it, and read what it preferred."""
    options = ["--judge", "gemini:gemini-2.5-pro", "--judge-out", "judge.yaml", "--judge-usd", "0.5"]
    assert mavi("compare", "out", *options, cwd=answered).code == 0
    assert mavi("run", "judge.yaml", cwd=answered).code == 0
    found = reported(mavi("compare", "out", "--judged", "judge", "--json", cwd=answered))
    assert found["preference"]["judge"] == "gemini:gemini-2.5-pro"
    assert found["preference"]["judged"] > 0
    costs = reported(mavi("costs", "judge", "--by", "job", "--json", cwd=answered))
    assert [group["job"] for group in costs["groups"]] == ["judge"]


def test_a_judge_of_a_compared_family_is_refused(answered):
    refused = mavi(
        "compare", "out", "--judge", "nova:us.amazon.nova-lite-v1:0", "--judge-out", "j.yaml", cwd=answered
    )
    assert refused.code == 2
    assert "same family" in refused.err
    assert "--allow-same-family" in refused.err


def test_answers_that_can_be_partly_right_are_scored_by_a_rule(answered):
    """`--match` names the rule; what a rule does not take is an error before anything is read."""
    (answered / "truth.csv").write_text('item_id,truth\ncat,"[""cat"", ""animal""]"\n')
    found = reported(
        mavi("compare", "out", "--truth", "truth.csv", "--match", "answer=f1", "--json", cwd=answered)
    )
    assert found["fields"]["answer"]["rule"] == "f1"
    wrong = mavi("compare", "out", "--match", "answer=iou:7", cwd=answered)
    assert wrong.code == 2
    assert "iou:.5" in wrong.err
