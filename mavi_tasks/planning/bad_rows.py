"""The rows of a manifest that no model can be asked, and when they are too many to go on.

A row is bad when it cannot be read, its media is not there, empty or damaged, its id is another row's, or a
prompt cannot be made of it. What only some models cannot take is not a matter of the row.
"""

from collections import Counter
from typing import Final

from mavi_tasks.errors import InputError
from mavi_tasks.job import Job
from mavi_tasks.manifest import Item, Problems
from mavi_tasks.media import Refusal

FIRST_ROWS: Final = 1000  # the share is looked at after these, and at the end
FEW: Final = 10  # so many bad rows are let through whatever their share is, unless they are all there is


class BadRows:
    """Counts them; raises InputError for what the job does not allow.

    problems: takes the bad rows of a job that stops at any; its owner raises. selected: the rows are a part
    of the manifest, so that their share says nothing.
    """

    def __init__(self, job: Job, problems: Problems, *, selected: bool = False) -> None:
        self.skip = job.on_bad_row == "skip"
        self._most = 1 if selected else job.max_bad_share
        self._problems = Problems() if self.skip else problems
        self._rows = 0
        self._codes: Counter[str] = Counter()

    def add(self, item: Item, why: Refusal | None) -> None:
        """One more row, and why it cannot be asked, if so."""
        self._rows += 1
        if why is not None:
            self._codes[why.code] += 1
            self._problems.add(f"{item.where}: {why.reason}")
        if self._rows == FIRST_ROWS:
            self._check(f"the first {FIRST_ROWS:,}")

    def finish(self) -> None:
        """After the last row."""
        self._check(f"{self._rows:,}")

    def _check(self, rows: str) -> None:
        bad = self._codes.total()
        if not self.skip or bad <= self._most * self._rows or (bad < FEW and bad < self._rows):
            return
        codes = ", ".join(f"{times:,} {code}" for code, times in self._codes.most_common())
        raise InputError(
            [
                *self._problems.error().problems,
                f"{bad:,} of {rows} rows cannot be asked ({codes}), more than max_bad_share {self._most:g} "
                "allows: correct them, or raise it (1 skips them all)",
            ]
        )
