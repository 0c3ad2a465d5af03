"""Prefect's task runner for Dask: a cluster that is there already, or one on this machine for the run.

Whoever can talk to a Dask scheduler runs code in its workers, and so reads their key. A cluster made for the
run speaks TLS only, with a certificate that is not kept on disk, and has a folder of its own for its files.
MAVI_DASK_ADDRESS (tls://host:8786) names a cluster that is there; its certificates are those of Dask's own
configuration. Its workers need the same version of mavi, the dataset's folder at the same path, and the key
in their environment (or in Prefect's Secret block).
"""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from mavi_tasks.errors import InputError
from mavi_tasks.job import Job
from mavi_tasks.job.trusted_hosts import is_loopback

THREADS: Final = 2  # shards that a Dask worker labels at a time, on one event loop
ADDRESS_VARIABLE: Final = "MAVI_DASK_ADDRESS"
PLAIN_VARIABLE: Final = "MAVI_DASK_PLAIN"  # "1": a cluster beyond this machine may be without TLS
ENCRYPTED: Final = ("tls", "wss")
# The workers take no module from the current folder, and no pages are served to other users of the machine.
_CONFIG: Final = {
    "distributed.nanny.pre-spawn-environ.PYTHONSAFEPATH": "1",
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}

log = logging.getLogger("mavi")


@contextmanager
def task_runner(job: Job, workers: int) -> Iterator[Any]:
    """A Prefect task runner, entered. Raises InputError when its extra is not installed, or for the address.

    workers: the processes of a cluster made for this run; a cluster that is there has its own number.
    """
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise InputError("runner: dask needs: pip install 'mavi-tasks[dask]'") from error
    address = _address(job)
    if address is not None:
        with DaskTaskRunner(address=address) as runner:
            yield runner
        return
    import dask

    with (
        tempfile.TemporaryDirectory(prefix="mavi-dask-", ignore_cleanup_errors=True) as scratch,
        _kept_environment("PYTHONSAFEPATH"),
        dask.config.set(_CONFIG),
        DaskTaskRunner(cluster_kwargs=_own_cluster(workers, scratch)) as runner,
    ):
        yield runner


@contextmanager
def _kept_environment(name: str) -> Iterator[None]:
    """A variable as it was, at the end: Dask sets those of its workers in this process, and leaves them."""
    before = os.environ.get(name)
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def _own_cluster(workers: int, scratch: str) -> dict[str, Any]:
    """A cluster on this machine that only this process can talk to."""
    from distributed.security import Security

    try:
        security: Any = Security.temporary()  # type: ignore[no-untyped-call]
    except ImportError as error:
        raise InputError("runner: dask needs: pip install 'mavi-tasks[dask]' (cryptography)") from error
    return {
        "n_workers": workers,
        "threads_per_worker": THREADS,
        "processes": True,
        "dashboard_address": None,
        "protocol": "tls://",
        "security": security,
        "local_directory": scratch,  # the default is a folder in /tmp that another user can make first
    }


def has_cluster() -> bool:
    """A cluster of the user's own, which may have more processes than this run's limits were split for."""
    return bool(os.environ.get(ADDRESS_VARIABLE))


def _address(job: Job) -> str | None:
    """The cluster that the environment names.

    Raises InputError when its workers would not share a limit, or others could read what is sent to it.
    """
    address = os.environ.get(ADDRESS_VARIABLE)
    if not address:
        return None
    url = urlsplit(address if "://" in address else f"tcp://{address}")
    here = is_loopback(url.hostname or "")
    if job.shared_limits == "file" and not here:
        raise InputError(
            f"shared_limits: file is for one machine, and {ADDRESS_VARIABLE} is {address}: "
            "give shared_limits: redis (MAVI_REDIS_URL says where) or prefect"
        )
    if url.scheme in ENCRYPTED:
        _check_certificate(address)
    elif not here and os.environ.get(PLAIN_VARIABLE) != "1":
        raise InputError(
            f"{ADDRESS_VARIABLE} {address}: without TLS, everyone on the network can run code in the workers "
            f"and read their key: use tls://, or say {PLAIN_VARIABLE}=1 when nobody else can reach it"
        )
    else:
        log.warning(
            "%s %s: without TLS, everyone who can reach it can run code in the workers and read their key; "
            "use tls://",
            ADDRESS_VARIABLE,
            address,
        )
    return address


def _check_certificate(address: str) -> None:
    from distributed.security import Security

    configured: Any = Security
    try:
        context = configured().get_connection_args("client")["ssl_context"]
    except OSError as error:
        raise InputError(f"{ADDRESS_VARIABLE} {address}: Dask's certificate: {error}") from error
    if context is None:
        raise InputError(
            f"{ADDRESS_VARIABLE} {address}: TLS needs a certificate: set "
            "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT and "
            "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY"
        )
