"""What a dataset holds, and how far a run is, from Python."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mavi_tasks.api.location import location_of
from mavi_tasks.schema import ResultStatus

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from mavi_tasks.api.results import RunResult
    from mavi_tasks.storage.status import Status


@dataclass(frozen=True, slots=True, repr=False)
class DatasetStatus:
    """A dataset as it was when it was read.

    report: counts and money by model, reasons by code, runs that go on; `to_json()` has all of it.
    """

    report: "Status"
    folder: "Path"

    def __repr__(self) -> str:
        numbers = {str(name): self.report.statuses[name] for name in ResultStatus}
        counts = ", ".join(f"{number:,} {name}" for name, number in numbers.items() if number)
        return f"<DatasetStatus {counts or 'no rows'}>"

    @property
    def running(self) -> bool:
        """Some run goes on."""
        return self.report.running

    @property
    def waiting(self) -> int | None:
        """Requests that the last run of each job has not sent yet; None = not known."""
        return self.report.waiting

    @property
    def failed(self) -> "pd.DataFrame":
        """The rows that failed or do not fit the answer schema, with their code and message."""
        from mavi_tasks.api.results import frame
        from mavi_tasks.storage.status import failures

        return frame(failures(self.folder))

    def to_json(self) -> dict[str, Any]:
        """What `mavi status --json` prints; dollars are text, so that no digit is lost."""
        return self.report.to_json()


def status(dataset: "str | os.PathLike[str] | RunResult") -> DatasetStatus:
    """Return what a dataset holds by model and by code, what waits, and how far the runs are that go on.

    dataset: a folder, an s3:// URL or the result of `run`. Raises InputError when it is not a dataset.
    """
    from mavi_tasks.storage.s3 import existing
    from mavi_tasks.storage.status import of

    folder = existing(location_of(dataset))
    return DatasetStatus(of(folder), folder)
