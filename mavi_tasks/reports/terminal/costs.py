"""The report on spend on a terminal: the exact total first, the rest rounded for reading."""

from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mavi_tasks.common.format import UNKNOWN, count, exact_usd, percent, spent, usd
from mavi_tasks.common.money import usd as dollars
from mavi_tasks.costs.cell import SpendCell
from mavi_tasks.costs.cost_report import CostReport
from mavi_tasks.costs.sentences import outlook
from mavi_tasks.costs.unit_costs import Unit

SHOWN_ROWS: Final = 40


def render_terminal(report: CostReport, console: Console) -> None:
    """Print the report; the exact total first, the rest rounded for reading."""
    for note in report.notes:
        console.print(note, style="yellow", markup=False, highlight=False)
    kind = "Sandbox" if report.is_sandbox else "Spend"
    total = spent(dollars(report.total.cost_pico), report.total.unpriced_calls, exact_usd)
    console.print(f"{kind} {total}  ({report.total.calls:,} calls, days in {report.tz})")
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
    text = ", ".join(f"{name} {usd(dollars(pico))}" for name, pico in parts.items())
    return f"{text}; in doubt up to {usd(dollars(total.exposure_pico))} more"


def _groups_table(report: CostReport) -> Table:
    table = _table(
        report.by, ("cost", "useful", "invalid", "retried", "in doubt", "calls", "errors", "throttled")
    )
    shown = sorted(report.groups, key=lambda g: -g.spend.cost_pico)[:SHOWN_ROWS]
    for group in sorted(shown, key=lambda g: g.keys):
        spend = group.spend
        money = (
            spend.useful_pico,
            spend.invalid_pico,
            spend.retried_pico,
            spend.exposure_pico,
        )
        cost = spent(dollars(spend.cost_pico), spend.unpriced_calls)
        rates = (spend.fraction(spend.error_calls), spend.fraction(spend.throttled_calls))
        _row(
            table,
            [*group.keys, cost, *(usd(dollars(p)) for p in money), count(spend.calls), *map(percent, rates)],
        )
    return table


def _units_table(units: Iterable[Unit]) -> Table:
    table = _table(
        ("unit costs",), ("items", "per 1,000 items", "per answer", "per video hour", "per M tokens")
    )
    for unit in units:
        mark = "≥ " if unit.lower_bound else ""
        costs = (unit.per_1000_items_usd, unit.per_answered_usd, unit.per_video_hour_usd, unit.per_mtok_usd)
        shown = [UNKNOWN if cost is None else mark + usd(cost) for cost in costs]
        _row(table, [unit.model or "all models", count(unit.items), *shown])
    return table


def _table(texts: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _row(table: Table, cells: Sequence[str]) -> None:
    table.add_row(*(Text(cell) for cell in cells))  # Text: a job named "[bold]" is no markup
