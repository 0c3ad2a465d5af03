"""Scales of charts: values to positions from 0 to 1, and the marks of an axis."""

import math
from collections.abc import Callable, Sequence


def linear_scale(values: Sequence[float], *, zero: bool) -> tuple[Callable[[float], float], list[float]]:
    low, high = (0.0 if zero else min(values)), max(values)
    if low == high:
        low, high = low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
    marks = ticks(low, high)
    first, span = marks[0], marks[-1] - marks[0]
    return (lambda value: (value - first) / span), marks


def log_scale(values: Sequence[float]) -> tuple[Callable[[float], float], list[float]]:
    low, high = min(values) / 1.25, max(values) * 1.6
    base, span = math.log10(low), math.log10(high) - math.log10(low)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if span < 3 else (1,)
    marks = [m * 10.0**p for p in powers for m in steps if low <= m * 10.0**p <= high]
    return (lambda value: (math.log10(value) - base) / span), marks


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values that enclose low..high, at steps of 1, 2, 2.5 or 5 times a power of ten."""
    if high <= low:
        high = low + 1.0
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((m * power for m in (1, 2, 2.5, 5) if m * power >= raw), 10 * power)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def coordinate(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")
