"""Plan and run a job from Python: in a script, in any thread, and inside a running event loop."""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, TypedDict, Unpack

from mavi_tasks.api.progress import OnProgress, guarded, in_notebook, shower
from mavi_tasks.api.results import RunResult
from mavi_tasks.execution import local
from mavi_tasks.execution.local import RunCallbacks, no_progress
from mavi_tasks.job import Job, load_job

if TYPE_CHECKING:
    from mavi_tasks.execution.run_report import RunReport
    from mavi_tasks.planning.forecast import Forecast


Only = str | os.PathLike[str] | None


def plan(
    job: "Job | str | os.PathLike[str]", *, retry_invalid: bool = False, only: Only = None
) -> "Forecast":
    """Return what a run of this job would send, cost and take. Nothing is sent and no key is needed.

    job: a Job, or the path of a job file. retry_invalid: count again what was paid for and did not fit the
    answer schema. only: as for `run`. `.to_send` is the number of requests, `.cost_usd` their cost in
    dollars (p10, p50, p90) as far as prices are known, `.refused` the items that a model cannot take,
    `.to_json()` all of it.
    Raises InputError with every problem of the job and its manifest.
    """
    return local.plan(_loaded(job), os.environ, retry_invalid=retry_invalid, only=_text(only))


def run(
    job: "Job | str | os.PathLike[str]",
    *,
    retry_invalid: bool = False,
    pay_again: bool = False,
    only: Only = None,
    on_progress: OnProgress | None = None,
) -> RunResult:
    """Run a job to its end and return its answers. Blocks, also inside a running event loop (Jupyter).

    What is answered already is not sent again. job: a Job, or the path of a job file. retry_invalid: send
    again what was paid for and did not fit the answer schema. pay_again: go on although damaged files have
    lost paid answers: set them aside, and ask again. only: "failed", "skipped", or the path of a CSV file
    with the columns item_id, model and prompt_id: these rows alone are asked; None = all. on_progress: called
    four times a second with a Progress, on another thread when an event loop is running here; None shows a
    bar in Jupyter, and nothing elsewhere. On the main thread Ctrl-C ends the run early, and its answers are
    kept. The key comes from MAVI_API_KEY, or as the job's gateway says.
    Raises InputError before anything is sent, StorageError when the dataset is damaged or cannot be written.
    A run that stops early (budget, key, outage) is returned as it is: see `.status` and `.report`.
    """
    loaded = _loaded(job)
    started = _Started()
    options: _Options = {"retry_invalid": retry_invalid, "pay_again": pay_again, "only": _text(only)}
    execute = partial(_execute, loaded, on_progress or in_notebook(), started, **options)
    return RunResult(_outside_the_loop(execute, started) if _loop_is_running() else execute(), loaded)


async def arun(
    job: "Job | str | os.PathLike[str]",
    *,
    retry_invalid: bool = False,
    pay_again: bool = False,
    only: Only = None,
    on_progress: OnProgress | None = None,
) -> RunResult:
    """Run a job as `run` does, without blocking the event loop; several at once by `asyncio.gather`.

    The run has a thread and an event loop of its own, on which on_progress is called. When the task is
    cancelled, no more requests are sent, those in flight finish and are kept, and CancelledError is raised.
    """
    loaded = _loaded(job)
    started = _Started()
    options: _Options = {"retry_invalid": retry_invalid, "pay_again": pay_again, "only": _text(only)}
    execute = partial(_execute, loaded, on_progress or in_notebook(), started, **options)
    waiting = asyncio.wrap_future(_in_thread(execute))
    try:
        return RunResult(await asyncio.shield(waiting), loaded)
    except asyncio.CancelledError:
        started.interrupt()
        await asyncio.wait([waiting])
        raise


class _Options(TypedDict):
    retry_invalid: bool
    pay_again: bool
    only: str | None


class _Started:
    """Interrupts a run from another thread; also one that has not begun to send yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._interrupt: Callable[[], object] | None = None
        self._interrupted = False

    def on_started(self, interrupt: Callable[[], object]) -> None:
        with self._lock:
            self._interrupt = interrupt
            if self._interrupted:
                interrupt()

    def interrupt(self) -> None:
        with self._lock:
            self._interrupted = True
            if self._interrupt is not None:
                self._interrupt()


def _execute(
    job: Job, on_progress: OnProgress | None, started: _Started, **options: "Unpack[_Options]"
) -> "RunReport":
    show = shower(guarded(on_progress)) if on_progress is not None else no_progress
    callbacks = RunCallbacks(show_progress=show, on_started=started.on_started)
    return local.execute(job, os.environ, callbacks, **options)


def _outside_the_loop(execute: "Callable[[], RunReport]", started: _Started) -> "RunReport":
    waiting = _in_thread(execute)
    while True:
        try:
            return waiting.result()
        except KeyboardInterrupt:
            if waiting.done():
                raise
            started.interrupt()


def _in_thread(execute: "Callable[[], RunReport]") -> "Future[RunReport]":
    future: Future[RunReport] = Future()

    def work() -> None:
        try:
            report = execute()
        except BaseException as error:  # raised where the result is read
            future.set_exception(error)
        else:
            future.set_result(report)

    threading.Thread(target=work, name="mavi-run").start()
    return future


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _text(only: Only) -> str | None:
    return None if only is None else os.fspath(only)


def _loaded(job: "Job | str | os.PathLike[str]") -> Job:
    from pathlib import Path

    return job if isinstance(job, Job) else load_job(Path(job))
