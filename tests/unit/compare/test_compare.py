"""What a comparison promises, from a dataset on disk to its figures, words and JSON."""

import importlib
import io
import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sklearn import metrics

from mavi_tasks.errors import InputError
from mavi_tasks.reports.terminal.compare import render_terminal
from tests.support import made_dataset as made
from tests.support.made_dataset import Made, row

compare = importlib.import_module("mavi_tasks.compare")  # mavi_tasks.compare is the public function
A, B, C = "gemini:one", "gpt:two", "nova:three:0"
THREE = (Made(A, 0.9, "0.002"), Made(B, 0.8, "0.001"), Made(C, 0.7, "0.0001"))


def of(comparison, model):
    return next(one for one in comparison.models if one.model == model)


def pair_of(comparison, a, b):
    return next(pair for pair in comparison.pairs if {pair.a, pair.b} == {a, b})


def small(root: Path, *rows):
    return compare.compare([made.write(root, rows)])


@pytest.mark.parametrize(("items", "labels"), [(400, 2), (250, 5), (700, 12)])
def test_figures_equal_scikit_learns(tmp_path, items, labels):
    names = [f"label {at}" for at in range(labels)]
    models = (
        Made(A, 0.9, "0.002", failing=0.03),
        Made(B, 0.8, "0.001", invalid=0.05),
        Made(C, 0.6, "0.0001"),
    )
    found = compare.compare([made.bake_off(tmp_path, models, items, labels=names, seed=labels)])
    sheet, answers = found.sheet, found.answers
    true = answers.fields[0].truth
    for at, model in enumerate(sheet.models):
        one, said = of(found, model), answers.codes[at]
        assert one.accuracy.value == pytest.approx(metrics.accuracy_score(true, said))
        given = said != -1
        assert one.accuracy_answered.value == pytest.approx(metrics.accuracy_score(true[given], said[given]))
        which = sorted(set(true))
        precision, recall, f1, support = metrics.precision_recall_fscore_support(
            true, said, labels=which, zero_division=0.0
        )
        mine = {score.label: score for score in one.classes}
        for i, code in enumerate(which):
            score = mine[answers.fields[0].labels[code]]
            assert (score.precision or 0.0, score.recall, score.f1) == pytest.approx(
                (precision[i], recall[i], f1[i])
            )
            assert score.support == support[i]
        assert one.macro_f1.value == pytest.approx(np.mean(f1))
        assert one.macro_f1.low < one.macro_f1.value < one.macro_f1.high
        table = metrics.confusion_matrix(true, said, labels=which)
        order = [answers.fields[0].labels.index(name) for name in found.labels]
        at_sorted = [which.index(code) for code in order]
        confusion = np.array(found.confusion[model])
        assert (confusion[:, : len(which)] == table[np.ix_(at_sorted, at_sorted)]).all()
        assert confusion.sum() == items
    for pair in found.pairs:
        codes = [answers.codes[sheet.models.index(name)] for name in (pair.a, pair.b)]
        both = (codes[0] != -1) & (codes[1] != -1)
        assert pair.kappa.value == pytest.approx(metrics.cohen_kappa_score(codes[0][both], codes[1][both]))


def test_failed_and_invalid_rows_are_wrong_in_one_figure_and_left_out_of_the_other(tmp_path):
    found = small(
        tmp_path,
        row(A, "1", "cat", truth="cat"),
        row(A, "2", None, truth="cat", status="failed"),
        row(A, "3", "cat", truth="cat", status="invalid"),
        row(A, "4", "dog", truth="cat"),
    )
    one = of(found, A)
    assert (one.n, one.answered, one.failed, one.invalid, one.correct) == (4, 2, 1, 1, 1)
    assert (one.accuracy.value, one.accuracy_answered.value) == (0.25, 0.5)


def test_the_latest_row_of_an_item_counts(tmp_path):
    later = made.NOON.replace(hour=18)
    first = row(A, "1", None, truth="cat", status="failed")
    again = row(A, "1", "cat", truth="cat", finished_at=later)
    assert of(small(tmp_path, again, first), A).correct == 1


