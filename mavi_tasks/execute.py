"""A whole run in this process: gateway, plan, dispatch with progress and signals, publish."""

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress

from mavi_tasks import embedded, settings
from mavi_tasks.ending import Report
from mavi_tasks.job import Job
from mavi_tasks.plan import Plan
from mavi_tasks.run import Run, open_run
from mavi_tasks.screen import Progress


def execute(
    job: Job,
    env: Mapping[str, str],
    *,
    quiet: bool = False,
    retry_invalid: bool = False,
    on_plan: Callable[[Run, Plan], bool] | None = None,
) -> Report | None:
    """Run a job to its end and report. None when `on_plan` said not to go on; nothing was sent then.

    Raises MaviError for what stops it before anything is sent.
    """
    endpoint = settings.endpoint(job.gateway, env)
    with embedded.gateway(job, endpoint) as (endpoint, options):
        run = open_run(job, endpoint, options=options)
        plan = run.make_plan(retry_invalid=retry_invalid)
        if on_plan is not None and not on_plan(run, plan):
            plan.discard()
            return None
        loop_factory = _fast_loop()
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_dispatch(run, quiet=quiet))
        return run.finish()


async def _dispatch(run: Run, *, quiet: bool) -> None:
    progress = asyncio.create_task(Progress(run.tallies, run.throttles, quiet=quiet).show())
    work = asyncio.create_task(run.dispatch())
    _on_signals(run, work)
    try:
        await work
    except asyncio.CancelledError:
        if run.dispatcher is None or not run.dispatcher.stopping:
            raise
    finally:
        progress.cancel()
        with suppress(asyncio.CancelledError):
            await progress


def _on_signals(run: Run, work: "asyncio.Task[None]") -> None:
    """Once: send no more, wait for what is in flight. Twice: stop now; what was in flight is in doubt."""

    def interrupt() -> None:
        if run.dispatcher is None or run.dispatcher.stop_reason == "interrupted":
            work.cancel()
            return
        message = "interrupted: waiting for the calls in flight (again to stop now)"
        print(f"\n{message}", file=sys.stderr, flush=True)
        run.dispatcher.stop("interrupted", "interrupted")

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, interrupt)
        except NotImplementedError:  # Windows' loop has none: KeyboardInterrupt cancels the work instead
            return


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
