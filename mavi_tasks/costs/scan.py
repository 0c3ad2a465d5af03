"""A table of a dataset, batch by batch, with the instant and the day of every row in the period."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from mavi_tasks.costs import sources
from mavi_tasks.costs.arrow_columns import Ints, Mask, day_cutter, instants


def scan(
    source: sources.Source, table: str, columns: Sequence[str], period: sources.Period
) -> Iterator[tuple[Any, Ints, Ints]]:
    """(batch, microseconds since 1970, day ordinals) of the rows in the period; no empty batch.

    A row counts on the day it ended, or began when its end is not known.
    """
    found = sources.table(source, table)
    if found is None:
        return
    cut = day_cutter(period.tz)
    for batch in sources.batches(found, columns, period):
        instant_us = instants(batch["finished_at"], batch["started_at"])
        days = cut(instant_us)
        kept = _in_period(days, period)
        if kept is not None:
            batch, instant_us, days = batch.filter(pa.array(kept)), instant_us[kept], days[kept]
        if batch.num_rows:
            yield batch, instant_us, days


def _in_period(days: Ints, period: sources.Period) -> Mask | None:
    """Which rows lie in the period; None when all do."""
    if period.since is None and period.until is None:
        return None
    since = period.since.toordinal() if period.since else 0
    until = period.until.toordinal() if period.until else 10**9
    kept: Mask = (days >= since) & (days <= until)
    return None if kept.all() else kept
