"""A model's limits as a provider enforces them: token buckets and a count of what is in flight."""

from dataclasses import dataclass, field

from .config import Limit


@dataclass(slots=True)
class Bucket:
    """Holds up to `size`, refills at `per_s`; starts full."""

    per_s: float
    size: float
    level: float = field(init=False)
    at_s: float | None = None

    def __post_init__(self) -> None:
        self.level = self.size

    def wait_s(self, amount: float, now_s: float) -> float:
        """Seconds until the amount fits, 0 = now. More than the bucket ever holds fits when it is full."""
        if self.at_s is not None:
            self.level = min(self.size, self.level + (now_s - self.at_s) * self.per_s)
        self.at_s = now_s
        missing = min(amount, self.size) - self.level
        return max(0.0, missing / self.per_s) if missing > 1e-9 else 0.0

    def take(self, amount: float) -> None:
        self.level -= amount


class Gate:
    """One model's limits; every method takes the time, so that a test can bring its own."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.in_flight = 0
        per_s, per_min = limit.requests_per_s, limit.tokens_per_min
        self.requests = None if per_s is None else Bucket(per_s, limit.burst)
        self.tokens = None if per_min is None else Bucket(per_min / 60, per_min)

    def enter(self, tokens: int, now_s: float) -> float | None:
        """None when the request is let in (then call `leave`), else the seconds after which to try again."""
        buckets = [(self.requests, 1.0), (self.tokens, float(tokens))]
        waits_s = [bucket.wait_s(amount, now_s) for bucket, amount in buckets if bucket is not None]
        if self.limit.concurrency is not None and self.in_flight >= self.limit.concurrency:
            waits_s.append(0.1)  # no one can know when a slot falls free
        if max(waits_s, default=0.0) > 0:
            return max(waits_s)
        for bucket, amount in buckets:
            if bucket is not None:
                bucket.take(amount)
        self.in_flight += 1
        return None

    def leave(self) -> None:
        self.in_flight -= 1
