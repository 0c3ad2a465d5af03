"""What is remembered while limits adapt: a burst of refusals, a round trip, a test."""

from dataclasses import dataclass

from mavi_tasks.limits.events import Permit
from mavi_tasks.limits.measured_rates import Sending


@dataclass(slots=True)
class Burst:
    """The moment at which too many requests were refused, and the replies to those in flight then."""

    permit: Permit
    """Of the request whose refusal was one too many."""
    sending: Sending
    at: float
    last_seq: int
    in_flight: int
    """Requests in flight then."""
    sent: int
    """Requests sent since that one, it included."""
    cap: int
    first: bool
    """The model's rate was not limited before."""
    closed: bool
    slots_blamed: bool
    rate_blamed: bool
    sustained_per_s: float
    """What the server seems to take, judged at that moment."""
    cut: bool = False
    """The limits were cut for it."""
    replies: int = 0
    """Of `in_flight`."""
    throttled_replies: int = 0
    throttled: int = 1
    """Of `sent`."""

    @property
    def complete(self) -> bool:
        """All replies to what was in flight are in."""
        return self.replies >= self.in_flight

    def add_reply(self, permit: Permit, *, throttled: bool) -> None:
        """A reply to a request that was in flight."""
        self.replies += 1
        self.throttled_replies += throttled
        self.throttled += throttled and permit.at >= self.permit.at

    def accepted_per_s(self, latency_s: float) -> float | None:
        """What a full server accepted meanwhile; None when too few requests or too little time show it."""
        window_s = self.at - self.permit.at
        accepted = self.sent - self.throttled
        return accepted / window_s if accepted >= 10 and window_s >= 0.25 * latency_s else None


@dataclass(slots=True)
class Round:
    """Answers to the requests sent within one round trip."""

    last_seq: int = 0
    began_at: float = 0.0
    answers: int = 0
    errors: int = 0
    latency_s: float = 0.0
    """Summed."""
    slots: int = 0
    """The most in flight."""
    refused: bool = False


@dataclass(slots=True)
class Test:
    """What is sent while it is found out whether a limit causes the refusals."""

    pace_per_s: float
    cap: int | None
    """None: as many in flight as else."""

    def deepen(self, part: float) -> None:
        """Send only `part` of that."""
        self.pace_per_s *= part
        self.cap = None if self.cap is None else max(1, int(part * self.cap))
