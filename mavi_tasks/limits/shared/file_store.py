"""Leases and dollars in files, for the processes of one machine: no server, no set-up.

One small file for each limit, under a lock; its number is an instant of the monotonic clock, which all
processes of a machine have in common. After a restart the clock is younger: an instant further ahead than a
lease can be is ignored.
"""

import asyncio
import getpass
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from mavi_tasks.limits.shared.budget_ledger import BudgetGrant, State, exchange, opened
from mavi_tasks.limits.shared.rate_leases import StoreError, reserve

LOCK_S: Final = 10.0
MAX_AHEAD_S: Final = 3600.0


def machine_folder() -> Path:
    """The folder that all runs of this user on this machine use."""
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    return Path(tempfile.gettempdir()) / f"mavi-limits-{user}"


class FileRateLeases:
    """Leases for the processes of one machine."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or machine_folder()

    async def lease(self, limit: str, spacing_s: float) -> float:
        return await asyncio.to_thread(self._lease, limit, spacing_s)

    async def close(self) -> None:
        """Nothing is held open."""

    def _lease(self, limit: str, spacing_s: float) -> float:
        path = self._folder / limit
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(f"{path}.lock", timeout=LOCK_S):
                now_s = time.monotonic()
                free_at_s = _number(path)
                if free_at_s - now_s > MAX_AHEAD_S:
                    free_at_s = now_s
                start_s, free_at_s = reserve(free_at_s, now_s, spacing_s)
                path.write_text(repr(free_at_s))
        except (OSError, Timeout) as error:
            raise StoreError(f"{path}: {error}") from error
        return start_s - now_s


def _number(path: Path) -> float:
    try:
        return float(path.read_text())
    except (FileNotFoundError, ValueError):  # never taken, or cut short by a loss of power
        return 0.0


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
