"""Prefect's view of a run: tasks for its stages and its shards. The only module here that imports Prefect.

The item is never a task: a shard of a thousand requests costs Prefect as much as one. What a shard needs
stays in this process, in `_RUNS`; parameters hold names only, because Prefect stores them in plain text.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from prefect.blocks.system import Secret
from prefect.runtime import task_run

from mavi_tasks import embedded, settings
from mavi_tasks.answered import Answered, Known, row_mark
from mavi_tasks.job import Job
from mavi_tasks.run import Run, open_run

SHARDS_AT_ONCE = 2  # per model: the next one fills in while the last calls of one come back
KEY_SECRET = "mavi-api-key"  # noqa: S105 - the name of a Prefect Secret block, read when the environment has no key

_RUNS: dict[str, Run] = {}


@asynccontextmanager
async def run_of(job: Job) -> AsyncIterator[Run]:
    """The run that the tasks of one flow share, while the flow lasts. Raises MaviError."""
    endpoint = settings.endpoint(job.gateway, await _environment(job))
    with embedded.gateway(job, endpoint) as (endpoint, options):
        run = await asyncio.to_thread(open_run, job, endpoint, options=options)
        _RUNS[run.run_id] = run
        try:
            yield run
        finally:
            del _RUNS[run.run_id]


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


@task(name="plan", task_run_name="plan")
async def plan(run_id: str) -> dict[str, int]:
    """Read and check the whole input; returns how many requests each model is left to answer."""
    made = await asyncio.to_thread(_RUNS[run_id].make_plan)
    return dict(made.to_send)


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
    return (await asyncio.to_thread(_RUNS[run_id].finish)).to_json()


async def show(run: Run, ended: Mapping[str, Any]) -> None:
    """The model table as artifacts of the flow run."""
    rows = [{name: model[name] for name in _SHOWN} for model in ended["models"]]
    key = f"mavi-{_slug(run.job.name)}"
    await acreate_table_artifact(rows, key=f"{key}-models", description=f"Models of {run.job.name}")
    await acreate_markdown_artifact(_markdown(run, ended), key=key, description=f"Run of {run.job.name}")


_SHOWN = (
    "model", "answered", "failed", "invalid", "skipped", "unsent", "already_answered", "input_tokens",
    "output_tokens", "cost_usd", "exposure_usd", "latency_p50_s", "latency_p95_s",
)  # fmt: skip


def _slug(name: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower()).strip("-") or "job"


def _markdown(run: Run, ended: Mapping[str, Any]) -> str:
    head = "| " + " | ".join(_SHOWN) + " |\n|" + "---|" * len(_SHOWN) + "\n"
    body = "".join("| " + " | ".join(_cell(m[n]) for n in _SHOWN) + " |\n" for m in ended["models"])
    simulated = "**Simulated answers** (gateway: sandbox)\n\n" if ended["gateway"] == "sandbox" else ""
    return (
        f"# {run.job.name}: {ended['status']}\n\n{simulated}"
        f"{ended['answered']} answered, {ended['failed']} failed, {ended['unsent']} unsent; "
        f"${ended['cost_usd']} spent, at most ${ended['exposure_usd']} more in doubt.\n\n"
        f"{head}{body}\n{ended['message'] or ''}\n\nParquet: `{ended['output']}/results`\n"
    )


def _cell(value: object) -> str:
    return "" if value is None else str(value).replace("|", "\\|")
