"""What the requests of one model share, and the error that ends one of them unsent."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.execution.dispatcher import Dispatcher
from mavi_tasks.limits import ModelLimiter
from mavi_tasks.planning.target import ModelTarget


class UnsentError(Exception):
    """This request will not be sent in this run; it gets no row."""


class TaskScope:
    """What the requests of one model share; `backing_off` is held open while one of them backs off."""

    __slots__ = ("backing_off", "counters", "dispatcher", "limiter", "target")

    def __init__(
        self,
        dispatcher: Dispatcher,
        target: ModelTarget,
        limiter: ModelLimiter,
        counters: ModelCounters,
        backing_off: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.dispatcher, self.target, self.limiter, self.counters = dispatcher, target, limiter, counters
        self.backing_off = backing_off

    @property
    def stopped(self) -> bool:
        """The run or this model sends nothing more."""
        return self.dispatcher.stopping or self.counters.stopped is not None
