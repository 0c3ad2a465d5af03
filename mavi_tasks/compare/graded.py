"""Answers that can be partly right: lists, boxes and time spans get a score from 0 to 1, dates a number of
days.

    f1      lists as sets of labels: 2 x common / (given + expected)
    iou     boxes, each given one for at most one expected one, a match from intersection / union >= T on;
    then F1 tiou    the same for spans of time

Boxes are [x1, y1, x2, y2] or objects of x1 y1 x2 y2, x y width height, left top right bottom or xmin ymin
xmax ymax; `box_2d` is Gemini's [y1, x1, y2, x2]. Both sides must use the same unit. Spans are [start, end]
or objects of start and end, in seconds or as [HH:]MM:SS. When both sides of a match have a label, the labels
must be equal. What cannot be read as a box or span counts as one that matches nothing. Two empty lists score
1.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from mavi_tasks.compare.match_rules import LEAST_OVERLAP, Rule, as_set, found_json, plain
from mavi_tasks.compare.statistics import Bools, Floats

MOST_SHAPES = 300  # of one answer; what is beyond counts as given and matches nothing
SECONDS_A_DAY = 86_400

_LABELS = ("label", "name", "class", "category")
_CORNERS = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"), ("left", "top", "right", "bottom"))
_SIZES = (("x", "y", "width", "height"), ("x", "y", "w", "h"))
_BOX_LISTS = ("box", "bbox", "bounding_box", "xyxy")
_SPAN_ENDS = (("start", "end"), ("start_s", "end_s"), ("from", "to"), ("begin", "end"))
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)$")
_SPAN_TEXT = re.compile(r"\s*([\d:.]+)\s*s?\s*(?:-|–|to)\s*([\d:.]+)\s*s?\s*$")
_DATE_FORMATS = ("%Y/%m/%d", "%d %B %Y", "%d %b %Y", "%B %d, %Y", "%b %d, %Y", "%B %d %Y", "%d.%m.%Y")


@dataclass(frozen=True, slots=True)
class Shape:
    """A box (x1, y1, x2, y2) or a span (start, end); `ends` is empty when it could not be read."""

    ends: tuple[float, ...]
    label: str | None


def score(rule: Rule, given: object, expected: object) -> float:
    """Return how far an answer is right under an f1, iou or tiou rule: 0 to 1."""
    return _SCORES[rule.kind](rule, given, expected)


def days(value: object) -> float | None:
    """Return a date, or a time of a day, as days since 1970; None for what is none.

    ISO 8601, 2024/3/5, 5 March 2024, March 5, 2024 and 5.3.2024 are read; 3/5/2024 is not, it could be May or
    March. A time without a zone is taken for UTC.
    """
    if not isinstance(value, str):
        return None
    text = " ".join(value.split()).strip(" .\"'")
    for read in (datetime.fromisoformat, *(_by_format(one) for one in _DATE_FORMATS)):
        try:
            found = read(text)
        except ValueError:
            continue
        zoned = found if found.tzinfo else found.replace(tzinfo=UTC)
        return zoned.timestamp() / SECONDS_A_DAY
    return None


def _by_format(form: str) -> Callable[[str], datetime]:
    return lambda text: datetime.combine(datetime.strptime(text, form).date(), datetime.min.time())


def date_text(value: object) -> str | None:
    """Return a date as ISO text (with the time unless it is midnight), None for what is no date."""
    number = days(value)
    if number is None:
        return None
    found = datetime.fromtimestamp(round(number * SECONDS_A_DAY), UTC)
    return found.date().isoformat() if found.time() == datetime.min.time() else f"{found:%Y-%m-%dT%H:%M:%SZ}"


def rule_of(values: Sequence[object]) -> Rule | None:
    """Return the rule for values of which most are lists of box objects, or of span objects; else None."""
    for kind, read in (("iou", _box), ("tiou", _span)):
        if sum(_all_objects(value, read) for value in values) > len(values) / 2:
            return Rule(kind, LEAST_OVERLAP)
    return None


def boxes(value: object) -> list[Shape]:
    """Return the boxes of a list, a single box, or a JSON text of either."""
    return _shapes(value, _box, 4)


def spans(value: object) -> list[Shape]:
    """Return the spans of a list, a single span, or a text of either: "0:05-0:12"."""
    return _shapes(value, _span, 2)


def overlap(given: Sequence[Shape], expected: Sequence[Shape]) -> Floats:
    """Return intersection / union of given shapes (rows) with expected ones; 0 where labels differ."""
    if not given or not expected:
        return np.zeros((len(given), len(expected)))
    size = len(next((one.ends for one in (*given, *expected) if one.ends), (0.0, 0.0))) // 2
    a, b = _corners(given, size)[:, None], _corners(expected, size)[None]
    sides = np.minimum(a[..., size:], b[..., size:]) - np.maximum(a[..., :size], b[..., :size])
    common = np.clip(sides, 0, None).prod(-1)
    union = _measure(a, size) + _measure(b, size) - common
    found: Floats = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return np.where(_labels_fit(given, expected), found, 0.0)


def most_matches(possible: Bools) -> int:
    """Return the size of the largest one-to-one matching of rows and columns (augmenting paths)."""
    columns: dict[int, int] = {}  # the row that each column is matched to
    neighbours = [np.flatnonzero(row).tolist() for row in possible]
    for row in range(len(neighbours)):
        _augment(row, neighbours, columns)
    return len(columns)


def _augment(start: int, neighbours: Sequence[Sequence[int]], columns: dict[int, int]) -> None:
    """Match one more row, moving others along the shortest path; nothing changes when there is none."""
    before: dict[int, int] = {}  # the row from which a column was reached
    queue = [start]
    for row in queue:
        for column in neighbours[row]:
            if column in before:
                continue
            before[column] = row
            if column in columns:
                queue.append(columns[column])
                continue
            end: int | None = column
            while end is not None:  # from the free column back to the start
                via = before[end]
                end_before = next((c for c, r in columns.items() if r == via), None)
                columns[end] = via
                end = end_before if via != start else None
            return


def _f1(_: Rule, given: object, expected: object) -> float:
    a, b = as_set(given), as_set(expected)
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0


def _iou(rule: Rule, given: object, expected: object) -> float:
    return _matched(rule, boxes(given), boxes(expected))


def _tiou(rule: Rule, given: object, expected: object) -> float:
    return _matched(rule, spans(given), spans(expected))


_SCORES: dict[str, Callable[[Rule, object, object], float]] = {"f1": _f1, "iou": _iou, "tiou": _tiou}


def _matched(rule: Rule, given: Sequence[Shape], expected: Sequence[Shape]) -> float:
    if not given and not expected:
        return 1.0
    found = overlap(given[:MOST_SHAPES], expected[:MOST_SHAPES])
    return 2 * most_matches((found >= rule.tolerance - 1e-12) & (found > 0)) / (len(given) + len(expected))


def _corners(shapes: Sequence[Shape], size: int) -> Floats:
    return np.array([one.ends or (0.0,) * (2 * size) for one in shapes])


def _measure(corners: Floats, size: int) -> Floats:
    whole: Floats = (corners[..., size:] - corners[..., :size]).prod(-1)
    return whole


def _labels_fit(given: Sequence[Shape], expected: Sequence[Shape]) -> Bools:
    return np.array([[a.label is None or b.label in (None, a.label) for b in expected] for a in given])


def _shapes(value: object, read: Callable[[object], Shape | None], numbers: int) -> list[Shape]:
    if isinstance(value, str):
        held = found_json(value)
        value = [part for part in re.split(r"[,;\n]", value) if part.strip()] if held is None else held
    if value is None:
        return []
    if isinstance(value, dict) and read(value) is None:
        lists = [one for one in value.values() if isinstance(one, list)]
        value = lists[0] if len(lists) == 1 else [value]
    single = isinstance(value, list) and len(value) == numbers and all(map(_is_number, value))
    parts = value if isinstance(value, list) and not single else [value]
    return [read(part) or Shape((), None) for part in parts]


def _all_objects(value: object, read: Callable[[object], Shape | None]) -> bool:
    parts = value if isinstance(value, list) else []
    return bool(parts) and all(isinstance(one, dict) and read(one) is not None for one in parts)


def _box(value: object) -> Shape | None:
    if not isinstance(value, dict):
        return _shape(value, None, 4)
    if isinstance(held := value.get("box_2d"), list) and len(held) == 4:
        return _shape([held[1], held[0], held[3], held[2]], value, 4)
    if (name := next((name for name in _BOX_LISTS if name in value), None)) is not None:
        return _shape(value[name], value, 4)
    for names in _SIZES:
        if all(_is_number(value.get(name)) for name in names):
            x, y, wide, high = (value[name] for name in names)
            return _shape([x, y, x + wide, y + high], value, 4)
    corners = next((names for names in _CORNERS if all(name in value for name in names)), None)
    return _shape([value[name] for name in corners], value, 4) if corners else None


def _span(value: object) -> Shape | None:
    if isinstance(value, str) and (found := _SPAN_TEXT.match(value)):
        value = [found[1], found[2]]
    if isinstance(value, dict):
        names = next((names for names in _SPAN_ENDS if all(name in value for name in names)), None)
        return _shape([_seconds(value[name]) for name in names], value, 2) if names else None
    return _shape([_seconds(one) for one in value], None, 2) if isinstance(value, list) else None


def _shape(held: object, owner: dict[str, object] | None, numbers: int) -> Shape | None:
    if not isinstance(held, list) or len(held) != numbers or not all(map(_is_number, held)):
        return None
    half = numbers // 2
    low = [min(a, b) for a, b in zip(held[:half], held[half:], strict=True)]
    high = [max(a, b) for a, b in zip(held[:half], held[half:], strict=True)]
    label = next((owner[name] for name in _LABELS if owner.get(name)), None) if owner else None
    return Shape((*map(float, low), *map(float, high)), None if label is None else plain(label))


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    if found := _CLOCK.match(value.strip()):
        return int(found[1] or 0) * 3600 + int(found[2]) * 60 + float(found[3])
    try:
        return float(value.strip().removesuffix("s"))
    except ValueError:
        return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
