"""Charts as SVG text, drawn here: no library, no script, crisp on paper, coloured by style.css (k1 .. k8).

Each chart is drawn twice, wide and narrow; style.css shows the one that fits. To a screen reader it is one
image, described by its label, so the same figures also stand in a table on the page.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mavi_tasks.common.format import percent
from mavi_tasks.reports.html.svg_scales import coordinate, linear_scale, log_scale, ticks

WIDE, NARROW = 1000, 360
CHAR = 6.6  # the mean width of a character at 12 px, for labels that must not collide

NOTHING = Markup("")

Text = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Series:
    """A named row of values, one per category; None leaves a gap. `colour` is 1 to 8."""

    name: str
    values: Sequence[float | None]
    colour: int = 0


@dataclass(frozen=True, slots=True)
class Point:
    """A labelled point; its interval is drawn when both ends are known. `kind`: solid | hollow | small."""

    label: str
    x: float
    y: float
    y_low: float | None = None
    y_high: float | None = None
    colour: int = 8
    kind: str = "solid"
    tip: str = ""


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis says and how its values read."""

    title: str
    text: Text = str
    log: bool = False
    zero: bool = False  # the axis starts at 0


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a heat-map: `level` in -1..1 shades it, below 0 in the other colour, None leaves it blank.

    `data` makes it a button.
    """

    text: str
    level: float | None
    tip: str = ""
    data: tuple[tuple[str, str], ...] = ()


def colour_of(index: int) -> int:
    """Return the palette's colour for the n-th series (0-based): 1 to 7, then the neutral 8."""
    return index + 1 if index < 7 else 8


def line(title: str, labels: Sequence[str], series: Sequence[Series], y: Axis) -> Markup:
    """Return a line chart over ordered categories (days), with a legend."""
    top = max([value for one in series for value in one.values if value is not None] or [0.0])
    return _figure(lambda width: _line(width, title, labels, series, y, top), _legend(series))


def stacked_bars(title: str, labels: Sequence[str], series: Sequence[Series], y: Axis) -> Markup:
    """Return a stacked bar per category, with a legend."""
    sums = [sum(one.values[at] or 0.0 for one in series) for at in range(len(labels))]
    return _figure(
        lambda width: _bars(width, title, labels, series, y, max(sums, default=0.0)), _legend(series)
    )


def scatter(
    title: str,
    points: Sequence[Point],
    x: Axis,
    y: Axis,
    front: Sequence[tuple[float, float]] = (),
) -> Markup:
    """Return points with vertical intervals and labels beside them; `front` becomes a dashed staircase."""
    return _figure(lambda width: _scatter(width, title, points, x, y, front))


def heat_map(
    caption: str,
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[Cell | None]],
    *,
    corner: str,
) -> Markup:
    """Return a shaded table: readable by a screen reader, and its cells are buttons when they carry data."""
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(name) for name in columns)
    body = Markup("").join(
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(name, Markup("").join(map(_cell, row)))
        for name, row in zip(rows, cells, strict=True)
    )
    return Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="{}"><table class="heat">'
        '<caption>{}</caption><thead><tr><th scope="col">{}</th>{}</tr></thead>'
        "<tbody>{}</tbody></table></div>"
    ).format(caption, caption, corner, head, body)


