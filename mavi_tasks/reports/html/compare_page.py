"""The bake-off page: the recommendation, then all that supports it, down to the single answer."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from markupsafe import Markup

from mavi_tasks.common import format
from mavi_tasks.compare import recommendation
from mavi_tasks.compare.display_names import listed, short
from mavi_tasks.compare.preference import bias_sentence
from mavi_tasks.compare.result import Comparison, ModelScore, Pair, Policy
from mavi_tasks.reports.html import answers_payload, calibration_section, svg_charts
from mavi_tasks.reports.html.page import Section, asset, fragment, render
from mavi_tasks.reports.html.race_chart import race_chart

TEXTS_INTRO = (
    "How alike texts are is agreement, not quality; a judge's preference is its taste, not the truth."
)


def write(comparison: Comparison, path: Path, *, title: str = "Bake-off") -> Path:
    """Write the page to one file and return its path; the folder is made when it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html(comparison, title=title), encoding="utf-8")
    return path


def html(comparison: Comparison, *, title: str = "Bake-off") -> str:
    """Return the whole page."""
    view = _View(comparison)
    return render(
        title,
        list(_sections(view)),
        answers_payload.payload(comparison, view.order),
        [asset("bakeoff.js")],
        styles=[asset("bakeoff.css")],
        subtitle=view.subtitle(),
        lead=view.part("lead", kpis=view.kpis()),
        notices=comparison.warnings[: int(comparison.simulated)],  # the gravest stands above everything
        caveats=comparison.warnings[int(comparison.simulated) :],
        footer="Made by mavi. This file is complete: it needs no network and sends nothing anywhere.",
    )


class _View:
    """A comparison with what every part of the page needs: order, short names, colours."""

    def __init__(self, comparison: Comparison) -> None:
        self.c = comparison
        self.order = [one.candidate for one in comparison.models]
        self.name = short(self.order)
        self.colour = answers_payload.colours(self.order)
        self.by_truth = comparison.items_with_truth > 0
        self.by_prompt = any(one.prompt_id for one in comparison.models)
        self.chosen = comparison.choice.candidate if comparison.choice else None

    def part(self, template: str, **values: object) -> Markup:
        return fragment(
            f"bakeoff/{template}.html",
            c=self.c,
            name=self.name,
            colour=self.colour,
            by_truth=self.by_truth,
            by_prompt=self.by_prompt,
            chosen=self.chosen,
            quality=self.quality,
            interval=self.interval,
            limits=self.limits,
            **values,
        )

    def subtitle(self) -> str:
        """Which job and dataset, when, and how much of it."""
        origin = self.c.origin
        jobs = f"Job {listed(origin.jobs)}" if origin.jobs else ""
        datasets = f"dataset {listed(dict.fromkeys(self.c.datasets))}" if self.c.datasets else ""
        days = listed(dict.fromkeys(day for day in (origin.first_day, origin.last_day) if day)) or ""
        what = "candidates" if self.by_prompt else "models"
        with_truth = f", {self.c.items_with_truth:,} with an expected answer" if self.by_truth else ""
        size = f"{len(self.order)} {what}, {self.c.items:,} items{with_truth}"
        return " · ".join(part for part in (jobs, datasets, days, size) if part)

    def quality(self, one: ModelScore) -> float | None:
        best = one.accuracy or one.majority_agreement
        return None if best is None else best.value

    def interval(self, one: ModelScore) -> Markup:
        best = one.accuracy or one.majority_agreement
        if best is None or best.low is None or best.high is None:
            return Markup("")
        start, end = self.bounds()
        return svg_charts.interval(
            best.value, best.low, best.high, self.colour[one.candidate], start=start, end=end
        )

    def limits(self, one: ModelScore) -> str:
        best = one.accuracy or one.majority_agreement
        return f"{format.percent(best.low)} to {format.percent(best.high)}" if best else ""

    def bounds(self) -> tuple[float, float]:
        """The range all models' intervals share, so that their bars can be compared by eye."""
        held = [one.accuracy or one.majority_agreement for one in self.c.models]
        lows = [one.low for one in held if one and one.low is not None]
        highs = [one.high for one in held if one and one.high is not None]
        return (min(lows, default=0.0), max(highs, default=1.0))

    def kpis(self) -> list[tuple[str, str, str]]:
        costs = [one.cost_usd for one in self.c.models]
        known = [cost for cost in costs if cost is not None]
        total = sum(known, Decimal(0)) if known else None
        requests = sum(one.answered + one.failed + one.invalid + one.skipped for one in self.c.models)
        failed = sum(one.failed + one.invalid + one.skipped for one in self.c.models)
        out = [
            *_choice_kpis(self.c, self.by_truth),
            ("Answers", format.count(requests - failed), f"of {requests:,} requests"),
            ("Cost of these answers", format.usd(total), "" if len(known) == len(costs) else "where known"),
        ]
        if self.c.alpha:
            low, high = format.number(self.c.alpha.low), format.number(self.c.alpha.high)
            out.append(("Agreement (alpha)", format.number(self.c.alpha.value), f"{low} to {high}"))
        if self.c.cascades and self.c.cascades.policies:
            out.append(("Cascades tried", format.count(self.c.cascades.tried), "from the same answers"))
        return out


