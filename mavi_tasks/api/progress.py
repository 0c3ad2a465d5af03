"""Progress of a run for Python code: a callback, or a line in a notebook."""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from typing import Any, Final

from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.common.format import ledger_usd, spent
from mavi_tasks.common.money import usd
from mavi_tasks.limits import ModelLimiter

EVERY_S: Final = 0.25

log = logging.getLogger("mavi")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, over all its models.

    done: requests that need no more sending in this run; total: all of its requests. failed: of those done,
    the ones without an answer. cost_usd: spent so far, exact, but for the `unpriced`
    answers, whose cost is not known.
    """

    done: int
    total: int
    failed: int
    cost_usd: Decimal
    unpriced: int = 0

    def __str__(self) -> str:
        cost = spent(self.cost_usd, self.unpriced, ledger_usd)
        return f"{self.done:,}/{self.total:,} done, {self.failed:,} failed, {cost}"


OnProgress = Callable[[Progress], object]
Show = Callable[[Sequence[ModelCounters], Mapping[str, ModelLimiter]], Awaitable[None]]


def progress_of(all_counters: Sequence[ModelCounters]) -> Progress:
    return Progress(
        done=sum(counters.finished for counters in all_counters),
        total=sum(counters.requests for counters in all_counters),
        failed=sum(counters.failed for counters in all_counters),
        cost_usd=usd(sum(counters.cost_pico for counters in all_counters)),
        unpriced=sum(counters.unpriced for counters in all_counters),
    )


def shower(on_progress: OnProgress) -> Show:
    """Call back four times a second while requests are sent, and once at the end."""

    async def show(all_counters: Sequence[ModelCounters], limiters: Mapping[str, ModelLimiter]) -> None:
        try:
            while True:
                on_progress(progress_of(all_counters))
                await asyncio.sleep(EVERY_S)
        except asyncio.CancelledError:
            on_progress(progress_of(all_counters))
            raise

    return show


def guarded(on_progress: OnProgress) -> OnProgress:
    """An error of the caller's own callback is logged once and ends the callbacks, not the paid run."""
    failed = False

    def call(progress: Progress) -> None:
        nonlocal failed
        if failed:
            return
        try:
            on_progress(progress)
        except Exception:  # the callback is the caller's: it may raise anything
            failed = True
            log.exception("on_progress failed; it is not called again in this run")

    return call


def in_notebook() -> OnProgress | None:
    """A line that a Jupyter cell keeps up to date; None outside Jupyter."""
    ipython = sys.modules.get("IPython")  # a kernel has loaded it
    shell: Any = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import HTML, display

    handle = display(HTML("<progress></progress>"), display_id=True)

    def update(progress: Progress) -> None:
        bar = f'<progress value="{progress.done}" max="{max(1, progress.total)}"></progress>'
        handle.update(HTML(f"{bar} {escape(str(progress))}"))

    return update
