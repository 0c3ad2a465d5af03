"""Which cascade is proven, and which items it escalates."""

import numpy as np
import pytest

from mavi_tasks.compare import certificate
from mavi_tasks.compare.certificate import Answers


def answers(items=2000, *, cheap=0.8, dear=0.9, knows=True, seed=1):
    """A cheap and a dear model; the cheap one's confidence tells its errors, when it `knows`."""
    rng = np.random.default_rng(seed)
    right = np.stack([rng.random(items) < cheap, rng.random(items) < dear]).astype(float)
    sure = np.where(right[0] > 0, 0.9, 0.3) if knows else np.full(items, 0.5)
    confidence = np.stack([sure + rng.normal(0, 0.02, items), np.full(items, np.nan)])
    return Answers(
        scores=right,
        costs=np.array([[1.0], [20.0]]) * np.ones((2, items)),
        usable=np.ones((2, items), bool),
        confidence=confidence,
        clusters=np.arange(items),
        same={(0, 1): right[0] == right[1]},
    )


def test_a_model_that_knows_when_it_errs_needs_the_dear_one_seldom():
    found = certificate.certify(answers(), 1, 0.02)
    assert found.first == (0,)
    assert found.behind_high <= 0.02
    assert found.escalated < 0.5
    assert found.cost < 0.6 * found.cost_last


def test_nothing_is_proven_by_few_items():
    assert certificate.certify(answers(40), 1, 0.02) is None
    assert certificate.certify(answers(2), 1, 0.02) is None


def test_a_cascade_that_saves_nothing_is_none():
    """A confidence that says nothing: to stay within the margin nearly all must be escalated."""
    found = certificate.certify(answers(cheap=0.5, knows=False), 1, 0.02)
    assert found is None or found.escalated > 0.8


@pytest.mark.parametrize(
    ("first", "below", "open_"),
    [
        ((0,), None, [False, False, False, True]),
        ((0,), 0.5, [False, True, True, True]),
        ((0, 1), None, [False, True, False, True]),
    ],
)
def test_items_are_left_open_by_no_answer_by_doubt_and_by_disagreement(first, below, open_):
    made = Answers(
        scores=np.ones((3, 4)),
        costs=np.ones((3, 4)),
        usable=np.array([[True, True, True, False], [True] * 4, [True] * 4]),
        confidence=np.array([[0.9, 0.2, np.nan, 0.9], [np.nan] * 4, [np.nan] * 4]),
        clusters=np.arange(4),
        same={(0, 1): np.array([True, False, True, True])},
    )
    assert certificate.escalated(made, first, below).tolist() == open_
