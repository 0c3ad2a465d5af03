"""Every figure equals an independent computation, and 95 % intervals hold the truth about 95 times in 100."""

import math

import krippendorff
import numpy as np
import pytest
from scipy import stats as scipy_stats
from sklearn import metrics
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from mavi_tasks.compare import agreement, statistics

SEED = 20261122  # all draws below are seeded: the tests say the same thing every time


def three_sets():
    """Three sets with known truth: even and easy, skewed and hard, many labels with gaps."""
    draw = np.random.default_rng(SEED)
    for labels, items, skill, missing in ((2, 400, 0.9, 0.0), (5, 250, 0.6, 0.0), (12, 600, 0.75, 0.08)):
        weight = 1 / np.arange(1, labels + 1)
        true = draw.choice(labels, items, p=weight / weight.sum())
        codes = np.stack([said(draw, true, labels, skill) for _ in range(4)])
        codes[draw.random(codes.shape) < missing] = statistics.MISSING
        yield true, codes, labels


def said(draw, true, labels, skill):
    other = (true + draw.integers(1, labels, len(true))) % labels
    return np.where(draw.random(len(true)) < skill, true, other)


SETS = list(three_sets())
each_set = pytest.mark.parametrize(("true", "codes", "labels"), SETS, ids=["two", "five", "twelve with gaps"])


@each_set
def test_wilson_interval_equals_statsmodels(true, codes, labels):
    for row in codes:
        right, all_ = int((row == true).sum()), len(true)
        mine = statistics.wilson(right, all_)
        assert (mine.low, mine.high) == pytest.approx(
            proportion_confint(right, all_, method="wilson"), abs=1e-12
        )
        assert mine.value == pytest.approx(metrics.accuracy_score(true, row), abs=1e-12)


def test_wilson_of_no_trials_is_unknown():
    assert statistics.wilson(0, 0) is None


@each_set
def test_mcnemar_equals_statsmodels_exact_test(true, codes, labels):
    a, b = codes[0] == true, codes[1] == true
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    mine = statistics.mcnemar(int((a & ~b).sum()), int((b & ~a).sum()))
    assert mine == pytest.approx(mcnemar(table, exact=True).pvalue, rel=1e-10)


@pytest.mark.parametrize(
    ("b", "c"), [(0, 0), (0, 1), (5, 5), (30, 12), (700, 600), (1200, 1400), (9000, 8800)]
)
def test_mcnemar_equals_binomial_test_at_any_size(b, c):
    expected = scipy_stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert statistics.mcnemar(b, c) == pytest.approx(expected, rel=1e-9)


@each_set
def test_kappa_and_its_interval_equal_statsmodels(true, codes, labels):
    table = statistics.contingency(codes[0], codes[1], labels)
    mine, theirs = statistics.kappa(table), cohens_kappa(table)
    assert (mine.value, mine.low, mine.high) == pytest.approx(
        (theirs.kappa, theirs.kappa_low, theirs.kappa_upp), abs=1e-10
    )
    known = (codes[0] != statistics.MISSING) & (codes[1] != statistics.MISSING)
    assert mine.value == pytest.approx(metrics.cohen_kappa_score(codes[0][known], codes[1][known]), abs=1e-10)


def test_kappa_of_one_label_only_is_unknown():
    assert statistics.kappa(np.array([[9.0, 0], [0, 0]])) is None


@each_set
def test_nominal_alpha_equals_the_krippendorff_package(true, codes, labels):
    given = np.where(codes == statistics.MISSING, np.nan, codes)
    mine = statistics.nominal_alpha(codes, labels, np.arange(len(true)))
    assert mine.value == pytest.approx(krippendorff.alpha(given, level_of_measurement="nominal"), abs=1e-10)
    assert mine.low < mine.value < mine.high


