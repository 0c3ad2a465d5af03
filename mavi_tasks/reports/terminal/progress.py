"""What people see on stderr while a run reads its manifest and sends its requests."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.common.format import duration, ledger_usd, spent
from mavi_tasks.common.money import usd
from mavi_tasks.common.pace import Pace
from mavi_tasks.common.screen import say
from mavi_tasks.limits import ModelLimiter
from mavi_tasks.reports.terminal.console import open_console

if TYPE_CHECKING:
    from mavi_tasks.planning.spool import Plan

REFRESH_S: Final = 0.25
PLAIN_EVERY_S: Final = 10.0
READING: Final = "Reading manifest and media"


class Progress:
    """A bar per model on a terminal, a line every ten seconds elsewhere, nothing when quiet."""

    def __init__(
        self, all_counters: Sequence[ModelCounters], limiters: Mapping[str, ModelLimiter], *, quiet: bool
    ) -> None:
        self._all_counters, self._limiters, self._quiet = all_counters, limiters, quiet
        self._console = open_console(stderr=True)
        self._paces = {counters.model: Pace() for counters in all_counters}
        for counters in all_counters:
            self._pace(counters)

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
            for counters in self._all_counters:
                say(self._line(counters), stderr=True)

    def _line(self, counters: ModelCounters) -> str:
        rate, left = self._pace(counters)
        return (
            f"{counters.model}: {counters.finished}/{counters.requests} done, {counters.failed} failed, "
            f"{rate:.1f}/s, {_tokens(counters)} tokens, {_cost(counters)}, "
            f"{self._pausing(counters) or f'{left} left'}"
        )

    def _pausing(self, counters: ModelCounters) -> str | None:
        """Why no request is sent, when that is so."""
        limiter = self._limiters.get(counters.model)
        return counters.stopped or (limiter.pausing if limiter is not None else None)

    def _pace(self, counters: ModelCounters) -> tuple[float, str]:
        """Requests per second of the last minute, and the time left at that pace."""
        rate = self._paces[counters.model].note(time.monotonic(), counters.finished)
        left = counters.requests - counters.finished
        return rate, duration(left / rate) if rate > 0 else "?"

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 1), header_style="dim")
        for name in ("model", "", "done", "rate", "in flight", "tokens", "cost", "left"):
            table.add_column(name, justify="left" if name in ("model", "") else "right", no_wrap=True)
        for counters in self._all_counters:
            rate, left = self._pace(counters)
            limiter = self._limiters.get(counters.model)
            in_flight = f"{limiter.in_flight}/{limiter.concurrency_now}" if limiter is not None else ""
            table.add_row(
                counters.model,
                ProgressBar(total=max(1, counters.requests), completed=counters.finished, width=24),
                f"{counters.finished}/{counters.requests}",
                f"{rate:.1f}/s",
                in_flight,
                _tokens(counters),
                _cost(counters),
                (self._pausing(counters) or left)[:40],
            )
        return table


@contextmanager
def reading(*, quiet: bool) -> "Iterator[Callable[[Plan], None]]":
    """Show a plan as it grows: on a terminal all the time, a line every ten seconds elsewhere."""
    out = open_console(stderr=True)
    began = time.monotonic()
    next_s = began + (REFRESH_S if out.is_terminal else PLAIN_EVERY_S)
    with out.status(READING) if out.is_terminal and not quiet else nullcontext() as status:

        def show(plan: "Plan") -> None:
            nonlocal next_s
            now = time.monotonic()
            if quiet or now < next_s:
                return
            rate, to_send = plan.items / (now - began), sum(plan.to_send.values())
            text = f"{READING}: {plan.items:,} items, {rate:,.0f}/s, {to_send:,} requests to send"
            if status is not None:
                status.update(text)
            else:
                say(text, stderr=True)
            next_s = now + (REFRESH_S if status is not None else PLAIN_EVERY_S)

        yield show


def _cost(counters: ModelCounters) -> str:
    return spent(usd(counters.cost_pico), counters.unpriced, ledger_usd)


def _tokens(counters: ModelCounters) -> str:
    return f"{counters.input_tokens + counters.output_tokens:,}"
