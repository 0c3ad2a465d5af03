"""Live figures of one model: what the progress bar, the final table and the run's row are made of."""

import operator
import random
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Final

SAMPLE: Final = 10_000  # latencies kept per model: exact up to here, a uniform sample beyond


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
        position = self._random.randrange(self._seen)
        if position < SAMPLE:
            self._kept[position] = seconds

    def __add__(self, other: "Latencies") -> "Latencies":
        """The latencies of both; a uniform sample of them where they are too many."""
        merged = Latencies()
        merged._seen = self._seen + other._seen
        if len(self._kept) + len(other._kept) <= SAMPLE:
            merged._kept = self._kept + other._kept
            return merged
        of_self, left = 0, self._seen
        for drawn in range(SAMPLE):  # as if drawn from all that were seen, without putting back
            if self._random.randrange(merged._seen - drawn) < left:
                of_self, left = of_self + 1, left - 1
        picked = self._random.sample(self._kept, of_self)
        merged._kept = array("d", picked + other._random.sample(other._kept, SAMPLE - of_self))
        return merged

    def __iter__(self) -> Iterator[float]:
        """The values that are kept."""
        return iter(self._kept)

    def quantile(self, fraction: float) -> float | None:
        """By linear interpolation, as numpy and pandas do; None when there is nothing."""
        if not self._kept:
            return None
        values = sorted(self._kept)
        position = fraction * (len(values) - 1)
        low = int(position)
        high = min(low + 1, len(values) - 1)
        return values[low] + (values[high] - values[low]) * (position - low)


@dataclass(slots=True)
class ModelCounters:
    """Counts of one model in one run; money in pico-dollars."""

    model: str
    requests: int = 0  # of this run's plan: to send, skipped, copied and already answered
    answered: int = 0
    failed: int = 0
    invalid: int = 0
    skipped: int = 0
    already_answered: int = 0
    invalid_before: int = 0  # of these: paid for in earlier runs, and not valid against the schema
    calls: int = 0
    throttled: int = 0
    retried: int = 0
    truncated: int = 0  # answers that are cut off
    enlarged: int = 0  # others that were: asked once more with more max_tokens
    cut_off_pico: int = 0  # what those cost before
    input_tokens: int = 0
    output_tokens: int = 0
    cost_pico: int = 0  # confirmed: of every billed attempt
    exposure_pico: int = 0  # the most that attempts in doubt may have cost
    unpriced: int = 0  # answers without a known price: what they cost has no known bound
    stopped: str | None = None  # why this model was stopped
    errors: dict[str, tuple[int, str]] = field(default_factory=dict)  # code: how often, and the first message
    skips: Counter[str] = field(default_factory=Counter)  # skipped, by code
    latencies: Latencies = field(default_factory=Latencies)

    @property
    def unsent(self) -> int:
        """What this run will not send: known once it has ended."""
        return self.requests - self.finished

    @property
    def finished(self) -> int:
        return self.answered + self.failed + self.invalid + self.skipped + self.already_answered

    def __add__(self, other: "ModelCounters") -> "ModelCounters":
        """The counts of both, field by field; an error keeps its first message."""
        return self._combined(other, operator.add)

    def __sub__(self, earlier: "ModelCounters") -> "ModelCounters":
        """What was counted since an earlier copy of these counters; latencies are kept as they are."""
        return self._combined(earlier, operator.sub)

    def _combined(self, other: "ModelCounters", combine: Callable[[Any, Any], Any]) -> "ModelCounters":
        if self.model != other.model:
            raise ValueError(f"counters of {self.model} and {other.model} have no sum")
        adding = combine is operator.add
        values: dict[str, Any] = {}
        for name in (one.name for one in fields(self)):
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, int | Counter):
                values[name] = combine(mine, theirs)
            elif isinstance(mine, dict):
                values[name] = _combined_errors(mine, theirs, combine)
            elif isinstance(mine, Latencies):
                values[name] = mine + (theirs if adding else Latencies())
            else:  # the model's name, and why it was stopped
                values[name] = mine or (theirs if adding else None)
        return ModelCounters(**values)

    def count(self, status: str, code: str | None = None) -> None:
        setattr(self, status, getattr(self, status) + 1)
        if status == "skipped":
            self.skips[code or "unknown"] += 1

    def explain(self, code: str, message: str) -> None:
        """One more failure, and why."""
        times, first = self.errors.get(code, (0, message))
        self.errors[code] = (times + 1, first)


Errors = dict[str, tuple[int, str]]


def _combined_errors(mine: Errors, theirs: Errors, combine: Callable[[int, int], int]) -> Errors:
    found: Errors = {}
    for code in mine | theirs:
        (times, text), (others, other_text) = mine.get(code, (0, "")), theirs.get(code, (0, ""))
        if combine(times, others):
            found[code] = (combine(times, others), text or other_text)
    return found
