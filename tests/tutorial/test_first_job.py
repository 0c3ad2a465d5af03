"""`mavi init` writes a job that runs as it is; the rest is up to its user."""

import io
import json
import shutil

import pytest
import yaml

from mavi_tasks.cli.main import main
from tests.support.gateways import REPOSITORY, mavi, rows

FLASH, MINI = "gemini:gemini-2.5-flash", "gpt:gpt-4o-mini"
FIELDS = ("--field", "animal", "--field", "legs:integer")


class Terminal(io.StringIO):
    """A terminal at which these lines are typed."""

    def isatty(self):
        return True


@pytest.fixture
def typed(monkeypatch, tmp_path):
    """Type lines at the questions of a command, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def answer(*lines):
        monkeypatch.setattr("sys.stdin", Terminal("".join(f"{line}\n" for line in lines)))

    return answer


def written(path):
    return yaml.safe_load((path / "job.yaml").read_text("utf-8"))


def test_what_it_writes_runs_as_it_is(tmp_path):
    """Two commands from nothing to a table with typed columns; the answers are marked as simulated."""
    made = mavi("init", "pets", *FIELDS, "--model", FLASH, "--model", MINI, cwd=tmp_path)
    assert made.code == 0, made.err
    assert made.out.splitlines()[-2:] == ["Next: mavi plan pets/job.yaml", "      mavi run pets/job.yaml"]
    done = mavi("run", "pets/job.yaml", cwd=tmp_path, MAVI_API_KEY=None)
    assert done.code == 0, done.out
    assert "simulated" in done.out
    assert "```" not in done.out  # the JSON that was found, not what stood around it
    labels = rows(tmp_path / "pets" / "out", "labels")
    assert len(labels) == 6
    assert all({"animal", "legs"} <= set(row) for row in labels)


def test_without_fields_the_answers_are_text(tmp_path):
    assert mavi("init", cwd=tmp_path).code == 0
    assert not (tmp_path / "answer.schema.json").exists()
    assert mavi("run", "job.yaml", cwd=tmp_path).code == 0
    assert len(rows(tmp_path / "out")) == 3


def test_your_own_media_take_the_place_of_the_samples(tmp_path):
    (tmp_path / "my photos").mkdir()
    shutil.copy(REPOSITORY / "manifests" / "media" / "cat.jpg", tmp_path / "my photos")
    assert mavi("init", "jobs/cats", "--manifest", "my photos", "--prompt", "Who?", cwd=tmp_path).code == 0
    assert written(tmp_path / "jobs" / "cats")["manifest"] == "../../my photos"
    assert not (tmp_path / "jobs" / "cats" / "sample.csv").exists()
    plan = mavi("plan", "jobs/cats/job.yaml", "--json", cwd=tmp_path)
    assert plan.json["to_send"] == 1


def test_nothing_is_ever_overwritten_without_force(tmp_path):
    (tmp_path / "sample.csv").write_text("mine")
    (tmp_path / "answer.schema.json").write_text("mine")
    ended = mavi("init", *FIELDS, cwd=tmp_path)
    assert ended.code == 2
    assert "sample.csv: is there already; --force replaces it" in ended.err
    assert "answer.schema.json: is there already" in ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer.schema.json", "sample.csv"]
    assert mavi("init", *FIELDS, "--force", cwd=tmp_path).code == 0
    assert json.loads((tmp_path / "answer.schema.json").read_text())["type"] == "object"


def test_force_replaces_a_link_and_leaves_what_it_leads_to(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "job.yaml").symlink_to(tmp_path / "precious")
    assert mavi("init", "pets", "--yes", cwd=tmp_path).code == 2
    assert mavi("init", "pets", "--yes", "--force", cwd=tmp_path).code == 0
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (tmp_path / "pets" / "job.yaml").is_symlink()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            ("--model", "gemini:gemini-2.5-flsh"),
            "--model: 'gemini:gemini-2.5-flsh': no such model; did you mean",
        ),
        (("--field", "legs:int"), "did you mean integer?"),
        (("--budget-usd", "much"), "--budget-usd: 'much' must be dollars"),
        (("--manifest", "nowhere.csv"), "not found"),
        (("--prompt", "{{ title "), "--prompt: line 1"),
        (("--gateway", "sandbx"), "--gateway"),
    ],
)
def test_a_wrong_flag_is_told_and_nothing_is_written(tmp_path, wrong, said):
    ended = mavi("init", "pets", *wrong, cwd=tmp_path)
    assert ended.code == 2
    assert said in ended.err
    assert list(tmp_path.iterdir()) == []


def test_on_a_terminal_it_asks_and_asks_again_after_a_wrong_answer(typed, tmp_path, capsys):
    typed("", "animal, legs:int", "animal, legs:integer", "", "gpt:gpt-4o-mni", MINI, "2.50")
    assert main(["init", "pets"]) == 0
    job = written(tmp_path / "pets")
    assert job["models"] == [{"model": MINI, "frames": 8}]
    assert job["budget_usd"] == 2.5
    assert job["prompts"] == {"label": "What does this {{ media.kind }} show? Give: animal, legs."}
    asked = capsys.readouterr().err
    assert "did you mean integer?" in asked
    assert "did you mean gpt:gpt-4o-mini?" in asked
    assert asked.count("Budget in dollars [1.00]: ") == 1


def test_it_asks_only_for_what_no_flag_gives(typed, tmp_path, capsys):
    typed("Which animal?", "")
    flags = ["--manifest", str(REPOSITORY / "manifests" / "quickstart.csv"), *FIELDS, "--model", FLASH]
    assert main(["init", *flags]) == 0
    assert written(tmp_path)["prompts"] == {"label": "Which animal?"}
    assert "Models" not in capsys.readouterr().err


def test_an_end_of_the_input_writes_nothing(typed, tmp_path, capsys):
    typed("")
    assert main(["init", "pets"]) == 2
    assert "nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_samples_are_the_credited_photos():
    sample = REPOSITORY / "mavi_tasks" / "cli" / "sample" / "sample"
    credits = (REPOSITORY / "manifests" / "media" / "CREDITS.md").read_text("utf-8").splitlines()
    for line in (sample / "CREDITS.md").read_text("utf-8").splitlines()[2:]:
        assert line in credits
        photo = line.split("|")[1].strip()
        assert (sample / photo).read_bytes() == (REPOSITORY / "manifests" / "media" / photo).read_bytes()
    assert len(list(sample.glob("*.jpg"))) == 3
