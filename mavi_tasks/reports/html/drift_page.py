"""The page of two runs: what flipped, with the media, and what the change did to cost, speed and accuracy."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePath

from markupsafe import Markup

from mavi_tasks.common import format
from mavi_tasks.compare.display_names import short
from mavi_tasks.compare.drift import Drift, ModelDrift
from mavi_tasks.compare.result import Pair
from mavi_tasks.reports.html import svg_charts, thumbnails
from mavi_tasks.reports.html.page import Section, asset, fragment, render

SHOWN = 300  # flips per model on the page; --json has all
MOST_LABELS = 15  # in the picture of moves


def write(drift: Drift, path: Path, *, title: str = "Before and after") -> Path:
    """Write the page to one file and return its path; the folder is made when it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html(drift, title=title), encoding="utf-8")
    return path


def html(drift: Drift, *, title: str = "Before and after") -> str:
    """Return the whole page."""
    return render(
        title,
        list(_sections(drift)),
        styles=[asset("bakeoff.css")],
        subtitle=f"From {_place(drift.before)} to {_place(drift.after)}",
        lead=fragment(
            "drift/lead.html", headline=headline(drift), points=[p for m in drift.models for p in changes(m)]
        ),
        caveats=drift.warnings,
        footer="Made by mavi. This file is complete: it needs no network and sends nothing anywhere.",
    )


def headline(drift: Drift) -> str:
    """Return what changed in one sentence."""
    flips = drift.flips
    if flips is None:
        return "No item was answered with a label in both runs."
    flipped, compared = sum(m.flipped for m in drift.models), sum(m.compared for m in drift.models)
    if not flipped:
        return (
            f"No label changed on {compared:,} items (at most {format.percent(flips.high)} would, 95% sure)."
        )
    span = f"{format.percent(flips.low)} to {format.percent(flips.high)}"
    return f"{flipped:,} of {compared:,} labels changed: {format.percent(flips.value)} ({span})."


def changes(one: ModelDrift) -> Iterator[str]:
    """Yield what moved for one model, as sentences."""
    if one.accuracy_before is not None and one.accuracy_after is not None:
        p = one.change.p_value
        sure = "" if p is None else "; significant" if p < 0.05 else "; not significant"
        significance = "" if p is None else f", p = {format.p_value(p)}".replace("= <", "<")
        was, now = format.percent(one.accuracy_before), format.percent(one.accuracy_after)
        yield f"{one.model}: right on {was} before, {now} after{significance}{sure}."
    if one.cost_before_usd is not None and one.cost_after_usd is not None and one.cost_before_usd:
        share = float(one.cost_after_usd / one.cost_before_usd - 1)
        was, now = format.usd(one.cost_before_usd), format.usd(one.cost_after_usd)
        yield f"{one.model}: cost {was} before, {now} after ({share:+.1%})."
    if one.latency_p50_before_s is not None and one.latency_p50_after_s is not None:
        was, now = format.seconds(one.latency_p50_before_s), format.seconds(one.latency_p50_after_s)
        yield f"{one.model}: median answer after {was} before, {now} after."
    if one.lost or one.gained:
        yield f"{one.model}: {one.lost:,} items lost their answer, {one.gained:,} gained one."


def _sections(drift: Drift) -> Iterator[Section]:
    yield Section("models", "Models", fragment("drift/models.html", models=drift.models, change=_change))
    uris = [flip.media_uri for one in drift.models for flip in one.flipped_items[:SHOWN]]
    pictures = thumbnails.embed(uris)
    name = short(one.model for one in drift.models)
    for at, one in enumerate(drift.models):
        if not one.flipped_items:
            continue
        moves = _moves(one)
        body = moves + fragment(
            "drift/flips.html",
            flips=one.flipped_items[:SHOWN],
            total=one.flipped,
            pictures=pictures,
            web=_is_web,
            shown=thumbnails.shown,
        )
        intro = "Rows: before. Columns: after." if moves else ""
        yield Section(f"flips-{at}", f"Changed labels of {name[one.model]}", body, intro)


def _change(pair: Pair, what: str) -> str:
    """A difference with its interval, as text."""
    held = getattr(pair, what)
    if held is None:
        return format.UNKNOWN
    say = format.points if what == "difference" else lambda value: f"{value:+.3g}".replace("-", "−")
    low_high = "" if held.low is None else f" ({say(held.low)} to {say(held.high)})"
    return f"{say(held.value)}{low_high}"


def _moves(one: ModelDrift) -> Markup:
    times = Counter((flip.before, flip.after) for flip in one.flipped_items)
    seen = Counter(label for pair, n in times.items() for label in pair * n)
    if len(seen) > MOST_LABELS:
        return Markup("")
    names = [label for label, _ in seen.most_common()]
    most = max(times.values())

    def cell(before: str, after: str) -> svg_charts.Cell | None:
        n = times[before, after]
        return svg_charts.Cell(f"{n:,}", n / most, f"{n:,} from {before} to {after}") if n else None

    return svg_charts.heat_map(
        "How often which label became which",
        names,
        names,
        [[cell(b, a) for a in names] for b in names],
        corner="before ↓ after →",
    )


def _place(text: str) -> str:
    """A dataset, or "dataset run id", without the path of a machine."""
    folder, run, run_id = text.partition(" run ")
    return f"{PurePath(folder).name or folder}{run}{run_id}"


def _is_web(uri: str | None) -> bool:
    return bool(uri) and str(uri).lower().startswith(("http://", "https://"))
