"""What a page's URL asks for, and the items that it finds."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import pyarrow.compute as pc

from mavi_tasks.errors import InputError
from mavi_tasks.view import analysis as analysing
from mavi_tasks.view.analysis import WRONG, Analysis
from mavi_tasks.view.columns import MISSING
from mavi_tasks.view.index import Bools, Ints

SORTS: Final = ("", "spread", "cost", "latency")
MOST_SEARCHED: Final = 50_000  # different values of a field


@dataclass(frozen=True, slots=True)
class Query:
    """One view. Empty texts ask for nothing; row filters hold for one and the same row.

    field, value: rows whose answer has this short text in this field. below: confidence under it. run: rows
    of this run, superseded ones included. before: with run, what changed since that run. q: a text in the
    id, the media's name or a field's value.
    """

    q: str = ""
    model: str = ""
    prompt: str = ""
    field: str = ""
    value: str = ""
    status: str = ""
    code: str = ""
    run: str = ""
    before: str = ""
    below: str = ""
    differ: str = ""
    wrong: str = ""
    unreviewed: str = ""
    flagged: str = ""
    sort: str = ""
    page: str = ""

    @classmethod
    def of(cls, given: Mapping[str, str]) -> "Query":
        """From a URL's parameters. Raises InputError for what cannot be meant."""
        known = {one.name for one in fields(cls)}
        query = cls(**{name: text for name, text in given.items() if name in known})
        if query.sort not in SORTS:
            raise InputError(f"sort {query.sort[:40]!r} must be {' or '.join(SORTS[1:])}")
        query.page_number, query.sure_below  # noqa: B018 - raise for what is no number
        return query

    @property
    def page_number(self) -> int:
        """From 0."""
        if not self.page:
            return 0
        if self.page.isascii() and self.page.isdigit() and len(self.page) < 10:
            return int(self.page)
        raise InputError(f"page {self.page[:40]!r} must be a whole number")

    @property
    def sure_below(self) -> float | None:
        if not self.below:
            return None
        try:
            number = float(self.below)
        except ValueError:
            number = float("nan")
        if 0 <= number <= 1:
            return number
        raise InputError(f"below {self.below[:40]!r} must be a number from 0 to 1")


def items(analysis: Analysis, query: Query, reviewed: Bools, flagged: Bools) -> Ints:
    """The items that a query finds, in its order. reviewed, flagged: for each item."""
    index = analysis.index
    rows = _rows(analysis, query)
    kept = np.zeros(index.items, np.bool_)
    kept[index.item[rows]] = True
    if query.differ:
        kept &= analysis.spread > 0
    if query.unreviewed:
        kept &= ~reviewed
    if query.flagged:
        kept &= flagged
    for word in query.q.split():
        kept &= _with_text(analysis, word)
    order = {"spread": "by_spread", "cost": "by_cost", "latency": "by_latency"}.get(query.sort)
    if order is None:
        return np.flatnonzero(kept).astype(np.int32)
    ordered: Ints = getattr(analysis, order)
    return ordered[kept[ordered]]


def _rows(analysis: Analysis, query: Query) -> Bools:
    index = analysis.index
    rows = index.words["run_id"].equal(query.run) if query.run else index.current.copy()
    if query.run and query.before:
        rows &= analysing.changed(analysis, query.before, query.run)[0]
    for name, text in (
        ("model", query.model),
        ("prompt_id", query.prompt),
        ("status", query.status),
        ("error_code", query.code),
    ):
        if text:
            rows &= index.words[name].equal(text)
    if query.field:
        words = index.fields.get(query.field)
        if words is None:
            return np.zeros(index.rows, np.bool_)
        rows &= words.equal(query.value) if query.value else words.codes != MISSING
    if query.wrong:
        rows &= analysis.right == WRONG
    if query.sure_below is not None:
        rows &= analysis.confidence < query.sure_below
    return rows


def _with_text(analysis: Analysis, word: str) -> Bools:
    """Items with this text, whatever its case."""
    index = analysis.index
    found: Bools = pc.match_substring(index.item_ids, word, ignore_case=True).to_numpy(zero_copy_only=False)
    uris = pc.fill_null(pc.match_substring(index.media_uri, word, ignore_case=True), False)
    found = found | uris.to_numpy(zero_copy_only=False)
    for words in (*index.fields.values(), index.words["truth"]):
        if len(words.values) > MOST_SEARCHED:
            continue
        here = pc.match_substring(words.values, word, ignore_case=True).to_numpy(zero_copy_only=False)
        if here.any():
            found[index.item[words.matching(here) & index.current]] = True
    return found
