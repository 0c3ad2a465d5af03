"""Leases and dollars in files, for the processes of one machine: no server, no set-up.

One small file for each limit, under a lock, in a folder of this user and machine: `<boot> <instant>`. The
instant is one of the monotonic clock, which all processes of a machine have in common until it is started
anew: one of another boot is ignored, and so is one further ahead than a lease can be.
"""

import asyncio
import json
import platform
import re
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from mavi_tasks.common.user_folders import private_state, read_private, write_private
from mavi_tasks.errors import InputError
from mavi_tasks.limits.shared.budget_ledger import BudgetGrant, State, exchange, opened
from mavi_tasks.limits.shared.rate_leases import StoreError, reserve

LOCK_S: Final = 10.0
MAX_AHEAD_S: Final = 3600.0


def machine_folder(env: Mapping[str, str]) -> Path:
    """The folder that all runs of this user on this machine use; machines may share a home.

    Raises InputError when others could change it.
    """
    machine = re.sub(r"[^A-Za-z0-9.-]", "-", platform.node()).lstrip(".") or "machine"
    return private_state(env, "limits", machine)


class FileRateLeases:
    """Leases for the processes of one machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def lease(self, limit: str, spacing_s: float) -> float:
        return await asyncio.to_thread(self._lease, limit, spacing_s)

    async def close(self) -> None:
        """Nothing is held open."""

    def _lease(self, limit: str, spacing_s: float) -> float:
        path = self._folder / limit
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            with FileLock(f"{path}.lock", timeout=LOCK_S):
                now_s = time.monotonic()
                free_at_s = _number(path)
                if free_at_s - now_s > MAX_AHEAD_S:
                    free_at_s = now_s
                start_s, free_at_s = reserve(free_at_s, now_s, spacing_s)
                write_private(path, f"{_boot()} {free_at_s!r}".encode())
        except (InputError, OSError, Timeout) as error:
            raise StoreError(f"{path}: {error}") from error
        return start_s - now_s


def _number(path: Path) -> float:
    """The instant in a file; 0 when there is none of this boot."""
    boot, _, instant = (read_private(path) or "").partition(" ")
    try:
        return float(instant) if boot == _boot() else 0.0
    except ValueError:  # cut short by a loss of power
        return 0.0


@cache
def _boot() -> str:
    """What changes when the machine is started anew; the same for ever where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "-"


class FileLedger:
    """The dollars of one run, in a file of its plan."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def open(self, left_pico: int) -> None:
        await asyncio.to_thread(self._change, lambda _: opened(left_pico))

    async def exchange(
        self, holder: str, *, back_pico: int, least_pico: int, parts: int, last: bool, number: int
    ) -> BudgetGrant:
        def change(state: State) -> BudgetGrant:
            return exchange(state, holder, back_pico, least_pico, parts, number, last=last)

        return await asyncio.to_thread(self._change, change)

    async def reclaim(self, holder: str, spent_pico: int) -> None:
        await asyncio.to_thread(self._change, lambda state: state.reclaim(holder, spent_pico))

    async def holders(self) -> list[str]:
        return await asyncio.to_thread(self._change, lambda state: list(state.open))

    async def close(self) -> None:
        """Nothing is held open."""

    def _change(self, change: Any) -> Any:
        try:
            with FileLock(f"{self._path}.lock", timeout=LOCK_S):
                state = State.of(json.loads(self._path.read_bytes())) if self._path.exists() else opened(0)
                result = change(state)
                kept = result if isinstance(result, State) else state
                staged = self._path.with_suffix(".new")
                staged.write_text(json.dumps(kept.values()))
                staged.replace(self._path)
                return result
        except (OSError, Timeout) as error:
            raise StoreError(f"{self._path}: {error}") from error
