"""Prefect's view of a run: tasks for its stages and its shards. The only module here that imports Prefect.

The item is never a task: a shard of a thousand requests costs Prefect as much as one. What a shard needs
stays in this process, in `_RUNS`; parameters hold names only, because Prefect stores them in plain text.
"""

import asyncio
import os
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow.compute as pc
import pyarrow.dataset as pads
from prefect import task
from prefect.blocks.system import Secret
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.runtime import task_run
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import BeforeValidator

from mavi_tasks.errors import InputError, MaviError
from mavi_tasks.execution.distributed import subprocess_pool, worker
from mavi_tasks.execution.distributed.worker import CounterSnapshot, WorkerConfig, setting_of
from mavi_tasks.execution.run import Run, open_run
from mavi_tasks.execution.run_report import RunReport
from mavi_tasks.flows import task_runners
from mavi_tasks.gateway import embedded_sandbox
from mavi_tasks.job import Job, load_job
from mavi_tasks.job import endpoint as settings
from mavi_tasks.manifest.resolve import without_signature
from mavi_tasks.planning import forecast
from mavi_tasks.storage.answered_index import AnsweredIndex, AnswerState, row_fingerprint
from mavi_tasks.storage.tables import open_table

SHARDS_AT_ONCE = 2  # per model: the next one fills in while the last calls of one come back
BURY_EVERY_S = 5.0
KEY_SECRET = "mavi-api-key"  # noqa: S105 - the name of a Prefect Secret block, read when the environment has no key

_RUNS: dict[str, Run] = {}

# Where whoever called a flow in this very process hears how its runs ended; Prefect need not store it.
REPORTS: ContextVar[list[RunReport] | None] = ContextVar("reports", default=None)


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
    endpoint = settings.resolve_endpoint(job.gateway, await _environment(job))
    with embedded_sandbox.gateway(job, endpoint) as (endpoint, options):
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


def _tell(report: RunReport) -> RunReport:
    heard = REPORTS.get()
    if heard is not None:
        heard.append(report)
    return report


async def _environment(job: Job) -> Mapping[str, str]:
    """The environment; a MAVI key that is not in it comes from the Secret block, if there is one."""
    if not settings.takes_the_mavi_key(job.gateway) or any(map(os.environ.get, settings.MAVI_KEYS)):
        return os.environ
    try:
        secret: Any = await Secret.aload(KEY_SECRET)
    except ValueError:  # there is no such block
        return os.environ
    return {**os.environ, "MAVI_API_KEY": str(secret.get())}


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
    known = AnsweredIndex.read(run.dataset.root).look_up(
        [r.key for r in requests], [row_fingerprint(r.item_id, r.prompt_id) for r in requests]
    )
    left = shard.with_suffix(".again.jsonl")
    open_requests = [r for r, k in zip(requests, known, strict=True) if k is AnswerState.NOTHING]
    left.write_bytes(b"".join(r.to_json() + b"\n" for r in open_requests))
    return left


async def ask_all(run: Run) -> None:
    """All shards of all models, by the job's runner."""
    ask_by: Mapping[str, Callable[[Run], Awaitable[None]]] = {
        "threads": _ask_here,
        "processes": subprocess_pool.ask_all,
        "dask": _ask_by_cluster,
        "ray": _ask_by_cluster,
    }
    await ask_by[run.job.runner](run)


async def _ask_here(run: Run) -> None:
    """A few shards of each model at a time."""
    assert run.plan is not None
    await asyncio.gather(*(_ask_model(run, model, len(s)) for model, s in run.plan.shards.items()))


async def _ask_model(run: Run, model: str, shards: int) -> None:
    turn = asyncio.Semaphore(SHARDS_AT_ONCE)

    async def one(number: int) -> None:
        async with turn:
            if run.dispatcher is not None and not run.dispatcher.stopping:
                await ask(run.run_id, model, number)

    await asyncio.gather(*(one(number) for number in range(shards)))


# -- shards on a cluster


@task(task_run_name="{model}-{number}", retries=1, cache_policy=NO_CACHE)
def ask_elsewhere(setting: bytes, shard: str, model: str, number: int) -> CounterSnapshot:
    """One shard of one model, in whatever process this runs; safe to run again there or elsewhere."""
    told: WorkerConfig = pickle.loads(setting)  # noqa: S301 - of the flow that submitted it
    return worker.ask(told, model, Path(shard), asyncio.run(_environment(told.job)))


async def _ask_by_cluster(run: Run) -> None:
    """Submit every shard to Prefect's Dask or Ray runner, not many more than it has hands for."""
    assert run.plan is not None and run.dispatcher is not None
    setting = setting_of(run)
    if not await subprocess_pool.make_ready(run, setting):
        return
    base = {counters.model: subprocess_pool.copy_of(counters) for counters in run.all_counters}
    at_once = setting.workers if task_runners.is_there(run.job) else 2 * setting.workers * SHARDS_AT_ONCE
    undertaker = asyncio.create_task(_bury_along(run, setting))
    try:
        with (
            temporary_settings({PREFECT_API_URL: await _api_url()}),  # else each worker starts a server
            task_runners.runner(run.job, setting.workers) as runner,
            ThreadPoolExecutor(at_once) as pool,
        ):
            await _submit_all(run, setting, runner, pool, asyncio.Semaphore(at_once))
    except BaseException:
        worker.stop(run.plan.folder, "interrupted", "interrupted")
        raise
    finally:
        undertaker.cancel()
        subprocess_pool.count_again(
            run, base
        )  # the cluster runs a dead worker's shards again, finished ones too


async def _submit_all(
    run: Run, setting: WorkerConfig, runner: Any, pool: ThreadPoolExecutor, turn: asyncio.Semaphore
) -> None:
    assert run.plan is not None and run.dispatcher is not None
    value, loop = pickle.dumps(setting.without_key()), asyncio.get_running_loop()
    dispatcher, all_counters = run.dispatcher, run.plan.all_counters

    async def one(model: str, number: int, shard: Path) -> None:
        async with turn:
            if dispatcher.stopping or all_counters[model].stopped is not None:
                return
            parameters = {"setting": value, "shard": str(shard), "model": model, "number": number}
            future = runner.submit(ask_elsewhere, parameters=parameters)
            told: CounterSnapshot = await loop.run_in_executor(pool, future.result)
        worker.add(told, all_counters[model])
        if told.run_stopped is not None:
            dispatcher.stop(*told.run_stopped)

    shards = run.plan.shards.items()
    async with asyncio.TaskGroup() as group:
        for model, paths in shards:
            for number, shard in enumerate(paths):
                group.create_task(one(model, number, shard))


async def _api_url() -> str:
    """Where this flow's Prefect API answers, a temporary one too."""
    async with get_client() as client:
        return str(client.api_url)


async def _bury_along(run: Run, setting: WorkerConfig) -> None:
    """Give back what dead workers had of the budget, while the others go on."""
    while setting.on_ledger:
        await asyncio.sleep(BURY_EVERY_S)
        with suppress(MaviError):  # the store is out: what the dead had stays counted as spent
            await subprocess_pool.bury(run, setting)


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
