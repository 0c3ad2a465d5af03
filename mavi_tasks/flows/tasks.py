"""A run's stages and shards as Prefect tasks.

The item is never a task: a shard of a thousand requests costs Prefect as much as one. What a shard needs
stays in this process, in `_RUNS`; parameters hold names only, because Prefect stores them in plain text.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import pyarrow.compute as pc
import pyarrow.dataset as pads
from prefect import task
from prefect.runtime import task_run
from pydantic import BeforeValidator

from mavi_tasks.errors import InputError, MaviError
from mavi_tasks.execution.run import RequestFilter, Run
from mavi_tasks.execution.run_report import RunReport
from mavi_tasks.flows.environment import environment
from mavi_tasks.gateway import embedded_sandbox
from mavi_tasks.job import Job, load_job, trusted_modules
from mavi_tasks.job.endpoint import resolve_endpoint
from mavi_tasks.media.url_secrets import secrets_in
from mavi_tasks.planning import spool
from mavi_tasks.planning.context import RunContext, open_context
from mavi_tasks.planning.forecast import Forecaster
from mavi_tasks.planning.request import Request
from mavi_tasks.storage.answered_index import AnsweredIndex, AnswerState, row_fingerprint
from mavi_tasks.storage.tables import open_table

SHARDS_AT_ONCE: Final = 2  # per model: the next one fills in while the last calls of one come back

# For a caller in this process. A flow that is cancelled has no result, but its run has a report.
RUN_REPORTS: ContextVar[list[RunReport] | None] = ContextVar("run_reports", default=None)


@contextmanager
def collected_reports() -> Iterator[list[RunReport]]:
    """The reports of the runs that end while the block lasts, in a list that grows."""
    reports: list[RunReport] = []
    token = RUN_REPORTS.set(reports)
    try:
        yield reports
    finally:
        RUN_REPORTS.reset(token)


def publish_report(report: RunReport) -> RunReport:
    """Hand a run's report to the caller of its flow, if that is in this process; returns it."""
    reports = RUN_REPORTS.get()
    if reports is not None:
        reports.append(report)
    return report


# -- parameters


def _load(value: Any) -> Any:
    if isinstance(value, str):
        return load_job(Path(value))
    if isinstance(value, Mapping):
        _refuse_code(value)
    return value


def _refuse_code(fields: Mapping[str, Any]) -> None:
    """Raise InputError when a parameter would have this machine import Python code.

    Whoever can start a flow run by Prefect's API gives its parameters.
    """
    schema = fields.get("answer_schema")
    if isinstance(schema, str) and trusted_modules.names_a_class(schema):
        raise InputError(
            f"answer_schema {schema!r}: a flow's parameter cannot name a Python class, because importing it "
            "runs its code: give the JSON Schema, a file that holds it, or the path of a job file"
        )
    if fields.get("source") is not None:
        raise InputError(
            "source: cannot be given in a flow's parameter: give the path of the job file, not its fields"
        )


# A job as a flow's parameter: its fields (Prefect's UI makes a form of them), or the path of a job file.
JobParameter = Annotated[Job, BeforeValidator(_load, json_schema_input_type=Job | str)]


def refuse_secrets(job: Job) -> None:
    """Raise InputError when a URL of the job holds a secret: Prefect stores parameters in plain text."""
    urls = {
        "manifest": job.manifest,
        "output": job.output,
        "gateway.base_url": job.gateway.base_url,
        "media.base_url": job.media.base_url,
    }
    found = [name for name, url in urls.items() if url is not None and "://" in url and secrets_in(url)]
    if found:
        raise InputError(
            f"{name}: may hold a signature, token or password, and Prefect stores a flow's parameters in "
            "plain text; give s3://, a public URL or a local path (credentials belong in the environment), "
            "or run it without Prefect: mavi run --no-prefect"
            for name in found
        )


# -- the run


@dataclass
class FlowRun:
    """The run of one flow: its context from the start, the run once it is planned."""

    context: RunContext
    run: Run | None = None

    def planned(self) -> Run:
        assert self.run is not None, "the plan task comes first"
        return self.run


_RUNS: dict[str, FlowRun] = {}


