"""The rows of a table that lie in a period, batch by batch, with the day each one counts on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from mavi_tasks.costs.arrow_columns import Ints, Mask, day_cutter, instants
from mavi_tasks.costs.sources import Period, Source, batches, table

ATTEMPT_COLUMNS: Final = (
    "run_id",
    "model",
    "outcome",
    "started_at",
    "finished_at",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "exposure_usd",
)


@dataclass(frozen=True, slots=True)
class DatedBatch:
    """Rows of one table; `ended_us` is when each ended (or began), `days` its day in the period's zone."""

    rows: pa.RecordBatch
    ended_us: Ints
    days: Ints


def scan(source: Source, name: str, columns: Sequence[str], period: Period) -> Iterator[DatedBatch]:
    """The rows of the table `name` on the days of the period; nothing when the table is empty.

    `columns` must hold started_at and finished_at. Batches without a row are left out.
    """
    found = table(source, name)
    cut = day_cutter(period.tz)
    for rows in batches(found, columns, period) if found is not None else ():
        ended_us = instants(rows["finished_at"], rows["started_at"])
        days = cut(ended_us)
        kept = _in_period(days, period)
        if kept is not None:
            rows, ended_us, days = rows.filter(pa.array(kept)), ended_us[kept], days[kept]
        if rows.num_rows:
            yield DatedBatch(rows, ended_us, days)


def _in_period(days: Ints, period: Period) -> Mask | None:
    """Which rows lie in the period; None when all do."""
    if period.since is None and period.until is None:
        return None
    since = period.since.toordinal() if period.since else 0
    until = period.until.toordinal() if period.until else 10**9
    kept: Mask = (days >= since) & (days <= until)
    return None if kept.all() else kept
