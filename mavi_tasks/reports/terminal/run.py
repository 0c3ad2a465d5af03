"""What people see before a run, after its pilot and at its end; and the table of `models`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mavi_tasks.common import skips
from mavi_tasks.common.format import COST_UNKNOWN, all_digits, duration, ledger_usd, spent
from mavi_tasks.common.money import usd
from mavi_tasks.estimate import Estimate, Interval
from mavi_tasks.execution.run_report import RunReport
from mavi_tasks.reports.tables import skipped, to_rich

if TYPE_CHECKING:
    from mavi_tasks.planning.forecast import Forecast
    from mavi_tasks.planning.pilot import PilotResult

WIDE: Final = 120  # columns of a terminal that has room for everything
REFUSALS_LISTED: Final = 5
ANSWER_CHARS: Final = 300
ERRORS_SHOWN: Final = 5
ANSWERS_SHOWN: Final = 3
ERROR_HINTS: Final[Mapping[str, str]] = {
    "unreachable": "is the gateway up, and its base URL right?",
    "not_found": "is the base URL right? /vu/chat/completions or /iu/chat/completions is appended to it",
    "unreadable": "did something else answer, a proxy or a login page? check the base URL",
    "bad_gateway": "try again later; a proxy in between may be the cause",
}


def show_plan(forecast: Forecast, console: Console, *, brief: bool = True) -> None:
    """What a run will do and cost: a line when brief, with a table of models otherwise."""
    plan, estimate = forecast.plan, forecast.estimate
    before = f", {plan.already_answered:,} answered before" if plan.already_answered else ""
    count = skips.total(forecast.skips)
    more = f", {count:,} skipped" if count else ""
    line = f"{plan.items:,} items, {plan.requests:,} requests{before}{more}: {forecast.to_send:,} to send"
    if forecast.to_send:
        line += f", {_cost(estimate)} in {_seconds_band(estimate.wall_s)}"
    console.print(Text(line))
    if not brief:
        console.print(_plan_table(forecast))
        for line in forecast.explanation():
            console.print(Text(line, "dim"))
        for refusal in plan.refused[:REFUSALS_LISTED]:
            line = f"skipped: {refusal['item_id']} by {refusal['model']}: {refusal['reason']}"
            console.print(Text(line, "dim"))
        if forecast.skips:
            console.print(to_rich(skipped(forecast.skips)))
    for warning in forecast.warnings:
        console.print(Text(f"note: {warning}", "yellow"))
    if forecast.advice is not None and not forecast.advice.fits:
        console.print(Text(forecast.advice.sentence, "yellow"))
        for choice in forecast.advice.choices:
            console.print(Text(f"  would fit: {choice.sentence} (about ${choice.cost_usd:.4f})"))


def _plan_table(forecast: Forecast) -> Table:
    table = Table(box=None, header_style="bold")
    for name in ("model", "to send", "tokens in", "tokens out", "cost p10", "p50", "p90", "time", "basis"):
        table.add_column(name, justify="left" if name in ("model", "basis") else "right", overflow="fold")
    for model in forecast.estimate.models:
        cost = model.cost_usd
        cost_cells = (
            ("unknown", "", "")
            if cost is None
            else tuple(f"${v:.6f}" for v in (cost.p10, cost.p50, cost.p90))
        )
        tokens = model.input_tokens
        table.add_row(
            model.model,
            f"{model.requests:,}",
            f"{tokens.p50:,}" if tokens is not None else "unknown",
            f"{model.output_tokens.p50:,}",
            *cost_cells,
            duration(model.wall_s.p50),
            model.basis,
        )
    return table


def _band(band: Interval[Decimal]) -> str:
    return f"${band.p50:.4f} (${band.p10:.4f} to ${band.p90:.4f})"


def _cost(estimate: Estimate) -> str:
    """What a plan may cost; said to be unknown where a model has no price."""
    if not estimate.unpriced:
        return f"about {_band(estimate.known_cost_usd)}"
    if not estimate.known_cost_usd.p90:
        return COST_UNKNOWN
    return f"at least {_band(estimate.known_cost_usd)} (cost unknown: {', '.join(estimate.unpriced)})"


def _seconds_band(band: Interval[float]) -> str:
    return f"{duration(band.p50)} ({duration(band.p10)} to {duration(band.p90)})"


def show_pilot(measured: PilotResult, forecast: Forecast, console: Console) -> None:
    """What a pilot showed: cost, time, and answers side by side."""
    console.print(Text(f"Pilot: {measured.projection.sentence}"))
    console.print(Text(f"Time for all of it: about {_seconds_band(forecast.estimate.wall_s)}"))
    models = [target.model for target in forecast.plan.targets]
    table = Table(title="A first look", title_justify="left", show_lines=True)
    for name in ("item", *models):
        table.add_column(name, overflow="fold")
    for (item_id, prompt_id), by_model in measured.answers.items():
        cells = (Text(by_model.get(model, "")[:ANSWER_CHARS]) for model in models)
        table.add_row(Text(f"{item_id} / {prompt_id}"), *cells)
    console.print(table)


def show_report(report: RunReport, console: Console) -> None:
    """The table of models, what to do about what is left, and where the answers are."""
    answers = f" ({report.answers})" if report.answers is not None else ""
    table = Table(title=f"{report.facts['job']}: {report.status}{answers}", title_justify="left")
    names = ("answered", "failed", "skipped", "unsent", "cost", "tokens in", "tokens out", "p50", "p95")
    shown = len(names) if console.width >= WIDE else names.index("cost") + 1
    table.add_column("model", overflow="fold")
    for name in names[:shown]:
        table.add_column(name, justify="right", no_wrap=True)
    for m in report.models:
        before = f" (+{m.already_answered} before)" if m.already_answered else ""
        cells = (
            f"{m.answered}{before}",
            str(m.failed + m.invalid),
            str(m.skipped),
            str(m.unsent),
            spent(Decimal(m.known_cost_usd), m.unpriced, ledger_usd),
            f"{m.input_tokens:,}",
            f"{m.output_tokens:,}",
            _seconds(m.latency_p50_s),
            _seconds(m.latency_p95_s),
        )
        table.add_row(m.model, *cells[:shown])
    console.print(table)
    if report.skips:
        console.print(to_rich(skipped(report.skips)))
    console.print(_spend(report))
    for line in advice(report):
        console.print(Text(line, "yellow"))
    console.print(Text(f"Parquet: {report.output}/results  (run {report.run_id})"))


def show_answers(answers: Sequence[Mapping[str, Any]], report: RunReport, console: Console) -> None:
    """A first look at what came: some answers, said to be simulated where they are."""
    if not answers:
        return
    console.print(Text(f"The first answers{_simulated(report)}:"))
    for row in answers:
        text = " ".join((row["answer_json"] or row["answer"] or "")[:ANSWER_CHARS].split())
        console.print(Text(f"  {row['item_id']} / {row['model']}: {text}"))


def _simulated(report: RunReport) -> str:
    if report.gateway != "sandbox":
        return ""
    looked = (
        "a local classifier looked, no language model" if "classifier" in (report.answers or "") else None
    )
    return f", simulated: {looked or 'no model looked at the media'}"


def show_next(report: RunReport, console: Console) -> None:
    """The commands that come next, ready to be typed."""
    folder = shlex.quote(report.output)
    commands = [f"mavi status {folder}"]
    if report.total("answered") + report.total("already_answered"):
        if len(report.models) > 1:
            commands.append(f"mavi compare {folder}")
        commands += [f"mavi costs {folder}", f"mavi export {folder} --to answers.csv"]
    console.print(Text("Next: " + "\n      ".join(commands)))


def _rest(report: RunReport) -> str:
    """What the unsent requests would cost, by what those of the same model have cost; empty when unknown."""
    left = [m for m in report.models if m.unsent]
    if any(not m.answered or m.unpriced for m in left):
        return ""
    rest = sum(Decimal(m.known_cost_usd) / m.answered * m.unsent for m in left)
    return f" (about ${rest:,.{2 if rest >= 1 else 4}f} more, by what was answered)" if rest else ""


def _why(report: RunReport) -> Sequence[str]:
    """The commonest failures, each with its first message and what may help."""
    all_errors = [(times, code, text) for m in report.models for code, (times, text) in m.errors.items()]
    return [
        f"  {times} x {code}: {text}" + (f" ({ERROR_HINTS[code]})" if code in ERROR_HINTS else "")
        for times, code, text in sorted(all_errors, reverse=True)[:ERRORS_SHOWN]
    ]


def advice(report: RunReport) -> Sequence[str]:
    """Sentences on what is left and what to do, for under the table."""
    lines = []
    unsent, failed = report.total("unsent"), report.total("failed") + report.total("invalid")
    if report.message:
        lines.append(f"Stopped: {report.message}")
    else:
        lines += [
            f"{m.model} was stopped after repeated failures: {m.stopped}" for m in report.models if m.stopped
        ]
    for m in report.models:
        if m.throttled:
            pace = f"{m.requests_per_minute:,.0f} requests/min, " if m.requests_per_minute else ""
            lines.append(
                f"{m.model} was throttled {m.throttled} times; it ended at {pace}{m.concurrency} at a time "
                "(mavi run -v shows each change; set limits in the job to start there)."
            )
    if unsent:
        first = "raise budget_usd and " if report.stop_reason == "budget" else ""
        kept = "" if report.stop_reason == "storage" else " nothing is lost:"  # its message says what is
        lines.append(
            f"{unsent} requests were not sent{_rest(report)};{kept} "
            f"{first}run the same command again to go on."
        )
    if failed:
        lines.append(f"{failed} requests failed; see status and error_code in {report.output}/results.")
        lines += _why(report)
    unfit = report.total("invalid") + report.total("invalid_before")
    if unfit:
        lines.append(
            f"{unfit} answers do not fit the answer schema; they are paid for, and sent again only with "
            "--retry-invalid."
        )
    if report.shortfall:
        lines.append(f"{report.shortfall[0].upper()}{report.shortfall[1:]}.")
    if report.total("truncated"):
        lines.append(
            f"{report.total('truncated')} answers were cut off: raise max_tokens, or lower thinking_budget."
        )
    if report.total("unpriced"):
        lines.append(f"{report.total('unpriced')} answers have no known price: their cost is null, not zero.")
    return lines


def _spend(report: RunReport) -> Text:
    cost = spent(usd(report.cost_pico), report.unpriced, ledger_usd)
    said = "Cost unknown" if cost == COST_UNKNOWN else f"Spent {cost}"
    text = f"{said} in {duration(report.wall_s)}"
    if report.exposure_pico:
        text += f", and at most ${_dollars(report.exposure_pico)} more on calls whose reply was lost"
    return Text(text)


def plain(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], console: Console) -> None:
    """A table of dicts, columns in the given order."""
    table = Table(box=None, header_style="bold")
    for name in columns:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*("" if row.get(name) is None else str(row[name]) for name in columns))
    console.print(table)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"


def show_models(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Every model with what it takes and costs."""
    table = Table(box=None, header_style="bold")
    for name in ("model", "takes", "endpoints", "input tokens", "$/M in", "$/M out", "retires"):
        table.add_column(name, justify="right" if name.startswith("$") else "left", overflow="fold")
    for row in rows:
        for index, tier in enumerate(row["tiers"]):
            bound = tier["up_to_input_tokens"]
            first = (row["model"], ", ".join(row["media"]), " ".join(row["endpoints"]))
            table.add_row(
                *(first if index == 0 else ("", "", "")),
                "any" if len(row["tiers"]) == 1 else (f"up to {bound:,}" if bound else "above"),
                str(tier["input_usd_per_mtok"]),
                str(tier["output_usd_per_mtok"]),
                (row["retires_on"] or "") if index == 0 else "",
            )
    console.print(table)


def _dollars(pico: int) -> str:
    return all_digits(usd(pico))
