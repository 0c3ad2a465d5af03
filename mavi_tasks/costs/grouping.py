"""Rows of a batch sorted into cells by small numbers, without sorting when the cells are few."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mavi_tasks.costs.arrow_columns import DictionaryColumn, Ints, Mask
from mavi_tasks.costs.sources import Period


@dataclass(frozen=True, slots=True)
class Grid:
    """`cell[row]` is a place in `combos` (day, then the global number of each part) and in `counts`."""

    cell: Ints
    combos: list[tuple[int, ...]]
    counts: list[int]


def grid_of(days: Ints, parts: Sequence[DictionaryColumn]) -> Grid:
    """The occupied cells of a batch."""
    first = int(days.min())
    sizes = [int(days.max()) - first + 1, *(len(part.globals) for part in parts)]
    key = days - first
    for part, size in zip(parts, sizes[1:], strict=True):
        key = key * size + part.local
    span = int(np.prod([float(size) for size in sizes]))
    if span <= max(4 * len(key), 4096):
        hits = np.bincount(key, minlength=span)
        occupied = np.flatnonzero(hits)
        lookup = np.zeros(span, dtype=np.int64)
        lookup[occupied] = np.arange(len(occupied))
        cell, counts = lookup[key], hits[occupied]
    else:
        occupied, cell, counts = np.unique(key, return_inverse=True, return_counts=True)
    places = np.unravel_index(occupied, sizes)
    columns = [(places[0] + first).tolist()]
    columns += [np.array(part.globals)[place].tolist() for part, place in zip(parts, places[1:], strict=True)]
    return Grid(cell, list(zip(*columns, strict=True)), counts.tolist())


def in_period(days: Ints, period: Period) -> Mask | None:
    """Which rows lie in the period; None when all do."""
    if period.since is None and period.until is None:
        return None
    since = period.since.toordinal() if period.since else 0
    until = period.until.toordinal() if period.until else 10**9
    kept: Mask = (days >= since) & (days <= until)
    return None if kept.all() else kept


def where_kept(batch: Any, kept: Mask) -> Any:
    """The kept rows of a batch."""
    return batch.filter(pa.array(kept))
