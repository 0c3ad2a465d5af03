"""label_media(job): plan -> shards of requests per model -> publish -> artifacts.

A flow run ends Completed, or Failed with a reason in its message; Prefect's automations do the rest.
"""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final

from prefect import State, flow
from prefect.states import Completed, Failed
from pydantic import Field

from mavi_tasks.common.format import COST_UNKNOWN
from mavi_tasks.common.money import trimmed
from mavi_tasks.common.skips import sentence
from mavi_tasks.errors import MaviError
from mavi_tasks.execution.local import one_run
from mavi_tasks.flows import artifacts, tasks
from mavi_tasks.flows.cluster_execution import EXECUTORS
from mavi_tasks.flows.signals import graceful_shutdown
from mavi_tasks.flows.tasks import JobParameter
from mavi_tasks.job import Job

Fraction = Annotated[float, Field(ge=0, le=1)]
FAIL_ABOVE: Final = 0.05
CODES_SHOWN: Final = 3


@flow(name="label-media", flow_run_name="label {job.name}")
async def label_media(
    job: JobParameter,
    fail_above: Fraction = FAIL_ABOVE,
    retry_invalid: bool = False,
    pay_again: bool = False,
    only: str | None = None,
) -> "State[Any]":
    """Send every new or changed item of a job to each of its models.

    job: the fields of a job, or the path of a job file. fail_above: the share of failed rows above which the
    flow run fails. retry_invalid: send again what was paid for and did not fit the answer schema. pay_again:
    go on although damaged files have lost paid answers, and ask again for them. only: failed, skipped, or a
    CSV file that names rows: these alone are asked.
    """
    try:
        report = await label(job, retry_invalid=retry_invalid, pay_again=pay_again, only=only)
    except MaviError as error:
        return Failed(message=str(error), data=error)
    return state_of(report, fail_above)


async def label(
    job: Job, *, retry_invalid: bool = False, pay_again: bool = False, only: str | None = None
) -> dict[str, Any]:
    """The stages of a run; returns what `mavi run --json` prints. Raises MaviError."""
    one_run(job)
    async with tasks.run_of(job) as flow_run:
        run_id = flow_run.context.run_id
        await artifacts.show_plan(job.name, await tasks.plan(run_id, retry_invalid, pay_again, only))
        run = flow_run.planned()
        with graceful_shutdown(run):
            async with artifacts.progress(run):
                await run.dispatch(EXECUTORS[job.runner])
            report = await tasks.publish(run_id)
            await artifacts.show_models(job.name, report, summary(report))
    return report


def state_of(report: Mapping[str, Any], fail_above: float) -> "State[Any]":
    """Completed, or Failed with what happened and what to do."""
    reason = problem(report, fail_above)
    if reason is None:
        return Completed(message=summary(report), data=report)
    return Failed(message=f"{reason} ({summary(report)})", data=report)


def summary(report: Mapping[str, Any]) -> str:
    """The counts in one line."""
    names = ("answered", "failed", "invalid", "skipped", "unsent", "already_answered")
    counts = ", ".join(f"{report[name]:,} {name.replace('_', ' ')}" for name in names if report[name])
    known, unpriced = Decimal(report["known_cost_usd"]), report["unpriced"]
    cost = COST_UNKNOWN if unpriced and not known else f"{'≥ ' if unpriced else ''}${trimmed(known)} spent"
    return f"{counts or 'nothing to send'}; {cost}"


def problem(report: Mapping[str, Any], fail_above: float) -> str | None:
    """Why a run needs attention, and what to do; None when it does not."""
    again = "Nothing is lost: the next run goes on where this one stopped."
    if report["status"] != "finished":
        remedy = _REMEDIES.get(report["stop_reason"], "")
        return f"Stopped: {report['message'] or report['stop_reason']}. {remedy}{again}"
    stopped = [f"{model['model']}: {model['stopped']}" for model in report["models"] if model["stopped"]]
    if stopped:
        return f"Stopped after repeated failures: {'; '.join(stopped)}. {again}"
    failed = report["failed"] + report["invalid"]
    finished = report["answered"] + failed
    if finished and failed / finished > fail_above:
        found = tasks.failures(Path(report["output"]), report["run_id"])
        codes = ", ".join(f"{code} {count:,}" for code, count in list(found.items())[:CODES_SHOWN])
        return (
            f"{failed:,} of {finished:,} rows failed: {failed / finished:.1%}, more than fail_above "
            f"{fail_above:.1%}; the most frequent: {codes}. See status, error_code and error_message in "
            f"{report['output']}/results; the next run sends the failed ones again."
        )
    if report["shortfall"]:
        return f"{report['shortfall']}: {sentence(report['skips'])}".removesuffix(": ")
    if report["unsent"]:
        return f"{report['unsent']:,} requests were not sent. {again}"
    return None


_REMEDIES: Final[Mapping[str, str]] = {
    "budget": "Raise budget_usd, or leave it: every run has this budget anew. ",
    "unauthorized": "Check MAVI_API_KEY, or the Secret block mavi-api-key. ",
    "no_balance": "Top up the account. ",
}
