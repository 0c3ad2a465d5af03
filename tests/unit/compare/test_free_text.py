"""Free text: how alike answers are, and what a blind judge of another family prefers."""

import importlib
import json

import choix
import numpy as np
import pytest
import statsmodels.api as sm
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import CHRF

from mavi_tasks.cli.main import main
from mavi_tasks.compare import bradley_terry, judge_job, preference, text_agreement
from mavi_tasks.errors import InputError
from mavi_tasks.reports.html import compare_page
from tests.bench import judged_pairs as bench
from tests.support import made_dataset as made
from tests.support.gateways import REPOSITORY
from tests.support.made_dataset import row

compare = importlib.import_module("mavi_tasks.compare")
A, B, C = "gemini:g-a", "gpt:g-b", "nova:n-c:0"
JUDGE = "qwen:qwen3-vl-plus"
PROSE = (
    "A long-haired cat sleeps in the afternoon sun on a blue sofa, near a half-open window and a cushion",
    "On a blue sofa in the afternoon sun a long-haired cat is asleep, near a half-open window and a cushion",
    "Somebody has left a large number of unwashed plates in the kitchen sink, under a lamp that is still on",
)


def texts(root, items=6, models=(A, B, C)):
    rows = [
        row(model, str(at), f"{PROSE[which]} ({at})")
        for at in range(items)
        for which, model in enumerate(models)
    ]
    return made.write(root, rows)


# -- agreement


@given(st.text("ab cdé", max_size=30), st.text("ab cdé", max_size=30))
def test_chrf_is_sacrebleus(said, reference):
    mine = text_agreement.chrf(text_agreement.ngrams(said), text_agreement.ngrams(reference))
    assert 100 * mine == pytest.approx(CHRF().sentence_score(said, [reference]).score, abs=1e-9)


def test_token_f1_counts_words_as_often_as_they_stand_there():
    assert text_agreement.token_f1("A cat, a dog.", "a cat") == pytest.approx(2 * 2 / (4 + 2))
    assert text_agreement.token_f1("", "...") == 1.0


def test_the_answer_in_the_middle_is_the_consensus_and_is_called_agreement(tmp_path):
    found = compare.compare([texts(tmp_path)])
    held = found.text_agreement
    assert held.items == 6
    assert set(held.consensus.values()) <= {A, B}
    assert held.models[C].chrf.value < held.models[A].chrf.value
    assert found.quality == "cost"  # no word of quality where none is known
    page = compare_page.html(found)
    assert "agreement, not quality" in page
    assert found.to_json()["text_agreement"]["consensus"]['["0", "label"]'] in (A, B)


def test_short_labels_have_no_text_agreement(tmp_path):
    rows = [row(model, str(at), "cat") for at in range(4) for model in (A, B)]
    assert compare.compare([made.write(tmp_path, rows)]).text_agreement is None


# -- the judge's job


def test_every_pair_is_asked_in_both_orders_without_a_models_name(tmp_path):
    written = judge_job.write([texts(tmp_path / "data")], JUDGE, tmp_path / "judge.yaml", items=4)
    job = yaml.safe_load((tmp_path / "judge.yaml").read_text())
    rows = [json.loads(line) for line in (tmp_path / "judge.jsonl").read_text().splitlines()]
    assert (written.items, written.requests, len(rows)) == (4, 24, 24)
    assert (job["models"], job["budget_usd"], job["gateway"]) == ([JUDGE], 1.0, "mavi")
    asked = {tuple(json.loads(one["item_id"])) for one in rows}
    assert all((item, prompt, second, first) in asked for item, prompt, first, second in asked)
    shown = job["prompts"]["judge"] + "".join(one["first"] + one["second"] + one["question"] for one in rows)
    assert not any(name in shown for model in (A, B, C) for name in (model, model.partition(":")[2]))


def test_equal_and_missing_answers_are_not_asked(tmp_path):
    rows = [
        row(A, "1", "a  cat"), row(B, "1", "a cat"),
        row(A, "2", "a cat"), row(B, "2", None, status="failed"),
        row(A, "3", "a cat"), row(B, "3", "a dog"),
    ]  # fmt: skip
    written = judge_job.write([made.write(tmp_path / "data", rows)], JUDGE, tmp_path / "judge.yaml")
    assert (written.items, written.requests) == (1, 2)


def test_a_judge_of_a_contestants_family_is_refused_unless_allowed(tmp_path):
    root, path = texts(tmp_path / "data"), tmp_path / "judge.yaml"
    with pytest.raises(InputError, match="same family as 'gpt:g-b', and models prefer"):
        judge_job.write([root], "gpt:gpt-4o", path)
    assert not path.exists()
    assert judge_job.write([root], "gpt:gpt-4o", path, allow_same_family=True).requests == 36


def test_nothing_to_judge_is_said(tmp_path):
    root = made.write(tmp_path / "data", [row(A, "1", "cat"), row(B, "1", "cat")])
    with pytest.raises(InputError, match="nothing to judge"):
        judge_job.write([root], JUDGE, tmp_path / "judge.yaml")


# -- verdicts


@pytest.mark.parametrize(
    ("a_first", "b_first", "wins", "flipped"),
    [
        ("1", "2", 1.0, False),
        ("2", "1", 0.0, False),
        ("1", "1", 0.5, True),  # whoever comes first
        ("2", "2", 0.5, True),
        ("tie", "tie", 0.5, False),
        ("1", "tie", 0.5, False),
    ],
)
def test_only_a_preference_in_both_orders_is_a_win(a_first, b_first, wins, flipped):
    found = preference.verdict("a", "b", "m", a_first, b_first, [10, 10])
    assert (found.wins, found.flipped) == (wins, flipped)


