"""The budget: never exceeded, whatever calls cost and however they overlap."""

import asyncio
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mavi_tasks.limits.budget import Budget
from tests.support.clock import FakeClock

USD = 10**12


def test_a_call_that_fits_is_granted_and_settled_to_the_pico():
    """5 dollars, 2 reserved, 1.25 spent: 3.75 remain."""
    budget = Budget(5 * USD)
    reservation = budget.try_reserve(2 * USD)
    assert (budget.reserved_pico, budget.remaining_pico) == (2 * USD, 3 * USD)
    budget.settle(reservation, 1_250_000_000_000)
    assert (budget.spent_pico, budget.reserved_pico) == (1_250_000_000_000, 0)
    assert budget.remaining_pico == 3_750_000_000_000


def test_exposure_stays_counted():
    """An in-doubt call's worst case is never given back."""
    budget = Budget(100)
    budget.settle(budget.try_reserve(60), 0, exposure_pico=60)
    assert (budget.spent_pico, budget.exposure_pico, budget.remaining_pico) == (0, 60, 40)
    assert budget.try_reserve(41) is None


def test_a_request_waits_while_calls_in_flight_may_come_back_cheaper():
    """Refused only when nothing in flight can make room."""
    clock = FakeClock()

    async def main():
        budget = Budget(100)
        first = await budget.reserve(80)
        waiter = asyncio.create_task(budget.reserve(50))
        await clock.sleep(1)
        assert not waiter.done()
        budget.settle(first, 50)
        second = await waiter
        budget.settle(second, 50)
        assert (budget.spent_pico, budget.exhausted) == (100, False)
        assert await budget.reserve(1) is None
        assert budget.exhausted

    clock.run(main)


def test_a_smaller_request_may_still_fit_after_a_refusal():
    """Each is judged on its own."""
    clock = FakeClock()

    async def main():
        budget = Budget(100)
        assert await budget.reserve(101) is None
        assert budget.refused_pico == 101
        assert await budget.reserve(100) is not None

    clock.run(main)


def test_the_first_in_line_is_not_overtaken():
    """A small request behind a large one waits for it."""
    clock = FakeClock()
    granted = []

    async def ask(budget, name, worst):
        reservation = await budget.reserve(worst)
        granted.append(name)
        if reservation is not None:
            budget.settle(reservation, worst)

    async def main():
        budget = Budget(100)
        first = await budget.reserve(60)
        tasks = [asyncio.create_task(ask(budget, "large", 70)), asyncio.create_task(ask(budget, "small", 10))]
        await clock.sleep(1)
        assert granted == []
        budget.settle(first, 20)
        await asyncio.gather(*tasks)

    clock.run(main)
    assert granted == ["large", "small"]


def test_an_overrun_is_told_and_raises_later_reservations():
    """Cost 3 where 2 was promised: from then on 2 reserves 3."""
    budget = Budget(100)
    budget.settle(budget.try_reserve(2), 3)
    assert budget.overrun_pico == 1
    assert budget.try_reserve(2).reserved_pico == 3
    assert budget.try_reserve(3).reserved_pico == 5  # 4.5, rounded up


def test_a_cost_where_none_was_promised_is_the_floor_from_then_on():
    """A worst case of 0 has no ratio."""
    budget = Budget(100)
    budget.settle(budget.try_reserve(0), 7)
    assert budget.overrun_pico == 7
    assert budget.try_reserve(0).reserved_pico == 7


def test_without_a_limit_nothing_waits_and_all_is_counted():
    """No limit, no line."""
    budget = Budget(None)
    reservations = [budget.try_reserve(10**15) for _ in range(5)]
    for reservation in reservations:
        budget.settle(reservation, 10**14, 1)
    assert (budget.spent_pico, budget.exposure_pico, budget.reserved_pico) == (5 * 10**14, 5, 0)
    assert budget.remaining_pico is None


def test_what_earlier_runs_spent_counts():
    """A resumed job has what is left of its budget."""
    budget = Budget(100, spent_pico=70, exposure_pico=10)
    assert budget.try_reserve(21) is None
    assert budget.try_reserve(20) is not None


def test_a_reservation_is_settled_once():
    """A second time is a mistake of the caller and says so."""
    budget = Budget(100)
    reservation = budget.try_reserve(10)
    budget.settle(reservation, 5)
    with pytest.raises(ValueError, match="settled before"):
        budget.settle(reservation, 5)


@pytest.mark.parametrize(("actual", "exposure"), [(-1, 0), (0, -1)])
def test_a_negative_cost_is_refused(actual, exposure):
    """Nobody pays us."""
    budget = Budget(100)
    with pytest.raises(ValueError, match="a call cannot cost"):
        budget.settle(budget.try_reserve(10), actual, exposure)


