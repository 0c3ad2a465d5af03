"""The store that a run's workers share: `shared_limits` of the job."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from mavi_tasks.errors import InputError
from mavi_tasks.limits.shared.budget_ledger import Ledger
from mavi_tasks.limits.shared.file_store import FileLedger, FileRateLeases, machine_folder
from mavi_tasks.limits.shared.rate_leases import RateLeaseStore

REDIS_URL: Final = "MAVI_REDIS_URL"  # from the environment: it may hold a password


def rate_lease_store(kind: str, env: Mapping[str, str]) -> RateLeaseStore:
    """The store of leases. Raises InputError when what it needs is not installed."""
    return _STORES[kind](env)


def ledger(kind: str, env: Mapping[str, str], path: Path, run_id: str) -> Ledger:
    """The store of a run's dollars: Redis, else a file of the plan, in the folder that all workers share."""
    if kind == "redis":
        from mavi_tasks.limits.shared.redis_store import RedisLedger

        return RedisLedger(_redis(env), run_id)
    return FileLedger(path)


def _redis(env: Mapping[str, str]) -> Any:
    try:
        from mavi_tasks.limits.shared.redis_store import connect
    except ImportError as error:
        raise InputError("shared_limits: redis needs: pip install 'mavi-tasks[redis]'") from error
    try:
        return connect(env.get(REDIS_URL) or "redis://127.0.0.1:6379/0")
    except ValueError as error:  # its message does not repeat the URL, which may hold a password
        raise InputError(f"{REDIS_URL} must be a URL such as redis://host:6379/0") from error


def _redis_leases(env: Mapping[str, str]) -> RateLeaseStore:
    client = _redis(env)
    from mavi_tasks.limits.shared.redis_store import RedisRateLeases

    return RedisRateLeases(client)


def _prefect_leases(_: Mapping[str, str]) -> RateLeaseStore:
    from mavi_tasks.limits.shared.prefect_store import PrefectRateLeases

    return PrefectRateLeases()


_STORES: Final[Mapping[str, Callable[[Mapping[str, str]], RateLeaseStore]]] = {
    "file": lambda env: FileRateLeases(machine_folder(env)),
    "redis": _redis_leases,
    "prefect": _prefect_leases,
}
