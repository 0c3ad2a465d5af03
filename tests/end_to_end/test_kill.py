"""kill -9 at random moments: nothing recorded is lost, and only calls in flight may be paid again."""

import pytest

from tests.bench.kill import kill_loop

pytestmark = pytest.mark.slow


def test_killed_runs_and_publishers_lose_no_answer_and_pay_twice_only_what_was_in_flight(tmp_path):
    found = kill_loop(tmp_path, 12, seed=5, requests=500)
    assert found.kills >= 12
    assert found.kills_of_publishers > 0
    assert found.problems == []
    assert (found.answers_lost, found.rows_twice, found.unreadable_reads) == (0, 0, 0)
    assert found.calls_paid_twice <= found.calls_in_flight_at_kills
    assert found.answers >= 500
