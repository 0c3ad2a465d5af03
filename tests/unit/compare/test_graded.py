"""Answers that can be partly right: dates, sets, boxes and spans, and what a comparison makes of them."""

import importlib
import json

import numpy as np
import pytest
from faster_coco_eval import mask
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from mavi_tasks.compare import graded, match_rules
from mavi_tasks.errors import InputError
from tests.support import made_dataset as made
from tests.support.made_dataset import row

compare = importlib.import_module("mavi_tasks.compare")
A, B = "gemini:one", "gpt:two"


def scored(rule, said, expected):
    return graded.score(match_rules.parse(rule), said, expected)


# -- rules


@pytest.mark.parametrize(
    ("text", "kind", "tolerance", "shown"),
    [
        ("date", "date", 0.0, "date"),
        ("date:2", "date", 2.0, "date:2d"),
        ("date: 1h", "date", 1 / 24, "date:1h"),
        ("date:90min", "date", 1 / 16, "date:90min"),
        ("date:2w", "date", 14.0, "date:2w"),
        ("iou", "iou", 0.5, "iou:0.5"),
        ("iou: .75", "iou", 0.75, "iou:0.75"),
        ("tiou:.3", "tiou", 0.3, "tiou:0.3"),
        ("f1", "f1", 0.0, "f1"),
        ("numeric:5%", "numeric", 0.05, "numeric:5%"),
    ],
)
def test_rules_are_read_as_written_and_shown_so_that_they_can_be_written(text, kind, tolerance, shown):
    rule = match_rules.parse(text)
    assert (rule.kind, rule.tolerance, str(rule)) == (kind, pytest.approx(tolerance), shown)
    assert match_rules.parse(str(rule)) == rule


@pytest.mark.parametrize("text", ["date:5%", "iou:2", "iou:0", "f1:.5", "numeric:1d", "date:1y", "set:1"])
def test_a_tolerance_that_a_rule_does_not_take_is_refused(text):
    with pytest.raises(InputError, match="numeric:5%, date:2d, iou"):
        match_rules.parse(text)


# -- dates


@pytest.mark.parametrize(
    "text",
    ["2024-03-05", "2024/03/05", "5 March 2024", "March 5, 2024", "5.3.2024", "20240305", " 5 Mar 2024."],
)
def test_a_day_is_read_in_the_usual_forms(text):
    assert graded.days(text) == 19787.0  # days from 1970 to 5 March 2024
    assert graded.date_text(text) == "2024-03-05"


@pytest.mark.parametrize("value", ["3/5/2024", "2024", "soon", "", None, 20240305, "2024-02-30"])
def test_what_could_be_two_days_or_none_is_no_date(value):
    assert graded.days(value) is None


def test_times_of_day_know_their_zone():
    assert graded.days("2024-03-05T13:00:00+01:00") == graded.days("2024-03-05T12:00:00Z") == 19787.5


# -- sets


@given(st.lists(st.sets(st.sampled_from("abcdef"), max_size=6), min_size=2, max_size=2))
def test_f1_of_sets_is_scikit_learns(sets):
    said, expected = map(sorted, sets)
    theirs = MultiLabelBinarizer(classes=list("abcdef")).fit_transform([said, expected])
    mine = scored("f1", said, expected)
    assert mine == pytest.approx(f1_score(theirs[1], theirs[0], zero_division=1.0))


# -- boxes and spans

CORNER = st.integers(0, 12)
BOX = st.tuples(CORNER, CORNER, st.integers(1, 8), st.integers(1, 8))


@settings(max_examples=200)
@given(st.lists(BOX, max_size=7), st.lists(BOX, max_size=7), st.sampled_from([0.1, 0.3, 0.5, 0.75]))
def test_boxes_overlap_and_match_as_coco_and_scipy_say(said, expected, least):
    mine = graded.overlap(
        *(
            [
                graded.boxes([dict(zip(("x", "y", "w", "h"), b, strict=True)) for b in side])
                for side in (said, expected)
            ]
        )
    )
    if said and expected:
        theirs = mask.iou(np.array(said, float), np.array(expected, float), [0] * len(expected))
        assert mine == pytest.approx(np.asarray(theirs))
    possible = mine >= least
    rows, columns = linear_sum_assignment(~possible)
    assert graded.most_matches(possible) == possible[rows, columns].sum()


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ([[0, 0, 10, 10]], 1.0),
        ([0, 0, 10, 10], 1.0),
        ([{"bbox": [0, 0, 10, 10], "label": "Cat"}], 1.0),
        ([{"box_2d": [0, 0, 10, 10], "label": "dog"}], 0.0),
        ([{"x": 0, "y": 0, "width": 10, "height": 10}], 1.0),
        ([{"xmin": 0, "ymin": 0, "xmax": 10, "ymax": 10}], 1.0),
        ({"boxes": [[0, 0, 10, 10]]}, 1.0),
        ("```json\n[[10, 10, 0, 0]]\n```", 1.0),
        ([[0, 0, 10, 10], [0, 0, 10, 10]], 2 / 3),  # the second one finds nothing left to match
        ([[0, 0, 10, 10], "a cat"], 2 / 3),
        ([[0, 0, 10, 4]], 0.0),
        ([], 0.0),
        ("no box", 0.0),
        ([[0, 0, float("nan"), 10]], 0.0),
        ([{}, None, 3, [[]]], 0.0),
    ],
)
def test_boxes_are_read_in_many_shapes_and_scored(said, score):
    assert scored("iou", said, [{"label": "cat", "x1": 0, "y1": 0, "x2": 10, "y2": 10}]) == pytest.approx(
        score
    )


