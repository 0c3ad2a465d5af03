"""A whole run in this process: gateway, plan, pilot, dispatch with progress and signals, publish."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.common.event_loop import fast_loop, tune_gc
from mavi_tasks.errors import InputError
from mavi_tasks.execution.run import RequestFilter, Run, open_run
from mavi_tasks.execution.run_report import RunReport
from mavi_tasks.gateway import embedded_sandbox
from mavi_tasks.job import BY_PREFECT, Job
from mavi_tasks.job import endpoint as settings
from mavi_tasks.limits import ModelLimiter
from mavi_tasks.planning import forecast, pilot
from mavi_tasks.planning.forecast import Forecast
from mavi_tasks.planning.pilot import Measured
from mavi_tasks.planning.planner import Plan

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
    """

    reading: Callable[[], AbstractContextManager[OnPlanProgress | None]] = no_reading
    on_planned: Callable[[Forecast], None] = lambda forecast: None
    confirm: Callable[[Measured, Forecast], bool] = lambda measured, forecast: True
    show_progress: Callable[[Sequence[ModelCounters], Mapping[str, ModelLimiter]], Awaitable[None]] = (
        no_progress
    )


SILENT: Final = RunCallbacks()


@contextmanager
def opened(job: Job, env: Mapping[str, str], *, dry: bool = False) -> Iterator[Run]:
    """A run with its gateway, the sandbox included when the job names it. Raises MaviError."""
    tune_gc()
    endpoint = settings.resolve_endpoint(job.gateway, env, sends=not dry)
    with embedded_sandbox.gateway(job, endpoint) as (endpoint, options):
        yield open_run(job, endpoint, options=options, dry=dry)


def plan(
    job: Job,
    env: Mapping[str, str],
    callbacks: RunCallbacks = SILENT,
    *,
    retry_invalid: bool = False,
) -> Forecast:
    """What a run would do and cost; sends nothing, needs no key, leaves no trace."""
    with opened(job, env, dry=True) as run:
        with callbacks.reading() as watch:
            told = forecast.forecast(run, retry_invalid=retry_invalid, watch=watch)
        told.plan.discard()
    return told


def execute(
    job: Job,
    env: Mapping[str, str],
    callbacks: RunCallbacks = SILENT,
    *,
    retry_invalid: bool = False,
    pilot_size: int | None = None,
) -> RunReport:
    """Run a job to its end and report. Raises MaviError for what stops it before anything is sent."""
    if job.runner in BY_PREFECT:
        raise InputError(f"runner: {job.runner} needs Prefect: leave --no-prefect out, or take processes")
    with opened(job, env) as run:
        with callbacks.reading() as watch:
            told = forecast.forecast(run, retry_invalid=retry_invalid, watch=watch)
        run.planned = told.for_run_row()
        callbacks.on_planned(told)
        if told.to_send == 0:
            pilot_size = None  # nothing is left to try out
        with asyncio.Runner(loop_factory=fast_loop()) as runner:
            rest = _pilot(run, runner, callbacks, pilot_size) if pilot_size is not None else None
            if pilot_size is None or rest is not None:
                runner.run(_dispatch(run, "w0", rest, callbacks))
            elif run.dispatcher is not None:
                run.dispatcher.stop("pilot", "only the pilot was asked; its answers are kept")
        return run.finish()


def _pilot(run: Run, runner: asyncio.Runner, callbacks: RunCallbacks, size: int) -> RequestFilter | None:
    """Ask a sample; what is left to ask when the user goes on, None when not (or when the run stopped)."""
    assert run.plan is not None
    sample = pilot.choose(run.plan, size)
    units = frozenset(sample.chosen)
    runner.run(_dispatch(run, "pilot", RequestFilter(units), callbacks))
    run.dataset.publish()
    stopped = run.dispatcher is None or run.dispatcher.stopping
    if stopped or not callbacks.confirm(pilot.measure(run, sample), forecast.again(run, run.plan)):
        return None
    return RequestFilter(units, rest=True)


async def _dispatch(run: Run, worker: str, want: RequestFilter | None, callbacks: RunCallbacks) -> None:
    progress = asyncio.ensure_future(callbacks.show_progress(run.all_counters, run.limiters))
    work = asyncio.create_task(run.dispatch(worker, want))
    try:
        with _signals(run, work):
            await work
    except asyncio.CancelledError:
        if run.dispatcher is None:  # before anything was sent
            raise KeyboardInterrupt from None
        if not run.dispatcher.stopping:
            raise
    finally:
        progress.cancel()
        with suppress(asyncio.CancelledError):
            await progress


@contextmanager
def _signals(run: Run, work: "asyncio.Task[None]") -> Iterator[None]:
    """Once: send no more, wait for what is in flight. Twice: stop now; what was in flight is in doubt.

    Only while the block lasts: at the question after a pilot, Ctrl-C is the user's answer.
    """

    def interrupt() -> None:
        if run.dispatcher is None or run.dispatcher.stop_reason == "interrupted":
            work.cancel()
            return
        message = "interrupted: waiting for the calls in flight (again to stop now)"
        print(f"\n{message}", file=sys.stderr, flush=True)
        run.dispatcher.stop("interrupted", "interrupted")

    loop = asyncio.get_running_loop()
    numbers: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)
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
