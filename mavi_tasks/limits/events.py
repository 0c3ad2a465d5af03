"""The limiter's events: how a request ended, which limit changed, and why nothing more is sent to a model."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from mavi_tasks.errors import StoppedError

SendOutcome = Literal["ok", "throttled", "server_error", "rejected", "unknown"]
"""ok: answered. throttled: 429 and its kin. server_error: 5xx, an unreadable body. rejected: any other 4xx.
unknown: reset or timeout, nobody knows what the server did."""

Throttled = Literal["late", "scattered", "most"]
"""late: of a burst that was noticed before. scattered: one among answers. most: most requests are refused."""

LimitName = Literal["concurrency", "requests_per_minute", "hold", "circuit"]

GROWTH_EVERY_S: Final = 5.0
"""Limits grow in many small steps; a log needs few lines."""


@dataclass(frozen=True, slots=True)
class LimitChange:
    """One change of a model's limits, for the log and the screen.

    `at` is in the clock's seconds. `old` and `new` are requests in flight, requests per minute, seconds of
    hold from now on, or the circuit's state; None means no limit.
    """

    at: float
    model: str
    what: LimitName
    old: float | str | None
    new: float | str | None
    why: str


class ModelDown(StoppedError):
    """Nothing more is sent to a model in this run; its remaining requests stay unsent."""

    def __init__(self, model: str, reason: str) -> None:
        self.model = model
        self.reason = reason
        super().__init__(f"{model}: {reason}")


@dataclass(slots=True, eq=False)
class Permit:
    """The right to send one request; comes back through `ModelLimiter.release` or `give_back`, once."""

    seq: int
    """1 for the model's first request, then one more each."""
    tokens: int
    at: float
    in_flight: int
    """Requests of this model under way when this one started, itself included."""
    probe: bool = False
    """True: sent to see whether a broken model answers again."""
    released: bool = False


class ChangeLog:
    """One model's `LimitChange`s: each is passed to a listener, the latest are kept."""

    __slots__ = ("_logged", "_model", "_on_change", "history")

    def __init__(self, model: str, on_change: Callable[[LimitChange], None] | None) -> None:
        self._model = model
        self._on_change = on_change
        self._logged: dict[LimitName, tuple[float, float | None]] = {}
        self.history: deque[LimitChange] = deque(maxlen=256)

    def start(self, what: LimitName, value: float | None) -> None:
        """The value everything later is compared with."""
        self._logged[what] = (float("-inf"), value)

    def update(self, what: LimitName, new: float | None, now: float) -> None:
        """Log a cut at once; growth of a tenth or more, now and then."""
        logged_at, old = self._logged[what]
        if new == old:
            return
        cut = new is not None and (old is None or new < old)
        soon = now - logged_at < GROWTH_EVERY_S
        if not cut and old is not None and new is not None and (soon or new < 1.1 * old):
            return
        self._logged[what] = (now, new)
        self.add(now, what, old, new, "throttled" if cut else "no 429 of late")

    def add(
        self, now: float, what: LimitName, old: float | str | None, new: float | str | None, why: str
    ) -> None:
        """Log one change."""
        change = LimitChange(now, self._model, what, old, new, why)
        self.history.append(change)
        if self._on_change is not None:
            self._on_change(change)