def test_money_is_exact_and_leaves_as_text(tmp_path):
    found = small(
        tmp_path,
        row(A, "1", "cat", truth="cat", cost_usd="0.000000000001"),
        row(A, "2", "dog", truth="cat", cost_usd="0.300000000002"),
        row(A, "3", None, truth="cat", status="failed"),
    )
    one = of(found, A)
    assert one.cost_usd == Decimal("0.300000000003")
    assert one.cost_per_correct_usd == Decimal("0.300000000003")
    assert one.cost_per_1000_usd == Decimal("100.000000001000")
    assert found.to_json()["models"][0]["cost_usd"] == "0.300000000003"


def test_an_unknown_price_is_unknown_and_never_zero(tmp_path):
    found = small(tmp_path, row(A, "1", "cat", truth="cat"), row(B, "1", "cat", truth="cat", cost_usd="0.1"))
    one = of(found, A)
    assert (one.cost_usd, one.cost_per_1000_usd, one.cost_per_correct_usd, one.pareto) == (
        None,
        None,
        None,
        None,
    )
    assert any("no known price" in warning for warning in found.warnings)


def test_cost_per_video_hour(tmp_path):
    video = {"media_kind": "video", "duration_s": 900.0, "cost_usd": "0.02"}
    found = small(tmp_path, row(A, "1", "cat", **video), row(A, "2", "cat", **video))
    assert of(found, A).cost_per_video_hour_usd == Decimal("0.08")  # 4 cents for half an hour


@pytest.mark.parametrize(
    ("truth", "right", "wrong", "rule"),
    [
        ("Cat", "  cat. ", "dog", "mention"),
        ("cat", "```\nCAT\n```", "The cat and the dog", "mention"),
        ("cat", "It is a cat.", "It is a catfish.", "mention"),
        ("3", "There are 3.", "There are 4", "numeric"),
        ("1,200", "1200.0", "12", "numeric"),
        ('["cat", "dog"]', "Dog, cat", "cat", "set"),
        (
            '{"animal": "cat", "count": 2}',
            '{"animal": "Cat", "count": "2"}',
            '{"animal": "cat", "count": 3}',
            None,
        ),
        ('{"animal": "cat"}', 'Sure!\n```json\n{"Animal": "cat", "reason": "ears"}\n```', "a cat", None),
        ("cat", '{"label": "cat", "confidence": 0.4}', '{"label": "dog"}', "mention"),
        ("true", '{"indoor": true}', '{"indoor": false}', "mention"),
    ],
)
def test_answers_are_matched_by_what_fits_the_truth(tmp_path, truth, right, wrong, rule):
    others = [
        row(A, f"more {at}", "dog", truth=name)
        for at, name in enumerate(["dog", "fish"])
        if rule == "mention"
    ]
    found = small(tmp_path, row(A, "1", right, truth=truth), row(B, "1", wrong, truth=truth), *others)
    correct = {name: found.answers.right[at][0] for at, name in enumerate(found.sheet.models)}
    assert correct == {A: True, B: False}
    if rule:
        assert found.fields["answer"].rule == rule
        assert any(f"answer: {rule}" in line for line in found.method)


@pytest.mark.parametrize(
    ("rule", "truth", "answer", "right"),
    [
        ("exact", "Cat", "cat", False),
        ("exact", "Cat", "Cat", True),
        ("normalised", "cat", "It is a cat", False),
        ("numeric:0.5", "3", "3.5", True),
        ("numeric(0.5)", "3", "3.6", False),
        ("numeric:10%", "200", "219", True),
        ("numeric(10%)", "200", "221", False),
        ("set", "a, b", "B; A", True),
    ],
)
def test_a_declared_rule_is_followed(tmp_path, rule, truth, answer, right):
    folder = made.write(tmp_path, [row(A, "1", answer, truth=truth)])
    found = compare.compare([folder], fields={"answer": rule})
    assert bool(found.answers.right[0][0]) is right


