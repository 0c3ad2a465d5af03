"""Rows that ask what another row already has an answer to: the answer is copied, and nothing is paid.

The copy has a key of its own (`plan.shared_key`), cost 0, and says in `extra` whose answer it is.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from mavi_tasks.planning.planner import Plan, shared_key
from mavi_tasks.planning.target import ModelTarget, Request
from mavi_tasks.storage import publish as store
from mavi_tasks.storage.journal import Journal
from mavi_tasks.storage.publish import COLUMNS, Dataset
from mavi_tasks.storage.request_locks import RequestLocks

CHUNK = 5_000
_COPIED = (
    "answer", "answer_json", "choices", "finish_reason", "response_id", "provider_model", "endpoint",
    "input_mode", "frames_sent", "media_bytes", "width", "height", "duration_s", "media_sha256",
)  # fmt: skip


def answers(
    dataset: Dataset,
    plan: Plan,
    targets: Sequence[ModelTarget],
    journal: Journal,
    claims: RequestLocks,
    wall_us: Callable[[], int],
) -> None:
    """Write the rows of a plan that share an answer; those whose answer did not come stay unsent."""
    journal.roll()
    dataset.publish()
    for target in targets:
        for chunk in _chunks(plan.read_shared(target)):
            found = _answers(dataset, {request.key for request in chunk})
            for request in chunk:
                if request.key not in found:
                    continue
                row = _row(target, request, found[request.key], wall_us())
                if _written(row, journal, claims):
                    plan.all_counters[target.model].answered += 1
                else:
                    plan.all_counters[target.model].already_answered += 1


def _written(row: list[Any], journal: Journal, claims: RequestLocks) -> bool:
    """Write a shared row; False when another run is at it, or was faster."""
    key = row[COLUMNS.results.index("request_key")]
    if not claims.take(key):
        return False
    try:
        if claims.answered_elsewhere(key):
            return False
        journal.record(None, row)
        return True
    finally:
        claims.release(key)


def _chunks(requests: Iterable[Request]) -> Iterator[list[Request]]:
    rest = iter(requests)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


def _answers(dataset: Dataset, keys: set[str]) -> dict[str, Mapping[str, Any]]:
    wanted = pc.field("request_key").isin(pa.array(sorted(keys))) & (pc.field("status") == "answered")
    table = store.open_table(dataset.root, "results").to_table(
        columns=["request_key", *_COPIED], filter=wanted
    )
    found = {row["request_key"]: row for row in table.to_pylist()}
    return found if len(found) == len(keys) else found | _unpublished(dataset, keys - found.keys())


def _unpublished(dataset: Dataset, keys: set[str]) -> dict[str, Mapping[str, Any]]:
    """Answers that another run got just now: they are still in its journal."""
    found: dict[str, Mapping[str, Any]] = {}
    for _, row in store.unpublished(dataset.root):
        if row.request_key in keys and row.status == "answered":
            found[row.request_key] = row.by_name()
    return found


def _row(target: ModelTarget, request: Request, owner: Mapping[str, Any], at_us: int) -> list[Any]:
    media = request.media_items[0] if request.media_items else None
    values = {
        **{name: owner[name] for name in _COPIED},
        "request_key": shared_key(request),
        "item_id": request.item_id,
        "prompt_id": request.prompt_id,
        "model": target.model,
        "family": target.family.name,
        "media_uri": media.uri if media else None,
        "media_kind": media.kind if media else "text",
        "prompt": request.prompt,
        "status": "answered",
        "input_tokens": 0,
        "output_tokens": 0,
        "total_tokens": 0,
        "input_cost_usd": 0,
        "output_cost_usd": 0,
        "cost_usd": 0,
        "attempts": 0,
        "finished_at": at_us,
        "truth": request.truth,
        "extra": orjson.dumps({"shared_from": request.key}).decode(),
    }
    return [values.get(name) for name in COLUMNS.results]
