"""The commands around a run: what they print for people and for machines, and how they end."""

import errno
import io
import json
import signal
from decimal import Decimal

import duckdb
import pytest
from rich.console import Console

from mavi_tasks.cli.main import main
from tests.support.gateways import REPOSITORY

MANIFESTS = REPOSITORY / "manifests"


def told(capsys):
    """The last line of stdout, as JSON."""
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Three models over four photos, with expected answers; answered by the sandbox."""
    folder = tmp_path_factory.mktemp("job")
    rows = "".join(
        f"{name},{MANIFESTS / 'media' / name}.jpg,{truth}\n"
        for name, truth in {
            "cat": "animal",
            "coffee": "drink",
            "rocket": "vehicle",
            "palace": "building",
        }.items()
    )
    (folder / "photos.csv").write_text("item_id,media_url,truth\n" + rows)
    (folder / "job.yaml").write_text(
        "manifest: photos.csv\nprompts: {p: 'One of: animal, drink, vehicle, building.'}\n"
        "models: ['gemini:gemini-2.5-flash', 'qwen:qwen3-vl-flash', 'gpt:gpt-4o-mini']\n"
        "gateway: sandbox\noutput: out\n"
    )
    return folder / "job.yaml"


@pytest.fixture(scope="module")
def dataset(job):
    assert main(["run", str(job), "--quiet"]) == 0
    return job.parent / "out"


def test_a_plan_tells_cost_and_time_and_leaves_no_trace(job, capsys, tmp_path):
    assert main(["plan", str(job), "--out", str(tmp_path / "none"), "--json"]) == 0
    plan = told(capsys)
    assert (plan["requests"], plan["to_send"], plan["already_answered"]) == (12, 12, 0)
    assert (
        Decimal(plan["cost_usd"]["p10"]) < Decimal(plan["cost_usd"]["p50"]) < Decimal(plan["cost_usd"]["p90"])
    )
    assert {m["basis"] for m in plan["models"]} == {"formula"}
    assert not (tmp_path / "none").exists()


def test_the_end_of_a_run_shows_answers_and_what_to_type_next(job, capsys, tmp_path):
    out = str(tmp_path / "x y")
    assert main(["run", str(job), "--out", out]) == 0
    shown = capsys.readouterr().out
    first = shown.partition("The first answers")[2].partition("Next:")[0].splitlines()
    assert "simulated: no model looked at the media" in first[0] or "local classifier" in first[0]
    assert len(first) == 1 + 3
    assert all(" / " in line and ": " in line for line in first[1:])
    for command in ("status", "compare", "costs"):
        assert f"mavi {command} '{out}'" in shown
    assert f"mavi export '{out}' --to answers.csv" in shown


def test_a_run_that_answers_nothing_new_shows_no_answers(job, dataset, capsys):
    assert main(["run", str(job)]) == 0
    shown = capsys.readouterr().out
    assert "first answers" not in shown
    assert "Next: mavi status" in shown


def test_mavi_alone_shows_its_help(capsys):
    assert main([]) == 0
    assert "COMMAND" in capsys.readouterr().out


MISTYPED = {
    ("pln", "job.yaml"): "did you mean plan?",
    ("statsu", "out"): "did you mean status?",
    (
        "plan",
        "job.yaml",
        "--bugdet-usd",
        "1",
    ): "unrecognized arguments: --bugdet-usd 1; did you mean --budget-usd?",
    ("run", "job.yaml", "--modle=x"): "did you mean --model?",
    ("costs", "out", "--since", "october"): "'october' must be a date, such as 2026-11-22",
    ("costs", "out", "--until", "2026-13-01"): "'2026-13-01' must be a date, such as 2026-11-22",
}


@pytest.mark.parametrize("argv", MISTYPED)
def test_a_mistyped_command_flag_or_date_is_told_what_is_meant(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert MISTYPED[argv] in capsys.readouterr().err


def test_an_argument_that_is_no_text_is_told(capsys):
    assert main(["plan", "job.yaml", "--prompt", "\udcff"]) == 2
    assert "an argument that is not UTF-8" in capsys.readouterr().err


def test_a_plan_of_a_finished_job_sends_nothing_and_costs_nothing(job, dataset, capsys):
    assert main(["plan", str(job), "--json"]) == 0
    plan = told(capsys)
    assert (plan["to_send"], plan["already_answered"]) == (0, 12)
    assert Decimal(plan["cost_usd"]["p90"]) == 0


def test_a_plan_learns_from_what_was_used(job, dataset, capsys):
    assert main(["plan", str(job), "--prompt", "Another question, of animal, drink, vehicle.", "--json"]) == 0
    assert {m["basis"] for m in told(capsys)["models"]} <= {"formula", "observed"}


def test_a_budget_too_small_says_what_would_fit(job, capsys, tmp_path):
    assert main(["plan", str(job), "--out", str(tmp_path / "x"), "--budget-usd", "0.001", "--json"]) == 0
    budget = told(capsys)["budget"]
    assert budget["fits"] is False
    assert budget["reaches"] < 12
    assert budget["choices"]


def test_a_pilot_stops_with_the_numbers_and_is_not_paid_again(job, capsys, tmp_path, monkeypatch):
    out = ["--out", str(tmp_path / "x"), "--json"]
    monkeypatch.setattr("sys.stdin", io.StringIO())  # no terminal to ask
    assert main(["run", str(job), *out, "--pilot", "2"]) == 4
    captured = capsys.readouterr()
    first = json.loads(captured.out.splitlines()[-1])
    assert (first["answered"], first["unsent"], first["stop_reason"]) == (6, 6, "pilot")
    assert "--yes" in captured.err
    assert "most likely between" in captured.err
    assert main(["run", str(job), *out, "--pilot", "1", "--yes"]) == 0
    second = told(capsys)
    assert (second["answered"], second["already_answered"]) == (6, 6)
    assert main(["run", str(job), *out, "--pilot", "1"]) == 0
    assert told(capsys)["already_answered"] == 12


@pytest.mark.parametrize("name", ["quickstart", "bakeoff", "bulk", "every_field"])
def test_the_examples_can_be_run_as_they_are(name, tmp_path, capsys):
    assert main(["plan", str(MANIFESTS / f"{name}.yaml"), "--out", str(tmp_path / "none"), "--json"]) == 0
    assert told(capsys)["to_send"] > 0


def test_a_narrow_terminal_shows_models_and_costs(job, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "mavi_tasks.reports.terminal.console.open_console", lambda **_: Console(width=80, color_system=None)
    )
    assert main(["run", str(job), "--out", str(tmp_path / "x"), "--quiet", "--limit", "2"]) == 0
    assert main(["run", str(job), "--out", str(tmp_path / "x"), "--limit", "2"]) == 0
    shown = capsys.readouterr().out
    assert "gemini:gemini-2.5-flash" in shown
    assert "cost" in shown
    assert "p95" not in shown


def test_reading_a_long_manifest_is_shown_on_stderr(job, capsys, monkeypatch):
    monkeypatch.setattr("mavi_tasks.reports.terminal.progress.PLAIN_EVERY_S", 0.0)
    assert main(["plan", str(job)]) == 0
    assert "Reading manifest and media: 4 items" in capsys.readouterr().err
    assert main(["run", str(job), "--dry-run", "--quiet"]) == 0
    assert "Reading" not in capsys.readouterr().err


def test_a_disk_that_fills_up_while_planning_is_told_in_words(job, capsys, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mavi_tasks.planning.planner.ModelPlanner._send", full)
    assert main(["plan", str(job), "--out", str(tmp_path / "none")]) == 4
    assert "no room for the plan" in capsys.readouterr().err


def test_a_plan_says_when_one_call_may_take_much_of_the_budget(tmp_path, capsys):
    (tmp_path / "films.txt").write_text("https://media.example/a.mp4\n")
    arguments = ["plan", str(tmp_path / "films.txt"), "--model", "gemini:gemini-2.5-flash", "--prompt", "?"]
    assert main([*arguments, "--budget-usd", "1"]) == 0
    assert "media.max_video_s to what" in " ".join(capsys.readouterr().out.split())
    assert main([*arguments, "--budget-usd", "0.1"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    # 1,048,576 tokens at $0.30/M and an answer of 1,000 at $2.50/M
    assert "one call may cost up to $0.317, more than budget_usd: none like it is sent" in told
    assert main([*arguments, "--budget-usd", "100"]) == 0
    assert "max_video_s" not in capsys.readouterr().out


class CtrlC(io.StringIO):
    """A terminal at which Ctrl-C is pressed where an answer is wanted."""

    def isatty(self):
        return True

    def readline(self, *_):
        signal.raise_signal(signal.SIGINT)
        return "y\n"


def test_ctrl_c_at_the_question_after_a_pilot_is_a_no_and_the_run_has_its_row(
    job, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr("sys.stdin", CtrlC())
    assert main(["run", str(job), "--out", str(tmp_path / "x"), "--json", "--pilot", "1"]) == 4
    assert told(capsys)["stop_reason"] == "pilot"
    runs = duckdb.sql(f"select stop_reason from '{tmp_path}/x/runs/**/*.parquet'").fetchall()
    assert runs == [("pilot",)]


def test_a_dear_request_is_skipped_with_its_reason(job, capsys, tmp_path):
    arguments = ["run", str(job), "--out", str(tmp_path / "x"), "--json", "--max-cost-per-item", "0.0008"]
    assert main(arguments) == 0
    assert told(capsys)["skipped"] >= 4
    rows = duckdb.sql(
        f"select distinct model, error_code from '{tmp_path}/x/results/**/*.parquet' where status = 'skipped'"
    ).fetchall()
    assert ("gpt:gpt-4o-mini", "too_dear") in rows


def test_compare_prints_the_public_shape(dataset, capsys):
    assert main(["compare", str(dataset), "--json"]) == 0
    found = told(capsys)
    public = {"model", "n", "answered", "correct", "accuracy", "accuracy_low", "accuracy_high", "cost_usd"}
    public |= {"cost_per_1000_usd", "cost_per_correct_usd", "latency_p50_s", "latency_p95_s", "pareto"}
    assert all(public <= set(model) for model in found["models"])
    pair = {"a", "b", "n", "both", "a_only", "b_only", "p_value", "p_holm", "kappa"}
    assert len(found["pairs"]) == 3
    assert all(pair <= set(p) for p in found["pairs"])
    assert {"alpha", "fields"} <= set(found)


def test_compare_writes_a_page(dataset, tmp_path, capsys):
    assert main(["compare", str(dataset), "--html", str(tmp_path / "r.html")]) == 0
    assert "<html" in (tmp_path / "r.html").read_text()


def test_a_run_compared_with_itself_has_no_flips(dataset, capsys):
    arguments = ["compare", str(dataset), str(dataset), "--drift", "--fail-if-flips", "0%", "--json"]
    assert main(arguments) == 0
    assert all(model["flipped"] == 0 for model in told(capsys)["models"])


def test_every_sum_agrees_to_the_last_digit(dataset, capsys):
    assert main(["costs", str(dataset), "--by", "model", "--json"]) == 0
    costs = told(capsys)
    assert main(["status", str(dataset), "--json"]) == 0
    status = told(capsys)
    sums = [
        duckdb.sql(f"select sum(cost_usd) from '{dataset}/{table}/**/*.parquet'").fetchall()[0][0]
        for table in ("results", "attempts", "runs")
    ]
    groups = sum(Decimal(group["cost_usd"]) for group in costs["groups"])
    assert Decimal(costs["total_usd"]) == Decimal(status["cost_usd"]) == groups
    assert set(sums) == {groups}


def test_costs_writes_a_page_and_reprices(dataset, tmp_path, capsys):
    arguments = [
        "costs",
        str(dataset),
        "--html",
        str(tmp_path / "c.html"),
        "--what-if",
        "gemini:gemini-2.5-pro",
    ]
    assert main([*arguments, "--json"]) == 0
    repriced = told(capsys)["repriced"]
    assert Decimal(repriced["repriced_usd"]) > 0
    assert "<html" in (tmp_path / "c.html").read_text()


@pytest.mark.parametrize("command", ["compare", "costs"])
def test_a_page_that_cannot_be_written_is_told(dataset, tmp_path, capsys, command):
    (tmp_path / "file").write_text("")
    assert main([command, str(dataset), "--html", str(tmp_path / "file" / "x.html")]) == 4
    assert f"mavi: {tmp_path / 'file'}" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_export_writes_every_row(dataset, tmp_path, suffix, capsys):
    target = tmp_path / f"all.{suffix}"
    assert main(["export", str(dataset), "--to", str(target), "--latest"]) == 0
    reader = {"parquet": "read_parquet", "csv": "read_csv", "jsonl": "read_json"}[suffix]
    assert duckdb.sql(f"select count(*) from {reader}('{target}')").fetchall() == [(12,)]


def test_price_tells_the_exact_cost(capsys):
    assert main(["price", "gemini:gemini-2.5-flash", "--input", "1000", "--output", "10", "--json"]) == 0
    found = told(capsys)
    assert Decimal(found["cost_usd"]) == Decimal("0.000325")  # 1000*0.30/1e6 + 10*2.50/1e6
    assert set(found) == {"model", "input_tokens", "output_tokens", "cost_usd", "price_id"}


def test_an_unknown_model_names_the_nearest(capsys):
    assert main(["price", "gemini:gemini-2.5-flsh", "--input", "1", "--output", "1"]) == 2
    assert "gemini:gemini-2.5-flash" in capsys.readouterr().err


def test_models_lists_every_price_row(capsys):
    assert main(["models", "--json"]) == 0
    assert len(told(capsys)["models"]) == 60


def test_a_frame_keeps_the_types_of_the_dataset(dataset):
    from mavi_tasks.storage.dataframe import dataframe

    rows = dataframe(dataset)
    assert len(rows) == 12
    assert str(rows["cost_usd"].dtype) == "decimal128(18, 12)[pyarrow]"
    assert str(rows["frames_sent"].dtype) == "int64[pyarrow]"
    assert rows["cost_usd"].sum() == dataframe(dataset, "attempts")["cost_usd"].sum()