def test_wrong_rules_and_fields_are_told_all_at_once(tmp_path):
    folder = made.write(tmp_path, [row(A, "1", "cat", truth="cat")])
    with pytest.raises(InputError) as caught:
        compare.compare([folder], fields={"answer": "fuzzy", "other": "exact:3"})
    assert len(caught.value.problems) == 2
    with pytest.raises(InputError, match=r"field 'colour': the answers have no such field, only answer"):
        compare.compare([folder], fields={"colour": "exact"})


def two_fields(animal, colour):
    return json.dumps({"colour": colour, "animal": animal})


def test_a_plain_truth_is_held_against_the_field_that_holds_such_values(tmp_path):
    said = [
        row(A, "1", two_fields("cat", "red"), truth="cat"),
        row(A, "2", two_fields("cat", "dog"), truth="dog"),
    ]
    assert of(small(tmp_path, *said), A).accuracy.value == 0.5


def test_a_plain_truth_that_fits_no_field_is_asked_about_unless_the_field_is_declared(tmp_path):
    folder = made.write(tmp_path, [row(A, "1", two_fields("horse", "red"), truth="cat")])
    with pytest.raises(InputError, match="have the fields colour, animal: say which"):
        compare.compare([folder])
    found = compare.compare([folder], fields={"animal": "normalised"})
    assert of(found, A).accuracy.value == 0.0


def test_each_field_of_a_truth_map_is_scored_on_its_own(tmp_path):
    truth = json.dumps({"animal": "cat", "count": 2})
    found = small(
        tmp_path,
        row(A, "1", '{"animal": "cat", "count": 2}', truth=truth),
        row(A, "2", '{"animal": "cat", "count": 5}', truth=truth),
    )
    assert found.fields["animal"].accuracy[A].value == 1.0
    assert found.fields["count"].accuracy[A].value == 0.5
    assert of(found, A).accuracy.value == 0.5


def test_without_truth_agreement_is_measured_and_accuracy_is_not_claimed(tmp_path):
    found = compare.compare([made.bake_off(tmp_path, THREE, 300, truth=False)])
    assert found.quality == "agreement"
    assert 0.3 < found.alpha.value < 0.9
    one = of(found, A)
    assert one.accuracy is None
    assert one.correct is None
    assert one.majority_agreement.value > of(found, C).majority_agreement.value
    assert one.reliability == pytest.approx(0.9, abs=0.06)
    assert pair_of(found, A, B).p_value is None
    assert found.verdict.headline.startswith("Undecided: without expected answers")
    assert found.choice.model is None
    assert found.choice.more.labels.p90 == found.choice.more.differing > 0
    assert found.cascades is None


def test_free_text_without_truth_is_not_counted_as_disagreement(tmp_path):
    rows = [
        row(m, str(i), f"A long caption number {i} by {m}", cost_usd="0.1") for m in (A, B) for i in range(40)
    ]
    found = small(tmp_path, *rows)
    assert found.quality == "cost"
    assert found.alpha is None
    assert "free text" in found.fields["answer"].note
    assert "only cost and speed" in found.verdict.headline


def test_a_reference_model_stands_in_for_the_truth_and_this_is_said(tmp_path):
    folder = made.bake_off(tmp_path, THREE, 200, truth=False)
    found = compare.compare([folder], reference=A)
    assert {one.model for one in found.models} == {B, C}
    assert [{pair.a, pair.b} for pair in found.pairs] == [{B, C}]
    assert A.split(":")[1] not in found.verdict.headline
    assert any("No truth was used" in warning for warning in found.warnings)
    with pytest.raises(InputError, match="not one of the models"):
        compare.compare([folder], reference="gemini:none")


def test_items_seen_differently_are_marked_and_can_be_left_out(tmp_path):
    rows = [row(m, str(i), "cat", truth="cat") for m in (A, B) for i in range(10)]
    for one in rows[:4]:
        one["input_mode"], one["frames_sent"] = "frames", 8
    rows[5]["input_mode"] = "inline"  # the same medium, sent another way, is alike
    folder = made.write(tmp_path, rows)
    found = compare.compare([folder])
    assert (found.items, found.unlike_items) == (10, 4)
    assert of(found, A).saw == {"8 frames": 4, "whole image": 6}
    assert any("4 items were not shown" in warning for warning in found.warnings)
    like = compare.compare([folder], like_for_like=True)
    assert (like.items, of(like, A).n) == (6, 6)