CALLS = st.lists(
    st.tuples(
        st.integers(0, 4),  # asks after, s
        st.integers(0, 3 * USD),  # worst
        st.fractions(0, 1),  # of which it really costs
        st.integers(0, 5),  # takes, s
        st.booleans(),  # in doubt
        st.one_of(st.none(), st.none(), st.integers(0, 6)),  # cancelled after, s
    ),
    min_size=1,
    max_size=40,
)


async def call(clock, budget, spec, seen, limit):
    after, worst, share, takes, in_doubt, _ = spec
    await clock.sleep(after)
    reservation = await budget.reserve(worst)
    seen.append((worst, reservation is not None))
    assert budget.spent_pico + budget.exposure_pico + budget.reserved_pico <= limit
    if reservation is None:
        return
    cost = int(worst * Fraction(share))
    try:
        await clock.sleep(takes)
    finally:
        budget.settle(reservation, *((0, worst) if in_doubt else (cost, 0)))
        assert budget.spent_pico + budget.exposure_pico + budget.reserved_pico <= limit


@given(CALLS, st.integers(0, 10 * USD))
def test_the_limit_holds_at_every_moment(specs, limit):
    """Random costs, overlaps, doubts and cancellations; a refusal is right; nothing stays reserved."""
    clock = FakeClock()
    seen = []

    async def stop(task, after):
        await clock.sleep(after)
        task.cancel()

    async def main():
        budget = Budget(limit)
        tasks = [asyncio.create_task(call(clock, budget, spec, seen, limit)) for spec in specs]
        stoppers = [
            stop(task, spec[5]) for task, spec in zip(tasks, specs, strict=True) if spec[5] is not None
        ]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*stoppers)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        assert budget.reserved_pico == 0
        assert budget.overrun_pico == 0
        assert budget.spent_pico + budget.exposure_pico <= limit
        refused = [worst for worst, granted in seen if not granted]
        assert budget.refused_pico == min(refused, default=None)
        assert all(worst > budget.remaining_pico for worst in refused)

    clock.run(main)


@given(st.lists(st.tuples(st.integers(1, USD), st.integers(1, 500)), min_size=1, max_size=60))
def test_a_wrong_worst_case_exceeds_the_limit_once_at_most(calls):
    """Each call costs up to five times its promise: only a record overrun can pass the limit."""
    limit = 5 * USD
    budget = Budget(limit)
    record = Fraction(1)
    for worst, percent in calls:
        reservation = budget.try_reserve(worst)
        if reservation is None:
            continue
        cost = worst * percent // 100
        budget.settle(reservation, cost)
        if Fraction(cost, worst) <= record:
            assert cost <= reservation.reserved_pico
        record = max(record, Fraction(cost, worst))
    assert budget.remaining_pico == limit - budget.spent_pico
    assert budget.spent_pico <= limit + budget.overrun_pico


# -- the first calls of a model


def held_at_once(budget, model, worst=10, tries=500):
    """How many calls of a model may be in flight now."""
    found = []
    while len(found) < tries and (one := budget.try_reserve(worst, model)) is not None:
        found.append(one)
    return found


def test_the_first_calls_of_a_model_go_few_at_a_time_until_what_they_cost_is_known():
    budget = Budget(100_000)
    sizes = []
    while len(flying := held_at_once(budget, "a")) < 500:
        sizes.append(len(flying))
        for one in flying:
            budget.settle(one, 5)
    assert sizes == [4, 8, 16, 32]
    assert budget.in_flight == 500


def test_a_model_on_trial_does_not_hold_up_another():
    clock = FakeClock()

    async def main():
        budget = Budget(100_000)
        flying = held_at_once(budget, "a")
        waiting = asyncio.create_task(budget.reserve(10, "a"))
        await clock.sleep(1)
        other = await asyncio.wait_for(budget.reserve(10, "b"), 1)
        assert other is not None
        assert not waiting.done()
        budget.settle(flying[0], 5)
        assert await waiting is not None

    clock.run(main)


def test_calls_that_say_nothing_of_what_they_cost_teach_nothing():
    budget = Budget(100_000)
    for _ in range(50):
        for one in held_at_once(budget, "a"):
            budget.settle(one, 0)  # throttled, or failed
    assert len(held_at_once(budget, "a")) == 4


def test_a_gateway_that_bills_ten_times_the_worst_case_is_found_out_by_its_first_calls():
    budget = Budget(10_000)
    for one in held_at_once(budget, "a"):
        budget.settle(one, 100)
    flying = held_at_once(budget, "a")
    assert len(flying) == 4  # on trial again, and each held at what was seen
    while flying:
        for one in flying:
            budget.settle(one, 100)
        flying = held_at_once(budget, "a")
    assert budget.spent_pico <= 10_000


def test_free_calls_and_runs_without_a_budget_are_not_held_up():
    assert len(held_at_once(Budget(None), "a")) == 500
    assert len(held_at_once(Budget(100), "a", worst=0)) == 500
