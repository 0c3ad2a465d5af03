"""The report as JSON and as tables on a terminal."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from mavi_tasks.common.format import UNKNOWN, count, percent, usd
from mavi_tasks.common.money import exact_text
from mavi_tasks.common.money import usd as dollars
from mavi_tasks.costs import projection
from mavi_tasks.costs.cell import SpendCell
from mavi_tasks.costs.cost_report import CostReport, Group
from mavi_tasks.costs.unit_costs import Unit

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SHOWN_ROWS = 40


def as_json(report: CostReport) -> dict[str, Any]:
    """One object; sums are texts with twelve decimals, quotients and rates are rounded."""
    return {
        "total_usd": exact_text(report.total.cost_pico),
        "useful_usd": exact_text(report.total.useful_pico),
        "invalid_usd": exact_text(report.total.invalid_pico),
        "retried_usd": exact_text(report.total.retried_pico),
        "exposure_usd": exact_text(report.total.exposure_pico),
        "groups": [group_json(report.by, group) for group in report.groups],
        "currency": "USD",
        "sandbox": report.is_sandbox,
        "sandbox_usd": exact_text(report.sandbox.cost_pico),
        "sandbox_groups": []
        if report.is_sandbox
        else [group_json(report.by, g) for g in report.sandbox_groups],
        "tz": report.tz,
        "since": report.since and report.since.isoformat(),
        "until": report.until and report.until.isoformat(),
        "made_at": report.made_at.isoformat(),
        "datasets": list(report.paths),
        **counts_json(report.total),
        "units": [_unit_json(unit) for unit in report.units],
        "jobs": [group_json(("job",), group) for group in report.jobs],
        "unpriced": [
            {"model": g.keys[0], "calls": g.tally.unpriced_calls, "tokens": g.tally.unpriced_tokens}
            for g in report.unpriced
        ],
        "projection": _projection_json(report.projection),
        "projection_note": report.projection_note or projection.METHOD,
        "budget": _burn_json(report.burn),
        "run_budgets": [
            {
                "run_id": run.run_id,
                "job": run.job,
                "status": run.status,
                "budget_usd": exact_text(run.budget_pico),
                "cost_usd": exact_text(run.spent_pico),
            }
            for run in report.run_budgets
        ],
        "anomalies": [
            {
                "day": one.day.isoformat(),
                "scope": one.scope,
                "name": one.name,
                "cost_usd": exact_text(one.cost_pico),
                "usual_usd": exact_text(one.usual_pico),
                "limit_usd": exact_text(one.limit_pico),
            }
            for one in report.anomalies
        ],
        "anomaly_rule": report.anomaly_rule,
        "notes": list(report.notes),
    }


def group_json(by: Sequence[str], group: Group) -> dict[str, Any]:
    """One group: its dimensions by name, its dollars, its counts."""
    tally = group.tally
    return {
        **dict(zip(by, group.keys, strict=True)),
        "cost_usd": exact_text(tally.cost_pico),
        "useful_usd": exact_text(tally.useful_pico),
        "invalid_usd": exact_text(tally.invalid_pico),
        "retried_usd": exact_text(tally.retried_pico),
        "exposure_usd": exact_text(tally.exposure_pico),
        **counts_json(tally),
    }


def counts_json(tally: SpendCell) -> dict[str, Any]:
    """The counts of a tally. Cached and reasoning tokens are null where no reply told them."""
    return {
        "calls": tally.calls,
        "answered_calls": tally.answered_calls,
        "throttled_calls": tally.throttled_calls,
        "rejected_calls": tally.rejected_calls,
        "failed_calls": tally.failed_calls,
        "in_doubt_calls": tally.in_doubt_calls,
        "unpriced_calls": tally.unpriced_calls,
        "error_rate": _rounded(tally.share(tally.error_calls)),
        "throttled_rate": _rounded(tally.share(tally.throttled_calls)),
        "requests": tally.requests,
        "answered": tally.answered,
        "invalid": tally.invalid,
        "failed": tally.failed,
        "skipped": tally.skipped,
        "input_tokens": tally.input_tokens,
        "output_tokens": tally.output_tokens,
        "cached_tokens": tally.cached_tokens if tally.cached_told else None,
        "reasoning_tokens": tally.reasoning_tokens if tally.reasoning_told else None,
        "video_hours": round(tally.video_ms / 3_600_000, 6),
    }


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 6)


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:f}"


def _unit_json(unit: Unit) -> dict[str, Any]:
    return {
        "model": unit.model,
        "items": unit.items,
        "answered": unit.tally.answered,
        "cost_usd": exact_text(unit.tally.cost_pico),
        "per_1000_items_usd": _text(unit.per_1000_items_usd),
        "per_answered_usd": _text(unit.per_answered_usd),
        "per_video_hour_usd": _text(unit.per_video_hour_usd),
        "per_million_tokens_usd": _text(unit.per_mtok_usd),
        "lower_bound": unit.lower_bound,
    }


def _projection_json(found: projection.Projection | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "month": found.month,
        "today": found.today.isoformat(),
        "spent_usd": exact_text(found.spent_pico),
        "low_usd": exact_text(found.low_pico),
        "median_usd": exact_text(found.mid_pico),
        "high_usd": exact_text(found.high_pico),
        "level": found.level,
        "history_days": found.history_days,
    }


def _burn_json(burn: projection.Burn | None) -> dict[str, Any] | None:
    if burn is None:
        return None
    return {
        "budget_usd": exact_text(burn.budget_pico),
        "spent_usd": exact_text(burn.spent_pico),
        "left_usd": exact_text(burn.left_pico),
        "runs_out": burn.runs_out and burn.runs_out.isoformat(),
        "chance_over": burn.chance_over,
    }


def render_terminal(report: CostReport, console: "Console") -> None:
    """Print the report; the exact total first, the rest rounded for reading."""
    for note in report.notes:
        console.print(note, style="yellow", markup=False, highlight=False)
    kind = "Sandbox" if report.is_sandbox else "Spend"
    console.print(
        f"{kind} ${exact_text(report.total.cost_pico)}  ({report.total.calls:,} calls, days in {report.tz})"
    )
    console.print(_bought(report.total))
    console.print(_groups_table(report))
    if len(report.groups) > SHOWN_ROWS:
        console.print(
            f"{len(report.groups) - SHOWN_ROWS:,} more groups: --json or an export has all of them."
        )
    console.print(_units_table(report.units))
    for line in outlook(report):
        console.print(line, markup=False, highlight=False)


def _bought(total: SpendCell) -> str:
    parts = {
        "useful": total.useful_pico,
        "invalid": total.invalid_pico,
        "retried": total.retried_pico,
    }
    said = ", ".join(f"{name} {usd(dollars(pico))}" for name, pico in parts.items())
    return f"{said}; in doubt up to {usd(dollars(total.exposure_pico))} more"


def _groups_table(report: CostReport) -> "Table":
    table = _table(
        report.by, ("cost", "useful", "invalid", "retried", "in doubt", "calls", "errors", "throttled")
    )
    shown = sorted(report.groups, key=lambda g: -g.tally.cost_pico)[:SHOWN_ROWS]
    for group in sorted(shown, key=lambda g: g.keys):
        tally = group.tally
        money = (
            tally.cost_pico,
            tally.useful_pico,
            tally.invalid_pico,
            tally.retried_pico,
            tally.exposure_pico,
        )
        rates = (tally.share(tally.error_calls), tally.share(tally.throttled_calls))
        _row(
            table, [*group.keys, *(usd(dollars(p)) for p in money), count(tally.calls), *map(percent, rates)]
        )
    return table


def _units_table(units: Iterable[Unit]) -> "Table":
    table = _table(
        ("unit costs",), ("items", "per 1,000 items", "per answer", "per video hour", "per M tokens")
    )
    for unit in units:
        mark = "≥ " if unit.lower_bound else ""
        costs = (unit.per_1000_items_usd, unit.per_answered_usd, unit.per_video_hour_usd, unit.per_mtok_usd)
        said = [UNKNOWN if cost is None else mark + usd(cost) for cost in costs]
        _row(table, [unit.model or "all models", count(unit.items), *said])
    return table


def outlook(report: CostReport) -> list[str]:
    """Projection, budget and anomalies, one sentence each."""
    lines = []
    found = report.projection
    if found is not None:
        low, middle, high = (usd(dollars(pico)) for pico in (found.low_pico, found.mid_pico, found.high_pico))
        lines.append(
            f"{found.month}: {usd(dollars(found.spent_pico))} so far, {middle} at its end "
            f"({found.level:.0%} interval {low} to {high})."
        )
    else:
        lines.append(report.projection_note)
    if report.burn is not None:
        lines.append(burn_text(report.burn))
    lines += [
        f"{one.day} {one.name or 'all'}: {usd(dollars(one.cost_pico))} is out of line "
        f"(usual {usd(dollars(one.usual_pico))}, limit {usd(dollars(one.limit_pico))})."
        for one in report.anomalies[:5]
    ]
    return lines


def burn_text(burn: projection.Burn) -> str:
    """One sentence on the monthly budget."""
    budget, left = usd(dollars(burn.budget_pico)), usd(dollars(abs(burn.left_pico)))
    state = f"{left} left" if burn.left_pico >= 0 else f"overrun by {left}"
    end = f"; at this pace it runs out on {burn.runs_out}" if burn.runs_out and burn.left_pico >= 0 else ""
    known = burn.chance_over is None or burn.left_pico < 0
    chance = "" if known else f" (chance of overrun {burn.chance_over:.0%})"
    return f"Budget {budget} a month: {state}{end}{chance}."


def _table(words: Sequence[str], numbers: Sequence[str]) -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in words:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _row(table: "Table", cells: Sequence[str]) -> None:
    from rich.text import Text

    table.add_row(*(Text(cell) for cell in cells))  # Text: a job named "[bold]" is no markup