def test_like_for_like_without_a_like_item_says_so(tmp_path):
    rows = [row(A, "1", "cat"), row(B, "1", "cat", input_mode="frames", frames_sent=4)]
    with pytest.raises(InputError, match="no item was shown to all models in the same way"):
        compare.compare([made.write(tmp_path, rows)], like_for_like=True)


def test_sandbox_answers_are_marked_loudly(tmp_path):
    found = small(tmp_path, row(A, "1", "cat", gateway="sandbox"), row(B, "1", "cat"))
    assert (of(found, A).simulated, of(found, B).simulated) == (True, False)
    assert "SIMULATED" in found.warnings[0]
    assert found.to_json()["simulated"] is True


def test_the_front_holds_what_nothing_beats(tmp_path):
    models = (Made(A, 0.9, "0.002"), Made(B, 0.8, "0.003"), Made(C, 0.7, "0.0001"))
    found = compare.compare([made.bake_off(tmp_path, models, 500)])
    assert {one.model: one.pareto for one in found.models} == {A: True, B: False, C: True}
    assert of(found, B).dominated_by == (A,)


def test_a_clear_winner_is_chosen_and_an_open_contest_names_nobody(tmp_path):
    clear = compare.compare([made.bake_off(tmp_path / "clear", THREE, 800)])
    assert clear.verdict.headline == "Choose one: no other is more accurate (95%), at $2.00 per 1,000 items."
    assert (clear.choice.model, clear.choice.decided, clear.choice.more) == (A, True, None)
    close = (Made(A, 0.85, "0.002"), Made(B, 0.84, "0.001"))
    open_ = compare.compare([made.bake_off(tmp_path / "open", close, 150)])
    assert open_.verdict.headline.startswith("Undecided: two may be up to ")
    assert open_.verdict.headline.endswith("points behind one (95%), more than the margin of 2 points.")
    assert (open_.choice.model, open_.choice.undecided) == (None, (B, A))
    more = open_.choice.more
    assert more.items.p10 < more.items.p50 < more.items.p90
    assert more.cost_usd.p50 == Decimal("0.003") * more.items.p50
    assert more.labels.p50 < more.items.p50
    assert any("would settle it" in point for point in open_.verdict.points)


def test_a_wide_margin_decides_for_the_cheaper_and_a_wrong_one_is_refused(tmp_path):
    close = (Made(A, 0.85, "0.002"), Made(B, 0.84, "0.001"))
    folder = made.bake_off(tmp_path, close, 150)
    found = compare.compare([folder], margin=20)
    assert found.choice.model == B
    assert 0 < found.choice.behind_points_high <= 20
    assert "at most " in found.verdict.headline
    with pytest.raises(InputError, match="margin 0: give points above 0"):
        compare.compare([folder], margin=0)


def test_items_that_wait_for_their_truth_cost_no_request(tmp_path):
    rows = []
    for at in range(400):
        truth = "cat" if at < 100 else None
        rows.append(row(A, str(at), "dog" if at % 10 == 0 else "cat", truth=truth, cost_usd="0.01"))
        rows.append(row(B, str(at), "dog" if at % 9 == 0 else "cat", truth=truth, cost_usd="0.001"))
    more = small(tmp_path, *rows).choice.more
    assert more.waiting == 300
    assert more.cost_usd.p10 == max(0, more.items.p10 - 300) * Decimal("0.011")


def test_equal_answers_carry_a_choice_without_truth(tmp_path):
    rows = [row(A, str(i), "cat", cost_usd="0.042") for i in range(400)]
    rows += [row(B, str(i), "cat", cost_usd="0.001") for i in range(400)]
    found = small(tmp_path, *rows)
    assert (found.choice.model, found.choice.by_truth) == (B, False)
    assert "whatever the right answers are, it is at most " in found.verdict.headline


