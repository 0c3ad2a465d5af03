"""Prefect's runners for Dask and Ray: a cluster that is there already, or one on this machine for the run.

MAVI_DASK_ADDRESS (tcp://host:8786) or MAVI_RAY_ADDRESS (ray://host:10001) names a cluster that is there. Its
workers need the same version of mavi, the dataset's folder at the same path, and the key in their environment
(or in Prefect's Secret block).
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from mavi_tasks.errors import InputError
from mavi_tasks.job import Job

THREADS: Final = 2  # shards that a Dask worker asks at a time, on one event loop
ADDRESSES: Final[Mapping[str, str]] = {"dask": "MAVI_DASK_ADDRESS", "ray": "MAVI_RAY_ADDRESS"}
LOCAL: Final = ("127.0.0.1", "localhost", "[::1]")


def runner(job: Job, workers: int) -> Any:
    """A Prefect task runner, to be entered. Raises InputError when its extra is not installed.

    workers: the processes of a cluster made for this run; of one that is there, as many as it has.
    """
    return _RUNNERS[job.runner](job, workers)


def is_there(job: Job) -> bool:
    """A cluster of the user's own, which may have more processes than this run's limits were split for."""
    return bool(os.environ.get(ADDRESSES[job.runner]))


def _dask(job: Job, workers: int) -> Any:
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise _missing("dask") from error
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


def _ray(job: Job, workers: int) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        from prefect_ray.task_runners import RayTaskRunner
    except ImportError as error:
        raise _missing("ray") from error
    address = _address(job)
    if address is not None:
        return RayTaskRunner(address=address)
    return RayTaskRunner(
        init_kwargs={"num_cpus": workers, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    )


_RUNNERS: Final[Mapping[str, Callable[[Job, int], Any]]] = {"dask": _dask, "ray": _ray}


def _missing(extra: str) -> InputError:
    return InputError(f"runner: {extra} needs: pip install 'mavi[{extra}]'")


def _address(job: Job) -> str | None:
    """The cluster that the environment names. Raises InputError when its workers would not share a limit."""
    name = ADDRESSES[job.runner]
    address = os.environ.get(name)
    if address and job.shared_limits == "file" and not any(host in address for host in LOCAL):
        raise InputError(
            f"shared_limits: file is for one machine, and {name} is {address}: "
            "give shared_limits: redis (MAVI_REDIS_URL says where) or prefect"
        )
    return address or None
