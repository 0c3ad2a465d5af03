"""How long a request waits before it is sent again, and when it is given up."""

import pytest

from mavi_tasks.execution.retry_state import RetryState
from mavi_tasks.gateway.classify import Reply, RetryDecision
from mavi_tasks.job import Retry

REFUSED = RetryDecision("throttled", "rejected", "throttled", "too many requests")
FAILED = RetryDecision("again", "failed", "server_error", "internal error")


def state_after(decision, times, **retry):
    state = RetryState(Retry(**retry))
    reply = Reply(decision, 429, None, 0.1)
    for _ in range(times):
        state.compare(reply, reply)
        state.counted += decision.action == "again"
    return state


@pytest.mark.parametrize("times", [1, 2, 10, 5000])
def test_a_refused_request_waits_half_a_second_to_one(times):
    """However often it was refused: the limiter slows the model down, not the single request."""
    state = state_after(REFUSED, times)
    assert all(0.5 <= state.pause_s(REFUSED) <= 1.0 for _ in range(50))


def test_a_small_cap_holds_for_refused_requests_too():
    assert state_after(REFUSED, 3, base_s=0.01, cap_s=0.02).pause_s(REFUSED) <= 0.02


def test_retry_after_is_left_to_the_limiter():
    """It holds the whole model, so that this request waits with the others."""
    held = RetryDecision("throttled", "rejected", "throttled", "too many requests", 7.0)
    assert state_after(REFUSED, 1).pause_s(held) == 0.0


def test_an_error_waits_twice_as_long_each_time():
    waits = [state_after(FAILED, times).pause_s(FAILED) for times in (1, 2, 3, 4)]
    assert all(2**n / 2 <= wait <= 2**n for n, wait in enumerate(waits))
