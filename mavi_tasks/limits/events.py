"""The words of the limiter: what a try came to, what changed, and why a model is no longer asked."""

from dataclasses import dataclass
from typing import Literal

from mavi_tasks.errors import StoppedError

Outcome = Literal["ok", "throttled", "server_error", "rejected", "unknown"]
"""ok: answered. throttled: 429 and its kin. server_error: 5xx, an unreadable body. rejected: any other 4xx.
unknown: reset or timeout, nobody knows what the server did."""

What = Literal["concurrency", "requests_per_minute", "hold", "circuit"]


@dataclass(frozen=True, slots=True)
class LimitChange:
    """One change of a model's limits, for the log and the screen.

    `at` is in the clock's seconds. `old` and `new` are requests in flight, requests per minute, seconds of
    hold from now on, or the circuit's state; None means no limit.
    """

    at: float
    model: str
    what: What
    old: float | str | None
    new: float | str | None
    why: str


class ModelDown(StoppedError):
    """A model that is asked no more in this run; what was not sent to it stays unsent."""

    def __init__(self, model: str, reason: str) -> None:
        self.model = model
        self.reason = reason
        super().__init__(f"{model}: {reason}")


@dataclass(slots=True, eq=False)
class Permit:
    """The right to send one try; comes back through `Throttle.release` or `give_back`, once."""

    seq: int
    """1 for the model's first try, then one more each."""
    tokens: int
    at: float
    in_flight: int
    """Tries of this model under way when this one started, itself included."""
    probe: bool = False
    """True: sent to see whether a broken model answers again."""
    released: bool = False
