"""Days that are outliers against their own history, by one stated rule, in exact integers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from mavi_tasks.common.money import PICO_PER_USD, short_text

HISTORY_DAYS = 28
LEAST_DAYS = 5
SPREADS = 5
LEAST_EXCESS_PICO = PICO_PER_USD


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A day that cost more than its limit. `scope` is total, model or job; `name` which one."""

    day: date
    scope: str
    name: str
    cost_pico: int
    usual_pico: int
    limit_pico: int
    history_days: int


def rule(least_excess_pico: int = LEAST_EXCESS_PICO) -> str:
    """The rule as a sentence."""
    return (
        f"A day is flagged when its spend exceeds the median of its history by more than {SPREADS} times the "
        "median absolute deviation, by more than a quarter of the median, and by at least "
        f"${short_text(least_excess_pico)}. Its history: the days with spend of the same kind (working day "
        f"or weekend) among the {HISTORY_DAYS} days before it; at least {LEAST_DAYS} of them are needed. "
        "Checked for everything together, for each model and for each job."
    )


def find(
    spend: Iterable[tuple[str, str, Mapping[date, int]]], least_excess_pico: int = LEAST_EXCESS_PICO
) -> tuple[Anomaly, ...]:
    """The flagged days of each (scope, name, spend by day): the latest first, then the most expensive."""
    found = [
        anomaly
        for scope, name, daily in spend
        for day in daily
        if (anomaly := _check(scope, name, day, daily, least_excess_pico)) is not None
    ]
    return tuple(
        sorted(found, key=lambda one: (-one.day.toordinal(), -one.cost_pico, one.scope != "total", one.name))
    )


def _check(scope: str, name: str, day: date, daily: Mapping[date, int], least: int) -> Anomaly | None:
    before = (day - timedelta(days=back) for back in range(1, HISTORY_DAYS + 1))
    history = [daily[past] for past in before if daily.get(past) and _weekend(past) == _weekend(day)]
    if len(history) < LEAST_DAYS:
        return None
    usual = _median(history)
    spread = _median([abs(pico - usual) for pico in history])
    limit = usual + max(SPREADS * spread, usual // 4)
    if daily[day] <= limit or daily[day] - usual < least:
        return None
    return Anomaly(day, scope, name, daily[day], usual, limit, len(history))


def _weekend(day: date) -> bool:
    return day.weekday() >= 5


def _median(values: list[int]) -> int:
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) // 2
