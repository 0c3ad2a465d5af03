"""What is fixed about a run from its start: job, endpoint, dataset, prices, targets, clocks."""

import json
import platform
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mavi_tasks.common.clock import Clock, MonotonicClock
from mavi_tasks.common.money import pico
from mavi_tasks.common.version import __version__
from mavi_tasks.errors import InputError
from mavi_tasks.job import Job
from mavi_tasks.job.endpoint import Endpoint
from mavi_tasks.media import MediaOptions
from mavi_tasks.planning import spool
from mavi_tasks.planning.target import ModelTarget, targets
from mavi_tasks.pricing.book import PriceBook, load_prices
from mavi_tasks.storage import run_progress
from mavi_tasks.storage.publish import Dataset, segment_header
from mavi_tasks.storage.s3 import folder, mirror_of


@dataclass(frozen=True, slots=True)
class RunContext:
    """A run's fixed facts. Instants are microseconds since the epoch.

    scratch: a private folder for the plan of a run that is not sent; None = the plan lies in the dataset.
    """

    job: Job
    endpoint: Endpoint
    run_id: str
    dataset: Dataset
    prices: PriceBook
    targets: tuple[ModelTarget, ...]
    options: MediaOptions
    clock: Clock
    wall_us: Callable[[], int]
    started_us: int
    scratch: Path | None = None

    @property
    def plan_folder(self) -> Path:
        """Where the plan's requests are spooled."""
        return (self.scratch or self.dataset.root / "_plan") / self.run_id

    @property
    def budget_pico(self) -> int | None:
        """The job's budget; None = no limit."""
        return pico(self.job.budget_usd) if self.job.budget_usd is not None else None

    def target(self, model: str) -> ModelTarget:
        return next(target for target in self.targets if target.model == model)

    def writer(self, worker: str) -> str:
        """The name of a worker's journal segments."""
        return f"{self.run_id}-{worker}"

    def facts(self, planned: str | None) -> dict[str, Any]:
        """The run's row before its figures. planned: the forecast, as JSON."""
        return {
            "run_id": self.run_id,
            "job": self.job.name,
            "job_hash": self.job.hash(),
            "gateway": self.endpoint.identity,
            "models": [target.model for target in self.targets],
            "started_at": self.started_us,
            "budget_pico": self.budget_pico,
            "mavi_version": __version__,
            "python_version": platform.python_version(),
            "extra": self._with_schema(planned),
        }

    def _with_schema(self, planned: str | None) -> str | None:
        """The forecast, and the answer schema beside it: corrections are entered by its form."""
        if self.job.answer_schema is None:
            return planned
        return json.dumps(json.loads(planned or "{}") | {"answer_schema": self.job.answer_schema})

    def journal_header(self, planned: str | None) -> dict[str, Any]:
        """What each of the run's journal segments begins with."""
        return segment_header(self.facts(planned), self.job.answer_schema, self.job.keep_columns)


def open_context(
    job: Job,
    endpoint: Endpoint,
    *,
    run_id: str | None = None,
    started_us: int | None = None,
    options: MediaOptions | None = None,
    clock: Clock | None = None,
    dry: bool = False,
    scratch: Path | None = None,
) -> RunContext:
    """A run on a dataset folder that can be written, with what dead runs left behind published.

    dry: the dataset is left as it is, or absent; scratch: where the plan is spooled then. run_id, started_us:
    of a run that another process began; None = a new run. Raises InputError (no price for a
    budget) or StorageError.
    """
    wall_us = wall_clock()
    began_us = wall_us() if started_us is None else started_us
    prices = load_prices(job.extra_prices())
    options = options or job.media
    today = datetime.fromtimestamp(began_us / 1e6, UTC).date()
    found = targets(job, prices, gateway=endpoint.identity, options=options, on=today)
    _check_budget(job, found, prices)
    return RunContext(
        job=job,
        endpoint=endpoint,
        run_id=run_id or new_run_id(began_us),
        dataset=_dataset(job, dry=dry),
        prices=prices,
        targets=tuple(found),
        options=options,
        clock=clock or MonotonicClock(),
        wall_us=wall_us,
        started_us=began_us,
        scratch=scratch,
    )


def _dataset(job: Job, *, dry: bool) -> Dataset:
    dataset = Dataset(folder(job.output))
    mirror = mirror_of(dataset.root)
    if mirror is not None:
        mirror.check(writes=not dry)
    if not dry:
        dataset.create()
        dataset.publish()
        spool.sweep(dataset.root / "_plan")
        run_progress.sweep(dataset.root)
    return dataset


def _check_budget(job: Job, found: Sequence[ModelTarget], prices: PriceBook) -> None:
    """A budget can only be kept when every call has a price."""
    unpriced = [target.model for target in found if target.price is None]
    if job.budget_usd is not None and unpriced:
        raise InputError(
            [f"budget_usd: cannot be kept, because {prices.hint(model) or model}" for model in unpriced]
        )


def new_run_id(started_us: int) -> str:
    """Sorts by time; the random tail keeps runs of one second apart."""
    return f"{datetime.fromtimestamp(started_us / 1e6, UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def wall_clock() -> Callable[[], int]:
    """Microseconds since the epoch; never going back in this process, whatever is done to the clock."""
    offset = time.time_ns() - time.monotonic_ns()
    return lambda: (time.monotonic_ns() + offset) // 1000
