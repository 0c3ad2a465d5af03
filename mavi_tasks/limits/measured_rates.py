"""How fast requests were sent, and how fast answers came without a refusal."""

from collections import deque
from dataclasses import dataclass
from typing import Final

SAMPLE: Final = 20  # requests, the fewest that show a rate
FAST_PER_S: Final = 5000.0


@dataclass(frozen=True, slots=True)
class Sending:
    """Requests per second: over the last round trip, and at its fastest."""

    mean: float
    most: float


class SentTimes:
    """When the latest requests were sent."""

    __slots__ = ("_at",)

    def __init__(self) -> None:
        self._at: deque[float] = deque(maxlen=2048)

    def add(self, now: float) -> None:
        """A request is sent."""
        self._at.append(now)

    def since(self, at: float) -> int:
        """Requests sent at `at` or later."""
        return sum(1 for sent in self._at if sent >= at)

    def rate(
        self, at: float, window_s: float, limit_per_s: float | None, pace_per_s: float | None
    ) -> Sending:
        """The rate in the `window_s` before `at`; at most the limit, or else the pace, that was in force."""
        before = [sent for sent in self._at if sent <= at]
        mean = sum(1 for sent in before if sent > at - window_s) / window_s
        if limit_per_s is not None:
            return Sending(min(mean, limit_per_s), limit_per_s)
        pace = pace_per_s or FAST_PER_S
        if len(before) < SAMPLE:
            return Sending(min(mean, pace), pace)
        span_s = before[-1] - before[-SAMPLE]
        return Sending(min(mean, pace), max(mean, min(pace, (SAMPLE - 1) / max(span_s, 1e-3))))


class ProvenRate:
    """Answers per second in blocks of 5 s and 20 answers at least, each without more refusals than usual."""

    __slots__ = ("_blocks", "_count", "_refused", "_since")
    BLOCK_S: Final = 5.0
    BLOCK: Final = 20
    KEPT: Final = 9

    def __init__(self) -> None:
        self._blocks: deque[float] = deque(maxlen=self.KEPT)
        self._count = 0
        self._refused = 0
        self._since: float | None = None

    def on_answer(self, now: float, scattered: float) -> None:
        """An answer came; `scattered` is the share of requests that is refused whatever the rate."""
        if self._since is None:
            self._since = now
        self._count += 1
        if self._count >= self.BLOCK and now - self._since >= self.BLOCK_S:
            if self._refused <= 1.5 * scattered * self._count:
                self._blocks.append(self._count / (now - self._since))
            self.restart(now)

    def on_refusal(self) -> None:
        """A 429 came."""
        self._refused += 1

    def restart(self, at: float) -> None:
        """Begin a block at `at`: a pause does not count."""
        self._count, self._since, self._refused = 0, at, 0

    @property
    def per_s(self) -> float | None:
        """The upper quartile of the latest blocks; None before the first is full."""
        return sorted(self._blocks)[3 * len(self._blocks) // 4] if self._blocks else None

    def estimate_per_s(self, now: float) -> float:
        """The same, or while that is None the rate so far."""
        return self.per_s or self._count / max(0.1, now - (self._since or now))
