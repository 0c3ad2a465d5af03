"""What the month will have cost at its end, with an interval, and whether a budget lasts."""

from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

HISTORY_DAYS = 56
LEAST_DAYS = 14
DRAWS = 4_000
LEVEL = 0.8
SEED = 20_261_122  # fixed: the same ledger gives the same projection
MICRO = 10**6  # picos in a micro-dollar: draws are added as whole micro-dollars, far from the end of int64
METHOD = (
    f"Each day still to come is drawn {DRAWS:,} times from the spend of the same weekday in the last "
    f"{HISTORY_DAYS} full days (days without spend count as 0); today is the larger of what is spent and a "
    f"draw. Shown are the median and the {LEVEL:.0%} interval. Days are drawn independently: the interval "
    "knows nothing of a job planned for one day only, or of a change of plans."
)


@dataclass(frozen=True, slots=True)
class Step:
    """The month's cumulative spend at the end of a day: low, median and high."""

    day: date
    low_pico: int
    mid_pico: int
    high_pico: int


@dataclass(frozen=True, slots=True)
class Projection:
    """The month's spend so far (exact) and at its end (an estimate, whole micro-dollars)."""

    month: str
    today: date
    spent_pico: int
    low_pico: int
    mid_pico: int
    high_pico: int
    history_days: int
    steps: tuple[Step, ...]
    level: float = LEVEL
    method: str = METHOD


@dataclass(frozen=True, slots=True)
class Burn:
    """A monthly budget: what is left, the day it runs out on the median path, and the chance that it does."""

    budget_pico: int
    spent_pico: int
    runs_out: date | None
    chance_over: float | None

    @property
    def left_pico(self) -> int:
        """What may still be spent; negative when the budget is overrun."""
        return self.budget_pico - self.spent_pico


def month_spend(daily: Mapping[date, int], today: date) -> int:
    """What was billed since the first of the month, up to and with today."""
    first = today.replace(day=1)
    return sum(pico for day, pico in daily.items() if first <= day <= today)


def project(daily: Mapping[date, int], today: date) -> tuple[Projection | None, str]:
    """The projection, or None and the reason why there is none."""
    history = _history(daily, today)
    if len(history) < LEAST_DAYS:
        return None, f"No projection: it needs {LEAST_DAYS} full days of history, there are {len(history)}."
    paths = _paths(daily, history, today)
    quantiles = np.quantile(paths, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2], axis=0, method="inverted_cdf")
    steps = tuple(
        Step(today + timedelta(days=ahead), *(int(value) * MICRO for value in quantiles[:, ahead]))
        for ahead in range(quantiles.shape[1])
    )
    last = steps[-1]
    spent = month_spend(daily, today)
    return (
        Projection(
            f"{today:%Y-%m}", today, spent, last.low_pico, last.mid_pico, last.high_pico, len(history), steps
        ),
        "",
    )


def burn(daily: Mapping[date, int], today: date, budget_pico: int) -> Burn:
    """How a monthly budget fares; the chance is None when there is too little history to project."""
    history = _history(daily, today)
    spent = month_spend(daily, today)
    if len(history) < LEAST_DAYS:
        return Burn(budget_pico, spent, today if spent > budget_pico else None, None)
    paths = _paths(daily, history, today)
    chance = float(np.mean(paths[:, -1] > budget_pico // MICRO))
    middle = np.quantile(paths, 0.5, axis=0, method="inverted_cdf")
    over = np.flatnonzero(middle > budget_pico // MICRO)
    return Burn(budget_pico, spent, today + timedelta(days=int(over[0])) if len(over) else None, chance)


def _history(daily: Mapping[date, int], today: date) -> dict[date, int]:
    """The full days before today, from the first spend on, at most HISTORY_DAYS of them."""
    spent = [day for day, pico in daily.items() if pico and day < today]
    if not spent:
        return {}
    first = max(min(spent), today - timedelta(days=HISTORY_DAYS))
    days = [first + timedelta(days=ahead) for ahead in range((today - first).days)]
    return {day: daily.get(day, 0) for day in days}


def _paths(
    daily: Mapping[date, int], history: Mapping[date, int], today: date
) -> "np.ndarray[tuple[int, int], np.dtype[np.int64]]":
    """Cumulative spend of the month in micro-dollars: one row per draw, one column per day from today on."""
    random = np.random.default_rng(SEED)
    end = today.replace(day=monthrange(today.year, today.month)[1])
    before = month_spend(daily, today) - daily.get(today, 0)
    columns = []
    for ahead in range((end - today).days + 1):
        day = today + timedelta(days=ahead)
        pool = [pico for past, pico in history.items() if past.weekday() == day.weekday()]
        drawn = random.choice(np.array(pool, dtype=np.int64) // MICRO, DRAWS)
        columns.append(np.maximum(drawn, daily.get(today, 0) // MICRO) if ahead == 0 else drawn)
    return before // MICRO + np.cumsum(np.stack(columns, axis=1), axis=1)
