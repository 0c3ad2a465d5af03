"""What every reader returns: raw rows in batches, with their line numbers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mavi_tasks.manifest.resolve import Base

# Line numbers, and as many rows: sequences in the order of `names`, or dicts when the names are None; a
# BadRow stands for a row that could not be read.
Batch = tuple[Sequence[int], Sequence[Any]]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that its reader could not read; `why` reads after the file and the line."""

    why: str


@dataclass(frozen=True, slots=True)
class Rows:
    """A manifest, opened. `batches()` reads it from the start, each time it is called.

    listing: the rows are nothing but media, so that `columns.media` does not apply.
    numbered: rows have line numbers; else a message names their media.
    narrowed: the same rows with only these columns, the others unread; None = the format reads them all.
    """

    names: tuple[str, ...] | None
    batches: Callable[[], Iterator[Batch]]
    base: Base
    name: str
    listing: bool = False
    numbered: bool = True
    narrowed: "Callable[[tuple[str, ...]], Rows] | None" = None