def test_geminis_boxes_have_y_first():
    assert scored("iou:.99", [{"box_2d": [10, 20, 30, 60]}], [[20, 10, 60, 30]]) == 1.0


def test_nothing_given_where_nothing_is_expected_is_right():
    assert scored("iou", [], "[]") == scored("tiou", "[]", []) == 1.0


def test_one_to_one_matching_moves_an_earlier_match_aside():
    possible = np.array([[True, True, False], [True, False, False], [False, True, True]])
    assert graded.most_matches(possible) == 3


def test_thousands_of_boxes_are_scored_at_once():
    many = [[at, 0, at + 5, 5] for at in range(3000)]
    assert scored("iou", many, many) == pytest.approx(graded.MOST_SHAPES / 3000)


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ([[60, 75]], 1.0),
        ("1:00-1:15", 1.0),
        ([{"start": "00:01:00", "end": "1:15"}], 1.0),
        ([{"start_s": 60, "end_s": 70}], 1.0),
        ([{"from": 60, "to": 66}], 0.0),
        ([[60, 75], [100, 110]], 2 / 3),
    ],
)
def test_spans_of_time_are_read_in_many_shapes_and_scored(said, score):
    assert scored("tiou:.5", said, [{"start": 60, "end": 75}]) == pytest.approx(score)


# -- in a comparison


def test_scores_between_0_and_1_are_averaged_over_items(tmp_path):
    truth = json.dumps({"tags": ["a", "b"], "taken": "2024-03-05"})
    said = [("a b", "2024-03-04"), ("a", "5 March 2024"), ("c", "2024-03-05"), ("a b", "2024-03-08")]
    rows = [
        row(A, str(at), json.dumps({"tags": tags.split(), "taken": day}), truth=truth)
        for at, (tags, day) in enumerate(said)
    ]
    rows += [row(B, str(at), truth, truth=truth) for at in range(4)]
    found = compare.compare([made.write(tmp_path, rows)], fields={"tags": "f1", "taken": "date:1d"})
    one = next(one for one in found.models if one.model == A)
    assert one.accuracy.value == pytest.approx((1 + 2 / 3 + 0 + 0) / 4)  # the worst field counts
    assert one.correct == 1
    assert found.fields["tags"].accuracy[A].value == pytest.approx((1 + 2 / 3 + 0 + 1) / 4)
    assert found.fields["taken"].accuracy[A].value == 0.75
    assert found.pairs[0].difference.value == pytest.approx(5 / 12 - 1)
    assert 0 <= one.accuracy.low < one.accuracy.value < one.accuracy.high <= 1


def test_lists_of_boxes_are_matched_as_boxes_without_being_asked(tmp_path):
    truth = json.dumps([{"label": "cat", "x1": 0, "y1": 0, "x2": 10, "y2": 10}])
    near = json.dumps([{"label": "cat", "x1": 1, "y1": 0, "x2": 10, "y2": 10}])
    found = compare.compare([made.write(tmp_path, [row(A, "1", near, truth=truth)])])
    assert found.fields["answer"].rule == "iou:0.5"
    assert found.models[0].accuracy.value == 1.0


def test_an_empty_list_can_be_the_expected_answer(tmp_path):
    rows = [row(A, "1", "[]", truth="[]"), row(A, "2", "[[0, 0, 1, 1]]", truth="[]")]
    found = compare.compare([made.write(tmp_path, rows)], fields={"answer": "iou"})
    assert (found.models[0].n, found.models[0].correct) == (2, 1)


def test_each_model_may_give_its_confidence_in_its_own_unit(tmp_path):
    rows = [
        row(A, "1", json.dumps({"label": "cat", "confidence": 0.9})),
        row(B, "1", json.dumps({"label": "cat", "confidence": 90})),
    ]
    found = compare.compare([made.write(tmp_path, rows)])
    assert found.answers.confidence.tolist() == [[0.9], [0.9]]
