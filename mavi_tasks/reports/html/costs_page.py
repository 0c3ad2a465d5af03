"""The spend page: one offline file; exact dollars, one reporting zone, filters that keep every digit."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from markupsafe import Markup

from mavi_tasks.common import format
from mavi_tasks.common.money import usd as dollars
from mavi_tasks.costs import projection
from mavi_tasks.costs.arrow_columns import zone_of
from mavi_tasks.costs.cell import SLOT, SpendCell, Sums, add, empty, values
from mavi_tasks.costs.cost_report import CostReport
from mavi_tasks.costs.reconciliation import Reconciled
from mavi_tasks.costs.repricing import Repriced
from mavi_tasks.costs.sentences import burn_text
from mavi_tasks.costs.unit_costs import Unit
from mavi_tasks.reports.html import costs_charts
from mavi_tasks.reports.html.page import Section, asset, fragment, render

MOST_JOBS = 200  # the most expensive have a line of their own; the filters stay usable and the page small
MOST_DAYS = 3_700
SENT = ("cost_pico", "useful_pico", "invalid_pico", "exposure_pico")
COUNTED = ("calls", "throttled_calls", "rejected_calls", "failed_calls", "in_doubt_calls", "unpriced_calls")


def costs_page(
    report: CostReport,
    *,
    title: str = "Spend",
    repriced: Repriced | None = None,
    reconciled: Reconciled | None = None,
) -> str:
    """Return the page as text; `repriced` and `reconciled` get sections of their own when given."""
    cube = cube_of(report)
    sections = [
        _explore(report, cube),
        _outlook(report),
        _anomalies(report),
        Section("models", "Models", _part("models", report=report, units=_units(report)), MODELS_INTRO),
        Section("jobs", "Jobs", _part("jobs", report=report), JOBS_INTRO),
    ]
    if repriced is not None:
        sections.append(
            Section(
                "what-if",
                "At other prices",
                _part("what_if", found=repriced),
                repriced.basis,
            )
        )
    if reconciled is not None:
        body = _part("reconciled", found=reconciled)
        sections.append(Section("bill", f"Against the bill {reconciled.invoice}", body))
    if report.sandbox.calls and not report.is_sandbox:
        sections.append(Section("sandbox", "Sandbox", _part("sandbox", report=report)))
    sections.append(
        Section("method", "How it is counted", _part("method", report=report, project=projection))
    )
    return render(
        title,
        sections,
        cube,
        [asset("costs.js")],
        styles=[asset("costs.css")],
        subtitle=_subtitle(report),
        lead=_lead(report),
        notices=report.notes,
        footer=_footer(report),
    )


MODELS_INTRO = (
    "What one thing costs. All billed dollars are spread over the items and answers, retries and invalid "
    "answers included; an hour of video bears the rows whose length is known. ≥ marks models with calls of "
    "unknown price."
)
JOBS_INTRO = "Most expensive first, over the whole period of this page."


def rounded_usd(pico: int) -> str:
    """Whole pico-dollars as people read dollars."""
    return format.usd(dollars(pico))


def spent_usd(cell: SpendCell) -> str:
    """What a cell cost, as people read dollars; said to be unknown, or at least so much."""
    return format.spent(dollars(cell.cost_pico), cell.unpriced_calls)


def exact_usd(pico: int) -> str:
    """Whole pico-dollars to the last digit."""
    return f"{'−' if pico < 0 else ''}${dollars(abs(pico)):,f}"


def _part(name: str, **known: object) -> Markup:
    return fragment(
        f"costs/{name}.html", exact=exact_usd, pico=rounded_usd, spent=spent_usd, calls=calls_text, **known
    )


def calls_text(count: int) -> str:
    """1 call, 2,000 calls."""
    return "1 call" if count == 1 else f"{count:,} calls"


def _units(report: CostReport) -> Sequence[Unit]:
    """The models, the most expensive first, and all of them together last."""
    whole, *models = report.units
    return [*sorted(models, key=lambda unit: (-unit.spend.cost_pico, unit.model or "")), whole]


def _subtitle(report: CostReport) -> str:
    days = [group.keys[0] for group in report.grouped("day")]
    span = f"{days[0]} to {days[-1]}" if days else "no calls"
    kind = "Sandbox calls only: not real spend. " if report.is_sandbox else ""
    return f"{kind}{span} · all days are cut in {report.tz}"


def _footer(report: CostReport) -> str:
    made = report.made_at.astimezone(zone_of(report.tz))
    return f"Made {made:%Y-%m-%d %H:%M} {report.tz} from {', '.join(report.paths)}"


def _lead(report: CostReport) -> Markup:
    total = report.total
    parts = [
        ("Useful", total.useful_pico, "answered"),
        ("Invalid", total.invalid_pico, "billed, but no usable answer"),
        ("Retried", total.retried_pico, "billed attempts that gave no row"),
    ]
    shares = [
        (name, rounded_usd(pico), format.percent(pico / total.cost_pico if total.cost_pico else None), why)
        for name, pico, why in parts
    ]
    return _part("lead", report=report, shares=shares)


def cube_of(report: CostReport) -> Mapping[str, Any]:
    """Cells by day, model, job and gateway for the filters; amounts are whole pico-dollars as texts."""
    groups = report.grouped("day", "model", "job", "gateway")
    jobs = _kept_jobs(report)
    merged: dict[tuple[str, str, str, str], Sums] = {}
    for group in groups:
        day, model, job, gateway = group.keys
        key = (day, model, jobs.get(job, _others(report)), gateway)
        add(merged.setdefault(key, empty()), values(group.spend))
    days = _days(sorted({key[0] for key in merged}))
    tables = [days, *(sorted({key[slot] for key in merged}) for slot in (1, 2, 3))]
    places = [{name: number for number, name in enumerate(table)} for table in tables]
    cells = sorted(merged.items())
    return {
        "total": str(report.total.cost_pico),
        "tz": report.tz,
        "days": days,
        "weeks": ["{}-W{:02}".format(*date.fromisoformat(day).isocalendar()[:2]) for day in days],
        "names": {"model": tables[1], "job": tables[2], "gateway": tables[3]},
        "at": [[place[name] for place, name in zip(places, key, strict=True)] for key, _ in cells],
        "pico": {name: [str(sums[SLOT[name]]) for _, sums in cells] for name in SENT},
        "count": {name: [sums[SLOT[name]] for _, sums in cells] for name in COUNTED},
    }


def _kept_jobs(report: CostReport) -> dict[str, str]:
    return {group.keys[0]: group.keys[0] for group in report.jobs[:MOST_JOBS]}


def _others(report: CostReport) -> str:
    return f"({len(report.jobs) - MOST_JOBS:,} other jobs)"


def _days(found: Sequence[str]) -> list[str]:
    """Every day from the first to the last, so that a day without spend is seen as one."""
    if not found:
        return []
    first, last = date.fromisoformat(found[0]), date.fromisoformat(found[-1])
    if (last - first).days > MOST_DAYS:
        return list(found)
    return [(first + timedelta(days=ahead)).isoformat() for ahead in range((last - first).days + 1)]


def _explore(report: CostReport, cube: Mapping[str, Any]) -> Section:
    chart = costs_charts.trend(report.grouped("day", "model"), cube["days"])
    body = _part("explore", chart=chart, cube=cube)
    return Section("explore", "Where the money went", body)


def _outlook(report: CostReport) -> Section:
    chart = costs_charts.outlook(report.projection, report.burn, report.daily())
    burn = burn_text(report.burn) if report.burn is not None else ""
    runs = [run for run in report.run_budgets if run.budget_pico][:20]
    month = f"{report.projection.today:%B %Y}" if report.projection else ""
    body = _part("outlook", report=report, chart=chart, burn=burn, month=month, runs=runs)
    return Section("outlook", "Budget and month end" if report.burn else "Month end", body)


def _anomalies(report: CostReport) -> Section:
    body = _part("anomalies", report=report)
    return Section("anomalies", "Outlier days", body, report.anomaly_rule)
