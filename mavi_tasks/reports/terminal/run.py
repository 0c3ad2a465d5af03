"""What people see while a run goes on, and at its end. Progress goes to stderr, results to stdout."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.common.money import usd
from mavi_tasks.estimate import Interval
from mavi_tasks.execution.run_report import RunReport, advice
from mavi_tasks.limits import ModelLimiter

if TYPE_CHECKING:
    from mavi_tasks.planning.forecast import Forecast
    from mavi_tasks.planning.pilot import PilotResult
    from mavi_tasks.planning.spool import Plan
    from mavi_tasks.storage.status import Status

REFRESH_S = 0.25
PLAIN_EVERY_S = 10.0
WIDE = 120  # columns of a terminal that has room for everything
READING = "Reading manifest and media"


def console(*, stderr: bool = False) -> Console:
    """As wide as the terminal; wide enough for our tables where there is none.

    What is printed is text, never markup: a job may be named "[/]" and a model "x:v:0".
    """
    width = None if Console(stderr=stderr).is_terminal else 160
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=width)


class Progress:
    """A bar per model on a terminal, a line every ten seconds elsewhere, nothing when quiet."""

    def __init__(
        self, all_counters: Sequence[ModelCounters], limiters: Mapping[str, ModelLimiter], *, quiet: bool
    ) -> None:
        self._tallies, self._limiters, self._quiet = all_counters, limiters, quiet
        self._console = Console(stderr=True)
        self._began = time.monotonic()
        self._before = {counters.model: counters.finished for counters in all_counters}

    async def show(self) -> None:
        """Until cancelled."""
        if self._quiet:
            return
        if not self._console.is_terminal:
            await self._lines()
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(self._table(), refresh=True)
                await asyncio.sleep(REFRESH_S)

    async def _lines(self) -> None:
        while True:
            await asyncio.sleep(PLAIN_EVERY_S)
            for counters in self._tallies:
                print(self._line(counters), file=sys.stderr, flush=True)

    def _line(self, counters: ModelCounters) -> str:
        rate, left = self._pace(counters)
        return (
            f"{counters.model}: {counters.finished}/{counters.requests} done, {counters.failed} failed, "
            f"{rate:.1f}/s, {_tokens(counters)} tokens, ${dollars(counters.cost_pico)}, "
            f"{self._pause(counters) or f'{left} left'}"
        )

    def _pause(self, counters: ModelCounters) -> str | None:
        """Why nothing goes out, when that is so."""
        limiter = self._limiters.get(counters.model)
        return counters.stopped or (limiter.pausing if limiter is not None else None)

    def _pace(self, counters: ModelCounters) -> tuple[float, str]:
        """Requests per second since the start, and the time left at that pace."""
        rate = (counters.finished - self._before[counters.model]) / max(1e-9, time.monotonic() - self._began)
        left = counters.requests - counters.finished
        return rate, _duration(left / rate) if rate > 0 else "?"

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 1), header_style="dim")
        for name in ("model", "", "done", "rate", "in flight", "tokens", "cost", "left"):
            table.add_column(name, justify="left" if name in ("model", "") else "right", no_wrap=True)
        for counters in self._tallies:
            rate, left = self._pace(counters)
            limiter = self._limiters.get(counters.model)
            flying = f"{limiter.in_flight}/{limiter.concurrency_now}" if limiter is not None else ""
            table.add_row(
                counters.model,
                ProgressBar(total=max(1, counters.requests), completed=counters.finished, width=24),
                f"{counters.finished}/{counters.requests}",
                f"{rate:.1f}/s",
                flying,
                _tokens(counters),
                "$" + dollars(counters.cost_pico),
                (self._pause(counters) or left)[:40],
            )
        return table


@contextmanager
def reading(*, quiet: bool) -> Iterator[Callable[[Plan], None]]:
    """Show a plan as it grows: on a terminal all the time, a line every ten seconds elsewhere."""
    out = Console(stderr=True)
    began = time.monotonic()
    next_s = began + (REFRESH_S if out.is_terminal else PLAIN_EVERY_S)
    with out.status(READING) if out.is_terminal and not quiet else nullcontext() as status:

        def show(plan: Plan) -> None:
            nonlocal next_s
            now = time.monotonic()
            if quiet or now < next_s:
                return
            rate, to_send = plan.items / (now - began), sum(plan.to_send.values())
            text = f"{READING}: {plan.items:,} items, {rate:,.0f}/s, {to_send:,} requests to send"
            if status is not None:
                status.update(text)
            else:
                print(text, file=sys.stderr, flush=True)
            next_s = now + (REFRESH_S if status is not None else PLAIN_EVERY_S)

        yield show


def planned(told: Forecast, console: Console, *, brief: bool = True) -> None:
    """What a run will do and cost: a line when brief, with a table of models otherwise."""
    from mavi_tasks.planning.planner import REFUSALS_SHOWN  # here: `mavi models` must not wait for pyarrow

    plan, estimate = told.plan, told.estimate
    before = f", {plan.already_answered:,} answered before" if plan.already_answered else ""
    refused = len(plan.refused)
    more = f", {refused:,}{'+' if refused >= REFUSALS_SHOWN else ''} refused" if refused else ""
    line = f"{plan.items:,} items, {plan.requests:,} requests{before}{more}: {told.to_send:,} to send"
    if told.to_send:
        line += f", about {_band(estimate.known_cost_usd)} in {_seconds_band(estimate.wall_s)}"
    console.print(Text(line))
    if not brief:
        console.print(_plan_table(told))
        for words in told.explanation():
            console.print(Text(words, "dim"))
        for refusal in plan.refused[:5]:
            words = f"refused: {refusal['item_id']} by {refusal['model']}: {refusal['reason']}"
            console.print(Text(words, "dim"))
    for words in told.warnings:
        console.print(Text(f"note: {words}", "yellow"))
    if told.advice is not None and not told.advice.fits:
        console.print(Text(told.advice.words, "yellow"))
        for choice in told.advice.choices:
            console.print(Text(f"  would fit: {choice.words} (about ${choice.cost_usd:.4f})"))


def _plan_table(told: Forecast) -> Table:
    table = Table(box=None, header_style="bold")
    for name in ("model", "to send", "tokens in", "tokens out", "cost p10", "p50", "p90", "time", "basis"):
        table.add_column(name, justify="left" if name in ("model", "basis") else "right", overflow="fold")
    for model in told.estimate.models:
        cost = model.cost_usd
        dollars_ = (
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
            *dollars_,
            _duration(model.wall_s.p50),
            model.basis,
        )
    return table


def _band(band: Interval[Decimal]) -> str:
    return f"${band.p50:.4f} (${band.p10:.4f} to ${band.p90:.4f})"


def _seconds_band(band: Interval[float]) -> str:
    return f"{_duration(band.p50)} ({_duration(band.p10)} to {_duration(band.p90)})"


def piloted(measured: PilotResult, told: Forecast, console: Console) -> None:
    """What a pilot showed: cost, time, and answers side by side."""
    console.print(Text(f"Pilot: {measured.projection.words}"))
    console.print(Text(f"Time for all of it: about {_seconds_band(told.estimate.wall_s)}"))
    models_ = [target.model for target in told.plan.targets]
    table = Table(title="A first look", title_justify="left", show_lines=True)
    for name in ("item", *models_):
        table.add_column(name, overflow="fold")
    for (item_id, prompt_id), said in measured.answers.items():
        cells = (Text(_printable(said.get(model, ""))) for model in models_)
        table.add_row(Text(f"{item_id} / {prompt_id}"), *cells)
    console.print(table)


def _printable(text: str) -> str:
    """The start of an answer without control characters: it is untrusted, and terminals obey escapes."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text[:300])