def test_without_truth_no_winner_comes_out_of_noise(tmp_path):
    rows = [row(A, str(i), "cat", cost_usd="0.042") for i in range(250)]
    rows += [row(B, str(i), "dog" if i < 22 else "cat", cost_usd="0.001") for i in range(250)]
    found = small(tmp_path, *rows)
    assert found.verdict.headline == (
        "Undecided without expected answers: one and two answer alike on 91.2% of 250 items; two costs 1/42."
    )
    assert found.verdict.points[0].startswith("To decide, label the 22 items where they differ")


def test_few_items_are_no_strong_agreement(tmp_path):
    rows = [row(m, str(i), ("cat", "dog")[i], cost_usd="0.1") for m in (A, B) for i in range(2)]
    found = small(tmp_path, *rows)
    assert not any("strongly" in point for point in (found.verdict.headline, *found.verdict.points))
    assert "2 items are too few to say how well the models agree." in found.verdict.points
    assert "Only 2 items: what is seen of so few may well be chance." in found.warnings


def test_a_clusters_items_count_as_one_draw(tmp_path):
    def clips(root, named):
        rows = [
            row(m, f"{v}-{c}", said, truth="cat", cost_usd="0.001", cluster=f"video {v}" if named else None)
            for v in range(20)
            for c in range(10)
            for m, said in ((A, "cat"), (B, "dog" if v < 5 else "cat"))
        ]
        return pair_of(compare.compare([made.write(root, rows)]), A, B)

    alone, together = clips(tmp_path / "alone", False), clips(tmp_path / "named", True)
    assert alone.p_value < 1e-10
    assert together.p_value == 0.0625  # 5 of 5 videos: 2 / 2**5
    assert together.difference.low < alone.difference.low - 0.1


def test_two_prompts_of_one_model_meet_in_a_pair(tmp_path):
    rows = [row(A, str(i), "cat", truth="cat", prompt_id="long", cost_usd="0.002") for i in range(300)]
    rows += [
        row(A, str(i), "dog" if i % 5 == 0 else "cat", truth="cat", prompt_id="short", cost_usd="0.001")
        for i in range(300)
    ]
    found = small(tmp_path, *rows)
    assert [(one.candidate, one.model, one.prompt_id) for one in found.models] == [
        (f"{A} · long", A, "long"),
        (f"{A} · short", A, "short"),
    ]
    assert (found.pairs[0].a_only, found.pairs[0].verdict) == (60, "a")
    assert (found.choice.model, found.choice.prompt_id) == (A, "long")
    assert [one["prompt_id"] for one in found.to_json()["candidates"]] == ["long", "short"]
    assert found.items == 300


def test_repeats_of_a_request_show_how_stable_a_candidate_is(tmp_path):
    def again(model, item, number, said):
        key = f"{model}{item}{number}"
        return row(model, str(item), said, truth="cat", cost_usd="0.001", repeat=number, request_key=key)

    rows = [again(A, i, n, "cat") for i in range(40) for n in (None, 2, 3)]
    rows += [again(B, i, n, "dog" if n == 2 else "cat") for i in range(40) for n in (None, 2, 3)]
    found = small(tmp_path, *rows)
    assert (of(found, A).stability.value, of(found, A).within_item_variance) == (1.0, 0.0)
    assert of(found, B).stability.value == pytest.approx(1 / 3)
    assert of(found, B).within_item_variance == pytest.approx(1 / 3)
    assert (found.items, of(found, A).n) == (40, 120)
    assert pair_of(found, A, B).difference.value == pytest.approx(1 / 3)


def test_differences_are_paired_on_the_same_items(tmp_path):
    rows = [row(A, str(i), "cat", truth="cat", cost_usd="0.002", latency_s=2.0) for i in range(50)]
    rows += [row(B, str(i), "dog" if i < 10 else "cat", truth="cat", cost_usd="0.001") for i in range(40)]
    pair = small(tmp_path, *rows).pairs[0]
    assert (pair.n, pair.both, pair.a_only, pair.b_only, pair.neither) == (40, 30, 10, 0, 0)
    assert pair.difference.value == 0.25
    assert pair.difference.low > 0
    assert pair.cost_difference_per_1000_usd.value == pytest.approx(1.0)
    assert pair.latency_difference_s.value == pytest.approx(1.0)


