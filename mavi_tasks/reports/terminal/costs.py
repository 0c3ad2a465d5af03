"""The spend on a terminal: the exact total first, then the tables, rounded for reading."""

from collections.abc import Iterable

from rich.console import Console

from mavi_tasks.common.format import UNKNOWN, count, percent, pico_usd, usd
from mavi_tasks.common.money import exact_text
from mavi_tasks.costs.cell import SpendCell
from mavi_tasks.costs.cost_report import CostReport, Group
from mavi_tasks.costs.sentences import outlook
from mavi_tasks.costs.unit_costs import Unit
from mavi_tasks.reports.tables import Table, to_rich

SHOWN_ROWS = 40


def render_terminal(report: CostReport, console: Console) -> None:
    """Print the report; the exact total first, the rest rounded for reading."""
    for note in report.notes:
        console.print(note, style="yellow", markup=False, highlight=False)
    kind = "Sandbox" if report.is_sandbox else "Spend"
    console.print(
        f"{kind} ${exact_text(report.total.cost_pico)}  ({report.total.calls:,} calls, days in {report.tz})"
    )
    console.print(_split(report.total))
    console.print(to_rich(groups(report)))
    if len(report.groups) > SHOWN_ROWS:
        console.print(
            f"{len(report.groups) - SHOWN_ROWS:,} more groups: --json or an export has all of them."
        )
    console.print(to_rich(unit_costs(report.units)))
    for line in outlook(report):
        console.print(line, markup=False, highlight=False)


def _split(total: SpendCell) -> str:
    parts = (
        ("useful", total.useful_pico),
        ("invalid", total.invalid_pico),
        ("retried", total.retried_pico),
    )
    amounts = ", ".join(f"{name} {pico_usd(pico)}" for name, pico in parts)
    return f"{amounts}; in doubt up to {pico_usd(total.exposure_pico)} more"


def groups(report: CostReport) -> Table:
    """One row per group: the SHOWN_ROWS that cost most, in the order of their dimensions."""
    shown = sorted(report.groups, key=lambda group: -group.spend.cost_pico)[:SHOWN_ROWS]
    return Table(
        report.by,
        ("cost", "useful", "invalid", "retried", "in doubt", "calls", "errors", "throttled"),
        tuple(_group(group) for group in sorted(shown, key=lambda group: group.keys)),
    )


def _group(group: Group) -> tuple[str, ...]:
    spend = group.spend
    money = (spend.cost_pico, spend.useful_pico, spend.invalid_pico, spend.retried_pico, spend.exposure_pico)
    rates = (spend.share(spend.error_calls), spend.share(spend.throttled_calls))
    return (*group.keys, *map(pico_usd, money), count(spend.calls), *map(percent, rates))


def unit_costs(units: Iterable[Unit]) -> Table:
    """One row per model: what an item, an answer, an hour of video and a million tokens cost."""
    return Table(
        ("unit costs",),
        ("items", "per 1,000 items", "per answer", "per video hour", "per M tokens"),
        tuple(map(_unit, units)),
    )


def _unit(unit: Unit) -> tuple[str, ...]:
    mark = "≥ " if unit.lower_bound else ""
    costs = (unit.per_1000_items_usd, unit.per_answered_usd, unit.per_video_hour_usd, unit.per_mtok_usd)
    texts = (UNKNOWN if cost is None else mark + usd(cost) for cost in costs)
    return (unit.model or "all models", count(unit.items), *texts)
