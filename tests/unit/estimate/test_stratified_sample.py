"""A small sample stands for the whole, and says how surely."""

import random
from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mavi_tasks.estimate.stratified_sample import (
    LEAST,
    MOST_STRATA,
    pilot_projection,
    pilot_sample,
    stratum_of,
)
from tests.unit.estimate.test_token_formulas import image, video


def first(thing):
    return thing[0]


# Worlds of 5,000 costs: (stratum, dollars).


def _alike(rng):
    return "image/1/p", 0.002 * rng.lognormvariate(0, 0.5)


def _skewed(rng):
    return "image/1/p", 0.002 * rng.lognormvariate(0, 1.0)


def _mixed(rng):
    if rng.random() < 0.85:
        return f"image/{rng.randrange(3)}/p", 0.001 * rng.lognormvariate(0, 0.4)
    bucket = rng.randrange(5)
    return f"video/{bucket}/p", 0.004 * 4**bucket * rng.lognormvariate(0, 0.6)


def _rare_and_dear(rng):
    if rng.random() < 0.97:
        return "image/1/p", 0.001 * rng.lognormvariate(0, 0.3)
    return "video/4/p", 0.1 * rng.lognormvariate(0, 0.8)


def _mixed_unseen(rng):  # two kinds that no stratum tells apart
    dear = rng.random() < 0.2
    return "image/1/p", (0.02 if dear else 0.001) * rng.lognormvariate(0, 0.5)


WORLDS = [_alike, _skewed, _mixed, _rare_and_dear, _mixed_unseen]


def _trial(world, n, seed):
    """Whether the band held the truth, and its width as a share of the truth."""
    rng = random.Random(f"{world.__name__} {seed}")
    things = [world(rng) for _ in range(5_000)]
    pilot = pilot_sample(things, n, seed, stratum=first)
    assert len(pilot.chosen) == n
    band = pilot_projection(pilot.costs(cost for _, cost in pilot.chosen), pilot.counts).cost_usd
    truth = sum(cost for _, cost in things)
    return float(band.p10) <= truth <= float(band.p90), float(band.p90 - band.p10) / truth


@pytest.mark.parametrize("world", WORLDS)
def test_a_pilot_of_50_of_5000_holds_the_truth_in_eighty_of_a_hundred_trials(world):
    held = sum(_trial(world, 50, seed)[0] for seed in range(100))
    assert held >= 80


@pytest.mark.parametrize("world", WORLDS)
def test_a_larger_pilot_gives_a_narrower_band(world):
    widths = [sum(_trial(world, n, seed)[1] for seed in range(12)) for n in (50, 200, 800)]
    assert widths[0] > widths[1] > widths[2]


def test_a_pilot_of_everything_has_no_band():
    pilot = pilot_sample([("a", 1.0), ("b", 2.0)], 10, 1, stratum=first)
    band = pilot_projection(pilot.costs(cost for _, cost in pilot.chosen), pilot.counts).cost_usd
    assert band.p10 == band.p50 == band.p90 == Decimal(3)


def test_the_projection_of_equal_costs_is_exact():
    projection = pilot_projection({"a": [0.5] * 10}, {"a": 100})
    assert projection.cost_usd.p10 == projection.cost_usd.p50 == projection.cost_usd.p90 == Decimal(50)
    assert projection.pilot_usd == Decimal(5)
    assert "10 of 100" in projection.sentence


def test_each_stratum_counts_by_its_own_size():
    projection = pilot_projection({"a": [1.0, 1.0], "b": [10.0, 10.0]}, {"a": 1000, "b": 10})
    assert projection.cost_usd.p50 == Decimal(1100)  # not 1010 * 5.5


def test_a_stratum_that_was_not_drawn_counts_at_the_mean_of_all():
    assert pilot_projection({"a": [2.0, 2.0]}, {"a": 10, "b": 10}).cost_usd.p50 == Decimal(40)


def test_a_projection_without_costs_is_refused():
    with pytest.raises(ValueError, match="at least one cost"):
        pilot_projection({}, {"a": 10})


def test_rare_kinds_are_in_the_sample():
    things = [("image", n) for n in range(4_990)] + [("video", n) for n in range(10)]
    pilot = pilot_sample(things, 20, 3, stratum=first)
    assert Counter(pilot.strata)["video"] >= LEAST


def test_dear_things_are_seen_more_often():
    things = [("cheap", 1.0)] * 2_000 + [("dear", 50.0)] * 2_000
    by_weight = Counter(pilot_sample(things, 40, 3, stratum=first, weight=lambda t: t[1]).strata)
    evenly = Counter(pilot_sample(things, 40, 3, stratum=first).strata)
    assert by_weight["dear"] > evenly["dear"] == 20


def test_the_same_seed_chooses_the_same():
    things = [(str(n % 7), n) for n in range(1_000)]
    assert pilot_sample(things, 30, 5, stratum=first) == pilot_sample(things, 30, 5, stratum=first)
    assert pilot_sample(things, 30, 5, stratum=first) != pilot_sample(things, 30, 6, stratum=first)


def test_every_thing_of_a_stratum_has_the_same_chance():
    drawn = Counter()
    for seed in range(600):
        drawn.update(
            n for _, n in pilot_sample([("a", n) for n in range(30)], 10, seed, stratum=first).chosen
        )
    assert min(drawn.values()) > 140  # 200 expected, deviation 11.5
    assert max(drawn.values()) < 260


def test_endless_kinds_of_things_do_not_need_endless_memory():
    pilot = pilot_sample(((str(n), n) for n in range(3_000)), 10, 1, stratum=first)
    assert len(pilot.counts) <= MOST_STRATA + 1
    assert sum(pilot.counts.values()) == 3_000


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 99))), st.integers(1, 12), st.integers()
)
def test_a_pilot_is_a_part_of_what_came_in_its_order(things, n, seed):
    numbered = [(name, at) for at, (name, _) in enumerate(things)]
    pilot = pilot_sample(numbered, n, seed, stratum=first)
    order = [at for _, at in pilot.chosen]
    assert order == sorted(set(order))
    assert len(order) == min(n, len(things))
    assert sum(pilot.counts.values()) == len(things)
    assert set(pilot.strata) <= set(pilot.counts)


def test_what_is_alike_shares_a_stratum():
    assert stratum_of([image(1024, 768)], "p") == stratum_of([image(1000, 800)], "p")
    assert stratum_of([image(1024, 768)], "p") != stratum_of([image(4000, 3000)], "p")
    assert stratum_of([video(30)], "p") != stratum_of([video(600)], "p")
    assert stratum_of([], "p") != stratum_of([], "q")


def test_the_sentence_of_a_small_pilot_shows_digits_that_say_something():
    told = pilot_projection({"a": [Decimal("0.000012"), Decimal("0.000012")]}, {"a": 20}).sentence
    assert told.startswith("2 of 20 cost $0.000024; all of them $0.00024, most likely between $0.000")
