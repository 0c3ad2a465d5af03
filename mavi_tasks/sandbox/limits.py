"""The limits of a model as a provider enforces them: token buckets and a concurrency limit."""

from dataclasses import dataclass, field

from .config import Limit


@dataclass(slots=True)
class Bucket:
    """Holds up to `size`, refills at `per_s`; starts full."""

    per_s: float
    size: float
    level: float = field(init=False)
    updated_s: float | None = None

    def __post_init__(self) -> None:
        self.level = self.size

    def wait_s(self, amount: float, now_s: float) -> float:
        """Seconds until the amount is available, 0 = now; more than `size` needs a full bucket."""
        if self.updated_s is not None:
            self.level = min(self.size, self.level + (now_s - self.updated_s) * self.per_s)
        self.updated_s = now_s
        missing = min(amount, self.size) - self.level
        return max(0.0, missing / self.per_s) if missing > 1e-9 else 0.0

    def take(self, amount: float) -> None:
        self.level -= amount


class ModelLimiter:
    """The limits of one model; the time is an argument, so that tests need no clock."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.in_flight = 0
        per_s, per_min = limit.requests_per_s, limit.tokens_per_min
        self.requests = None if per_s is None else Bucket(per_s, limit.burst)
        self.tokens = None if per_min is None else Bucket(per_min / 60, per_min)

    def acquire(self, tokens: int, now_s: float) -> float | None:
        """None when the request is admitted (then call `release`), else the seconds to wait."""
        buckets = [(self.requests, 1.0), (self.tokens, float(tokens))]
        waits_s = [bucket.wait_s(amount, now_s) for bucket, amount in buckets if bucket is not None]
        if self.limit.concurrency is not None and self.in_flight >= self.limit.concurrency:
            waits_s.append(0.1)  # nobody knows when a slot becomes free
        if max(waits_s, default=0.0) > 0:
            return max(waits_s)
        for bucket, amount in buckets:
            if bucket is not None:
                bucket.take(amount)
        self.in_flight += 1
        return None

    def release(self) -> None:
        self.in_flight -= 1
