"""The limiter: order, holds, slots, settlement, cancellation."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mavi_tasks.limits import CircuitSettings, ModelDown, ModelLimiter
from tests.support.clock import FakeClock
from tests.support.limit_servers import RateServer, ask_many


def limiter(clock, *, rpm=None, tpm=None, slots=None, **more):
    return ModelLimiter(
        "gpt:small", requests_per_minute=rpm, tokens_per_minute=tpm, concurrency=slots, clock=clock, **more
    )


def test_told_100_a_second_meets_it_without_one_429():
    """3,000 requests, latency 300 ms, server burst 10: wall <= 1.03 x N/R and nothing is refused."""
    seen = ask_many(RateServer(100, 10, jitter=0.3), for_s=30.0, warm_up_s=1.0, requests_per_minute=6000)
    assert seen.throttled == 0
    assert seen.ok / (100 * 30.0) >= 0.99


@pytest.mark.parametrize("per_s", [1, 10, 100, 400, 1500])
def test_told_rates_are_used_to_97_percent(per_s):
    """From one a second to 1,500 a second, on a clock whose timers are 1 ms coarse."""
    server = RateServer(per_s, max(2, per_s * 0.06), latency_s=0.1)
    for_s = max(10.0, 100 / per_s)
    seen = ask_many(server, for_s=for_s, warm_up_s=0.0, workers=300, requests_per_minute=60 * per_s)
    assert seen.throttled == 0
    assert seen.ok / for_s >= 0.97 * per_s


def test_a_paced_request_blocks_no_slot():
    """While the second waits for its minute, no slot is held."""
    clock = FakeClock()

    async def main():
        gate = limiter(clock, rpm=1, slots=1)
        gate.release(await gate.acquire(), "ok")
        waiter = asyncio.create_task(gate.acquire())
        await clock.sleep(10)
        assert (gate.in_flight, gate.waiting) == (0, 1)
        gate.release(await waiter, "ok")
        assert clock.now() == pytest.approx(1000 + 60 / 0.995)

    clock.run(main)


def test_a_large_request_is_not_overtaken():
    """The small ones behind it wait until it has gone."""
    clock = FakeClock()
    order = []

    async def ask(gate, name, tokens):
        permit = await gate.acquire(tokens)
        order.append(name)
        gate.release(permit, "ok", used_tokens=tokens)

    async def main():
        gate = limiter(clock, tpm=6000)
        await ask(gate, "first", 5000)
        await asyncio.gather(ask(gate, "large", 5000), *(ask(gate, f"small {n}", 1) for n in range(20)))

    clock.run(main)
    assert order[:2] == ["first", "large"]
    assert order[2:] == [f"small {n}" for n in range(20)]


def test_try_acquire_gives_nothing_while_somebody_is_in_line():
    """The fast path does not jump the queue."""
    clock = FakeClock()

    async def main():
        gate = limiter(clock, slots=1)
        permit = gate.try_acquire()
        waiter = asyncio.create_task(gate.acquire())
        await clock.sleep(0)
        gate.release(permit, "ok")
        assert gate.try_acquire() is None
        gate.release(await waiter, "ok")
        assert gate.try_acquire() is not None

    clock.run(main)


def test_retry_after_holds_the_whole_model():
    """No try is sent before it, also none that asks later; in-flight replies do not shorten it."""
    clock = FakeClock()

    async def main():
        gate = limiter(clock, slots=10)
        refused, other = await gate.acquire(), await gate.acquire()
        gate.release(refused, "throttled", retry_after_s=7.5)
        gate.release(other, "ok")
        assert gate.held_until == 1007.5
        assert gate.try_acquire() is None
        await gate.acquire()
        assert clock.now() == 1007.5

    clock.run(main)


def test_a_pause_is_told_in_words():
    clock = FakeClock()

    async def main():
        gate = limiter(clock)
        assert gate.pausing is None
        gate.release(await gate.acquire(), "throttled", retry_after_s=7.0)
        assert gate.pausing == "held for 7 s"
        await clock.sleep(7)
        assert gate.pausing is None

    clock.run(main)


def test_holds_double_from_1_s_to_32_s_while_most_requests_are_refused():
    """Until an answer to a request sent after the hold. A few refusals among the first five hold nothing."""
    clock = FakeClock()
    holds = []

    async def main():
        gate = limiter(clock, slots=1)
        for _ in range(11):
            permit = await gate.acquire()
            gate.release(permit, "throttled")
            holds.append(gate.held_until - clock.now() if gate.held_until else 0)
        gate.release(await gate.acquire(), "ok")
        gate.release(await gate.acquire(), "throttled")
        holds.append(gate.held_until - clock.now())

    clock.run(main)
    assert holds == pytest.approx([0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 32, 1])


def test_one_burst_of_429s_is_one_hold_and_one_cut():
    """Thirty requests sent together, all refused: after the first five nothing more changes."""
    clock = FakeClock()

    async def main():
        gate = limiter(clock, rpm=6000, slots=50)
        permits = [await gate.acquire() for _ in range(30)]
        for permit in permits[:5]:
            gate.release(permit, "throttled")
        after_five = (gate.held_until, gate.concurrency_now, gate.rate_now)
        assert after_five[0] > clock.now()
        for permit in permits[5:]:
            gate.release(permit, "throttled")
        assert (gate.held_until, gate.concurrency_now, gate.rate_now) == after_five
        assert gate.throttled_count == 30

    clock.run(main)


def test_a_single_429_changes_no_limit():
    """A quota that others use refuses one now and then: nothing is held, nothing is cut."""
    clock = FakeClock()

    async def main():
        gate = limiter(clock, rpm=6000, slots=50)
        for number in range(200):
            gate.release(await gate.acquire(), "throttled" if number % 100 == 50 else "ok")
        assert (gate.held_until, gate.concurrency_now, gate.rate_now) == (0.0, 50, 5970.0)
        assert gate.history == type(gate.history)()

    clock.run(main)


def test_server_errors_shrink_nothing():
    """5xx stop growth only."""
    clock = FakeClock()

    async def main():
        gate = limiter(clock, circuit=CircuitSettings(failures=1000))
        for _ in range(50):
            gate.release(await gate.acquire(), "server_error")
        assert gate.concurrency_now == 8
        assert gate.rate_now is None

    clock.run(main)


def test_concurrency_told_is_never_exceeded_nor_outgrown():
    """A fixed cap stays, however well it goes."""
    seen_most = 0
    clock = FakeClock()

    async def main():
        nonlocal seen_most
        gate = limiter(clock, slots=5)

        async def work():
            nonlocal seen_most
            for _ in range(50):
                permit = await gate.acquire()
                seen_most = max(seen_most, gate.in_flight)
                await clock.sleep(0.1)
                gate.release(permit, "ok")

        await asyncio.gather(*(work() for _ in range(20)))
        assert gate.concurrency_now == 5

    clock.run(main)
    assert seen_most == 5


@pytest.mark.parametrize(
    ("outcome", "used", "settled"),
    [
        ("ok", 30, 30),
        ("ok", 170, 170),
        ("ok", None, 100),
        ("throttled", None, 0),
        ("rejected", None, 0),
        ("server_error", None, 100),
        ("unknown", None, 100),
    ],
)
def test_tokens_are_settled_by_what_is_known(outcome, used, settled):
    """Usage when it is told; nothing for what was not read; else the estimate."""
    clock = FakeClock()

    async def main():
        gate = limiter(clock, tpm=100_000)
        permit = await gate.acquire(100)
        assert gate.tokens_reserved == 100
        gate.release(permit, outcome, used_tokens=used)
        assert (gate.tokens_reserved, gate.tokens_settled) == (0, settled)

    clock.run(main)


def test_a_permit_is_released_once():
    """A second release is a mistake of the caller and says so."""
    clock = FakeClock()

    async def main():
        gate = limiter(clock)
        permit = await gate.acquire()
        gate.release(permit, "ok")
        with pytest.raises(ValueError, match="permit 1 was released before"):
            gate.release(permit, "ok")

    clock.run(main)


def test_a_permit_given_back_costs_nothing():
    """Neither its slot nor its minute nor its tokens."""
    clock = FakeClock()

    async def main():
        gate = limiter(clock, rpm=1, tpm=100, slots=1)
        gate.give_back(await gate.acquire(100))
        await gate.acquire(100)
        assert clock.now() == 1000.0

    clock.run(main)


def test_stop_raises_in_every_waiter_at_once():
    """Now and for whoever comes later; the try in flight ends as always."""
    clock = FakeClock()

    async def main():
        gate = limiter(clock, rpm=1)
        permit = await gate.acquire()
        waiters = [asyncio.create_task(gate.acquire()) for _ in range(3)]
        await clock.sleep(1)
        gate.stop("model not found")
        gate.stop("another reason")
        for waiter in waiters:
            with pytest.raises(ModelDown, match="gpt:small: model not found"):
                await waiter
        with pytest.raises(ModelDown):
            await gate.acquire()
        with pytest.raises(ModelDown):
            gate.try_acquire()
        gate.release(permit, "ok")
        assert gate.in_flight == 0
        assert clock.now() == 1001.0

    clock.run(main)


def test_changes_are_told_and_kept():
    """Each with when, what, from, to and why."""
    clock = FakeClock()
    told = []

    async def main():
        gate = limiter(clock, slots=4, on_change=told.append)
        gate.release(await gate.acquire(), "throttled", retry_after_s=2.0)
        assert list(gate.history) == told

    clock.run(main)
    hold = told[0]
    assert (hold.at, hold.model, hold.what, hold.old, hold.new) == (1000.0, "gpt:small", "hold", 0.0, 2.0)
    assert hold.why == "throttled, Retry-After"
    assert [change.what for change in told] == ["hold", "requests_per_minute"]


WORK = st.lists(
    st.tuples(
        st.floats(0, 2),  # asks after
        st.integers(0, 3000),  # tokens
        st.floats(0, 2),  # takes
        st.sampled_from(["ok", "ok", "ok", "throttled", "server_error", "rejected", "unknown"]),
        st.one_of(st.none(), st.none(), st.floats(0, 3)),  # cancelled after
    ),
    min_size=1,
    max_size=30,
)


@given(
    WORK,
    st.one_of(st.none(), st.integers(1, 6000)),
    st.one_of(st.none(), st.integers(1000, 10**6)),
    st.one_of(st.none(), st.integers(1, 5)),
)
def test_everybody_is_served_in_order_and_nothing_leaks(work, rpm, tpm, slots):
    """Whatever is asked, answered or cancelled: order kept, slots and tokens all back, then a try goes."""
    clock = FakeClock()
    asked, served, used = [], [], []

    async def ask(gate, number, after, tokens, takes, outcome):
        await clock.sleep(after)
        asked.append(number)
        permit = await gate.acquire(tokens)
        served.append((number, clock.now()))
        assert slots is None or gate.in_flight <= slots
        try:
            await clock.sleep(takes)
        finally:
            gate.release(permit, outcome, used_tokens=tokens // 2)
            used.append(tokens // 2)

    async def stop(task, after):
        await clock.sleep(after)
        task.cancel()

    async def main():
        gate = limiter(clock, rpm=rpm, tpm=tpm, slots=slots, circuit=CircuitSettings(failures=1000))
        tasks, stoppers = [], []
        for number, (after, tokens, takes, outcome, cancel_after) in enumerate(work):
            task = asyncio.create_task(ask(gate, number, after, tokens, takes, outcome))
            tasks.append(task)
            if cancel_after is not None:
                stoppers.append(asyncio.create_task(stop(task, cancel_after)))
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*stoppers)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        assert all(
            results[number] is None or work[number][4] is not None for number in range(len(work))
        )  # who was not cancelled was served
        assert (gate.in_flight, gate.waiting, gate.tokens_reserved) == (0, 0, 0)
        assert gate.tokens_settled == sum(used)
        await gate.acquire(1)

    clock.run(main)
    order = [number for number, _ in served]
    assert order == [number for number in asked if number in set(order)]


@given(st.integers(1, 20), st.data())
def test_a_waiter_cancelled_in_the_moment_it_is_served_loses_nothing(slots, data):
    """Released and cancelled in the same turn of the loop: the permit goes to the next one."""
    clock = FakeClock()

    async def main():
        gate = limiter(clock, slots=slots)
        held = [await gate.acquire() for _ in range(slots)]
        waiters = [asyncio.create_task(gate.acquire()) for _ in range(2 * slots)]
        await clock.sleep(0)
        for permit in held:
            gate.release(permit, "ok")
        doomed = data.draw(st.sets(st.integers(0, 2 * slots - 1)))
        for index in doomed:
            waiters[index].cancel()
        await clock.sleep(1)
        lucky = [task.result() for task in waiters if task.done() and not task.cancelled()]
        assert gate.in_flight == len(lucky) == min(slots, 2 * slots - len(doomed))
        for task in waiters:
            task.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
        for permit in lucky:
            gate.release(permit, "ok")
        assert gate.in_flight == 0

    clock.run(main)


@settings(max_examples=50)
@given(st.integers(10, 20_000), st.integers(1, 8), st.floats(0, 1), st.integers(0, 2**16))
def test_no_window_holds_more_than_the_told_limit(rpm, crowd, busy, seed):
    """Any load: tries in any window are at most the limit * window + 1, the catch-up included."""
    import random

    rng = random.Random(seed)
    clock = FakeClock()
    sent = []

    async def main():
        gate = limiter(clock, rpm=rpm)

        async def work():
            for _ in range(20):
                permit = await gate.acquire()
                sent.append(clock.now())
                await clock.sleep(rng.uniform(0, busy))
                gate.release(permit, "ok")

        await asyncio.gather(*(work() for _ in range(crowd)))

    clock.run(main)
    for index, first in enumerate(sent):
        for count, at in enumerate(sent[index:], start=1):
            assert count <= rpm / 60 * (at - first + 0.03) + 1 + 1e-6