def interval(
    value: float, low: float, high: float, colour: int, *, start: float = 0.0, end: float = 1.0
) -> Markup:
    """Return a small bar for a table cell: a dot at the value, a band over its interval."""
    width, span = 130, (end - start) or 1.0

    def at(number: float) -> str:
        return coordinate(4 + (width - 8) * min(max((number - start) / span, 0), 1))

    return Markup(
        '<svg class="spark k{}" viewBox="0 0 {} 16" width="{}" height="16" role="img" aria-label="{}">'
        '<rect class="track" x="0" y="6.5" width="{}" height="3" rx="1.5"/>'
        '<line class="whisker" x1="{}" x2="{}" y1="8" y2="8" stroke-width="6" stroke-linecap="round"/>'
        '<circle class="fill" cx="{}" cy="8" r="4.5"/></svg>'
    ).format(
        colour, width, width, f"{percent(value)}, interval {percent(low)} to {percent(high)}",
        width, at(low), at(high), at(value),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Plane:
    """Maps values to pixels; the frame every chart with axes shares."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float

    def x(self, share: float) -> float:
        return self.left + share * (self.width - self.left - self.right)

    def y(self, share: float) -> float:
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)


def _line(
    width: int, title: str, labels: Sequence[str], series: Sequence[Series], y: Axis, top: float
) -> Markup:
    plane, marks = _frame(width), ticks(0.0, top)
    high = marks[-1] or 1.0
    parts = [*_y_axis(plane, marks, 0.0, high, y), *_categories(plane, labels, inset=False)]
    last = max(len(labels) - 1, 1)
    for one in series:
        runs: list[list[str]] = [[]]
        for at, value in enumerate(one.values):
            if value is None:
                runs.append([])
            else:
                runs[-1].append(f"{coordinate(plane.x(at / last))},{coordinate(plane.y(value / high))}")
        for run in runs:
            if len(run) == 1:
                cx, cy = run[0].split(",")
                parts.append(
                    Markup('<circle class="fill k{}" cx="{}" cy="{}" r="3"/>').format(one.colour, cx, cy)
                )
            elif run:
                parts.append(
                    Markup('<polyline class="stroke k{}" points="{}"/>').format(one.colour, " ".join(run))
                )
    return _svg(plane, title, parts)


def _bars(
    width: int, title: str, labels: Sequence[str], series: Sequence[Series], y: Axis, top: float
) -> Markup:
    plane, marks = _frame(width), ticks(0.0, top)
    high = marks[-1] or 1.0
    parts = [*_y_axis(plane, marks, 0.0, high, y), *_categories(plane, labels, inset=True)]
    slot = (plane.x(1) - plane.x(0)) / max(len(labels), 1)
    bar = min(slot * 0.72, 46)
    for at, label in enumerate(labels):
        base, left = 0.0, plane.x(0) + (at + 0.5) * slot - bar / 2
        for one in series:
            value = one.values[at] or 0.0
            if value <= 0:
                continue
            y1, y0 = plane.y((base + value) / high), plane.y(base / high)
            tip = f"{label}, {one.name}: {y.text(value)}"
            parts.append(
                Markup(
                    '<rect class="fill k{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>'
                ).format(
                    one.colour,
                    coordinate(left),
                    coordinate(y1),
                    coordinate(bar),
                    coordinate(max(y0 - y1, 0.5)),
                    tip,
                )
            )
            base += value
    return _svg(plane, title, parts)


def _scatter(
    width: int, title: str, points: Sequence[Point], x: Axis, y: Axis, front: Sequence[tuple[float, float]]
) -> Markup:
    plane = _frame(width, height=400 if width > NARROW else 340, bottom=46)
    xs = [point.x for point in points] or [0.0, 1.0]
    ys = [v for p in points for v in (p.y, p.y_low, p.y_high) if v is not None] or [0.0, 1.0]
    x_scale, x_marks = log_scale(xs) if x.log and min(xs) > 0 else linear_scale(xs, zero=x.zero)
    y_scale, y_marks = linear_scale(ys, zero=y.zero)
    parts = [_y_tick(plane, y_scale(mark), y.text(mark)) for mark in y_marks]
    parts += [_x_tick(plane, x_scale(mark), x.text(mark)) for mark in _thinned(x_marks, width, x)]
    parts.append(_text(plane.x(0.5), plane.height - 6, x.title, "middle"))
    parts.append(_text(4, 12, y.title, "start"))
    if len(front) > 1:
        parts.append(_staircase(plane, [(x_scale(a), y_scale(b)) for a, b in front]))
    placed = [(plane.x(x_scale(p.x)), plane.y(y_scale(p.y))) for p in points]
    for point, (px, py) in zip(points, placed, strict=True):
        parts.append(_dot(plane, point, px, py, y_scale))
    parts += _labels(plane, points, placed)
    return _svg(plane, title, parts)


def _dot(plane: _Plane, point: Point, px: float, py: float, y_scale: Callable[[float], float]) -> Markup:
    whisker = Markup("")
    if point.y_low is not None and point.y_high is not None:
        low, high = plane.y(y_scale(point.y_low)), plane.y(y_scale(point.y_high))
        whisker = Markup('<line class="whisker" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(
            coordinate(px), coordinate(low), coordinate(high)
        )
    look, radius = {"hollow": ("hollow", 5.5), "small": ("fill", 3.0)}.get(point.kind, ("fill", 6.0))
    return Markup(
        '<g class="k{}">{}<circle class="{}" cx="{}" cy="{}" r="{}"><title>{}</title></circle></g>'
    ).format(point.colour, whisker, look, coordinate(px), coordinate(py), radius, point.tip or point.label)


def _labels(plane: _Plane, points: Sequence[Point], placed: Sequence[tuple[float, float]]) -> list[Markup]:
    """Put each label where it meets no dot and no earlier label: beside, above, below, then further off."""
    taken = [(px - 7, py - 7, px + 7, py + 7) for px, py in placed]
    made = []
    for point, (px, py) in zip(points, placed, strict=True):
        if not point.label:
            continue
        wide = len(point.label) * CHAR
        spots = [
            (px + 10, py + 4, "start"), (px - 10, py + 4, "end"),
            (px + 8, py - 10, "start"), (px - 8, py - 10, "end"),
            (px + 8, py + 18, "start"), (px - 8, py + 18, "end"),
            (px, py - 22, "middle"), (px, py + 30, "middle"),
            (px + 8, py - 26, "start"), (px - 8, py + 34, "end"),
        ]  # fmt: skip
        boxes = [_box(spot, wide) for spot in spots]
        costs = [sum(_overlap(box, other) for other in taken) + 40 * _outside(box, plane) for box in boxes]
        best = costs.index(min(costs))
        taken.append(boxes[best])
        made.append(_text(spots[best][0], spots[best][1], point.label, spots[best][2], "strong halo"))
    return made


def _box(spot: tuple[float, float, str], wide: float) -> tuple[float, float, float, float]:
    x, y, anchor = spot
    left = x - {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
    return (left, y - 11, left + wide, y + 3)


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    return across * down if across > 0 and down > 0 else 0.0


def _outside(box: tuple[float, float, float, float], plane: _Plane) -> float:
    floor = plane.y(0)
    return (
        max(0.0, plane.left - box[0])
        + max(0.0, box[2] - plane.width)
        + max(0.0, 14 - box[1])
        + max(0.0, box[3] - floor)
    )


def _frame(width: int, height: int = 260, bottom: int = 30) -> _Plane:
    return _Plane(width, height, left=56, right=16, top=24, bottom=bottom)


def _svg(plane: _Plane, title: str, parts: Sequence[Markup]) -> Markup:
    size = "narrow" if plane.width == NARROW else "wide"
    return Markup('<svg class="chart {}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        size, int(plane.width), int(plane.height), title, Markup("").join(parts)
    )


def _figure(draw: Callable[[int], Markup], below: Markup = NOTHING) -> Markup:
    return Markup("<figure>{}{}{}</figure>").format(draw(WIDE), draw(NARROW), below)


def _legend(series: Sequence[Series]) -> Markup:
    items = [
        Markup('<li><span class="swatch k{}"></span>{}</li>').format(one.colour, one.name)
        for one in series
        if one.name
    ]
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items)) if items else Markup("")


def _y_axis(plane: _Plane, marks: Sequence[float], low: float, high: float, y: Axis) -> list[Markup]:
    span = (high - low) or 1.0
    ticks = [_y_tick(plane, (mark - low) / span, y.text(mark)) for mark in marks]
    return [*ticks, _text(4, 12, y.title, "start")]


def _y_tick(plane: _Plane, share: float, text: str) -> Markup:
    at = plane.y(share)
    rule = Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>')
    return rule.format(
        coordinate(plane.x(0)), coordinate(plane.x(1)), coordinate(at), coordinate(at)
    ) + _text(plane.left - 7, at + 4, text, "end")


def _x_tick(plane: _Plane, share: float, text: str) -> Markup:
    at, floor = plane.x(share), plane.y(0)
    rule = Markup('<line class="axis" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>')
    return rule.format(coordinate(at), coordinate(floor), coordinate(floor + 5)) + _text(
        at, floor + 19, text, "middle"
    )


def _categories(plane: _Plane, labels: Sequence[str], *, inset: bool) -> list[Markup]:
    """Name as many categories as there is room for, the last one always."""
    if not labels:
        return []
    room = max(1, int((plane.x(1) - plane.x(0)) / (max(map(len, labels)) * CHAR + 12)))
    step = math.ceil(len(labels) / room)
    last = len(labels) - 1
    shown = range(last % step, len(labels), step)
    if inset:
        return [_x_tick(plane, (at + 0.5) / len(labels), labels[at]) for at in shown]
    return [_x_tick(plane, at / max(last, 1), labels[at]) for at in shown]


def _thinned(marks: Sequence[float], width: int, axis: Axis) -> list[float]:
    room = (width - 72) / (max((len(axis.text(mark)) for mark in marks), default=1) * CHAR + 10)
    step = max(1, math.ceil(len(marks) / max(room, 1)))
    return list(marks)[::step]


def _staircase(plane: _Plane, steps: Sequence[tuple[float, float]]) -> Markup:
    start, *rest = steps
    path = [f"M{coordinate(plane.x(start[0]))} {coordinate(plane.y(start[1]))}"]
    path += [f"H{coordinate(plane.x(a))}V{coordinate(plane.y(b))}" for a, b in rest]
    return Markup('<path class="front" d="{}"/>').format("".join(path))


def _text(x: float, y: float, text: str, anchor: str, look: str = "") -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}" class="{}">{}</text>').format(
        coordinate(x), coordinate(y), anchor, look, text
    )


def _cell(cell: Cell | None) -> Markup:
    if cell is None:
        return Markup("<td></td>")
    shade = "" if cell.level is None else f"{'hn'[cell.level < 0]}{min(8, int(abs(cell.level) * 9))}"
    if not cell.data:
        return Markup('<td><span class="cell {}" title="{}">{}</span></td>').format(
            shade, cell.tip, cell.text
        )
    data = Markup(" ").join(Markup('data-{}="{}"').format(name, value) for name, value in cell.data)
    return Markup(
        '<td><button type="button" class="cell {}" aria-pressed="false" title="{}" {}>{}</button></td>'
    ).format(shade, cell.tip, data, cell.text)
