"""The spend page's own charts: the trend (the shell's bars), and the month with its projected band."""

from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from markupsafe import Markup

from mavi_tasks.common import format
from mavi_tasks.costs.cost_report import Group
from mavi_tasks.costs.projection import Burn, Projection
from mavi_tasks.reports.html import svg_charts

MOST_SERIES = 7
PICO = 10**12
WIDE, NARROW, HEIGHT = 760, 360, 280
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 26, 30


def axis_usd(value: float) -> str:
    """Dollars on an axis: $0, $0.05, $1,200; a true minus."""
    text = format.usd(Decimal(str(round(abs(value), 9))), 2)
    if abs(value) >= 1 and value == int(value):
        text = f"${abs(value):,.0f}"
    return f"−{text}" if value < 0 else text


def trend(groups: Sequence[Group], days: Sequence[str]) -> Markup:
    """Spend by day, stacked by model: what the page shows before, or without, its script."""
    spend: dict[str, dict[str, float]] = {}
    for group in groups:
        day, model = group.keys
        spend.setdefault(model, {})[day] = group.spend.cost_pico / PICO
    ordered = sorted(spend, key=lambda model: (-sum(spend[model].values()), model))
    shown, rest = ordered[:MOST_SERIES], ordered[MOST_SERIES:]
    series = [
        svg_charts.Series(model, [spend[model].get(day, 0.0) for day in days], number + 1)
        for number, model in enumerate(shown)
    ]
    if rest:
        sums = [sum(spend[model].get(day, 0.0) for model in rest) for day in days]
        series.append(svg_charts.Series(f"{len(rest)} more", sums, 8))
    return svg_charts.stacked_bars(
        "Spend by day, stacked by model", list(days), series, svg_charts.Axis("US dollars", text=axis_usd)
    )


@dataclass(frozen=True, slots=True)
class _Month:
    """The month in dollars per day: what is known, and the band of what may come."""

    days: Sequence[date]
    known: Sequence[float]  # from the first to today
    low: Sequence[float]  # from today on
    mid: Sequence[float]
    high: Sequence[float]
    budget: float | None


def outlook(projection: Projection | None, burn: Burn | None, daily: Mapping[date, int]) -> Markup:
    """The month so far and its band: spend rising, or with a budget what is left of it, falling."""
    if projection is None:
        return Markup("")
    month = _month(projection, burn, daily)
    title = (
        "What is left of the monthly budget, and its projection"
        if burn
        else "Spend of the month so far, and its projection"
    )
    drawn = Markup("").join(_draw(month, width, title) for width in (WIDE, NARROW))
    return Markup("<figure>{}{}</figure>").format(drawn, _legend(month))


def _month(projection: Projection, burn: Burn | None, daily: Mapping[date, int]) -> _Month:
    first = projection.today.replace(day=1)
    count = monthrange(first.year, first.month)[1]
    days = [first + timedelta(days=ahead) for ahead in range(count)]
    spent, known = 0, []
    for day in days[: projection.today.day]:
        spent += daily.get(day, 0)
        known.append(spent / PICO)
    budget = burn.budget_pico / PICO if burn else None
    bands = [
        [getattr(step, name) / PICO for step in projection.steps]
        for name in ("low_pico", "mid_pico", "high_pico")
    ]
    low, mid, high = bands
    if budget is None:
        return _Month(days, known, low, mid, high, None)
    left = [[budget - value for value in row] for row in (known, high, mid, low)]
    return _Month(days, left[0], left[1], left[2], left[3], budget)


def _draw(month: _Month, width: int, title: str) -> Markup:
    every = [0.0, *month.known, *month.low, *month.high, *([month.budget] if month.budget else [])]
    marks = ticks(min(every), max(every))
    low, span, last = marks[0], (marks[-1] - marks[0]) or 1.0, max(len(month.days) - 1, 1)

    def x(place: int) -> str:
        return _n(LEFT + place / last * (width - LEFT - RIGHT))

    def y(value: float) -> str:
        return _n(HEIGHT - BOTTOM - (value - low) / span * (HEIGHT - TOP - BOTTOM))

    parts = [_mark(width, y(mark), axis_usd(mark), mark == 0.0) for mark in marks]
    step = 5 if width == WIDE else 10
    parts += [_day(x(at), day) for at, day in enumerate(month.days) if at % step == 0 or at == last]
    today = len(month.known) - 1
    upper = [f"{x(today + at)},{y(value)}" for at, value in enumerate(month.high)]
    lower = [f"{x(today + at)},{y(value)}" for at, value in enumerate(month.low)]
    parts.append(
        Markup('<polygon class="band k1" points="{}"/>').format(" ".join([*upper, *reversed(lower)]))
    )
    if month.budget is not None:
        ideal = f"{x(0)},{y(month.budget)} {x(last)},{y(0.0)}"
        parts.append(Markup('<polyline class="even" points="{}"/>').format(ideal))
    middle = " ".join(f"{x(today + at)},{y(value)}" for at, value in enumerate(month.mid))
    parts.append(Markup('<polyline class="stroke dashed k1" points="{}"/>').format(middle))
    known = " ".join(f"{x(at)},{y(value)}" for at, value in enumerate(month.known))
    parts.append(Markup('<polyline class="stroke k1" points="{}"/>').format(known))
    parts.append(
        Markup('<circle class="fill k1" cx="{}" cy="{}" r="4"/>').format(x(today), y(month.known[-1]))
    )
    parts.append(Markup('<text x="4" y="12" class="">US dollars</text>'))
    size = "wide" if width == WIDE else "narrow"
    return Markup('<svg class="chart {}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        size, width, HEIGHT, title, Markup("").join(parts)
    )


def _mark(width: int, at: str, text: str, zero: bool) -> Markup:
    rule = Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
        "zero" if zero else "grid", LEFT, width - RIGHT, at, at
    )
    return rule + Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(
        LEFT - 7, _n(float(at) + 4), text
    )


def _day(at: str, day: date) -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(at, HEIGHT - 8, day.day)


def _legend(month: _Month) -> Markup:
    known = "left of the budget" if month.budget is not None else "spent so far"
    items = [("line", known), ("dash", "median projection"), ("band", "80% interval")]
    if month.budget is not None:
        items.append(("even", "even spending"))
    rows = Markup("").join(
        Markup('<li><span class="key key-{}"></span>{}</li>').format(look, text) for look, text in items
    )
    return Markup('<ul class="legend">{}</ul>').format(rows)


def ticks(low: float, high: float) -> list[float]:
    """Round marks that enclose low..high."""
    if high <= low:
        high = low + 1.0
    raw, power = (high - low) / 5, 1e-12
    while power * 10 <= raw:
        power *= 10
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = int(low // step), int(-(-high // step))
    return [round(number * step, 12) for number in range(first, last + 1)]


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")
