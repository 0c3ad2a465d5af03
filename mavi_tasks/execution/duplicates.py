"""Rows whose request is the very same as another row's: the answer is copied, and nothing is paid.

When that one was skipped, so are they.

The copy has a key of its own (`copy_key`), cost 0, and names the copied row in `extra`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from mavi_tasks.execution.rows import COPIED, copied_row
from mavi_tasks.planning.context import RunContext
from mavi_tasks.planning.request import Request, copy_key
from mavi_tasks.planning.spool import Plan
from mavi_tasks.schema import ResultStatus
from mavi_tasks.storage import tables
from mavi_tasks.storage.journal import Journal
from mavi_tasks.storage.request_locks import RequestLocks

CHUNK: Final = 5_000


def copy_answers(context: RunContext, plan: Plan, journal: Journal, locks: RequestLocks) -> None:
    """Write the rows of a plan whose answer another row has; when that one failed, they stay unsent."""
    journal.roll()
    context.dataset.publish()
    for target in context.targets:
        counters = plan.all_counters[target.model]
        for chunk in _chunks(plan.read_copies(target)):
            found = _sources(context, {request.key for request in chunk})
            for request in chunk:
                source = found.get(request.key)
                if source is None:
                    continue
                row = copied_row(target, request, source, context.wall_us())
                if not _record(request, row, journal, locks):
                    counters.already_answered += 1
                else:
                    counters.count(source["status"], source["error_code"])


def _record(request: Request, row: Sequence[Any], journal: Journal, locks: RequestLocks) -> bool:
    """Write a copied row; False when another run is writing it, or has written it."""
    key = copy_key(request)
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


def _sources(context: RunContext, keys: set[str]) -> dict[str, Mapping[str, Any]]:
    """The rows of these request keys that are answered, or that this run skipped.

    From the parts, else from the journal of another run.
    """
    status, run_id = pc.field("status"), pc.field("run_id")
    ended = (status == ResultStatus.ANSWERED) | (
        (status == ResultStatus.SKIPPED) & (run_id == context.run_id)
    )
    table = tables.open_table(context.dataset.root, "results").to_table(
        columns=["request_key", *COPIED], filter=pc.field("request_key").isin(pa.array(sorted(keys))) & ended
    )
    rows = sorted(table.to_pylist(), key=lambda row: row["status"] == ResultStatus.ANSWERED)
    found: dict[str, Mapping[str, Any]] = {row["request_key"]: row for row in rows}
    if len(found) < len(keys):
        for _, row in tables.unpublished(context.dataset.root):
            if (
                row.request_key in keys
                and row.request_key not in found
                and row.status == ResultStatus.ANSWERED
            ):
                found[row.request_key] = row.by_name()
    return found
