"""A whole run in this process: gateway, plan, pilot, dispatch with progress and signals, publish."""

import asyncio
import signal
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.common.event_loop import fast_loop, tune_gc
from mavi_tasks.common.screen import say
from mavi_tasks.errors import InputError
from mavi_tasks.execution.distributed import subprocess_pool
from mavi_tasks.execution.run import RequestFilter, Run, ShardExecutor, send_here
from mavi_tasks.execution.run_report import RunReport
from mavi_tasks.gateway import embedded_sandbox
from mavi_tasks.job import Job
from mavi_tasks.job.endpoint import resolve_endpoint
from mavi_tasks.limits import ModelLimiter
from mavi_tasks.planning import pilot
from mavi_tasks.planning.context import RunContext, open_context
from mavi_tasks.planning.forecast import Forecast, Forecaster, forecast, re_estimate
from mavi_tasks.planning.pilot import PilotResult
from mavi_tasks.planning.selection import Only
from mavi_tasks.planning.spool import Plan

OnPlanProgress = Callable[[Plan], None]
ShowProgress = Callable[[Sequence[ModelCounters], Mapping[str, ModelLimiter]], Awaitable[None]]


@contextmanager
def no_reading() -> Iterator[OnPlanProgress | None]:
    """Shows nothing while a manifest is read."""
    yield None


async def no_progress(all_counters: Sequence[ModelCounters], limiters: Mapping[str, ModelLimiter]) -> None:
    """Shows nothing while requests are sent."""


@dataclass(frozen=True, slots=True)
class RunCallbacks:
    """How a run reports to whoever started it; by default it says nothing, and goes on after a pilot.

    reading: opened while the manifest is read; yields what is shown the plan as it grows.
    on_planned: called with the forecast, before anything is sent.
    confirm: called after a pilot; False ends the run there.
    show_progress: runs while requests are sent, and is cancelled at the end.
    on_started: called before requests are sent, with a function that interrupts the run from any thread.
    """

    reading: Callable[[], AbstractContextManager[OnPlanProgress | None]] = no_reading
    on_planned: Callable[[Forecast], None] = lambda forecast: None
    confirm: Callable[[PilotResult, Forecast], bool] = lambda result, forecast: True
    show_progress: ShowProgress = no_progress
    on_started: Callable[[Callable[[], object]], None] = lambda interrupt: None


SILENT: Final = RunCallbacks()


EXECUTORS: Final[Mapping[str, ShardExecutor]] = {
    "threads": send_here,
    "processes": subprocess_pool.send_by_processes,
}


@contextmanager
def opened(job: Job, env: Mapping[str, str], *, dry: bool = False) -> Iterator[RunContext]:
    """A run's context with its gateway, the sandbox included when the job names it. Raises MaviError."""
    tune_gc()
    endpoint = resolve_endpoint(job.gateway, env, sends=not dry)
    with embedded_sandbox.gateway(job, endpoint) as (endpoint, options):
        if not dry:
            yield open_context(job, endpoint, options=options)
            return
        with tempfile.TemporaryDirectory(prefix="mavi-plan-") as scratch:
            yield open_context(job, endpoint, options=options, dry=True, scratch=Path(scratch))


def plan(
    job: Job,
    env: Mapping[str, str],
    callbacks: RunCallbacks = SILENT,
    *,
    retry_invalid: bool = False,
    only: str | None = None,
) -> Forecast:
    """What a run would do and cost; sends nothing, needs no key, leaves no trace."""
    with opened(job, env, dry=True) as context:
        with callbacks.reading() as on_progress:
            found = forecast(context, retry_invalid=retry_invalid, only=only, on_progress=on_progress)
        found.plan.discard()
    return found


