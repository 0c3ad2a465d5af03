"""Rows whose request is the very same as another row's: the answer is copied, and nothing is paid.

The copy has a key of its own (`planner.shared_key`), cost 0, and names the copied row in `extra`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from mavi_tasks.execution.rows import COPIED, copied_row
from mavi_tasks.planning.planner import Plan, shared_key
from mavi_tasks.planning.target import ModelTarget, Request
from mavi_tasks.storage import tables
from mavi_tasks.storage.journal import Journal
from mavi_tasks.storage.publish import Dataset
from mavi_tasks.storage.request_locks import RequestLocks

CHUNK: Final = 5_000


def copy_answers(
    dataset: Dataset,
    plan: Plan,
    targets: Sequence[ModelTarget],
    journal: Journal,
    locks: RequestLocks,
    wall_us: Callable[[], int],
) -> None:
    """Write the rows of a plan whose answer another row has; a row whose answer did not come stays unsent."""
    journal.roll()
    dataset.publish()
    for target in targets:
        counters = plan.all_counters[target.model]
        for chunk in _chunks(plan.read_shared(target)):
            found = _answers(dataset, {request.key for request in chunk})
            for request in chunk:
                source = found.get(request.key)
                if source is None:
                    continue
                if _record(request, copied_row(target, request, source, wall_us()), journal, locks):
                    counters.answered += 1
                else:
                    counters.already_answered += 1


def _record(request: Request, row: Sequence[Any], journal: Journal, locks: RequestLocks) -> bool:
    """Write a copied row; False when another run is writing it, or has written it."""
    key = shared_key(request)
    if not locks.take(key):
        return False
    try:
        if locks.answered_elsewhere(key):
            return False
        journal.record(None, row)
        return True
    finally:
        locks.release(key)


def _chunks(requests: Iterable[Request]) -> Iterator[list[Request]]:
    rest = iter(requests)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


def _answers(dataset: Dataset, keys: set[str]) -> dict[str, Mapping[str, Any]]:
    """The answered rows of these request keys: from the parts, else from the journal of another run."""
    answered = pc.field("request_key").isin(pa.array(sorted(keys))) & (pc.field("status") == "answered")
    table = tables.open_table(dataset.root, "results").to_table(
        columns=["request_key", *COPIED], filter=answered
    )
    found: dict[str, Mapping[str, Any]] = {row["request_key"]: row for row in table.to_pylist()}
    if len(found) < len(keys):
        for _, row in tables.unpublished(dataset.root):
            if row.request_key in keys and row.request_key not in found and row.status == "answered":
                found[row.request_key] = row.by_name()
    return found