def test_a_cascade_of_independent_models_beats_its_cheap_members(tmp_path):
    found = compare.compare([made.bake_off(tmp_path, THREE, 600, as_json=True)])
    cascades = found.cascades
    assert {policy.kind for policy in cascades.policies} <= {"agree", "agree3", "confidence", "fallback"}
    assert all(policy.pareto for policy in cascades.policies)
    assert cascades.best_single == A
    assert cascades.checked_accuracy == pytest.approx(cascades.best_single_accuracy, abs=0.05)
    costs = [policy.cost_per_1000_usd for policy in cascades.policies]
    assert costs == sorted(costs)


def test_a_two_step_cascade_costs_what_its_steps_cost(tmp_path):
    # A and B differ on 10 of 40 items; only there C is asked, and is right
    rows = [row(A, str(i), "cat", truth="cat" if i >= 10 else "dog", cost_usd="0.001") for i in range(40)]
    rows += [row(B, str(i), "cat" if i >= 10 else "fish", truth="cat", cost_usd="0.001") for i in range(40)]
    rows += [row(C, str(i), "dog" if i < 10 else "fish", truth="cat", cost_usd="0.01") for i in range(40)]
    for one in rows:
        one["truth"] = "cat" if int(one["item_id"]) >= 10 else "dog"
    found = small(tmp_path, *rows)
    best = found.cascades.policies[-1]
    assert (best.kind, best.steps, best.accuracy) == ("agree", ((A, B), (C,)), 1.0)
    assert best.escalated == (0.25,)
    assert best.cost_per_1000_usd == Decimal("4.5")  # 1 + 1 + 10 / 4


def test_json_has_the_promised_names(tmp_path):
    out = compare.compare([made.bake_off(tmp_path, THREE, 60)]).to_json()
    assert json.loads(json.dumps(out, allow_nan=False)) == out
    assert {"models", "pairs", "alpha", "alpha_low", "alpha_high", "fields"} <= set(out)
    promised = (
        "model n answered correct accuracy accuracy_low accuracy_high cost_usd cost_per_1000_usd "
        "cost_per_correct_usd latency_p50_s latency_p95_s pareto"
    )
    assert set(promised.split()) <= set(out["models"][0])
    assert {"a", "b", "n", "both", "a_only", "b_only", "p_value", "p_holm", "kappa"} <= set(out["pairs"][0])
    assert isinstance(out["models"][0]["cost_usd"], str)


def test_one_model_alone_is_described_and_not_compared(tmp_path):
    found = small(tmp_path, row(A, "1", "cat", truth="cat", cost_usd="0.001"))
    assert found.pairs == ()
    assert "Run another model" in found.verdict.headline


def test_a_folder_without_results_is_refused_in_words(tmp_path):
    with pytest.raises(InputError, match="is not a dataset"):
        compare.compare([tmp_path])
    made.write(tmp_path, [])
    with pytest.raises(InputError, match="has no results yet"):
        compare.compare([tmp_path])


def test_nothing_answered_at_all_still_compares(tmp_path):
    rows = [row(m, str(i), None, truth="cat", status="failed") for m in (A, B) for i in range(5)]
    found = small(tmp_path, *rows)
    assert of(found, A).accuracy.value == 0.0
    assert of(found, A).accuracy_answered is None


def test_terminal_prints_the_verdict_and_reads_no_markup_from_answers(tmp_path):
    rows = [
        row("gpt:[red]x[/red]", str(i), "[bold]cat[/bold]", truth="cat", cost_usd="0.1") for i in range(3)
    ]
    rows += [row(B, str(i), "dog", truth="cat", cost_usd="0.1") for i in range(3)]
    screen = io.StringIO()
    render_terminal(small(tmp_path, *rows), Console(file=screen, width=160))
    assert "[red]x[/red]" in screen.getvalue()
    assert "100.0%" in screen.getvalue()


