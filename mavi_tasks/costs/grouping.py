"""Rows of a batch sorted into cells by small numbers, without sorting when the cells are few."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mavi_tasks.costs.arrow_columns import DictionaryColumn, Ints


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