@each_set
def test_interval_alpha_equals_the_krippendorff_package(true, codes, labels):
    given = np.where(codes == statistics.MISSING, np.nan, codes.astype(float)) * 1.7 + 1000
    mine = statistics.interval_alpha(given, np.arange(len(true)))
    assert mine.value == pytest.approx(krippendorff.alpha(given, level_of_measurement="interval"), abs=1e-8)
    assert mine.low < mine.value < mine.high


@pytest.mark.parametrize("values", [[0.01, 0.04, 0.03], [0.5, 0.0001, 0.02, 0.02, 0.9], [1.0], []])
def test_holm_equals_statsmodels(values):
    expected = multipletests(values, method="holm")[1] if values else []
    assert statistics.holm(values) == pytest.approx(list(expected), abs=1e-12)


def test_dawid_skene_finds_each_models_accuracy_without_truth():
    draw = np.random.default_rng(SEED)
    true = draw.integers(0, 4, 4000)
    skills = (0.95, 0.85, 0.75, 0.6)
    codes = np.stack([said(draw, true, 4, skill) for skill in skills])
    found = agreement.dawid_skene(codes, 4)
    assert found.reliability == pytest.approx(skills, abs=0.03)
    majority = statistics.label_counts(codes, 4).argmax(1)
    assert (found.posterior.argmax(1) == true).mean() > (majority == true).mean()


def test_dawid_skene_needs_three_models():
    assert agreement.dawid_skene(np.zeros((2, 5), int), 2) is None


def test_a_tie_has_no_majority():
    codes = np.array([[0, 1, 2], [1, 1, -1], [-1, 0, -1]])
    assert agreement.majority_of_others(codes, 3, 0).tolist() == [1, -1, -1]


def coverage(holds):
    """The share of 1,000 seeded draws in which an interval holds the truth."""
    draw = np.random.default_rng(SEED)
    return np.mean([holds(draw) for _ in range(1000)])


def test_wilson_intervals_hold_the_truth_95_times_in_100():
    # n where the discreteness of counts leaves the true coverage near its name: 94.6 %
    def holds(draw):
        made = statistics.wilson(int(draw.binomial(400, 0.85)), 400)
        return made.low <= 0.85 <= made.high

    assert 0.93 <= coverage(holds) <= 0.97


@pytest.mark.parametrize("media", [16, 60])
def test_intervals_of_shares_count_clusters(media):
    # ten items a medium that are right together more often than by chance
    def holds(draw):
        skill = draw.beta(4, 1, media)  # mean 0.8
        values = (draw.random((media, 10)) < skill[:, None]).astype(float).ravel()
        made = statistics.proportion(values, np.repeat(np.arange(media), 10))
        return made.low <= 0.8 <= made.high

    assert 0.93 <= coverage(holds) <= 0.98


def test_one_item_in_each_cluster_gives_wilsons_interval():
    values = np.array([1.0] * 30 + [0.0] * 7)
    assert statistics.proportion(values, np.arange(37)) == statistics.wilson(30, 37)


def test_a_share_of_one_cluster_has_no_interval():
    assert statistics.proportion(np.array([1.0, 0, 1, 1]), np.zeros(4, int)) == statistics.Estimate(0.75)


@pytest.mark.parametrize(("hits", "items"), [(0, 20), (3, 200), (20, 20), (12, 300)])
def test_the_lower_bound_of_a_share_is_clopper_and_pearsons(hits, items):
    given = np.arange(items) < hits
    expected = proportion_confint(hits, items, alpha=0.10, method="beta")[0]
    assert statistics.proportion_at_least(given, np.arange(items), 0.05) == pytest.approx(expected, abs=1e-9)


def test_few_clusters_widen_bootstrap_intervals_by_students_t():
    drawn = np.random.default_rng(SEED).normal(0, 1, 200_000)
    low, high = statistics.spread(drawn, 16)
    assert (low, high) == pytest.approx((-2.201, 2.201), abs=0.05)  # 2.131 * sqrt(16 / 15)
    assert statistics.spread(drawn, 1) == (None, None)