def _choice_kpis(c: Comparison, by_truth: bool) -> list[tuple[str, str, str]]:
    """How sure the choice is, and what knowing more costs."""
    choice = c.choice
    if choice is None or choice.behind_points_high is None:
        return []
    who = "the choice" if choice.decided else "the cheapest in question"
    out = [
        ("Behind the best, at most", f"{format.number(choice.behind_points_high, 1)} points", f"{who}, 95%")
    ]
    more = choice.more
    if more is not None and more.items is not None and more.items.p50 is not None:
        cost = more.cost_usd.p50 if more.cost_usd else None
        spend = f"{format.usd(cost, 2)}, " if isinstance(cost, Decimal) else ""
        out.append(
            ("Items that would settle it", f"about {recommendation.about(more.items.p50)}",
             f"{spend}{recommendation.about(more.labels.p50)} labels")
        )  # fmt: skip
    elif more is not None and more.differing is not None:
        out.append(("Items where they differ", format.count(more.differing), "to label"))
    return out


def _sections(view: _View) -> Iterator[Section]:
    if view.c.race is not None:
        intro = "Each model's bar ends at the look that dropped it."
        yield Section("race", "The race", race_chart(view.c.race, view.colour), intro)
    if any(view.quality(one) is not None for one in view.c.models):
        yield Section("cost-quality", "Cost and quality", _quality(view), _quality_intro(view))
    heading = "Candidates" if view.by_prompt else "Models"
    stable = any(one.stability for one in view.c.models)
    yield Section("models", heading, view.part("models", stable=stable), _models_intro(view))
    if view.c.pairs:
        yield Section("pairs", "Pair by pair", _pairs(view), _pairs_intro(view))
    if view.c.labels:
        yield Section("labels", "Label by label", _labels(view), "F1 of each model on each expected label.")
    elif len(view.c.fields) > 1:
        yield Section("labels", "Field by field", view.part("fields"), "Each field of the answer on its own.")
    if view.c.calibration:
        picture = calibration_section.reliability(view.c.calibration, view.name, view.colour)
        yield Section(
            "confidence", "Confidence", picture + view.part("calibration"), calibration_section.INTRO
        )
    if view.c.text_agreement or view.c.preference:
        yield Section("texts", "Free text", view.part("texts", bias=bias_sentence), TEXTS_INTRO)
    intro = "Worst first. Keys: / search, j and k next and previous, n and p page."
    yield Section("answers", "Answers side by side", view.part("answers"), intro)
    yield Section("saw", "What each model saw", view.part("saw"), _saw_intro(view))
    yield Section(
        "costs", "Costs and tokens", view.part("costs"), "Exact sums; point at a figure for all its digits."
    )
    yield Section("method", "How it was computed", view.part("method"))


def _models_intro(view: _View) -> str:
    if view.by_truth:
        return "Share of items answered right with its 95% interval; an unanswered item counts as wrong."
    return "Agreement with the majority of the other models, with its 95% interval: no truth was given."


def _quality_intro(view: _View) -> str:
    what = "right answers" if view.by_truth else "agreement"
    return (
        f"Up is more {what}, left is cheaper; bars are 95% intervals. The dashed line joins the best figures "
        "seen, which may be chance."
    )


def _pairs_intro(view: _View) -> str:
    if view.by_truth:
        return (
            "The row's accuracy minus the column's, in points, on the same items: blue where the row is "
            "better, "
            "orange where the column is; ● significant (p < 0.05, Holm). A cell filters the answers below."
        )
    return "How often two models say the same; darker means they differ more. A cell filters the answers."


def _saw_intro(view: _View) -> str:
    if view.c.unlike_items:
        return f"{view.c.unlike_items:,} of the items were not shown to all models in the same way."
    return "Every item was shown to all models in the same way."


