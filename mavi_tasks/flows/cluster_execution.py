"""Shard executors of a flow: tasks in this process, worker processes, or a cluster by a task runner."""

import asyncio
import pickle
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from mavi_tasks.errors import MaviError
from mavi_tasks.execution.distributed import worker
from mavi_tasks.execution.distributed.coordination import WorkerConfig, prepare_workers, stop_workers
from mavi_tasks.execution.distributed.counter_snapshot import CounterSnapshot
from mavi_tasks.execution.distributed.recovery import copy_counters, reclaim_dead_workers, recount
from mavi_tasks.execution.distributed.subprocess_pool import send_by_processes
from mavi_tasks.execution.run import RequestFilter, Run, ShardExecutor
from mavi_tasks.flows import task_runners
from mavi_tasks.flows.environment import environment
from mavi_tasks.flows.tasks import SHARDS_AT_ONCE, send_by_tasks

RECLAIM_EVERY_S: Final = 5.0


@task(task_run_name="{model}-{number}", retries=1, cache_policy=NO_CACHE)
def send_shard_on_cluster(config: bytes, shard: str, model: str, number: int) -> CounterSnapshot:
    """One shard of one model, in whatever process this runs; safe to run again there or elsewhere."""
    given: WorkerConfig = pickle.loads(config)  # noqa: S301 - from the flow that submitted it
    return worker.send_shard(given, model, Path(shard), asyncio.run(environment(given.job)))


async def send_by_cluster(run: Run, only: RequestFilter | None = None) -> None:
    """Submit every shard to the job's task runner, few more at a time than it has workers for."""
    assert only is None, "a flow has no pilot"
    config = await prepare_workers(run)
    if config is None:
        return
    job, before = run.context.job, copy_counters(run)
    at_once = config.workers if task_runners.has_cluster() else 2 * config.workers * SHARDS_AT_ONCE
    reclaim_loop = asyncio.create_task(_reclaim_regularly(run, config))
    try:
        with (
            temporary_settings({PREFECT_API_URL: await _api_url()}),  # else each worker starts a server
            task_runners.task_runner(job, config.workers) as runner,
            ThreadPoolExecutor(at_once) as pool,
        ):
            await _submit_all(run, config, runner, pool, asyncio.Semaphore(at_once))
    except BaseException:
        stop_workers(run.plan.folder, "interrupted", "interrupted")
        raise
    finally:
        reclaim_loop.cancel()
        recount(run, before)  # the cluster runs a dead worker's shards again, finished ones too


async def _submit_all(
    run: Run, config: WorkerConfig, runner: Any, pool: ThreadPoolExecutor, slots: asyncio.Semaphore
) -> None:
    value, loop = pickle.dumps(config.without_key()), asyncio.get_running_loop()
    all_counters = run.plan.all_counters

    async def one(model: str, number: int, shard: Path) -> None:
        async with slots:
            if run.stop.reason is not None or all_counters[model].stopped is not None:
                return
            parameters = {"config": value, "shard": str(shard), "model": model, "number": number}
            future = runner.submit(send_shard_on_cluster, parameters=parameters)
            snapshot: CounterSnapshot = await loop.run_in_executor(pool, future.result)
        snapshot.add_to(all_counters[model])
        if snapshot.run_stopped is not None:
            run.stop(*snapshot.run_stopped)

    async with asyncio.TaskGroup() as group:
        for model, paths in run.plan.shards.items():
            for number, shard in enumerate(paths):
                group.create_task(one(model, number, shard))


async def _api_url() -> str:
    """The URL of this flow's Prefect API, also of a temporary one."""
    async with get_client() as client:
        return str(client.api_url)


async def _reclaim_regularly(run: Run, config: WorkerConfig) -> None:
    """Return the budget that dead workers held, while the others go on."""
    while config.has_budget:
        await asyncio.sleep(RECLAIM_EVERY_S)
        with suppress(MaviError):  # the store cannot be reached: what they held stays counted as spent
            await reclaim_dead_workers(run, config)


EXECUTORS: Final[Mapping[str, ShardExecutor]] = {
    "threads": send_by_tasks,
    "processes": send_by_processes,
    "dask": send_by_cluster,
}
