"""Graceful shutdown: no request is sent any more, those in flight finish, and their answers are published.

Prefect cancels a run, and a stopped worker ends its runs, with SIGTERM, which by itself aborts the requests
in flight: they would be billed and their answers lost. After its grace period Prefect sends SIGKILL.
"""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from mavi_tasks.execution.distributed.coordination import stop_workers
from mavi_tasks.execution.run import Run

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def graceful_shutdown(run: Run) -> Iterator[None]:
    """While the block lasts the first signal stops the run; it is raised again at the end of the block.

    A second signal is raised at once. Where the loop cannot handle signals (Windows, a thread that is not
    the main one) nothing changes.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in SIGNALS}
    received: list[signal.Signals] = []

    def restore() -> None:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)

    def stop(number: signal.Signals) -> None:
        first = not received and run.dispatcher is not None
        received.append(number)
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
        if len(received) < 2:
            restore()
    if received:
        signal.raise_signal(received[0])


def _stop(run: Run) -> None:
    run.stop("interrupted", "cancelled")
    if run.plan.folder.exists():  # else all is published
        stop_workers(run.plan.folder, "interrupted", "cancelled")  # shards in other processes
