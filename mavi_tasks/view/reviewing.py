"""Reviews as the page sees and makes them."""

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mavi_tasks.errors import InputError
from mavi_tasks.labels import read_answer
from mavi_tasks.schema import ReviewVerdict
from mavi_tasks.storage import reviews
from mavi_tasks.storage.reviews import Review
from mavi_tasks.view import forms
from mavi_tasks.view.index import Bools
from mavi_tasks.view.values import parsed

ACTIONS: Final = ("take", "correct", "flag", "reject", "undo")
MOST_CHARS: Final = {"note": 10_000, "reviewer": 200}
MOST_VALUE_CHARS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Reviewed:
    """The reviews of a dataset at one moment. history: every row, undone ones included."""

    history: pa.Table
    current: pa.Table

    def marks(self, item_ids: pa.StringArray) -> tuple[Bools, Bools]:
        """For each item whether it has a review, and whether one of them is unsure."""
        unsure = pc.equal(self.current["verdict"].cast("string"), ReviewVerdict.UNSURE)
        return _among(item_ids, self.current), _among(item_ids, self.current.filter(unsure))

    def of_item(self, item_id: str) -> list[dict[str, Any]]:
        """The reviews of one item that count, the newest last."""
        rows = self.current.filter(pc.equal(self.current["item_id"], item_id)).to_pylist()
        return [_json(row) for row in rows]

    def newest_ids(self, item_id: str) -> dict[str, str]:
        """By prompt the review that came last, undos included: what the page has seen."""
        rows = self.history.filter(pc.equal(self.history["item_id"], item_id)).to_pylist()
        return {row["prompt_id"]: row["review_id"] for row in rows}


class ReviewBook:
    """The reviews of one dataset, read again when its files changed."""

    def __init__(self, root: Path, reviewer: str) -> None:
        self._root, self._reviewer = root, reviewer
        self._seen: object = None
        self._found: Reviewed | None = None
        self._guard = threading.Lock()

    def read(self) -> Reviewed:
        with self._guard:
            now = _files(self._root)
            if self._found is None or now != self._seen:
                history = reviews.history(self._root)
                self._found, self._seen = Reviewed(history, reviews.current_of(history)), now
            return self._found

    def act(
        self,
        given: Mapping[str, Any],
        row: Mapping[str, Any],
        form: Sequence[Mapping[str, Any]],
        schema: Mapping[str, Any] | None,
    ) -> Review:
        """Write what a page asks for; row: of results, whose answer is taken or corrected.

        Raises InputError when it cannot be meant, reviews.Conflict when the item was reviewed meanwhile.
        """
        action = given.get("action")
        if action not in ACTIONS:
            raise InputError(f"action must be one of {', '.join(ACTIONS)}")
        known = {
            "item_id": row["item_id"], "prompt_id": row["prompt_id"], "media_sha256": row["media_sha256"],
            "note": _text(given, "note"), "reviewer": _text(given, "reviewer") or self._reviewer,
        }  # fmt: skip
        seen = given.get("seen")
        if seen is not None and not isinstance(seen, str):
            raise InputError("seen must be a review_id or null")
        made = _MADE[action](known, given, row, form, schema)
        return reviews.append(self._root, [made], seen={made.question: seen})[0]


def _take(
    known: dict[str, Any], given: Mapping[str, Any], row: Mapping[str, Any], form: Any, schema: Any
) -> Review:
    value = parsed(row["answer"], row["answer_json"])
    if value is None:
        raise InputError(f"{row['model']} has no answer for this item")
    text = json.dumps(value, ensure_ascii=False)
    return Review(**known, verdict=ReviewVerdict.ACCEPTED, value_json=text, chosen_model=row["model"])


def _correct(
    known: dict[str, Any], given: Mapping[str, Any], row: Mapping[str, Any], form: Any, schema: Any
) -> Review:
    text = json.dumps(forms.value_of(form, given.get("value")), ensure_ascii=False)
    if len(text) > MOST_VALUE_CHARS:
        raise InputError(f"a value has at most {MOST_VALUE_CHARS:,} characters")
    if schema is not None and (problem := read_answer(text, schema).error) is not None:
        raise InputError(f"this does not fit the answer schema: {problem}")
    return Review(**known, verdict=ReviewVerdict.CORRECTED, value_json=text)


def _flag(
    known: dict[str, Any], given: Mapping[str, Any], row: Mapping[str, Any], form: Any, schema: Any
) -> Review:
    return Review(**known, verdict=ReviewVerdict.UNSURE)


def _reject(
    known: dict[str, Any], given: Mapping[str, Any], row: Mapping[str, Any], form: Any, schema: Any
) -> Review:
    return Review(**known, verdict=ReviewVerdict.REJECTED)


def _undo(
    known: dict[str, Any], given: Mapping[str, Any], row: Mapping[str, Any], form: Any, schema: Any
) -> Review:
    retracts = given.get("retracts")
    if not isinstance(retracts, str):
        raise InputError("retracts must be a review_id")
    return Review(**{**known, "note": None}, retracts=retracts)


_MADE: Final = {"take": _take, "correct": _correct, "flag": _flag, "reject": _reject, "undo": _undo}


def _text(given: Mapping[str, Any], name: str) -> str | None:
    text = given.get(name)
    if text is None or text == "":
        return None
    if not isinstance(text, str) or len(text) > MOST_CHARS[name]:
        raise InputError(f"{name} must be a text of at most {MOST_CHARS[name]:,} characters")
    return text


def _among(item_ids: pa.StringArray, rows: pa.Table) -> Bools:
    found = pc.is_in(item_ids, value_set=pc.unique(rows["item_id"]).cast(item_ids.type))
    return np.asarray(found.to_numpy(zero_copy_only=False), np.bool_)


def _json(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("review_id", "prompt_id", "field", "value_json", "verdict", "chosen_model", "note", "reviewer")
    return {**{name: row[name] for name in names}, "reviewed_at": row["reviewed_at"].isoformat()}


def _files(root: Path) -> object:
    paths = [*(root / "reviews").rglob("*.parquet"), *(root / "_journal").glob("*.review*")]
    found = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError:  # published meanwhile
            continue
        found.append((str(path), stat.st_size, stat.st_mtime_ns))
    return sorted(found)
