"""The pace is that of the last minute."""

from mavi_tasks.common.pace import Pace


def test_nothing_is_known_at_first():
    assert Pace().note(0.0, 7) == 0.0


def test_it_counts_from_the_start_in_the_first_minute():
    pace = Pace()
    pace.note(10.0, 100)
    assert pace.note(20.0, 150) == 5.0


def test_an_hour_at_another_pace_is_forgotten_after_a_minute():
    pace = Pace()
    for second in range(3600):
        pace.note(second, 100 * second)
    for second in range(3600, 3662):
        last = pace.note(second, 360_000)
    assert last == 0.0
    assert len(pace._noted) <= 62


def test_a_clock_that_stands_still_divides_by_nothing():
    pace = Pace()
    pace.note(1.0, 1)
    assert pace.note(1.0, 2) == 0.0
