"""Prefect's task runner for Dask: a cluster that is there already, or one on this machine for the run.

MAVI_DASK_ADDRESS (tcp://host:8786) names a cluster that is there. Its workers need the same version of mavi,
the dataset's folder at the same path, and the key in their environment (or in Prefect's Secret block).
"""

import os
from typing import Any, Final

from mavi_tasks.errors import InputError
from mavi_tasks.job import Job

THREADS: Final = 2  # shards that a Dask worker labels at a time, on one event loop
ADDRESS_VARIABLE: Final = "MAVI_DASK_ADDRESS"
LOCAL: Final = ("127.0.0.1", "localhost", "[::1]")


def task_runner(job: Job, workers: int) -> Any:
    """A Prefect task runner, to be entered. Raises InputError when its extra is not installed.

    workers: the processes of a cluster made for this run; a cluster that is there has its own number.
    """
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise InputError("runner: dask needs: pip install 'mavi-tasks[dask]'") from error
    address = _address(job)
    if address is not None:
        return DaskTaskRunner(address=address)
    return DaskTaskRunner(
        cluster_kwargs={
            "n_workers": workers,
            "threads_per_worker": THREADS,
            "processes": True,
            "dashboard_address": None,
        }
    )


def has_cluster() -> bool:
    """A cluster of the user's own, which may have more processes than this run's limits were split for."""
    return bool(os.environ.get(ADDRESS_VARIABLE))


def _address(job: Job) -> str | None:
    """The cluster that the environment names. Raises InputError when its workers would not share a limit."""
    address = os.environ.get(ADDRESS_VARIABLE)
    if address and job.shared_limits == "file" and not any(host in address for host in LOCAL):
        raise InputError(
            f"shared_limits: file is for one machine, and {ADDRESS_VARIABLE} is {address}: "
            "give shared_limits: redis (MAVI_REDIS_URL says where) or prefect"
        )
    return address or None
