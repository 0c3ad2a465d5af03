"""What passes between a run and its workers: the counts, and the word to stop."""

from dataclasses import fields

from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.execution.distributed.counter_snapshot import CounterSnapshot
from mavi_tasks.execution.stop_signal import StopSignal

NOT_COUNTED_BY_WORKERS = {"requests", "invalid_before"}  # the parent's plan


def test_every_count_of_a_worker_arrives():
    names = [one.name for one in fields(ModelCounters) if type(getattr(ModelCounters("m"), one.name)) is int]
    worker = ModelCounters("m", **{name: place + 1 for place, name in enumerate(names)})
    parent = ModelCounters("m")

    CounterSnapshot.of(worker, StopSignal()).add_to(parent)

    missing = {name for name in names if getattr(parent, name) != getattr(worker, name)}
    assert missing == NOT_COUNTED_BY_WORKERS


def test_a_callback_that_is_given_twice_is_called_once():
    stop, messages = StopSignal(), []
    stop.on_stop(messages.append)
    stop.on_stop(messages.append)

    stop("budget", "the budget is spent")

    assert messages == ["the budget is spent"]


def test_a_callback_that_comes_late_is_called_at_once():
    stop, messages = StopSignal(), []
    stop("budget", "the budget is spent")

    stop.on_stop(messages.append)

    assert messages == ["the budget is spent"]