def ending(report: RunReport, console: Console) -> None:
    """The table of models, what to do about what is left, and where the answers lie."""
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
            "unknown" if m.unpriced and not Decimal(m.cost_usd) else "$" + _trim(m.cost_usd),
            f"{m.input_tokens:,}",
            f"{m.output_tokens:,}",
            _seconds(m.latency_p50_s),
            _seconds(m.latency_p95_s),
        )
        table.add_row(m.model, *cells[:shown])
    console.print(table)
    console.print(_spend(report))
    for words in advice(report):
        console.print(Text(words, "yellow"))
    console.print(Text(f"Parquet: {report.output}/results  (run {report.run_id})"))


def _spend(report: RunReport) -> Text:
    text = f"Spent ${dollars(report.cost_pico)} in {_duration(report.wall_s)}"
    if report.exposure_pico:
        text += f", and at most ${dollars(report.exposure_pico)} more on calls whose reply was lost"
    return Text(text)


def plain(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], console: Console) -> None:
    """A table of dicts, columns in the given order."""
    table = Table(box=None, header_style="bold")
    for name in columns:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*("" if row.get(name) is None else str(row[name]) for name in columns))
    console.print(table)


def dollars(pico: int) -> str:
    """Exact to the last digit that is there, at least cents."""
    return _trim(f"{usd(pico):f}")


def _trim(amount: str) -> str:
    whole, _, decimals = f"{Decimal(amount):f}".partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


def _tokens(counters: ModelCounters) -> str:
    return f"{counters.input_tokens + counters.output_tokens:,}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def models(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Every model with what it takes and costs."""
    table = Table(box=None, header_style="bold")
    for name in ("model", "takes", "endpoints", "input tokens", "$/M in", "$/M out", "retires"):
        table.add_column(name, justify="right" if name.startswith("$") else "left", overflow="fold")
    for row in rows:
        for at, tier in enumerate(row["tiers"]):
            bound = tier["up_to_input_tokens"]
            first = (row["model"], ", ".join(row["media"]), " ".join(row["endpoints"]))
            table.add_row(
                *(first if at == 0 else ("", "", "")),
                "any" if len(row["tiers"]) == 1 else (f"up to {bound:,}" if bound else "above"),
                str(tier["input_usd_per_mtok"]),
                str(tier["output_usd_per_mtok"]),
                (row["retires_on"] or "") if at == 0 else "",
            )
    console.print(table)


def status(found: Status, console: Console) -> None:
    """What a dataset holds."""
    told = found.to_json()
    for name in ("answered", "failed", "invalid", "skipped", "in_doubt", "in_flight"):
        console.print(f"{name.replace('_', ' '):>10}  {told[name]:,}")
    console.print(f"{'spent':>10}  ${dollars(found.cost_pico)}")
    if found.cost_pico != found.answers_pico:
        console.print(
            f"{'':>10}  of it ${dollars(found.cost_pico - found.answers_pico)} on tries that gave no row"
        )
    if found.exposure_pico:
        console.print(f"{'exposure':>10}  at most ${dollars(found.exposure_pico)} more, on calls in doubt")
    if found.quarantined:
        console.print(
            f"{found.quarantined} damaged journal segments lie in {found.dir}/_quarantine", style="yellow"
        )
    plain(found.runs, ("run_id", "job", "gateway", "status", "answered", "unsent", "cost_usd"), console)
