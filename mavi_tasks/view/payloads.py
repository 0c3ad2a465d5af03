"""What the pages get: plain values for JSON. Texts go as they are; the page never reads them as HTML."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from mavi_tasks.storage import run_progress
from mavi_tasks.view import analysis as analysing
from mavi_tasks.view import media, values
from mavi_tasks.view.analysis import UNKNOWN
from mavi_tasks.view.filters import Query
from mavi_tasks.view.following import Datasets, Snapshot
from mavi_tasks.view.index import WORDS

PAGE: Final = 24  # items
MOST_ROWS: Final = 32  # of an item, on a page of the grid
MOST_CHARS: Final = 20_000  # of one text; there is a link to all of it
MOST_FACETS: Final = 200
TEXTS: Final = ("answer", "answer_json", "prompt", "error_message", "truth", "extra")
NUMBERS: Final = (
    "run_id", "gateway", "model", "prompt_id", "status", "error_code", "http_status", "finish_reason",
    "media_uri", "media_kind", "input_mode", "frames_sent", "media_bytes", "width", "height", "duration_s",
    "input_tokens", "output_tokens", "total_tokens", "cached_tokens", "reasoning_tokens", "cost_usd",
    "attempts", "latency_s", "wait_s", "finished_at", "provider_model",
)  # fmt: skip
READ: Final = tuple(dict.fromkeys(("item_id", "media_sha256", *NUMBERS, *TEXTS)))


def state(datasets: Datasets) -> dict[str, Any]:
    """How far reading is, and the runs that go on: their spend, and when they will be done."""
    snapshot, live = datasets.snapshot, []
    for root in datasets.roots:
        for run in run_progress.read(root):
            spent = sum((Decimal(model.cost_usd) for model in run.models), Decimal(0))
            live.append(
                {
                    "run_id": run.run_id, "job": run.job, "state": run.state, "done": run.done,
                    "requests": run.requests, "rate_per_s": round(run.rate_per_s, 2),
                    "cost_usd": f"{spent:f}", "done_at_us": run.done_at_us,
                }
            )  # fmt: skip
    return {
        "version": snapshot.version if snapshot is not None else 0,
        "rows": snapshot.index.rows if snapshot is not None else 0,
        "items": snapshot.index.items if snapshot is not None else 0,
        "reading": {"done": datasets.done, "total": datasets.total} if snapshot is None else None,
        "problem": datasets.problem,
        "live": live,
    }


def facets(snapshot: Snapshot, allowed: Sequence[str]) -> dict[str, Any]:
    """What can be asked for: models, prompts, fields and their values, codes, runs. allowed: origins."""
    reviewed, flagged = snapshot.marks()
    return {
        **snapshot.once("facets", _facets),
        "reviewed": int(reviewed.sum()),
        "flagged": int(flagged.sum()),
        "origins": [{"origin": one, "allowed": one in allowed} for one in snapshot.origins],
    }


def _facets(snapshot: Snapshot) -> dict[str, Any]:
    """What no review and no user changes."""
    index, analysis = snapshot.index, snapshot.analysis
    asked = [name for name in WORDS if name != "truth"]
    counted = {name: index.words[name].counts(index.current)[:MOST_FACETS] for name in asked}
    counted["run_id"] = sorted(index.words["run_id"].counts(index.item >= 0), reverse=True)[:MOST_FACETS]
    return {
        **counted,
        "fields": [
            {
                "name": name,
                "compared": name in analysis.compared,
                "values": [
                    [text, values.shown(text), rows]
                    for text, rows in words.counts(index.current)[:MOST_FACETS]
                    if text != values.FREE_TEXT
                ],
            }
            for name, words in index.fields.items()
        ],
        "has_truth": bool(len(index.words["truth"].values)),
        "has_confidence": any(name.casefold() == values.CONFIDENCE for name in index.fields),
        "items": index.items,
        "simulated": any(name == "sandbox" for name, _ in counted["gateway"]),
        "dirs": [str(root) for root in index.roots],
    }


def page(snapshot: Snapshot, query: Query) -> dict[str, Any]:
    """One page of the grid."""
    found = snapshot.items(query)
    pages = max(1, -(-len(found) // PAGE))
    at = min(query.page_number, pages - 1)
    reviewed, flagged = snapshot.marks()
    here = found[at * PAGE : (at + 1) * PAGE].tolist()
    texts = _free_texts(snapshot, here) if not snapshot.analysis.compared else {}
    return {
        "version": snapshot.version,
        "total": len(found),
        "page": at,
        "pages": pages,
        "items": [
            {
                **_media(snapshot, item),
                "id": snapshot.index.item_ids[item].as_py(),
                "spread": round(float(snapshot.analysis.spread[item]), 3),
                "reviewed": bool(reviewed[item]),
                "flagged": bool(flagged[item]),
                "rows": [_cell(snapshot, row, texts) for row in _shown_rows(snapshot, item, query)],
            }
            for item in here
        ],
    }


def item(snapshot: Snapshot, number: int, query: Query) -> dict[str, Any]:
    """Everything about one item, and its neighbours under a query."""
    index = snapshot.index
    item_id = index.item_ids[number].as_py()
    rows = _in_order(snapshot, index.rows_of(number))
    pairs = _pairs(snapshot, query, rows)
    root = snapshot.root_of(rows[-1])
    reviews = snapshot.books[root].read()
    whole = index.sources.rows([*rows, *pairs.values()], READ)
    return {
        **_media(snapshot, number),
        **_neighbours(snapshot, number, query),
        "version": snapshot.version,
        "id": item_id,
        "rows": [_row(snapshot, row, whole[row]) for row in rows],
        "changed": [list(pair) for pair in pairs.items()],
        "form": snapshot.form(root),
        "reviews": reviews.of_item(item_id),
        "seen": reviews.newest_ids(item_id),
    }


def _neighbours(snapshot: Snapshot, number: int, query: Query) -> dict[str, Any]:
    found = snapshot.items(query)
    reviewed, _ = snapshot.marks()
    place = (found == number).nonzero()[0]
    at = int(place[0]) if len(place) else -1
    open_ = _next_open(found, reviewed, at)
    ids = snapshot.index.item_ids
    return {
        "at": at,
        "total": len(found),
        "previous": ids[int(found[at - 1])].as_py() if at > 0 else None,
        "next": ids[int(found[at + 1])].as_py() if at + 1 < len(found) else None,
        "next_unreviewed": ids[int(open_[0])].as_py() if open_ else None,
        "reviewed": int(reviewed[found].sum()),
    }


def _next_open(found: Any, reviewed: Any, at: int) -> list[int]:
    """The next item without a review after a place, from the start again at the end."""
    free = (~reviewed[found]).nonzero()[0]
    later = free[free > at]
    chosen = later if len(later) else free[free != at]
    return [int(found[chosen[0]])] if len(chosen) else []


def _shown_rows(snapshot: Snapshot, number: int, query: Query) -> list[int]:
    index = snapshot.index
    rows = index.rows_of(number)
    if query.run:
        chosen = index.words["run_id"].equal(query.run)
        return [row for row in rows if chosen[row]][:MOST_ROWS]
    return _in_order(snapshot, [row for row in rows if index.current[row]])[:MOST_ROWS]


def _in_order(snapshot: Snapshot, rows: list[int]) -> list[int]:
    """By prompt and model, the same for all items: a model has its place and its key."""
    words = snapshot.index.words
    return sorted(rows, key=lambda row: (words["prompt_id"].text(row) or "", words["model"].text(row) or ""))


def _cell(snapshot: Snapshot, row: int, texts: Mapping[int, str]) -> dict[str, Any]:
    index, analysis = snapshot.index, snapshot.analysis
    right = int(analysis.right[row])
    said = {
        name: values.shown(words.text(row))
        for name, words in index.fields.items()
        if name in analysis.compared and words.codes[row] >= 0
    }
    return {
        "model": index.words["model"].text(row),
        "prompt": index.words["prompt_id"].text(row),
        "status": index.words["status"].text(row),
        "code": index.words["error_code"].text(row),
        "values": said or ({values.WHOLE: texts[row]} if row in texts else {}),
        "right": None if right == UNKNOWN else right,
    }


def _free_texts(snapshot: Snapshot, items: Sequence[int]) -> dict[int, str]:
    """The beginnings of answers that are free text: those are not in the index."""
    index = snapshot.index
    rows = [row for one in items for row in index.rows_of(one) if index.current[row] and index.answered[row]]
    found = index.sources.rows(rows, ["answer"])
    return {row: values.shown(values.short(one["answer"] or "")) or "" for row, one in found.items()}


def _media(snapshot: Snapshot, number: int) -> dict[str, Any]:
    uri = snapshot.index.media_uri[number].as_py()
    rows = snapshot.index.rows_of(number)
    where = media.place(uri)
    return {
        "place": where,
        "kind": snapshot.index.words["media_kind"].text(rows[-1]) if rows else None,
        "url": uri if where == "remote" else None,
        "origin": media.origin_of(uri) if where == "remote" else None,
        "uri": uri if uri is None or len(uri) < 1000 else uri[:1000] + "…",
    }


def _row(snapshot: Snapshot, row: int, found: Mapping[str, Any]) -> dict[str, Any]:
    right = int(snapshot.analysis.right[row])
    value = values.parsed(found["answer"], found["answer_json"])
    fields = value if isinstance(value, dict) and value else {} if value is None else {values.WHOLE: value}
    return {
        "row": row,
        "current": bool(snapshot.index.current[row]),
        "number": snapshot.models.index(found["model"]) + 1,
        "right": None if right == UNKNOWN else right,
        **{name: _plain(found[name]) for name in NUMBERS},
        **{name: _cut(found[name]) for name in TEXTS},
        "fields": {str(name)[:200]: _cut(values.text_of(one)) for name, one in list(fields.items())[:200]},
        "compared": {
            name: int(codes[row]) for name, codes in snapshot.analysis.compared.items() if codes[row] >= 0
        },
        "prefill": value if len(json.dumps(value)) <= MOST_CHARS else None,
    }


def _pairs(snapshot: Snapshot, query: Query, rows: Sequence[int]) -> dict[int, int]:
    """Under a query that compares two runs: rows of the second one, and the rows they differ from."""
    if not query.before or not query.run:
        return {}
    changed = analysing.changed(snapshot.analysis, query.before, query.run)[1]
    return {row: changed[row] for row in rows if row in changed}


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat() if isinstance(value, datetime) else value


def _cut(text: str | None) -> dict[str, Any] | None:
    """A text, or its beginning and how long it is."""
    if text is None:
        return None
    return {"text": text[:MOST_CHARS], "length": len(text)}
