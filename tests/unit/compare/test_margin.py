"""The choice: bounds that hold together, a name only when they carry it, exact tests of cluster sums."""

from itertools import product

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import mcnemar

from mavi_tasks.compare import margin, quantiles
from mavi_tasks.compare.sign_flip import sign_flip_p

SEED = 20261130


@pytest.mark.parametrize("freedom", [1, 2, 3.5, 15, 29, 99, 1999, 1e6])
@pytest.mark.parametrize("probability", [0.025, 0.5, 0.9, 0.975, 1 - 0.05 / 56, 1 - 1e-7])
def test_t_quantiles_equal_scipys(freedom, probability):
    expected = scipy_stats.t.ppf(probability, freedom)
    assert quantiles.t_quantile(probability, freedom) == pytest.approx(expected, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize(("a", "b"), [(1, 1), (0.5, 30), (3, 98), (40.5, 2.25), (900, 19000)])
@pytest.mark.parametrize("probability", [0.001, 0.05, 0.5, 0.95])
def test_beta_quantiles_equal_scipys(a, b, probability):
    expected = scipy_stats.beta.ppf(probability, a, b)
    assert quantiles.beta_quantile(probability, a, b) == pytest.approx(expected, rel=1e-7, abs=1e-12)


# -- the sign-flip test


def all_flips(sums):
    """The p-value by its definition: every choice of signs."""
    weights = np.abs(sums)
    totals = np.array([np.dot(signs, weights) for signs in product((-1, 1), repeat=len(weights))])
    return np.mean(np.abs(totals) >= abs(sums.sum()) - 1e-9)


@pytest.mark.parametrize(
    "sums", [[3, -1, 2, 2, -5, 1], [1, 1, 1, -2], [4], [0, 0], [2, 2, 2, 2, 2], [7, 1, 0, 3]]
)
def test_sign_flips_equal_their_enumeration(sums):
    sums = np.array(sums, float)
    assert sign_flip_p(sums) == pytest.approx(all_flips(sums), abs=1e-12)


def test_sign_flips_of_graded_sums_equal_their_enumeration():
    sums = np.random.default_rng(SEED).normal(0.3, 1, 12)
    assert sign_flip_p(sums) == pytest.approx(all_flips(sums), abs=0.002)


@pytest.mark.parametrize(("b", "c"), [(0, 1), (5, 5), (30, 12), (700, 600)])
def test_one_item_in_each_cluster_is_mcnemars_test(b, c):
    sums = np.array([1.0] * b + [-1.0] * c + [0.0] * 50)
    expected = mcnemar([[0, b], [c, 0]], exact=True).pvalue
    assert sign_flip_p(sums) == pytest.approx(expected, rel=1e-9)


def test_many_clusters_of_many_sizes_equal_simulated_flips():
    draw = np.random.default_rng(SEED)
    sums = draw.integers(-6, 8, 300).astype(float)
    flipped = (draw.choice([-1, 1], (20_000, 300)) * np.abs(sums)).sum(1)
    assert sign_flip_p(sums) == pytest.approx(np.mean(np.abs(flipped) >= abs(sums.sum())), abs=0.01)


# -- differences and bounds


def one_each(n):
    return np.arange(n)


def test_a_difference_and_its_error_by_hand():
    a, b = np.array([1.0, 1, 0, 1]), np.array([1.0, 0, 0, 0])
    found = margin.difference(a, b, np.ones(4, bool), one_each(4))
    assert (found.value, found.items, found.clusters) == (0.5, 4, 4)
    # residuals -.5 .5 -.5 .5 -> squares 1, two more of +1 and -1 -> 3; sqrt(4/3 * 3) / 4
    assert found.error == pytest.approx(0.5)


def test_clusters_of_equal_items_are_one_item_each():
    draw = np.random.default_rng(SEED)
    a, b = draw.integers(0, 2, (2, 50)).astype(float)
    alone = margin.difference(a, b, np.ones(50, bool), one_each(50))
    tenfold = margin.difference(
        np.repeat(a, 10), np.repeat(b, 10), np.ones(500, bool), np.repeat(one_each(50), 10)
    )
    squares = lambda one, size: (one.error * one.items / size) ** 2  # noqa: E731
    assert tenfold.value == alone.value
    # all but the two added clusters, which grow with the root of a cluster's size only
    assert squares(tenfold, 10) == pytest.approx(squares(alone, 1) - 50 / 49 * 2 * (1 - 0.1))


def test_items_without_a_common_score_are_not_looked_at():
    a, b = np.array([1.0, 0, 1, 9]), np.array([0.0, 0, 1, -9])
    found = margin.difference(a, b, np.array([True, True, True, False]), np.array([0, 0, 1, 2]))
    assert (found.value, found.items, found.clusters) == (pytest.approx(1 / 3), 3, 2)


def test_no_difference_seen_is_no_proof_of_none():
    same = np.ones(16)
    found = margin.difference(same, same, np.ones(16, bool), one_each(16)).interval()
    assert found.value == 0
    assert found.high == pytest.approx(0.194, abs=0.001)  # near 3 in 16, the rule of three
    assert found.low == -found.high


def test_a_single_cluster_bounds_nothing():
    scores = np.array([[1.0, 1, 1], [0, 0, 0]])
    found, _ = margin.bounds(scores, np.ones((2, 3), bool), np.zeros(3, int))
    assert found.behind.tolist() == [1.0, 1.0]


def made(*shares, n=1000, seed=SEED):
    """Scores of candidates with these accuracies, half correlated; one item in each cluster."""
    draw = np.random.default_rng(seed)
    common = draw.standard_normal(n)
    latent = np.sqrt(0.5) * common + np.sqrt(0.5) * draw.standard_normal((len(shares), n))
    return (latent < scipy_stats.norm.ppf(shares)[:, None]).astype(float)


def decided(*shares, costs, n=1000, margin_=0.02):
    scores = made(*shares, n=n)
    found, _ = margin.bounds(scores, np.ones(scores.shape, bool), one_each(n))
    return margin.choose(found, costs, margin_)


def test_the_cheapest_within_the_margin_is_chosen():
    found = decided(0.90, 0.899, 0.6, costs=[3.0, 1.0, 0.1], n=20_000)
    assert found.chosen == 1
    assert 0 < found.behind[1] <= 0.02
    assert found.open == ()


def test_a_cheaper_candidate_that_may_be_further_behind_leaves_the_choice_open():
    found = decided(0.90, 0.88, costs=[3.0, 1.0], n=100)
    assert found.chosen is None
    assert found.open == (1, 0)
    assert found.behind[1] > 0.02


def test_who_is_surely_behind_by_more_than_the_margin_is_out_of_the_question():
    found = decided(0.90, 0.89, 0.5, costs=[3.0, 1.0, 0.1], n=300)
    assert found.open == (1, 0)


def test_a_dear_candidate_that_is_surely_no_better_is_out_of_the_question():
    found = decided(0.90, 0.89, 0.6, costs=[1.0, 0.5, 9.0], n=300)
    assert 2 not in found.open


def test_the_sure_best_is_behind_by_nothing():
    found = decided(0.95, 0.5, costs=[3.0, 1.0], n=1000)
    assert (found.chosen, found.behind[0]) == (0, 0.0)


def test_an_unknown_price_is_never_the_cheapest():
    found = decided(0.9, 0.9, costs=[float("inf"), 5.0], n=20_000)
    assert found.chosen == 1


def test_only_a_surely_better_candidate_for_no_more_money_dominates():
    scores = made(0.95, 0.5, 0.94)
    found, _ = margin.bounds(scores, np.ones(scores.shape, bool), one_each(1000))
    assert margin.dominators(found, [1.0, 2.0, 3.0], 1) == (0,)
    assert margin.dominators(found, [1.0, 2.0, 3.0], 2) == ()  # perhaps it is the better one
    assert margin.dominators(found, [1.0, 0.5, 3.0], 1) == ()  # it is cheaper


def test_bounds_hold_together_19_times_in_20():
    shares = np.array([0.80, 0.84, 0.88, 0.90])
    true = shares.max() - shares
    judged = np.ones((4, 100), bool)

    def behind(seed):
        return margin.bounds(made(*shares, n=100, seed=seed), judged, one_each(100))[0].behind

    assert np.mean([bool((behind(seed) >= true).all()) for seed in range(400)]) >= 0.93
