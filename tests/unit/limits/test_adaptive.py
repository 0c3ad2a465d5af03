"""Limits that are not configured: found and used, with few requests refused, alone and beside others."""

import asyncio
import random

import pytest

from mavi_tasks.limits import ModelLimiter
from mavi_tasks.limits.limit_search import CONCURRENCY, RATE, LimitSearch
from tests.support.clock import FakeClock
from tests.support.limit_servers import QueueServer, RateServer, SlotServer, answer_all, ask_many

RATE_SERVERS = {
    "the usual": {},
    "no jitter at all": {"jitter": 0.0},
    "refusals as late as answers": {"refusal_s": None},
    "Retry-After 1 s": {"retry_after_s": 1.0},
    "Retry-After 50 ms": {"retry_after_s": 0.05},
    "Retry-After 5 s": {"retry_after_s": 5.0},
    "slow answers": {"latency_s": 2.0},
    "slow answers, slow refusals": {"latency_s": 2.0, "refusal_s": None},
    "fast answers": {"latency_s": 0.05},
    "a second's burst": {"burst": 100},
    "ten a second, one at once": {"rate_per_s": 10, "burst": 1},
    "twenty a second, a minute's bucket": {"rate_per_s": 20, "burst": 1200, "latency_s": 2.0},
    "400 a second": {"rate_per_s": 400, "burst": 20, "latency_s": 0.2},
}

MOST_REFUSED = {"twenty a second, a minute's bucket": 0.03}  # full, it hides a rate three times too high


@pytest.mark.parametrize("name", RATE_SERVERS)
def test_an_untold_rate_is_found_and_used(name):
    """>= 90 % of the server's limit after 30 s of warm-up, <= 2 % of all tries refused, warm-up included.

    A few holds of 5 s, or a few tries a second, need longer to show a share.
    """
    server = RateServer(**({"rate_per_s": 100, "burst": 10, "jitter": 0.3} | RATE_SERVERS[name]))
    seen = ask_many(
        server,
        for_s=max(120.0, 600 / server.rate_per_s, 60 * (server.retry_after_s or 0)),
        workers=100 + 2 * server.in_flight,
    )
    assert seen.warm_use >= 0.90
    assert seen.throttled_share <= MOST_REFUSED.get(name, 0.02)


def test_a_rate_of_one_a_second_is_found_although_few_replies_show_it():
    """Ten minutes hold 600 requests: what is found out costs a larger part of them."""
    seen = ask_many(RateServer(1, 1, latency_s=1.0, jitter=0.3), for_s=600.0, workers=102)
    assert seen.warm_use >= 0.75


@pytest.mark.parametrize(
    ("slots", "latency_s", "refusal_s", "use", "refused"),
    [
        (20, 0.3, 0.01, 0.93, 0.02),
        (20, 0.3, None, 0.85, 0.02),
        (5, 2.0, 0.01, 0.85, 0.07),  # 600 requests in all
        (100, 1.0, 0.01, 0.93, 0.02),
    ],
)
def test_untold_slots_are_found_and_used(slots, latency_s, refusal_s, use, refused):
    """The same for a server that takes so many at a time, whatever their rate."""
    server = SlotServer(slots=slots, latency_s=latency_s, refusal_s=refusal_s, jitter=0.3)
    seen = ask_many(server, for_s=120.0 * max(1.0, latency_s), workers=3 * slots)
    assert seen.warm_use >= use
    assert seen.throttled_share <= refused


def test_a_server_that_only_queues_is_filled_not_flooded():
    """Latency grows without throughput: growth ends well below the 512 that are allowed."""
    seen = ask_many(QueueServer(100, 0, jitter=0.2), for_s=60.0, workers=600)
    assert seen.warm_use >= 0.98
    assert seen.mean_latency_s < 3.0  # 512 in flight at 100/s would be 5.1 s


def test_a_limit_that_falls_is_followed_down():
    """100 a second become 50: within the minute after, 90 % of 50 and few refusals."""
    server = RateServer(100, 10, jitter=0.3, new_rates=((60.0, 50.0),))
    seen = ask_many(server, for_s=180.0, warm_up_s=90.0, workers=300)
    assert seen.warm_use >= 0.90
    assert seen.throttled_share <= 0.02


def test_a_limit_that_rises_is_found_again():
    """50 a second become 100: steps beyond the ceiling grow while none is refused."""
    server = RateServer(50, 10, jitter=0.3, new_rates=((60.0, 100.0),))
    seen = ask_many(server, for_s=300.0, warm_up_s=200.0, workers=300)
    assert seen.warm_use >= 0.90
    assert seen.throttled_share <= 0.02


def test_a_closed_server_costs_time_not_the_learned_rate():
    """Ten minutes of nothing but 429s: holds double, the rate stays, and all goes on as before."""
    server = RateServer(100, 10, jitter=0.3, new_rates=((60.0, 1e-9), (660.0, 100.0)))
    seen = ask_many(server, for_s=800.0, warm_up_s=720.0, workers=100)
    assert seen.warm_use >= 0.85
    assert seen.throttled <= 90  # 32 s apart for ten minutes, and the search


def test_a_too_high_told_rate_is_cut_below_what_was_told():
    """Told 200/s, the server takes 100/s: it is used, not bumped into."""
    seen = ask_many(RateServer(100, 10, jitter=0.3), for_s=120.0, workers=300, requests_per_minute=12_000)
    assert seen.warm_use >= 0.90
    assert seen.throttled_share <= 0.02


