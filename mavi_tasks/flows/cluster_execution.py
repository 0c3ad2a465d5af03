"""Shards on a Dask cluster: a Prefect task for each, in whatever process the cluster runs it."""

import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from mavi_tasks.errors import MaviError
from mavi_tasks.execution.distributed import subprocess_pool, worker
from mavi_tasks.execution.distributed.worker import CounterSnapshot, WorkerConfig, setting_of
from mavi_tasks.execution.run import Run
from mavi_tasks.flows import task_runners
from mavi_tasks.flows.environment import environment

SHARDS_PER_THREAD: Final = 2  # the next one is there when one ends
RECLAIM_EVERY_S: Final = 5.0


@task(task_run_name="{model}-{number}", retries=1, cache_policy=NO_CACHE)
def label_shard_anywhere(config: bytes, shard: str, model: str, number: int) -> CounterSnapshot:
    """One shard of one model, in whatever process this runs; safe to run again there or elsewhere."""
    loaded: WorkerConfig = pickle.loads(config)  # noqa: S301 - from the flow that submitted it
    return worker.ask(loaded, model, Path(shard), asyncio.run(environment(loaded.job)))


async def label_all_shards(run: Run) -> None:
    """Submit every shard to the cluster, not many more at a time than it can run."""
    assert run.plan is not None and run.dispatcher is not None
    config = setting_of(run)
    if not await subprocess_pool.make_ready(run, config):
        return
    base = {counters.model: subprocess_pool.copy_of(counters) for counters in run.all_counters}
    at_once = config.workers if task_runners.has_cluster() else 2 * config.workers * SHARDS_PER_THREAD
    reclaim = asyncio.create_task(_reclaim_budget(run, config))
    try:
        with (
            temporary_settings({PREFECT_API_URL: await _api_url()}),  # else each worker starts a server
            task_runners.task_runner(run.job, config.workers) as runner,
            ThreadPoolExecutor(at_once) as pool,
        ):
            await _submit_all(run, config, runner, pool, asyncio.Semaphore(at_once))
    except BaseException:
        worker.stop(run.plan.folder, "interrupted", "interrupted")
        raise
    finally:
        reclaim.cancel()
        # The cluster runs a dead worker's shards again, finished ones too.
        subprocess_pool.count_again(run, base)


async def _submit_all(
    run: Run, config: WorkerConfig, runner: Any, pool: ThreadPoolExecutor, slots: asyncio.Semaphore
) -> None:
    assert run.plan is not None and run.dispatcher is not None
    value, loop = pickle.dumps(config.without_key()), asyncio.get_running_loop()
    dispatcher, all_counters = run.dispatcher, run.plan.all_counters

    async def one(model: str, number: int, shard: Path) -> None:
        async with slots:
            if dispatcher.stopping or all_counters[model].stopped is not None:
                return
            parameters = {"config": value, "shard": str(shard), "model": model, "number": number}
            future = runner.submit(label_shard_anywhere, parameters=parameters)
            snapshot: CounterSnapshot = await loop.run_in_executor(pool, future.result)
        worker.add(snapshot, all_counters[model])
        if snapshot.run_stopped is not None:
            dispatcher.stop(*snapshot.run_stopped)

    shards = run.plan.shards.items()
    async with asyncio.TaskGroup() as group:
        for model, paths in shards:
            for number, shard in enumerate(paths):
                group.create_task(one(model, number, shard))


async def _api_url() -> str:
    """The URL of this flow's Prefect API, also of a temporary one."""
    async with get_client() as client:
        return str(client.api_url)


async def _reclaim_budget(run: Run, config: WorkerConfig) -> None:
    """Return the budget that dead workers held, while the others go on."""
    while config.on_ledger:
        await asyncio.sleep(RECLAIM_EVERY_S)
        with suppress(MaviError):  # the store cannot be reached: what they held stays counted as spent
            await subprocess_pool.bury(run, config)