@asynccontextmanager
async def run_of(job: Job) -> AsyncIterator[FlowRun]:
    """The run that the tasks of one flow share, while the flow lasts. Raises MaviError.

    When the flow is cancelled or fails, what is answered by then is published, and the run's row says so.
    """
    refuse_secrets(job)
    endpoint = resolve_endpoint(job.gateway, await environment(job))
    with embedded_sandbox.gateway(job, endpoint) as (endpoint, options):
        context = await asyncio.to_thread(open_context, job, endpoint, options=options)
        flow_run = _RUNS[context.run_id] = FlowRun(context)
        try:
            yield flow_run
        except BaseException:
            _finish_early(flow_run.run)
            raise
        finally:
            del _RUNS[context.run_id]


def _finish_early(run: Run | None) -> None:
    if run is None or not run.plan.folder.exists():
        return  # nothing was sent, or it is finished
    run.stop("interrupted", "interrupted")
    with suppress(MaviError):  # the first error is the one to be reported
        publish_report(run.finish())


# -- stages


@task(name="plan", task_run_name="plan")
async def plan(
    run_id: str, retry_invalid: bool = False, pay_again: bool = False, only: str | None = None
) -> dict[str, Any]:
    """Read and check the whole input; returns what `mavi plan --json` prints."""
    flow_run = _RUNS[run_id]
    forecaster = Forecaster(flow_run.context, retry_invalid=retry_invalid, pay_again=pay_again, only=only)
    run = await asyncio.to_thread(Run.prepare, flow_run.context, forecaster.plan)
    forecast = await asyncio.to_thread(forecaster.forecast, run.plan)
    run.forecast_json = forecast.for_run_row()
    flow_run.run = run
    return forecast.to_json()


@task(task_run_name="{model}-{number}", retries=1)
async def send_shard(run_id: str, model: str, number: int) -> int:
    """One shard of one model; run again, it sends only what has no answer yet. Returns its size."""
    run = _RUNS[run_id].planned()
    shard = run.plan.shards[model][number]
    if (task_run.run_count or 1) > 1:
        shard = await asyncio.to_thread(_unanswered, run, shard)
    await run.send(model, [shard])
    return sum(1 for _ in spool.read([shard]))


def _unanswered(run: Run, shard: Path) -> Path:
    index = AnsweredIndex.read(run.context.dataset.root)

    def keep(requests: Sequence[Request]) -> Iterable[Request]:
        rows = [row_fingerprint(request.item_id, request.prompt_id) for request in requests]
        states = index.look_up([request.key for request in requests], rows)
        return (one for one, state in zip(requests, states, strict=True) if state is AnswerState.NOTHING)

    return spool.rewrite(shard, keep, to=shard.with_suffix(".again.jsonl"))


async def send_by_tasks(run: Run, only: RequestFilter | None = None) -> None:
    """The shard executor of `runner: threads` in a flow: a Prefect task for each shard, a few at a time."""
    assert only is None, "a flow has no pilot"
    await asyncio.gather(*(_send_model(run, model, len(s)) for model, s in run.plan.shards.items()))


async def _send_model(run: Run, model: str, shards: int) -> None:
    slots = asyncio.Semaphore(SHARDS_AT_ONCE)

    async def one(number: int) -> None:
        async with slots:
            if run.stop.reason is None:
                await send_shard(run.context.run_id, model, number)

    await asyncio.gather(*(one(number) for number in range(shards)))


# -- publishing


@task(name="publish", task_run_name="publish")
async def publish(run_id: str) -> dict[str, Any]:
    """Seal, publish, and write the run's row; returns what `mavi run --json` prints."""
    return publish_report(await asyncio.to_thread(_RUNS[run_id].planned().finish)).to_json()


def failures(root: Path, run_id: str) -> dict[str, int]:
    """The error codes of one run's failed and invalid rows, the most frequent first."""
    rows = (pads.field("run_id") == run_id) & pads.field("status").isin(["failed", "invalid"])
    codes = open_table(root, "results").to_table(columns=["error_code"], filter=rows)["error_code"]
    counted = [(row["values"].as_py(), row["counts"].as_py()) for row in pc.value_counts(codes)]
    return {code or "unknown": count for code, count in sorted(counted, key=lambda pair: -pair[1])}