def execute(
    job: Job,
    env: Mapping[str, str],
    callbacks: RunCallbacks = SILENT,
    *,
    retry_invalid: bool = False,
    pay_again: bool = False,
    only: Only = None,
    pilot_size: int | None = None,
    part_of: Mapping[str, Any] | None = None,
) -> RunReport:
    """Run a job to its end and report; blocks, on an event loop of its own, in any thread.

    retry_invalid: send again what does not fit the answer schema. pay_again: go on although damage has lost
    paid answers, and ask again for them. only: failed, skipped, a CSV file that names rows, or a selection:
    these alone are asked; None = all. part_of: what the run's row says that it is a part of. On the main
    thread Ctrl-C stops the run. Raises MaviError for what stops it before anything is sent.
    """
    one_run(job)
    if job.runner not in EXECUTORS:
        raise InputError(f"runner: {job.runner} needs Prefect: remove --no-prefect, or use runner: processes")
    with opened(job, env) as context:
        with callbacks.reading() as on_progress:
            forecaster = Forecaster(
                context,
                retry_invalid=retry_invalid,
                pay_again=pay_again,
                only=only,
                on_progress=on_progress,
            )
            run = Run.prepare(context, forecaster.plan)
            found = forecaster.forecast(run.plan)
        run.forecast_json = found.for_run_row(part_of)
        callbacks.on_planned(found)
        with asyncio.Runner(loop_factory=fast_loop()) as runner:
            if pilot_size is None or found.to_send == 0:
                runner.run(dispatch_run(run, EXECUTORS[job.runner], callbacks))
            else:
                _dispatch_with_pilot(run, runner, callbacks, pilot_size)
        return run.finish()


def one_run(job: Job) -> None:
    """Raise InputError when the job is a race or a cascade, which are several runs (race.py, cascade.py)."""
    for name in ("race", "cascade"):
        if getattr(job, name) is not None:
            raise InputError(f"{name}: runs by `mavi run JOB`; for one run of all models remove `{name}`")


def _dispatch_with_pilot(run: Run, runner: asyncio.Runner, callbacks: RunCallbacks, size: int) -> None:
    """Send a sample, and the rest when that is confirmed."""
    sample = pilot.choose(run.plan, size)
    units = frozenset(sample.chosen)
    runner.run(dispatch_run(run, send_here, callbacks, "pilot", RequestFilter(units)))
    run.context.dataset.publish()
    if run.stop.reason is not None:
        return
    result = pilot.measure(run.context, sample)
    if callbacks.confirm(result, re_estimate(run.context, run.plan)):
        rest = RequestFilter(units, rest=True)
        runner.run(dispatch_run(run, EXECUTORS[run.context.job.runner], callbacks, "w0", rest))
    else:
        run.stop("pilot", "stopped after the pilot; its answers are kept")


async def dispatch_run(
    run: Run,
    executor: ShardExecutor,
    callbacks: RunCallbacks,
    worker: str = "w0",
    only: RequestFilter | None = None,
) -> None:
    """Send, with progress and signals; KeyboardInterrupt when it is interrupted before anything is sent."""
    progress = asyncio.ensure_future(callbacks.show_progress(run.all_counters, run.limiters.by_model))
    work = asyncio.create_task(run.dispatch(executor, worker, only))
    interrupt = _interrupter(run, work)
    callbacks.on_started(partial(asyncio.get_running_loop().call_soon_threadsafe, interrupt))
    try:
        with _signals(interrupt):
            await work
    except asyncio.CancelledError:
        if run.dispatcher is None:  # before anything was sent
            raise KeyboardInterrupt from None
        if run.stop.reason is None:
            raise
    finally:
        progress.cancel()
        with suppress(asyncio.CancelledError):
            await progress


def _interrupter(run: Run, work: "asyncio.Task[None]") -> Callable[[], None]:
    """Once: send no more, wait for what is in flight. Twice: stop now; what was in flight is in doubt."""

    def interrupt() -> None:
        if run.dispatcher is None or run.stop.reason == "interrupted":
            work.cancel()
            return
        message = "interrupted: waiting for the calls in flight (again to stop now)"
        say(f"\n{message}", stderr=True)
        run.stop("interrupted", "interrupted")

    return interrupt


@contextmanager
def _signals(interrupt: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM interrupt while the block lasts, on the main thread.

    At the question after a pilot, Ctrl-C is the user's answer.
    """
    loop = asyncio.get_running_loop()
    numbers: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        numbers = ()
    try:
        for number in numbers:
            loop.add_signal_handler(number, interrupt)
    except NotImplementedError:  # Windows' loop has none: KeyboardInterrupt cancels the work instead
        numbers = ()
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
