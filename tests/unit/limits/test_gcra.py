"""The bucket: never more than the limit in any window, refunds exact."""

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mavi_tasks.limits.gcra import HEADROOM, PICO, TokenBucket, catch_up_s

RATES = st.floats(min_value=0.5, max_value=200_000, allow_nan=False)
GAPS = st.lists(st.floats(min_value=0, max_value=5), min_size=1, max_size=60)


def busiest(takes: list[tuple[float, int]], bucket: TokenBucket, window_slack_s: float) -> float:
    """By how many units the worst window exceeds rate * window; at most one request plus the catch-up."""
    worst = 0.0
    for first in range(len(takes)):
        units = 0
        for at, taken in takes[first:]:
            units += taken
            worst = max(worst, units - bucket.per_minute / 60 * (at - takes[first][0] + window_slack_s))
    return worst


@given(RATES, GAPS)
def test_requests_never_exceed_the_rate_in_any_window(per_minute, gaps):
    """Greedy callers that come whenever they like get rate * window + 1 at most, the catch-up included."""
    late_s = catch_up_s(per_minute)
    bucket = TokenBucket(per_minute, catch_up_s=late_s)
    now, takes = 5000.0, []
    for gap in gaps:
        now += gap
        while bucket.wait_s(1, now) == 0 and len(takes) < 300:
            bucket.take(1, now)
            takes.append((now, 1))
    assert busiest(takes, bucket, late_s) <= 1 + 1e-6


@given(RATES, st.lists(st.tuples(st.floats(0, 3), st.integers(1, 50_000)), min_size=1, max_size=60))
def test_tokens_never_exceed_the_rate_plus_one_request_in_any_window(per_minute, asks):
    """The overshoot of any window is at most the largest single request."""
    bucket = TokenBucket(per_minute)
    now, takes = 5000.0, []
    for gap, tokens in asks:
        now += gap
        while wait_s := bucket.wait_s(tokens, now):
            now += max(wait_s, 1e-6)  # below that a float of so many seconds stands still
        bucket.take(tokens, now)
        takes.append((now, tokens))
    assert busiest(takes, bucket, 0.03) <= max(tokens for _, tokens in takes) + 1e-3


@given(
    RATES,
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, 50_000), st.floats(0, 1)), min_size=1, max_size=40),
)
def test_tokens_less_refunds_never_exceed_the_rate_plus_one_request(per_minute, asks):
    """Refunds are spent again, not multiplied: net of them every window keeps the limit."""
    bucket = TokenBucket(per_minute)
    now, takes = 5000.0, []
    for gap, tokens, used in asks:
        now += gap
        while wait_s := bucket.wait_s(tokens, now):
            now += max(wait_s, 1e-6)
        bucket.take(tokens, now)
        takes.append((now, tokens))
        back = tokens - int(tokens * used)
        bucket.refund(back)
        takes.append((now, -back))
    assert busiest(takes, bucket, 0.03) <= max(tokens for _, tokens in takes) + 1e-3


@given(RATES, st.integers(1, 10**6), st.integers(0, 10**6))
def test_a_refund_leaves_exactly_what_was_used(per_minute, reserved, used):
    """Reserving much and settling at less waits to the picosecond like reserving less at once."""
    settled, exact = TokenBucket(per_minute, largest=10**6), TokenBucket(per_minute, largest=10**6)
    for bucket in (settled, exact):
        bucket.take(10**6, 5000.0)
    settled.take(reserved, 5000.0)
    settled.refund(reserved - used)
    exact.take(used, 5000.0)
    assert settled.wait_s(1, 5000.0) == exact.wait_s(1, 5000.0)


@pytest.mark.parametrize("told", [1, 2, 7, 60, 600, 6000])
def test_a_told_minute_is_never_exceeded_even_after_a_catch_up(told):
    """Asked for as fast as it goes after a pause: no 60 s hold more than was told."""
    per_minute = told * HEADROOM
    bucket = TokenBucket(per_minute, catch_up_s=catch_up_s(per_minute))
    now, takes = 0.0, []
    while now < 150:
        wait_s = bucket.wait_s(1, now)
        if wait_s:
            now += wait_s
        else:
            bucket.take(1, now)
            takes.append(now)
    assert max(bisect_left(takes, first + 60) - index for index, first in enumerate(takes)) <= told


def test_late_wake_ups_do_not_lower_the_rate():
    """Woken 9 ms late each time, 100 requests a second stay 100 a second."""
    bucket = TokenBucket(6000, catch_up_s=catch_up_s(6000))
    now, taken = 100.0, 0
    while now < 110:
        while bucket.wait_s(1, now) == 0:
            bucket.take(1, now)
            taken += 1
        now += bucket.wait_s(1, now) + 0.009
    assert 990 <= taken <= 1010


def test_an_idle_bucket_gives_one_request_and_the_catch_up_not_a_saved_up_burst():
    """A minute of silence does not allow a minute's worth at once."""
    bucket = TokenBucket(6000, catch_up_s=0.03)
    bucket.take(1, 0.0)
    taken = 0
    while bucket.wait_s(1, 60.0) == 0:
        bucket.take(1, 60.0)
        taken += 1
    assert taken == 4  # 1 + 30 ms / 10 ms


def test_a_request_larger_than_the_whole_limit_goes_when_it_has_waited():
    """30,000 tokens at 10,000 a minute: at once on a full bucket, then after 3 minutes."""
    bucket = TokenBucket(10_000, catch_up_s=0.0)
    assert bucket.wait_s(30_000, 7.0) == 0
    bucket.take(30_000, 7.0)
    assert bucket.wait_s(30_000, 7.0) == 180.0


def test_whole_picoseconds_round_the_rate_down():
    """7 a minute is 8.571428571428...s apart: rounded up, never faster."""
    assert TokenBucket(7).unit_ps == 60 * PICO // 7 + 1
