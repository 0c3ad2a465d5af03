"""What the processes of one run share beside the dataset: the stop file, rate leases, the budget ledger."""

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import orjson

from mavi_tasks.execution.run import Run
from mavi_tasks.execution.stop_signal import StopSignal
from mavi_tasks.job import Job
from mavi_tasks.job.endpoint import Endpoint
from mavi_tasks.limits.shared import RateLeaseStore, StoreError
from mavi_tasks.limits.shared.budget_ledger import Ledger
from mavi_tasks.limits.shared.factory import ledger, rate_lease_store
from mavi_tasks.media import MediaOptions

STOP_FILE: Final = "stop"  # in the plan's folder: the run has stopped, send nothing more
LEDGER_FILE: Final = "ledger.json"
LOOK_EVERY_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What a worker must know of a run; goes to it by value. The key goes only through a pipe.

    has_budget: the job has one, so that dollars come from the run's ledger.
    """

    job: Job
    endpoint: Endpoint
    options: MediaOptions
    run_id: str
    started_us: int
    plan_folder: Path
    workers: int
    has_budget: bool

    @classmethod
    def of(cls, run: Run) -> "WorkerConfig":
        """Raises InputError when the store that the workers are to share cannot be used.

        There are never more workers than a configured concurrency allows.
        """
        context, job = run.context, run.context.job
        rate_lease_store(job.shared_limits, os.environ)
        configured = [job.limits_for(target.model).concurrency for target in context.targets]
        workers = [job.workers or os.cpu_count() or 1, *(limit for limit in configured if limit is not None)]
        return cls(
            job=job,
            endpoint=context.endpoint,
            options=context.options,
            run_id=context.run_id,
            started_us=context.started_us,
            plan_folder=run.plan.folder,
            workers=min(workers),
            has_budget=job.budget_usd is not None,
        )

    def without_key(self) -> "WorkerConfig":
        """For what may be written down on its way: the worker takes the key from its own environment."""
        return replace(self, endpoint=replace(self.endpoint, api_key=None))

    def rate_leases(self, env: Mapping[str, str]) -> RateLeaseStore:
        """Where the workers share configured rates."""
        return rate_lease_store(self.job.shared_limits, env)

    def ledger(self, env: Mapping[str, str]) -> Ledger:
        """The dollars that this run's workers share."""
        return ledger(self.job.shared_limits, env, self.plan_folder / LEDGER_FILE, self.run_id)


async def prepare_workers(run: Run) -> WorkerConfig | None:
    """What workers need, when they can be started: leases held, stores reachable, the budget in the ledger.

    None: the run has stopped.
    """
    config = WorkerConfig.of(run)
    if run.leased_shards is not None and run.dispatcher is not None:
        await run.leased_shards.acquire_all(run.plan, run.context.targets, run.dispatcher)
    try:
        await _check_stores(run, config)
    except StoreError as error:
        run.stop("store", f"the store that workers share cannot be reached: {error}")
    return None if run.stop.reason is not None else config


async def _check_stores(run: Run, config: WorkerConfig) -> None:
    leases = config.rate_leases(os.environ)
    try:
        await leases.lease("mavi-probe", 0.0)
    finally:
        await leases.close()
    if config.has_budget:
        shared = config.ledger(os.environ)
        await shared.open(run.budget().remaining_pico or 0)
        await shared.close()


# -- the stop file


def stop_workers(plan_folder: Path, reason: str, message: str) -> None:
    """Have all workers of a run send nothing more; the first reason stands."""
    path = plan_folder / STOP_FILE
    staged = path.with_suffix(f".{os.getpid()}")
    try:
        staged.write_bytes(orjson.dumps((reason, message)))
        os.link(staged, path)
    except FileExistsError:
        pass
    except OSError:  # no hard links there, or no room: that they stop matters more than why
        with suppress(OSError):
            path.touch()
    finally:
        with suppress(OSError):
            staged.unlink()


async def watch_stop_file(plan_folder: Path, stop: StopSignal) -> None:
    """A worker's side: pass on that the run has stopped."""
    path = plan_folder / STOP_FILE
    while not path.exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(LOOK_EVERY_S)
    content = path.read_bytes()
    stop(*(orjson.loads(content) if content else ("stopped", "the run was stopped")))