def test_the_rate_never_outgrows_what_was_told():
    """A server that takes 100/s, told 50/s: 50/s."""
    seen = ask_many(RateServer(100, 10), for_s=60.0, workers=100, requests_per_minute=3000)
    assert seen.ok / seen.wall_s <= 50
    assert seen.throttled == 0


def test_growth_stops_at_the_most_allowed():
    """An unlimited server gets 512 at a time, not more."""
    clock = FakeClock()
    most = 0

    async def main():
        gate = ModelLimiter(
            "nova:lite", requests_per_minute=None, tokens_per_minute=None, concurrency=None, clock=clock
        )

        async def work():
            nonlocal most
            for _ in range(60):
                permit = await gate.acquire()
                most = max(most, gate.in_flight)
                await clock.sleep(1)
                gate.release(permit, "ok")

        await asyncio.gather(*(work() for _ in range(600)))

    clock.run(main)
    assert most == 512


def test_growth_is_told_seldom_and_cuts_at_once():
    """A log of two minutes stays readable."""
    seen = ask_many(RateServer(100, 10, jitter=0.3), for_s=120.0, workers=300)
    assert len(seen.changes) < 80
    assert {change.what for change in seen.changes} == {"concurrency", "requests_per_minute"}


def test_a_seeker_grows_half_way_rests_and_then_steps_beyond():
    """From 50 with 100 known as too much: 73.5, 85.2, ... 97, a rest of 15 s, 98.9, 101.9."""
    seeker = LimitSearch(RATE, 50.0, None)
    seeker.cut(50.0, ceiling=100.0, now=0.0)
    values = []
    for now in (1, 2, 3, 4, 5, 6, 7, 14):
        seeker.grow(float(now))
        values.append(round(seeker.value, 1))
    assert values == [73.5, 85.2, 91.1, 94.1, 95.5, 96.5, 97.0, 97.0]
    seeker.grow(15.0)
    seeker.grow(16.0)
    assert round(seeker.value, 1) == 101.9  # 97 * 1.02 * 1.03


def test_a_failed_step_beyond_doubles_the_rest():
    """15 s, then 30 s."""
    seeker = LimitSearch(CONCURRENCY, 20, 512)
    seeker.cut(20, ceiling=21, now=0.0)
    seeker.grow(15.0)
    assert seeker.value == 21
    seeker.cut(20, ceiling=21, now=15.0)
    seeker.grow(44.9)
    assert seeker.value == 20
    seeker.grow(45.0)
    assert seeker.value == 21


# -- refusals that no lower rate prevents


UNLIMITED = {"rate_per_s": 1e9, "burst": 1e9, "jitter": 0.3}


def wall_to_ideal(count, seed, *, latency_s, cap, scattered):
    """Seconds until `count` are answered, against the same server without refusals and as many tries."""
    tries = round(count / (1 - scattered))
    ideal = answer_all(RateServer(**UNLIMITED, latency_s=latency_s), tries, concurrency=cap)
    server = RateServer(**UNLIMITED, latency_s=latency_s, scattered=scattered, rng=random.Random(seed))
    return answer_all(server, count, concurrency=cap) / ideal


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("scattered", "most"), [(0.001, 1.1), (0.01, 1.15), (0.05, 1.3), (0.2, 1.5)])
def test_scattered_refusals_cost_about_as_many_requests_as_they_are(scattered, most, seed):
    """64 at a time, 300 ms each; before, one 429 in a hundred made a run 20 times as long."""
    assert wall_to_ideal(6000, seed, latency_s=0.3, cap=64, scattered=scattered) <= most


@pytest.mark.parametrize("scattered", [0.01, 0.05, 0.2])
def test_scattered_refusals_do_not_stop_a_search_without_configured_limits(scattered):
    """Nothing is configured: the search goes on to the most that is allowed at a time."""
    assert wall_to_ideal(60_000, 1, latency_s=0.3, cap=None, scattered=scattered) <= 1.8


@pytest.mark.parametrize("rate_per_s", [100, 500])
def test_a_limit_is_found_and_used_although_others_use_the_same_quota(rate_per_s):
    """5 % are refused at random, and too fast is refused as well."""
    server = RateServer(rate_per_s, 10, jitter=0.3, scattered=0.05)
    seen = ask_many(server, for_s=120.0, workers=100 + 2 * server.in_flight)
    assert seen.warm_use >= 0.85
    assert seen.throttled_share <= 0.13


def test_pauses_that_do_not_depend_on_the_rate_do_not_stop_a_run():
    """1 % are refused with Retry-After 1 s: it is kept each time, and the rate stays as it was."""
    server = RateServer(**UNLIMITED, latency_s=1.0, scattered=0.01, retry_after_s=1.0)
    seen = ask_many(server, for_s=300.0, warm_up_s=100.0, workers=64, concurrency=64)
    paused_s = seen.throttled  # at most; several may be refused at once
    assert seen.ok >= 0.6 * 64 * (300 - paused_s)


def test_a_quota_that_is_taken_away_and_given_back_is_used_again_at_once():
    """100 a second become 20 for a minute: within 30 s of their return 80 are used."""
    server = RateServer(100, 10, jitter=0.3, new_rates=((60.0, 20.0), (120.0, 100.0)))
    seen = ask_many(server, for_s=300.0, warm_up_s=200.0, workers=300)
    assert seen.warm_use >= 0.85