def _quality(view: _View) -> Markup:
    policies = list(view.c.cascades.policies) if view.c.cascades else []
    points = [point for one in view.c.models if (point := _model_point(view, one))]
    letters = [_policy_point(letter, one) for letter, one in zip("ABCDEFGHIJ", policies, strict=False)]
    front = sorted((p.x, p.y) for p in [*points, *letters])
    axis_x = svg_charts.Axis(
        "US dollars per 1,000 items (log scale)", lambda v: format.usd(Decimal(f"{v:.6g}"), 2), log=True
    )
    axis_y = svg_charts.Axis("Right answers" if view.by_truth else "Agreement", lambda v: f"{100 * v:.4g}%")
    picture = svg_charts.scatter(
        "Cost against quality of each model", [*points, *letters], axis_x, axis_y, _rising(front)
    )
    best = zip("ABCDEFGHIJ", policies, strict=False)
    return picture + view.part("cascades", policies=list(best))


def _rising(places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    kept: list[tuple[float, float]] = []
    for x, y in places:
        if not kept or y > kept[-1][1]:
            kept.append((x, y))
    return kept


def _model_point(view: _View, one: ModelScore) -> svg_charts.Point | None:
    best = one.accuracy or one.majority_agreement
    if best is None or one.cost_per_1000_usd is None:
        return None
    cost = format.usd(one.cost_per_1000_usd)
    star = "★ " if one.candidate == view.chosen else ""
    tip = f"{star}{one.candidate}: {format.percent(best.value)} at {cost} per 1,000"
    x = float(one.cost_per_1000_usd)
    return svg_charts.Point(
        star + view.name[one.candidate],
        x,
        best.value,
        best.low,
        best.high,
        view.colour[one.candidate],
        tip=tip,
    )


def _policy_point(letter: str, one: Policy) -> svg_charts.Point:
    cost = format.usd(one.cost_per_1000_usd)
    tip = f"{letter}: {one.name}: {format.percent(one.accuracy)} at {cost} per 1,000"
    return svg_charts.Point(letter, float(one.cost_per_1000_usd), one.accuracy, kind="hollow", tip=tip)


def _pairs(view: _View) -> Markup:
    found = {(pair.a, pair.b): pair for pair in view.c.pairs}
    differ = [1 - pair.agreement.value for pair in view.c.pairs if pair.agreement]
    gaps = [abs(pair.difference.value) for pair in view.c.pairs if pair.difference]
    most = max(gaps if gaps else differ, default=0.0) or 1.0

    def cell(row: str, column: str) -> svg_charts.Cell | None:
        pair, sign = (found[row, column], 1) if (row, column) in found else (found.get((column, row)), -1)
        return None if pair is None else _pair_cell(view, pair, sign, row, column, most)

    names = [view.name[one] for one in view.order]
    cells = [[cell(row, column) for column in view.order] for row in view.order]
    corner = "row − column" if view.by_truth else "same answer"
    return svg_charts.heat_map("Row against column", names, names, cells, corner=corner) + view.part("pairs")


def _pair_cell(view: _View, pair: Pair, sign: int, row: str, column: str, most: float) -> svg_charts.Cell:
    at = (("a", str(view.order.index(row))), ("b", str(view.order.index(column))))
    share = pair.agreement.value if pair.agreement else None
    level = None if share is None else (1 - share) / most
    who = f"{view.name[row]} against {view.name[column]}"
    same = f"{format.percent(share)} the same answers"
    if pair.difference is None:
        return svg_charts.Cell(format.percent(share, 0), level, f"{who}: {same}", at)
    sure = " ●" if pair.decided else ""
    value = sign * pair.difference.value
    tip = f"{who}: {format.points(value)} points, p = {format.p_value(pair.p_holm)}; {same}"
    return svg_charts.Cell(format.points(value) + sure, value / most, tip, at)


def _labels(view: _View) -> Markup:
    scores = {one.candidate: {cls.label: cls for cls in one.classes} for one in view.c.models}
    cells = [[_f1_cell(scores[model][label].f1) for model in view.order] for label in view.c.labels]
    support = view.c.models[0].classes
    rows = [f"{one.label} ({one.support:,})" for one in support]
    grid = svg_charts.heat_map(
        "F1 by label (items with that truth) and model",
        rows,
        list(view.name.values()),
        cells,
        corner="label",
    )
    return grid + view.part("labels", columns=[*view.c.labels, "another label", "no answer"], shade=_shade)


def _f1_cell(f1: float) -> svg_charts.Cell:
    return svg_charts.Cell(format.number(f1), max(0.0, f1 - 0.5) * 1.3, f"F1 {f1:.3f}")


def _shade(row: tuple[int, ...], value: int) -> str:
    """The style class of a confusion cell: its share of the row."""
    total = sum(row)
    return f"h{min(8, int(9 * value / total))}" if total and value else ""
