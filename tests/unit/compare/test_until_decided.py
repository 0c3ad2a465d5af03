"""What knowing more costs: a forecast that agrees with what then happens."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from mavi_tasks.compare import margin, until_decided

SEED = 20261130


def scores(*shares, n, seed=SEED):
    """Scores with these shares, independent between models; one item in each cluster."""
    return (np.random.default_rng(seed).random((len(shares), n)) < np.array(shares)[:, None]).astype(float)


def posterior(made, **options):
    return until_decided.posterior(made, np.ones(made.shape, bool), np.arange(made.shape[1]), **options)


def test_the_chance_to_be_the_best_is_the_normal_one_with_many_items():
    made = scores(0.90, 0.88, n=1000)
    one = margin.difference(made[0], made[1], np.ones(1000, bool), np.arange(1000))
    expected = scipy_stats.norm.cdf(one.value / one.error)
    found = posterior(made, draws=4000)
    assert found.best[0] == pytest.approx(expected, abs=0.02)
    assert found.best.sum() == pytest.approx(1)
    # the mean of a normal's part below 0
    z = one.value / one.error
    regret = one.error * scipy_stats.norm.pdf(z) - one.value * scipy_stats.norm.sf(z)
    assert found.regret[0] == pytest.approx(regret, abs=0.001)


def test_one_cluster_tells_nothing():
    made = scores(0.9, 0.8, n=10)
    assert until_decided.posterior(made, np.ones(made.shape, bool), np.zeros(10, int)) is None


def test_clear_differences_need_fewer_items_than_small_ones():
    few = until_decided.items_until_decided(posterior(scores(0.95, 0.6, n=40)))
    many = until_decided.items_until_decided(posterior(scores(0.90, 0.89, n=40)))
    assert few.p50 < many.p50
    assert many.p10 <= many.p50 <= many.p90


def test_a_wider_margin_needs_fewer_items():
    found = posterior(scores(0.90, 0.88, n=100))
    narrow, wide = (until_decided.items_until_decided(found, at) for at in (0.02, 0.05))
    assert wide.p50 < narrow.p50


def test_what_is_not_within_a_hundred_times_the_items_has_no_number():
    found = until_decided.items_until_decided(posterior(scores(0.5, 0.5, n=20)), 0.001)
    assert found.p10 is not None  # one may turn out to be better
    assert found.p90 is None
