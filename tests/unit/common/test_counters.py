"""Counters of workers add up to those of the run, no field left out."""

from dataclasses import fields

import pytest

from mavi_tasks.common.counters import SAMPLE, Latencies, ModelCounters

COUNTS = [one.name for one in fields(ModelCounters) if one.type in (int, "int")]


def counters(value, **values):
    return ModelCounters("gpt:m", **dict.fromkeys(COUNTS, value), **values)


def test_every_count_is_added_and_subtracted():
    total, rest = counters(5) + counters(2), counters(5) - counters(2)
    assert {getattr(total, name) for name in COUNTS} == {7}
    assert {getattr(rest, name) for name in COUNTS} == {3}
    assert len(COUNTS) >= 16


def test_errors_add_up_and_the_first_message_stays():
    one = counters(0, errors={"timeout": (2, "slow"), "rejected": (1, "no")})
    other = counters(0, errors={"timeout": (3, "slower")})
    assert (one + other).errors == {"timeout": (5, "slow"), "rejected": (1, "no")}
    assert ((one + other) - other).errors == one.errors


def test_latencies_of_both_are_kept():
    one, other = Latencies(), Latencies()
    one.add(1.0)
    other.add(3.0)
    assert (counters(0, latencies=one) + counters(0, latencies=other)).latencies.quantile(0.5) == 2.0


def test_many_latencies_are_sampled_by_how_many_were_seen():
    few, many = Latencies(), Latencies()
    for _ in range(SAMPLE):
        few.add(1.0)
    for _ in range(9 * SAMPLE):
        many.add(2.0)
    kept = list(few + many)
    assert len(kept) == SAMPLE
    assert kept.count(1.0) == pytest.approx(SAMPLE / 10, rel=0.15)


def test_why_a_model_was_stopped_is_kept():
    assert (counters(0) + counters(0, stopped="down")).stopped == "down"


def test_counters_of_two_models_have_no_sum():
    with pytest.raises(ValueError, match="have no sum"):
        counters(0) + ModelCounters("qwen:m")
