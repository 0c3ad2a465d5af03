"""The comparison on a terminal: verdict first, then the tables."""

from collections.abc import Mapping
from decimal import Decimal

from rich.console import Console
from rich.text import Text

from mavi_tasks.common import format
from mavi_tasks.compare.display_names import short
from mavi_tasks.compare.drift import Drift, ModelDrift
from mavi_tasks.compare.result import Comparison, ModelScore, Pair, Policy
from mavi_tasks.compare.statistics import Estimate
from mavi_tasks.reports.tables import Table, skipped, to_rich


def render_terminal(comparison: Comparison, console: Console) -> None:
    """Print a comparison. Texts from the data are printed as they are: no markup is read from them."""
    for warning in comparison.warnings:
        console.print(Text(f"! {warning}", style="yellow"))
    console.print(Text(comparison.verdict.headline, style="bold" if names_one(comparison) else ""))
    for point in comparison.verdict.points:
        console.print(Text(f"  • {point}"))
    console.print()
    console.print(to_rich(models(comparison)))
    if comparison.skips:
        console.print(to_rich(skipped(comparison.skips)))
    if len(comparison.models) > 1:
        console.print(to_rich(pairs(comparison)))
    if comparison.cascades and comparison.cascades.policies:
        console.print(to_rich(cascades(comparison)))


def names_one(comparison: Comparison) -> bool:
    """Whether the headline names a choice that the figures carry: only then it is emphasised."""
    return comparison.choice is not None and comparison.choice.decided


def models(comparison: Comparison) -> Table:
    """One row per candidate: quality, how far behind it may be, failures, costs, latencies."""
    name = short(one.candidate for one in comparison.models)
    quality = "right" if comparison.items_with_truth else "with majority"
    stable = any(one.stability for one in comparison.models)
    columns = (
        quality,
        "95% interval",
        "behind at most",
        "failed+skipped",
        "$ per 1,000",
        "$ per right",
        "p50",
        "p95",
    )
    return Table(
        ("candidate" if any(one.prompt_id for one in comparison.models) else "model",),
        (*columns, *(("stable",) if stable else ())),
        tuple(_model(one, name[one.candidate], stable=stable) for one in comparison.models),
        f"{_candidates(comparison)} ({comparison.items:,} items)",
    )


def _candidates(comparison: Comparison) -> str:
    return "Candidates" if any(one.prompt_id for one in comparison.models) else "Models"


def _model(one: ModelScore, name: str, *, stable: bool) -> tuple[str, ...]:
    best = one.accuracy or one.majority_agreement
    return (
        name,
        format.percent(best.value if best else None),
        _range(best),
        _points(one.behind_points_high),
        format.count(one.failed + one.invalid + one.skipped),
        _cost(one, one.cost_per_1000_usd),
        _cost(one, one.cost_per_correct_usd),
        format.seconds(one.latency_p50_s),
        format.seconds(one.latency_p95_s),
        *((format.percent(one.stability.value if one.stability else None),) if stable else ()),
    )


def _range(found: Estimate | None) -> str:
    if found is None or found.low is None:
        return format.UNKNOWN
    return f"{format.percent(found.low)} – {format.percent(found.high)}"


def _points(value: float | None) -> str:
    return format.UNKNOWN if value is None else f"{value:.1f} points"


def pairs(comparison: Comparison) -> Table:
    """One row per pair of candidates, on the items that both have."""
    name = short(one.candidate for one in comparison.models)
    by_truth = comparison.items_with_truth > 0
    columns = ("only a right", "only b right", "a − b", "p (Holm)") if by_truth else ("same answer",)
    return Table(
        ("a / b",),
        (*columns, "kappa", "verdict"),
        tuple(_pair(pair, name, comparison.margin_points, by_truth=by_truth) for pair in comparison.pairs),
        "Pairs, on the same items",
    )


def _pair(pair: Pair, name: Mapping[str, str], margin_points: float, *, by_truth: bool) -> tuple[str, ...]:
    truth = (
        format.count(pair.a_only),
        format.count(pair.b_only),
        format.points(pair.difference.value if pair.difference else None),
        format.p_value(pair.p_holm),
    )
    return (
        f"{name[pair.a]} / {name[pair.b]}",
        *(truth if by_truth else (format.percent(pair.agreement.value if pair.agreement else None),)),
        format.number(pair.kappa.value if pair.kappa else None),
        format.verdict(pair.verdict, name[pair.a], name[pair.b], margin_points),
    )


def cascades(comparison: Comparison) -> Table:
    """One row per cascade that was found worth a look."""
    return Table(
        ("policy",),
        ("right", "95% interval", "$ per 1,000", "escalated"),
        tuple(_policy(one) for one in (comparison.cascades.policies if comparison.cascades else ())),
        "Cascades worth a look",
    )


def _policy(one: Policy) -> tuple[str, ...]:
    return (
        one.name,
        format.percent(one.accuracy),
        f"{format.percent(one.accuracy_low)} – {format.percent(one.accuracy_high)}",
        format.usd(one.cost_per_1000_usd),
        ", ".join(format.percent(fraction, 0) for fraction in one.escalated),
    )


def render_drift(drift: Drift, console: Console) -> None:
    """Print what changed between two runs."""
    for warning in drift.warnings:
        console.print(Text(f"! {warning}", style="yellow"))
    console.print(Text(f"From {drift.before} to {drift.after}", style="bold"))
    console.print(to_rich(changed_labels(drift)))
    for one in drift.models:
        for move, times in list(one.moves.items())[:5]:
            console.print(Text(f"  {times:>5}  {move}"))


def changed_labels(drift: Drift) -> Table:
    """One row per model: how many labels changed, and what else did."""
    return Table(
        ("model",),
        (
            "changed",
            "95% interval",
            "right before",
            "right after",
            "p",
            "$ before",
            "$ after",
            "p50",
        ),
        tuple(map(_changed, drift.models)),
        "Changed labels",
    )


def _changed(one: ModelDrift) -> tuple[str, ...]:
    return (
        one.model,
        f"{format.count(one.flipped)} of {format.count(one.compared)}",
        _range(one.flips),
        format.percent(one.accuracy_before),
        format.percent(one.accuracy_after),
        format.p_value(one.change.p_value),
        format.usd(one.cost_before_usd),
        format.usd(one.cost_after_usd),
        f"{format.seconds(one.latency_p50_before_s)} → {format.seconds(one.latency_p50_after_s)}",
    )


def _cost(model: ModelScore, value: Decimal | None) -> str:
    return "unknown" if value is None and model.cost_unknown else format.usd(value)
