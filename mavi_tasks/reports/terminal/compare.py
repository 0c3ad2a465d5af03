"""The comparison on a terminal: verdict first, then the tables."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mavi_tasks.common import format
from mavi_tasks.compare.display_names import short
from mavi_tasks.compare.drift import Drift, ModelDrift
from mavi_tasks.compare.result import Comparison, ModelScore
from mavi_tasks.compare.statistics import Estimate


def render_terminal(comparison: Comparison, console: Console) -> None:
    """Print a comparison. Texts from the data are printed as they are: no markup is read from them."""
    for warning in comparison.warnings:
        console.print(Text(f"! {warning}", style="yellow"))
    console.print(Text(comparison.verdict.headline, style="bold"))
    for point in comparison.verdict.points:
        console.print(Text(f"  • {point}"))
    console.print()
    console.print(_models(comparison))
    if len(comparison.models) > 1:
        console.print(_pairs(comparison))
    if comparison.cascades and comparison.cascades.policies:
        console.print(_cascades(comparison))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for at, column in enumerate(columns):
        table.add_column(column, justify="left" if at == 0 else "right", overflow="fold")
    return table


def _models(comparison: Comparison) -> Table:
    name = short(one.model for one in comparison.models)
    quality = "right" if comparison.items_with_truth else "with majority"
    table = _table(
        f"Models ({comparison.items:,} items)",
        "model", quality, "95% interval", "failed", "$ per 1,000", "$ per right", "p50", "p95", "front",
    )  # fmt: skip
    for one in comparison.models:
        best = one.accuracy or one.majority_agreement
        table.add_row(
            Text(name[one.model]),
            format.percent(best.value if best else None),
            _range(best),
            format.count(one.failed + one.invalid + one.skipped),
            format.usd(one.cost_per_1000_usd),
            format.usd(one.cost_per_correct_usd),
            format.seconds(one.latency_p50_s),
            format.seconds(one.latency_p95_s),
            _front(one),
        )
    return table


def _front(one: ModelScore) -> str:
    return "★" if one.pareto else "" if one.pareto is False else format.UNKNOWN


def _range(held: Estimate | None) -> str:
    if held is None or held.low is None:
        return format.UNKNOWN
    return f"{format.percent(held.low)} – {format.percent(held.high)}"


def _pairs(comparison: Comparison) -> Table:
    name = short(one.model for one in comparison.models)
    table = _table(
        "Pairs, on the same items", "a / b", "only a right", "only b right", "p (Holm)", "kappa", "to decide"
    )
    for pair in comparison.pairs:
        more = "decided" if pair.decided else format.UNKNOWN
        if pair.more_items:
            more = f"{format.count(pair.more_items)} items" + (
                f", {format.usd(pair.more_usd)}" if pair.more_usd else ""
            )
        table.add_row(
            Text(f"{name[pair.a]} / {name[pair.b]}"),
            format.count(pair.a_only),
            format.count(pair.b_only),
            format.p_value(pair.p_holm),
            format.number(pair.kappa.value if pair.kappa else None),
            more,
        )
    return table


def _cascades(comparison: Comparison) -> Table:
    assert comparison.cascades is not None
    table = _table("Cascades worth a look", "policy", "right", "95% interval", "$ per 1,000", "escalated")
    for one in comparison.cascades.policies:
        table.add_row(
            Text(one.name),
            format.percent(one.accuracy),
            f"{format.percent(one.accuracy_low)} – {format.percent(one.accuracy_high)}",
            format.usd(one.cost_per_1000_usd),
            ", ".join(format.percent(share, 0) for share in one.escalated),
        )
    return table


def render_drift(drift: Drift, console: Console) -> None:
    """Print what changed between two runs."""
    for warning in drift.warnings:
        console.print(Text(f"! {warning}", style="yellow"))
    console.print(Text(f"From {drift.before} to {drift.after}", style="bold"))
    table = _table(
        "Flips",
        "model",
        "flipped",
        "95% interval",
        "right before",
        "right after",
        "p",
        "$ before",
        "$ after",
        "p50",
    )
    for one in drift.models:
        table.add_row(*_drifted(one))
    console.print(table)
    for one in drift.models:
        for move, times in list(one.moves.items())[:5]:
            console.print(Text(f"  {times:>5}  {move}"))


def _drifted(one: ModelDrift) -> tuple[Text | str, ...]:
    return (
        Text(one.model),
        f"{format.count(one.flipped)} of {format.count(one.compared)}",
        _range(one.flips),
        format.percent(one.accuracy_before),
        format.percent(one.accuracy_after),
        format.p_value(one.change.p_value),
        format.usd(one.cost_before_usd),
        format.usd(one.cost_after_usd),
        f"{format.seconds(one.latency_p50_before_s)} → {format.seconds(one.latency_p50_after_s)}",
    )
