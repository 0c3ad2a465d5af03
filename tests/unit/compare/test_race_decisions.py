"""Who leaves a race of models, and when."""

import itertools

import numpy as np
import pytest

from mavi_tasks.compare import race_decisions as race


def scores_of(*right, items=400):
    """Scores [models, items] where model m is right on the first right[m] of every 100 items."""
    at = np.arange(items) % 100
    return np.stack([(at < share).astype(float) for share in right])


def look(scores, costs, left=None, allowed=0.03, level=0.05):
    judged = np.ones(scores.shape, bool)
    left = range(len(scores)) if left is None else left
    clusters = np.arange(scores.shape[1])
    return race.look(scores, judged, clusters, costs, left, allowed=allowed, level=level)


def test_looks_come_after_50_media_and_then_ever_later_until_all():
    assert race.look_sizes(1000) == [50, 100, 200, 300, 400, 600, 800, 1000]
    assert race.look_sizes(30) == [30]
    assert race.look_sizes(100) == [50, 100]


def test_all_looks_together_keep_the_level():
    sizes = [0, *race.look_sizes(3000)]
    levels = [race.level_of_look(a, b, 3000) for a, b in itertools.pairwise(sizes)]
    assert sum(levels) == pytest.approx(0.05)


def test_the_order_of_media_depends_on_the_seed_and_not_on_the_manifest():
    names = [f"m{n}" for n in range(100)]
    order = race.in_random_order(names, 1)
    assert order == race.in_random_order(reversed(names), 1)
    assert order != race.in_random_order(names, 2)
    assert sorted(order) == sorted(names)
    assert order[:5] != names[:5]


def test_a_cheap_model_that_is_surely_behind_by_more_than_the_margin_is_dropped():
    found = look(scores_of(70, 95), costs=[1, 10])
    assert found.left == (1,)
    (drop,) = found.drops
    assert (drop.model, drop.by, drop.why) == (0, 1, "behind")
    assert 0.03 <= drop.points < 0.25


def test_a_dear_model_that_is_surely_no_better_is_dropped():
    found = look(scores_of(95, 70), costs=[1, 10])
    assert found.left == (0,)
    assert [(one.model, one.why) for one in found.drops] == [(1, "no better")]


def test_the_cheapest_drops_a_dear_model_that_is_surely_ahead_by_no_more_than_the_margin():
    found = look(scores_of(90, 91, items=4000), costs=[1, 10], allowed=0.03)
    assert found.left == (0,)
    assert [(one.model, one.why) for one in found.drops] == [(1, "within the margin")]


def test_only_the_cheapest_gives_a_margin_away_so_that_losses_do_not_add_up():
    """b is within 3 points of c, but a is in the race and may drop b in turn: c stays."""
    found = look(scores_of(88, 90, 92, items=2000), costs=[1, 5, 10], allowed=0.03)
    assert 2 in found.left


def test_nothing_is_decided_by_few_items():
    assert look(scores_of(80, 90, items=30), costs=[1, 10]).left == (0, 1)


def test_a_model_without_a_price_counts_as_the_dearest():
    found = look(scores_of(95, 70), costs=[1, float("inf")])
    assert found.left == (0,)


def test_models_that_are_out_are_not_looked_at():
    found = look(scores_of(99, 80, 82, items=50), costs=[1, 2, 3], left=(1, 2))
    assert set(found.left) == {1, 2}


def test_what_a_model_gave_away_stays_in_how_far_it_may_be_behind():
    right, costs = scores_of(90, 91, items=4000), [1, 10]
    judged = np.ones(right.shape, bool)
    options = {"allowed": 0.01, "level": 0.05}
    clusters = np.arange(4000)
    plain = race.look(right, judged, clusters, costs, (0, 1), **options)
    after = race.look(right, judged, clusters, costs, (0, 1), given={0: 0.025}, **options)
    assert plain.left == after.left == (0, 1)
    assert max(plain.behind) < 0.02
    assert after.behind[0] == pytest.approx(0.025)
    # model 1 is surely ahead of model 0, which may be behind a model that is gone
    assert 0.01 < after.behind[1] < 0.025


def test_items_that_all_models_answer_alike_need_no_label():
    scores = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    judged = np.array([[True, False, False], [True, False, False]])
    asked = np.ones((2, 3), bool)
    filled, counted = race.without_labels(np.array([True, True, False]), judged, scores, asked)
    assert counted.tolist() == [[True, True, False], [True, True, False]]
    assert filled.tolist() == scores.tolist()
