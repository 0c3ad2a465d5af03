"""Prefect's view of a run: tasks for its stages and its shards. The only module here that imports Prefect.

The item is never a task: a shard of a thousand requests costs Prefect as much as one. What a shard needs
stays in this process, in `_RUNS`; parameters hold names only, because Prefect stores them in plain text.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow.compute as pc
import pyarrow.dataset as pads
from prefect import task
from prefect.blocks.system import Secret
from prefect.runtime import task_run
from pydantic import BeforeValidator

from mavi_tasks import embedded, forecast, settings
from mavi_tasks.answered import Answered, Known, row_mark
from mavi_tasks.dataset import open_table
from mavi_tasks.ending import Report
from mavi_tasks.errors import InputError, MaviError
from mavi_tasks.job import Job, load_job
from mavi_tasks.manifest.reference import without_signature
from mavi_tasks.run import Run, open_run

SHARDS_AT_ONCE = 2  # per model: the next one fills in while the last calls of one come back
KEY_SECRET = "mavi-api-key"  # noqa: S105 - the name of a Prefect Secret block, read when the environment has no key

_RUNS: dict[str, Run] = {}

# Where whoever called a flow in this very process hears how its runs ended; Prefect need not store it.
REPORTS: ContextVar[list[Report] | None] = ContextVar("reports", default=None)


# -- parameters


def _read(value: Any) -> Any:
    return load_job(Path(value)) if isinstance(value, str) else value


# A job as a flow's parameter: its fields (Prefect's UI makes a form of them), or the path of a job file.
JobParameter = Annotated[Job, BeforeValidator(_read, json_schema_input_type=Job | str)]


def refuse_secrets(job: Job) -> None:
    """Raise InputError when a URL of the job holds a secret: Prefect stores parameters in plain text."""
    urls = {
        "manifest": job.manifest,
        "output": job.output,
        "gateway.base_url": job.gateway.base_url,
        "media.base_url": job.media.base_url,
    }
    found = [name for name, url in urls.items() if url is not None and _is_signed(url)]
    if found:
        raise InputError(
            f"{name}: holds a signature, token or password, and Prefect stores the parameters of a flow in "
            "plain text; give s3://, a public URL or a local path (credentials belong in the environment), "
            "or run it without Prefect: mavi run --no-prefect"
            for name in found
        )


def _is_signed(url: str) -> bool:
    if "://" not in url:
        return False
    whole, bare = urlsplit(url), urlsplit(without_signature(url))
    names = [[name for name, _ in parse_qsl(one.query, keep_blank_values=True)] for one in (whole, bare)]
    return whole.netloc != bare.netloc or names[0] != names[1]


# -- the run


@asynccontextmanager
async def run_of(job: Job) -> AsyncIterator[Run]:
    """The run that the tasks of one flow share, while the flow lasts. Raises MaviError.

    When the flow is cancelled or fails, what is answered by then is published, and the run's row tells it.
    """
    refuse_secrets(job)
    endpoint = settings.endpoint(job.gateway, await _environment(job))
    with embedded.gateway(job, endpoint) as (endpoint, options):
        run = await asyncio.to_thread(open_run, job, endpoint, options=options)
        _RUNS[run.run_id] = run
        try:
            yield run
        except BaseException:
            _wind_up(run)
            raise
        finally:
            del _RUNS[run.run_id]


def _wind_up(run: Run) -> None:
    if run.plan is None or not run.plan.folder.exists():
        return  # nothing was sent, or it is finished
    if run.dispatcher is not None:
        run.dispatcher.stop("interrupted", "interrupted")
    with suppress(MaviError):  # the first error is the one to be told
        _tell(run.finish())


def _tell(report: Report) -> Report:
    heard = REPORTS.get()
    if heard is not None:
        heard.append(report)
    return report


async def _environment(job: Job) -> Mapping[str, str]:
    """The environment; a key that is not in it comes from the Secret block, if there is one."""
    name = job.gateway.api_key_env or "MAVI_API_KEY"
    if job.gateway.name == "sandbox" or os.environ.get(name) or os.environ.get("MEMORIES_API_KEY"):
        return os.environ
    try:
        secret: Any = await Secret.aload(KEY_SECRET)
    except ValueError:  # there is no such block
        return os.environ
    return {**os.environ, name: str(secret.get())}


# -- stages


@task(name="plan", task_run_name="plan")
async def plan(run_id: str, retry_invalid: bool = False) -> dict[str, Any]:
    """Read and check the whole input; returns what `mavi plan --json` prints."""
    run = _RUNS[run_id]
    told = await asyncio.to_thread(forecast.forecast, run, retry_invalid=retry_invalid)
    run.planned = told.for_run_row()
    return told.to_json()


@task(task_run_name="{model}-{number}", retries=1)
async def ask(run_id: str, model: str, number: int) -> int:
    """One shard of one model; tried again, it asks only what has no answer yet. Returns its size."""
    run = _RUNS[run_id]
    assert run.plan is not None
    shard = run.plan.shards[model][number]
    if (task_run.run_count or 1) > 1:
        shard = await asyncio.to_thread(_unanswered, run, shard)
    await run.ask(model, [shard])
    return sum(1 for _ in run.plan.read([shard]))


def _unanswered(run: Run, shard: Path) -> Path:
    assert run.plan is not None
    requests = list(run.plan.read([shard]))
    known = Answered.read(run.dataset.root).look_up(
        [r.key for r in requests], [row_mark(r.item_id, r.prompt_id) for r in requests]
    )
    left = shard.with_suffix(".again.jsonl")
    open_requests = [r for r, k in zip(requests, known, strict=True) if k is Known.NOTHING]
    left.write_bytes(b"".join(r.to_json() + b"\n" for r in open_requests))
    return left


async def ask_all(run: Run) -> None:
    """All shards of all models, a few of each model at a time."""
    assert run.plan is not None
    await asyncio.gather(*(_ask_model(run, model, len(s)) for model, s in run.plan.shards.items()))


async def _ask_model(run: Run, model: str, shards: int) -> None:
    turn = asyncio.Semaphore(SHARDS_AT_ONCE)

    async def one(number: int) -> None:
        async with turn:
            if run.dispatcher is not None and not run.dispatcher.stopping:
                await ask(run.run_id, model, number)

    await asyncio.gather(*(one(number) for number in range(shards)))


@task(name="publish", task_run_name="publish")
async def publish(run_id: str) -> dict[str, Any]:
    """Seal, publish, and write the run's row; returns what `mavi run --json` prints."""
    return _tell(await asyncio.to_thread(_RUNS[run_id].finish)).to_json()


def failures(root: Path, run_id: str) -> dict[str, int]:
    """The error codes of one run's failed and invalid rows, the commonest first."""
    mine = (pads.field("run_id") == run_id) & pads.field("status").isin(["failed", "invalid"])
    codes = open_table(root, "results").to_table(columns=["error_code"], filter=mine)["error_code"]
    counted = [(row["values"].as_py(), row["counts"].as_py()) for row in pc.value_counts(codes)]
    return {code or "unknown": count for code, count in sorted(counted, key=lambda pair: -pair[1])}
