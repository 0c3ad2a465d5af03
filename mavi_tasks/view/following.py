"""Datasets as they are now: an index that is built once, and again when files have changed."""

import asyncio
import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from mavi_tasks.errors import MaviError
from mavi_tasks.view import filters, forms, index, media, sources
from mavi_tasks.view.analysis import Analysis
from mavi_tasks.view.filters import Query
from mavi_tasks.view.index import Bools, Index, Ints
from mavi_tasks.view.reviewing import ReviewBook

LOOK_S: Final = 1.0
AT_REST: Final = 4  # a large dataset is indexed for at most a fifth of the time
QUERIES_KEPT: Final = 16


@dataclass(frozen=True)
class Snapshot:
    """One index and what was found out about it. version: goes up by one each time."""

    index: Index
    version: int
    books: Mapping[Path, ReviewBook]
    _once: dict[str, dict[str, Any]] = field(default_factory=dict)
    _marks: list[tuple[object, tuple[Bools, Bools]]] = field(default_factory=list)
    _found: OrderedDict[tuple[object, ...], Ints] = field(default_factory=OrderedDict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def analysis(self) -> Analysis:
        return Analysis(self.index)

    @cached_property
    def schemas(self) -> dict[Path, Mapping[str, Any] | None]:
        """The answer schema of each dataset."""
        return {root: forms.newest_schema(root) for root in self.index.roots}

    @cached_property
    def models(self) -> list[str | None]:
        """In the order of their keys."""
        return [*sorted(self.index.words["model"].values.to_pylist()), None]

    @cached_property
    def origins(self) -> list[str]:
        """Where remote media are."""
        return media.origins_in(self.index.media_uri)

    @cached_property
    def bucket_origins(self) -> frozenset[str]:
        """Where presigned links to media lead."""
        return media.bucket_origins(self.index.media_uri)

    def once(self, name: str, make: "Callable[[Snapshot], dict[str, Any]]") -> dict[str, Any]:
        """What `make` says of this snapshot, made once."""
        if name not in self._once:
            self._once[name] = make(self)
        return self._once[name]

    def form(self, root: Path) -> forms.Form:
        """How an answer of this dataset is corrected."""
        schema = self.schemas[root]
        return forms.of_schema(schema) if schema is not None else forms.of_answers(self.analysis)

    def root_of(self, row: int) -> Path:
        """The dataset that a row belongs to."""
        return self.index.sources.place(row)[0].root

    def marks(self) -> tuple[Bools, Bools]:
        """For each item whether it is reviewed, and whether it is flagged."""
        reads = tuple(book.read() for book in self.books.values())
        for known, marks in self._marks:
            if known == tuple(map(id, reads)):
                return marks
        reviewed = np.zeros(self.index.items, np.bool_)
        flagged = reviewed.copy()
        for read in reads:
            here = read.marks(self.index.item_ids)
            reviewed |= here[0]
            flagged |= here[1]
        self._marks[:] = [(tuple(map(id, reads)), (reviewed, flagged))]
        return reviewed, flagged

    def items(self, query: Query) -> Ints:
        """The items that a query finds; the last queries are kept."""
        reads = tuple(id(book.read()) for book in self.books.values())
        whole = (*(getattr(query, name) for name in Query.__slots__ if name != "page"), reads)
        with self._guard:
            if whole in self._found:
                self._found.move_to_end(whole)
                return self._found[whole]
        found = filters.items(self.analysis, query, *self.marks())
        with self._guard:
            self._found[whole] = found
            while len(self._found) > QUERIES_KEPT:
                self._found.popitem(last=False)
        return found


class Datasets:
    """The newest snapshot of some datasets. problem: why there is no newer one; None when there is none.

    done, total: rows that are read of those that are to be read now.
    """

    def __init__(self, roots: Sequence[Path], reviewer: str) -> None:
        self.roots = tuple(roots)
        self.snapshot: Snapshot | None = None
        self.problem: str | None = None
        self.done = self.total = 0
        self._books = {root: ReviewBook(root, reviewer) for root in roots}
        self._seen: object = None

    async def follow(self) -> None:
        """Until it is cancelled."""
        while True:
            began_s = time.monotonic()
            try:
                await asyncio.to_thread(self.refresh)
                self.problem = None
            except (MaviError, OSError) as error:
                self.problem = str(error)
            await asyncio.sleep(max(LOOK_S, AT_REST * (time.monotonic() - began_s)))

    def refresh(self) -> None:
        """Index what has changed. Raises InputError or StorageError."""
        now = sources.fingerprint(self.roots)
        if self.snapshot is not None and now == self._seen:
            return
        before = self.snapshot.index if self.snapshot is not None else None
        made = index.build(self.roots, before, self._progress)
        snapshot = Snapshot(made, self.snapshot.version + 1 if self.snapshot else 1, self._books)
        snapshot.analysis.warm()
        snapshot.bucket_origins  # noqa: B018 - looked up here, not while a reply is waited for
        self.snapshot, self._seen = snapshot, now
        with contextlib.suppress(NotImplementedError):
            pa.default_memory_pool().release_unused()

    def _progress(self, done: int, total: int) -> None:
        self.done, self.total = done, total