def runs(tmp_path, before=0.9, after=0.93, **more):
    folder = [tmp_path / "before", tmp_path / "after"]
    made.bake_off(folder[0], [Made(A, before, "0.0006")], 300, seed=3)
    made.bake_off(folder[1], [Made(A, after, "0.0007", 1.5, **more)], 300, seed=3)
    return folder


def test_flips_between_two_runs_are_counted_with_their_items(tmp_path):
    drift = compare.compare_runs(*runs(tmp_path))
    one = drift.models[0]
    assert one.flipped == len(one.flipped_items) > 0
    assert one.flips.value == one.flipped / 300
    assert one.change.difference.value == pytest.approx(one.accuracy_after - one.accuracy_before)
    assert (one.cost_before_usd, one.cost_after_usd) == (Decimal("0.18"), Decimal("0.21"))
    assert one.change.latency_difference_s.value == pytest.approx(0.5, abs=0.1)
    assert sum(one.moves.values()) == one.flipped
    assert not drift.exceeds(one.flips.value)  # what was seen is not sure
    assert drift.exceeds(one.flips_at_least - 0.001)
    assert not drift.exceeds(one.flips_at_least)
    assert json.loads(json.dumps(drift.to_json(), allow_nan=False))["flips"] == one.flips.value


def test_equal_runs_have_no_flip(tmp_path):
    folder = runs(tmp_path, 0.9, 0.9)[0]
    drift = compare.compare_runs(folder, folder)
    assert (drift.models[0].flipped, drift.flips.value, drift.models[0].change.p_value) == (0, 0.0, 1.0)


def test_two_versions_of_a_model_are_paired_whatever_their_names(tmp_path):
    made.write(tmp_path / "a", [row("qwen:v1", "1", "cat")])
    made.write(tmp_path / "b", [row("qwen:v2", "1", "dog")])
    assert compare.compare_runs(tmp_path / "a", tmp_path / "b").models[0].moves == {"cat → dog": 1}


def test_two_runs_in_one_dataset_can_be_told_apart(tmp_path):
    made.write(tmp_path, [row(A, "1", "cat", run_id="r1")], part="one")
    made.write(tmp_path, [row(A, "1", "dog", run_id="r2")], part="two")
    drift = compare.compare_runs(compare.Run(tmp_path, "r1"), compare.Run(tmp_path, "r2"))
    assert drift.models[0].flipped == 1


def test_runs_without_a_common_model_or_item_are_refused(tmp_path):
    made.write(tmp_path / "a", [row(A, "1", "cat"), row(B, "1", "cat")])
    made.write(tmp_path / "b", [row(C, "1", "cat"), row("gpt:x", "1", "cat")])
    made.write(tmp_path / "c", [row(A, "9", "cat")])
    with pytest.raises(InputError, match="no model is in both"):
        compare.compare_runs(tmp_path / "a", tmp_path / "b")
    with pytest.raises(InputError, match="no item in common"):
        compare.compare_runs(tmp_path / "a", tmp_path / "c")


def test_models_in_both_datasets_are_found(tmp_path):
    made.write(tmp_path / "a", [row(A, "1", "cat"), row(B, "1", "cat")])
    made.write(tmp_path / "b", [row(B, "1", "cat")])
    assert compare.shared_models(tmp_path / "a", tmp_path / "b") == (B,)


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.2", 0.2), (" 100 % ", 1.0)])
def test_a_share_is_read_as_people_write_it(text, share):
    assert compare.parse_fraction(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "many", "5", "-1%", "nan", "150%"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(InputError, match="give a percentage"):
        compare.parse_fraction(text)


def test_the_most_disputed_items_are_listed_with_what_each_model_said(tmp_path):
    rows = [row(m, "calm", "cat") for m in (A, B, C)]
    rows += [row(m, "disputed", said) for m, said in ((A, "cat"), (B, "dog"), (C, None))]
    rows[-1]["status"] = "failed"
    found = small(tmp_path, *rows)
    assert [one.item_id for one in found.disputed] == ["disputed"]
    assert found.to_json()["disputed"][0]["labels"] == {A: "cat", B: "dog", C: None}
