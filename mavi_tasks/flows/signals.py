"""Graceful cancellation: nothing more is sent, calls in flight are waited for, what is answered is published.

Prefect cancels a run, and a stopped worker ends its runs, with SIGTERM, which by itself breaks off the calls
in flight: they would be paid for without a record. What takes longer than Prefect's grace period is killed.
"""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from mavi_tasks.execution.distributed.coordination import stop_workers
from mavi_tasks.execution.run import Run

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def graceful_shutdown(run: Run) -> Iterator[None]:
    """While the block lasts the first signal stops the run; at the block's end it takes its usual effect.

    A second one does so at once. Where the loop handles no signals (Windows, other threads) nothing changes.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in SIGNALS}
    got: list[signal.Signals] = []

    def restore() -> None:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)

    def stop(number: signal.Signals) -> None:
        first = not got and run.dispatcher is not None
        got.append(number)
        if first:
            _stop(run)
        else:
            restore()
            signal.raise_signal(number)

    try:
        for number in SIGNALS:
            loop.add_signal_handler(number, stop, number)
    except (NotImplementedError, ValueError, RuntimeError):
        yield
        return
    try:
        yield
    finally:
        if len(got) < 2:
            restore()
    if got:
        signal.raise_signal(got[0])


def _stop(run: Run) -> None:
    run.stop("interrupted", "cancelled")
    if run.plan.folder.exists():  # else all is published
        stop_workers(run.plan.folder, "interrupted", "cancelled")  # shards in other processes