def test_kappa_intervals_hold_the_truth_95_times_in_100():
    joint = np.array([[0.4, 0.05, 0.03], [0.04, 0.25, 0.04], [0.02, 0.03, 0.14]])
    truth = statistics.kappa(joint * 1e6).value

    def holds(draw):
        made = statistics.kappa(draw.multinomial(300, joint.ravel()).reshape(3, 3).astype(float))
        return made.low <= truth <= made.high

    assert 0.93 <= coverage(holds) <= 0.97


def test_paired_bootstrap_intervals_hold_the_truth_95_times_in_100():
    # a alone is right on 12 %, b alone on 8 %: the true difference is 4 points; two items a medium
    def holds(draw):
        first = draw.choice([1.0, -1.0, 0.0], 200, p=[0.12, 0.08, 0.8])
        second = np.where(
            draw.random(200) < 0.5, first, draw.choice([1.0, -1.0, 0.0], 200, p=[0.12, 0.08, 0.8])
        )
        sums = statistics.by_cluster(np.concatenate([first, second])[:, None], np.tile(np.arange(200), 2))
        blocks = statistics.weights(200, seed=int(draw.integers(1 << 31)), draws=400)
        low, high = statistics.spread(
            np.concatenate([block @ sums[:, 0] / (2 * 200) for block in blocks]), 200
        )
        return low <= 0.04 <= high

    assert 0.93 <= coverage(holds) <= 0.97


def test_alpha_intervals_hold_the_truth_95_times_in_100():
    # two labels, three models right 85 % of the time, independently: agreement and alpha follow by hand
    agreeing = 0.85**2 + 0.15**2
    truth = 1 - (1 - agreeing) / 0.5

    def holds(draw):
        true = draw.integers(0, 2, 250)
        codes = np.where(draw.random((3, 250)) < 0.85, true, 1 - true)
        counts = statistics.label_counts(codes, 2)
        split = (9 - (counts**2).sum(1)) / 2
        blocks = statistics.weights(250, seed=int(draw.integers(1 << 31)), draws=400)
        sums = np.column_stack([split, counts])
        drawn = np.concatenate([block @ sums for block in blocks])
        alpha = 1 - (750 - 1) * drawn[:, 0] / (750**2 - (drawn[:, 1:] ** 2).sum(1))
        low, high = statistics.spread(alpha, 250)
        return low <= truth <= high

    assert 0.93 <= coverage(holds) <= 0.97


def test_clusters_of_equal_items_widen_the_interval():
    draw = np.random.default_rng(SEED)
    true = draw.integers(0, 2, 100)
    codes = np.stack([said(draw, true, 2, 0.8) for _ in range(3)])
    alone = statistics.nominal_alpha(codes, 2, np.arange(100))
    tenfold = statistics.nominal_alpha(np.repeat(codes, 10, axis=1), 2, np.repeat(np.arange(100), 10))
    fooled = statistics.nominal_alpha(np.repeat(codes, 10, axis=1), 2, np.arange(1000))
    assert tenfold.high - tenfold.low == pytest.approx(alone.high - alone.low, rel=0.1)
    assert fooled.high - fooled.low < 0.5 * (tenfold.high - tenfold.low)


def test_random_groups_of_many_clusters_give_the_interval_of_the_clusters():
    values = np.random.default_rng(SEED).normal(0, 1, (20_000, 1))
    sums = statistics.by_group(values, np.arange(20_000))
    assert sums.shape == (1000, 1)
    assert sums.sum() == pytest.approx(values.sum())
    drawn = np.concatenate([block @ sums[:, 0] for block in statistics.weights(1000)])
    assert drawn.std() == pytest.approx(np.sqrt(20_000), rel=0.08)


def test_bootstrap_weights_draw_each_cluster_as_often_as_there_are_clusters():
    drawn = np.concatenate(list(statistics.weights(50, draws=300)))
    assert drawn.shape == (300, 50)
    assert set(drawn.sum(1)) == {50.0}
    assert math.isclose(drawn.mean(), 1.0)