@pytest.mark.parametrize(
    ("lengths", "longer"), [([121, 100], 1), ([110, 100], 0), ([100, 121], -1), ([5, 0], 1)]
)
def test_longer_is_by_a_fifth(lengths, longer):
    assert preference.verdict("a", "b", "m", "1", "2", lengths).longer == longer


def games(seed=2):
    draw = np.random.default_rng(seed)
    pairs, rows = [(0, 1), (0, 2), (1, 2)], []
    for a, b in pairs:
        for _ in range(80):
            stratum = int(draw.integers(-1, 2))
            lean = 0.5 * (b - a) + 0.6 * stratum
            rows.append((a, b, stratum, float(draw.random() < 1 / (1 + np.exp(-lean)))))
    return pairs, rows


def cells(pairs, rows):
    wins, played = np.zeros((1, 9)), np.zeros((1, 9))
    for a, b, stratum, won in rows:
        at = pairs.index((a, b)) * 3 + stratum + 1
        wins[0, at], played[0, at] = wins[0, at] + won, played[0, at] + 1
    return wins, played


def test_strengths_are_choixs():
    pairs, rows = games()
    fitted = bradley_terry.fit(bradley_terry.design(pairs, 3, by_length=False), *cells(pairs, rows))[0]
    data = [(a, b) if won else (b, a) for a, b, _, won in rows]
    assert fitted == pytest.approx(choix.opt_pairwise(3, data, alpha=bradley_terry.RIDGE / 2), abs=1e-3)


def test_the_effect_of_length_is_statsmodels():
    pairs, rows = games()
    fitted = bradley_terry.fit(bradley_terry.design(pairs, 3, by_length=True), *cells(pairs, rows))[0]
    x = np.array([[(a == 1) - (b == 1), (a == 2) - (b == 2), stratum] for a, b, stratum, _ in rows], float)
    theirs = sm.Logit([won for *_, won in rows], x).fit(disp=0).params
    assert [fitted[1] - fitted[0], fitted[2] - fitted[0], fitted[3]] == pytest.approx(
        theirs.tolist(), abs=1e-3
    )


def test_when_one_is_always_longer_nothing_is_said_at_equal_length():
    verdicts = [
        preference.verdict("a", "b", str(at), "1", "2" if at % 3 else "1", [200, 100]) for at in range(30)
    ]
    found = preference.of(verdicts, judge=JUDGE, simulated=False)
    assert found.share_equal_length == {}
    assert found.longer_share == pytest.approx(found.share["a"].value, abs=1e-4)
    assert found.pairs[0].flips == 10


def test_equals_stay_equal_before_a_judge_that_leans_to_the_first_and_to_the_longer():
    generator = np.random.default_rng(4)
    judge, longer = bench.CASES["one writes longer"]
    runs = [bench.trial(judge, longer, 60, generator) for _ in range(12)]
    found = [preference.of(verdicts, judge="made up", simulated=True) for verdicts, _ in runs]
    assert np.mean([one.share_equal_length["a"].value for one in found]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([plain for _, first in runs for plain in first]) > 0.55  # what one order alone would say
    assert np.mean([one.first_share for one in found]) > 0.55


# -- through the command line


def test_a_judges_job_runs_and_its_preferences_are_compared(tmp_path, capsys, monkeypatch):
    judge = "gemini:gemini-2.5-pro"
    monkeypatch.chdir(tmp_path)
    job = yaml.safe_load((REPOSITORY / "manifests" / "quickstart.yaml").read_text())
    job["manifest"] = str(REPOSITORY / "manifests" / "quickstart.csv")
    job["models"] = ["qwen:qwen3-vl-flash", "nova:us.amazon.nova-pro-v1:0"]
    job["output"] = "data"
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    assert main(["run", "job.yaml", "--quiet"]) == 0
    assert main(["compare", "data", "--judge", judge, "--judge-out", "judge.yaml", "--judge-usd", "0.5"]) == 0
    assert main(["run", "judge.yaml", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["compare", "data", "--judged", "judge", "--json", "--html", "page.html"]) == 0
    out = capsys.readouterr().out.strip().splitlines()
    held = json.loads(out[-1])["preference"]
    assert (held["judge"], held["simulated"], held["incomplete"]) == (judge, True, 0)
    assert held["judged"] == held["pairs"][0]["n"] > 0
    assert sum(one["value"] for one in held["share"].values()) == pytest.approx(1.0)
    page = (tmp_path / "page.html").read_text()
    assert f"Preferred by {judge}" in page
    assert "(SIMULATED)" in page


def test_a_folder_that_is_no_judges_is_refused(tmp_path):
    with pytest.raises(
        InputError, match="does not name two models; give the output of a job that --judge-out"
    ):
        compare.compare([texts(tmp_path / "data")], judged=made.write(tmp_path / "j", [row(JUDGE, "1", "x")]))


def test_a_pair_judged_in_one_order_only_is_left_out(tmp_path):
    root = texts(tmp_path / "data", items=2)
    asked = [("0", A, B, "1"), ("0", B, A, "2"), ("1", A, B, "1")]
    rows = [
        row(JUDGE, json.dumps([item, "label", a, b]), answer_json=json.dumps({"better": pick}))
        for item, a, b, pick in asked
    ]
    found = compare.compare([root], judged=made.write(tmp_path / "judged", rows)).preference
    assert (found.judged, found.incomplete, found.pairs[0].a_wins) == (1, 1, 1)
