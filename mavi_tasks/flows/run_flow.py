"""Run the flow label_media from code that is not async: `mavi run --prefect`."""

import asyncio
import contextlib
import os
import tempfile
from typing import Any, Final

from prefect import State
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

from mavi_tasks.errors import MaviError, StoppedError
from mavi_tasks.execution.run_report import RunReport
from mavi_tasks.flows import tasks
from mavi_tasks.flows.label import label_media
from mavi_tasks.job import Job

SERVER_STARTUP_S: Final = 120  # Prefect's own 20 s are too few on a busy machine


def run(
    job: Job, *, retry_invalid: bool = False, pay_again: bool = False, only: str | None = None
) -> RunReport:
    """Run the flow and report as `execution.local.execute` does. Raises MaviError.

    Uses the Prefect API that is configured, else a temporary server, which takes ten seconds to start.
    """
    tasks.refuse_secrets(job)  # before Prefect stores them
    with tasks.collected_reports() as reports:
        try:
            with temporary_settings({PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: SERVER_STARTUP_S}):
                _start_server()
                state = asyncio.run(
                    _final_state(job, retry_invalid=retry_invalid, pay_again=pay_again, only=only)
                )
        except KeyboardInterrupt:
            if not reports:
                raise
            return reports[-1]
        except RuntimeError as error:
            if "API" not in str(error):
                raise
            raise StoppedError(f"{error} Start it (prefect server start), or give --no-prefect") from error
    if reports:
        return reports[-1]
    cause = asyncio.run(state.aresult(raise_on_failure=False))
    raise cause if isinstance(cause, BaseException) else MaviError(state.message or state.name)


def _start_server() -> None:
    """Start Prefect's temporary server, when it is needed, in an empty folder.

    It has the key in its environment, and takes modules from its current folder before all others (as its
    alembic.ini says): a `distributed.py` in the user's folder would be run.
    """
    os.environ["PYTHONSAFEPATH"] = "1"  # likewise for `python -m` and Dask's workers
    if PREFECT_API_URL.value() or not PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value():
        return
    with tempfile.TemporaryDirectory(prefix="mavi-prefect-") as empty, contextlib.chdir(empty):
        SubprocessASGIServer().start(SERVER_STARTUP_S)


async def _final_state(job: Job, **options: bool | str | None) -> "State[Any]":
    state: Any = await label_media(job, **options, return_state=True)
    return state  # type: ignore[no-any-return]
