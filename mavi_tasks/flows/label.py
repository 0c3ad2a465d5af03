"""label_media(job): plan -> shards of completions per model -> publish -> artifacts.

    python -m flows.label JOB.yaml        # the same last line and exit status as `mavi run --prefect --json`

A flow run ends Completed, or Failed with a reason in its message; Prefect's automations do the rest.
"""

import asyncio
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from prefect import State, flow
from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, temporary_settings
from prefect.states import Completed, Failed
from pydantic import Field

from mavi_tasks.errors import MaviError, StoppedError
from mavi_tasks.execution.run_report import RunReport
from mavi_tasks.flows import artifacts, tasks
from mavi_tasks.flows.cluster_execution import EXECUTORS
from mavi_tasks.flows.signals import graceful_shutdown
from mavi_tasks.flows.tasks import JobParameter
from mavi_tasks.job import Job

Share = Annotated[float, Field(ge=0, le=1)]
FAIL_ABOVE = 0.05
CODES_SHOWN = 3


@flow(name="label-media", flow_run_name="label {job.name}")
async def label_media(
    job: JobParameter, fail_above: Share = FAIL_ABOVE, retry_invalid: bool = False
) -> "State[Any]":
    """Ask every model of a job about every new or changed item.

    job: the fields of a job, or the path of a job file. fail_above: the share of failed rows above which the
    flow run fails. retry_invalid: ask again what was paid for and did not fit the answer schema.
    """
    try:
        ended = await label(job, retry_invalid=retry_invalid)
    except MaviError as error:
        return Failed(message=str(error), data=error)
    return state_of(ended, fail_above)


async def label(job: Job, *, retry_invalid: bool = False) -> dict[str, Any]:
    """The stages of a run; returns what `mavi run --json` prints. Raises MaviError."""
    async with tasks.run_of(job) as flow_run:
        run_id = flow_run.context.run_id
        await artifacts.show_plan(job.name, await tasks.plan(run_id, retry_invalid))
        run = flow_run.planned()
        with graceful_shutdown(run):
            async with artifacts.progress(run):
                await run.dispatch(EXECUTORS[job.runner])
            ended = await tasks.publish(run_id)
            await artifacts.show_models(job.name, ended, summary(ended))
    return ended


def state_of(ended: Mapping[str, Any], fail_above: float) -> "State[Any]":
    """Completed, or Failed with what happened and what to do."""
    why = problem(ended, fail_above)
    if why is None:
        return Completed(message=summary(ended), data=ended)
    return Failed(message=f"{why} ({summary(ended)})", data=ended)


def summary(ended: Mapping[str, Any]) -> str:
    """The counts in one line."""
    names = ("answered", "failed", "invalid", "skipped", "unsent", "already_answered")
    counts = ", ".join(f"{ended[name]:,} {name.replace('_', ' ')}" for name in names if ended[name])
    return f"{counts or 'nothing to ask'}; ${Decimal(ended['cost_usd']).normalize():f} spent"


def problem(ended: Mapping[str, Any], fail_above: float) -> str | None:
    """Why a run needs somebody's eyes, and what to do; None when it does not."""
    again = "Nothing is lost: the next run goes on where this one stopped."
    if ended["status"] != "finished":
        remedy = _REMEDIES.get(ended["stop_reason"], "")
        return f"Stopped: {ended['message'] or ended['stop_reason']}. {remedy}{again}"
    given_up = [f"{model['model']}: {model['stopped']}" for model in ended["models"] if model["stopped"]]
    if given_up:
        return f"Given up: {'; '.join(given_up)}. {again}"
    failed = ended["failed"] + ended["invalid"]
    finished = ended["answered"] + failed
    if finished and failed / finished > fail_above:
        found = tasks.failures(Path(ended["output"]), ended["run_id"])
        codes = ", ".join(f"{code} {count:,}" for code, count in list(found.items())[:CODES_SHOWN])
        return (
            f"{failed:,} of {finished:,} rows failed: {failed / finished:.1%}, more than fail_above "
            f"{fail_above:.1%}; the commonest: {codes}. See status, error_code and error_message in "
            f"{ended['output']}/results; the next run asks the failed ones again."
        )
    if ended["unsent"]:
        return f"{ended['unsent']:,} requests were not sent. {again}"
    return None


_REMEDIES = {
    "budget": "Raise budget_usd, or leave it: every run has this budget anew. ",
    "unauthorized": "Check MAVI_API_KEY, or the Secret block mavi-api-key. ",
    "no_balance": "Top up the account. ",
}


def run(job: Job, *, retry_invalid: bool = False) -> RunReport:
    """Run the flow from code that is not async, and report as `execute` does. Raises MaviError.

    Uses the Prefect API that is configured, else a temporary server, which takes ten seconds to start.
    """
    tasks.refuse_secrets(job)  # before Prefect stores them
    reports: list[RunReport] = []
    token = tasks.RUN_REPORTS.set(reports)
    try:
        with temporary_settings({PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 120}):
            state: State[Any] = asyncio.run(_state(job, retry_invalid))
    except KeyboardInterrupt:
        if not reports:
            raise
    except RuntimeError as error:
        if "API" not in str(error):
            raise
        raise StoppedError(f"{error} Start it (prefect server start), or give --no-prefect") from error
    finally:
        tasks.RUN_REPORTS.reset(token)
    if not reports:
        why = asyncio.run(state.aresult(raise_on_failure=False))
        raise why if isinstance(why, BaseException) else MaviError(state.message or state.name)
    return reports[-1]


async def _state(job: Job, retry_invalid: bool) -> "State[Any]":
    found: Any = await label_media(job, retry_invalid=retry_invalid, return_state=True)
    return found  # type: ignore[no-any-return]


if __name__ == "__main__":
    from mavi_tasks.cli.main import main

    sys.exit(main(["run", "--prefect", "--json", *sys.argv[1:]]))
