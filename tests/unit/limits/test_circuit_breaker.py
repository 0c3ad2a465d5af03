"""The circuit: failures in a row open it, probes close it or end the model."""

import asyncio

from mavi_tasks.limits import CircuitSettings, ModelDown, ModelLimiter
from mavi_tasks.limits.circuit_breaker import Circuit
from tests.support.clock import FakeClock


def broken(failures=10):
    circuit = Circuit()
    for _ in range(failures):
        circuit.fail(100.0, probe=False)
    return circuit


def test_nine_failures_leave_it_closed_the_tenth_opens_it():
    """The default is ten in a row."""
    assert broken(9).state == "closed"
    assert broken(10).state == "open"


def test_one_success_starts_the_count_again():
    """Only failures in a row count."""
    circuit = broken(9)
    circuit.succeed()
    circuit.fail(100.0, probe=False)
    assert circuit.state == "closed"


def test_it_waits_5_s_then_10_s_then_gives_up():
    """Three failed probes and the model is down."""
    circuit = broken()
    assert circuit.wait_s(100.0) == 5.0
    circuit.start_probe()
    assert circuit.wait_s(105.0) == float("inf")
    circuit.fail(106.0, probe=True)
    assert circuit.wait_s(106.0) == 10.0
    circuit.start_probe()
    circuit.fail(117.0, probe=True)
    assert circuit.wait_s(117.0) == 20.0
    circuit.start_probe()
    circuit.fail(138.0, probe=True)
    assert circuit.state == "down"
    assert circuit.why == "13 failures in a row, 3 of 3 probes failed"


def test_replies_to_tries_from_before_the_opening_fail_no_probe():
    """Stragglers neither lengthen the cool-down nor use up probes."""
    circuit = broken(40)
    assert (circuit.state, circuit.wait_s(100.0)) == ("open", 5.0)
    circuit.start_probe()
    circuit.fail(105.0, probe=False)
    assert circuit.state == "probing"


def test_probes_that_hang_end_with_the_total_time():
    """600 s after the first opening the next failed probe is the last."""
    circuit = broken()
    circuit.start_probe()
    circuit.fail(701.0, probe=True)
    assert circuit.state == "down"


def gate(clock, **more):
    return ModelLimiter(
        "qwen:vl", requests_per_minute=None, tokens_per_minute=None, concurrency=20, clock=clock, **more
    )


async def fail(limiter, times):
    for _ in range(times):
        limiter.release(await limiter.acquire(), "server_error")


def test_an_open_circuit_lets_one_probe_through_and_closes_on_its_answer():
    """The rest wait for the probe, then all go."""
    clock = FakeClock()

    async def main():
        limiter = gate(clock)
        await fail(limiter, 10)
        waiters = [asyncio.create_task(limiter.acquire()) for _ in range(5)]
        await clock.sleep(5.5)
        assert [task.done() for task in waiters] == [True, False, False, False, False]
        assert limiter.circuit_state == "probing"
        limiter.release(waiters[0].result(), "ok")
        assert limiter.circuit_state == "closed"
        await asyncio.gather(*waiters[1:])
        assert clock.now() == 1005.5

    clock.run(main)


def test_a_model_that_stays_broken_goes_down_with_all_its_waiters():
    """35 s after the tenth failure: 5 + 10 + 20."""
    clock = FakeClock()

    async def main():
        limiter = gate(clock)

        async def work():
            while True:
                limiter.release(await limiter.acquire(), "unknown")

        results = await asyncio.gather(*(work() for _ in range(30)), return_exceptions=True)
        assert all(isinstance(result, ModelDown) for result in results)
        assert str(results[0]) == "qwen:vl: 13 failures in a row, 3 of 3 probes failed"
        assert clock.now() == 1035.0
        assert limiter.attempts == 13

    clock.run(main)


def test_a_429_neither_opens_a_circuit_nor_fails_a_probe():
    """A throttled model is up."""
    clock = FakeClock()

    async def main():
        limiter = gate(clock)
        for _ in range(20):
            limiter.release(await limiter.acquire(), "throttled")
        assert limiter.circuit_state == "closed"
        limiter.release(await limiter.acquire(), "ok")
        await fail(limiter, 10)
        probe = await limiter.acquire()
        limiter.release(probe, "throttled", retry_after_s=3.0)
        before = clock.now()
        again = await limiter.acquire()
        assert again.probe
        assert clock.now() - before >= 3.0

    clock.run(main)


def test_a_refusal_of_the_request_proves_the_model_is_up():
    """400s in between keep the circuit closed."""
    clock = FakeClock()

    async def main():
        limiter = gate(clock)
        for _ in range(5):
            await fail(limiter, 9)
            limiter.release(await limiter.acquire(), "rejected")
        assert limiter.circuit_state == "closed"

    clock.run(main)


def test_a_probe_never_sent_leaves_room_for_another():
    """Given back, or cancelled in line."""
    clock = FakeClock()

    async def main():
        limiter = gate(clock, circuit=CircuitSettings(failures=1))
        await fail(limiter, 1)
        probe = await limiter.acquire()
        limiter.give_back(probe)
        assert limiter.circuit_state == "open"
        assert (await limiter.acquire()).probe

    clock.run(main)


def test_circuit_changes_are_told():
    """closed, open, probing, closed."""
    clock = FakeClock()
    told = []

    async def main():
        limiter = gate(clock, on_change=told.append)
        await fail(limiter, 10)
        limiter.release(await limiter.acquire(), "ok")

    clock.run(main)
    assert [(change.old, change.new) for change in told if change.what == "circuit"] == [
        ("closed", "open"),
        ("open", "probing"),
        ("probing", "closed"),
    ]
