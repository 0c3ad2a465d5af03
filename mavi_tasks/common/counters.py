"""Live figures of one model: what the progress bar, the final table and the run's row are made of."""

import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

SAMPLE = 10_000  # latencies kept per model: exact up to here, a uniform sample beyond


class Latencies:
    """Quantiles of many values in bounded memory (reservoir sampling)."""

    def __init__(self, seed: int = 0) -> None:
        self._kept = array("d")
        self._seen = 0
        self._random = random.Random(seed)  # noqa: S311 - a sample, not a secret

    def add(self, seconds: float) -> None:
        self._seen += 1
        if len(self._kept) < SAMPLE:
            self._kept.append(seconds)
            return
        at = self._random.randrange(self._seen)
        if at < SAMPLE:
            self._kept[at] = seconds

    def __iter__(self) -> Iterator[float]:
        """The values that are kept."""
        return iter(self._kept)

    def quantile(self, share: float) -> float | None:
        """By linear interpolation, as numpy and pandas do; None when there is nothing."""
        if not self._kept:
            return None
        values = sorted(self._kept)
        at = share * (len(values) - 1)
        low = int(at)
        high = min(low + 1, len(values) - 1)
        return values[low] + (values[high] - values[low]) * (at - low)


@dataclass(slots=True)
class ModelCounters:
    """Counts of one model in one run; money in pico-dollars."""

    model: str
    requests: int = 0  # of this run's plan: to send, skipped, shared and already answered
    answered: int = 0
    failed: int = 0
    invalid: int = 0
    skipped: int = 0
    already_answered: int = 0
    invalid_before: int = 0  # of these: paid for in earlier runs, and not what the schema wants
    calls: int = 0
    throttled: int = 0
    retried: int = 0
    truncated: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_pico: int = 0  # confirmed: of every billed try
    exposure_pico: int = 0  # the most that tries in doubt may have cost
    unpriced: int = 0  # answers without a known price
    stopped: str | None = None  # why this model was given up
    errors: dict[str, tuple[int, str]] = field(default_factory=dict)  # code: how often, and the first message
    latencies: Latencies = field(default_factory=Latencies)

    @property
    def unsent(self) -> int:
        """What this run will not send: known once it has ended."""
        return self.requests - self.finished

    @property
    def finished(self) -> int:
        return self.answered + self.failed + self.invalid + self.skipped + self.already_answered

    def count(self, status: str) -> None:
        setattr(self, status, getattr(self, status) + 1)

    def explain(self, code: str, message: str) -> None:
        """One more failure, and why."""
        times, first = self.errors.get(code, (0, message))
        self.errors[code] = (times + 1, first)
