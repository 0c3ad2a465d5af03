"""report_costs(datasets): spend of many datasets -> table, summary and the page people open."""

import asyncio
import glob
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from prefect import State, flow
from prefect.states import Completed, Failed

from mavi_tasks.common.format import ledger_usd, spent
from mavi_tasks.common.money import usd
from mavi_tasks.costs import CostReport, cost_report
from mavi_tasks.costs.sentences import burn_text
from mavi_tasks.errors import InputError, MaviError
from mavi_tasks.flows import artifacts
from mavi_tasks.reports.html.costs_page import costs_page


@flow(name="report-costs", flow_run_name="spend")
async def report_costs(
    datasets: list[str],
    by: list[str] = ["day", "model"],  # noqa: B006 - Prefect's form shows it, nothing changes it
    tz: str = "UTC",
    budget_usd: Decimal | None = None,
    page: str = "out/costs.html",
) -> "State[Any]":
    """Report what was spent.

    datasets: folders or globs (out/*), or s3://. by: day week month model family job gateway run dataset
    prompt. tz: where days are cut. budget_usd: of a calendar month; the flow run fails when it is overrun.
    page: where the HTML page is written.
    """
    try:
        report = await asyncio.to_thread(cost_report, folders(datasets), by=by, tz=tz, budget_usd=budget_usd)
        path = await asyncio.to_thread(_write, report, Path(page))
    except MaviError as error:
        return Failed(message=str(error), data=error)
    await artifacts.show_costs(report, path)
    total = f"{spent(usd(report.total.cost_pico), report.total.unpriced_calls, ledger_usd)} in all"
    if report.burn is None:
        return Completed(message=total)
    message = f"{burn_text(report.burn)} ({total})"
    return Failed(message=message) if report.burn.left_pico < 0 else Completed(message=message)


def folders(datasets: Sequence[str]) -> list[str]:
    """The dataset folders that paths and globs name. Raises InputError when they name none."""
    found: list[str] = []
    for name in datasets:
        if "://" in name or not glob.has_magic(name):
            found.append(name)
        else:
            paths = sorted(glob.glob(name, recursive=True))
            found += [path for path in paths if Path(path, "attempts").is_dir()]
    if not found:
        raise InputError(f"datasets: none found at {', '.join(datasets)}")
    return list(dict.fromkeys(found))


def _write(report: CostReport, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.new")
    staged.write_text(costs_page(report), encoding="utf-8")
    return staged.replace(path.absolute())
