"""Answers to other texts of a job's prompts than those it has now: what a changed prompt asks once more.

A text goes by `prompt_hash`; rows of versions of mavi that did not note it are no other text.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mavi_tasks.planning.target import ModelTarget
from mavi_tasks.schema import ResultStatus
from mavi_tasks.storage import tables
from mavi_tasks.storage.current_rows import all_rows, read_journal

Hashes = npt.NDArray[np.int64]

_NONE: Final[Hashes] = np.empty(0, np.int64)
_FEW_COLUMNS: Final = ("gateway", "prompt_id", "model", tables.VERSION)  # those of few distinct values


class OtherTexts:
    """Items and prompts of one model, each known by a 64-bit hash, so that a million of them fit.

    answered: those with an answer to another text. hidden: those whose row that counts (recency.py) is to
    another text, so that it hides an answer to the text of now.
    """

    def __init__(self, answered: Hashes = _NONE, hidden: Hashes = _NONE) -> None:
        self._answered, self._hidden = np.sort(answered), np.sort(hidden)

    def answered(self, item_id: str, prompt_id: str) -> bool:
        return _holds(self._answered, item_id, prompt_id)

    def hides(self, item_id: str, prompt_id: str) -> bool:
        return _holds(self._hidden, item_id, prompt_id)


def read(root: Path, gateway: str, targets: Sequence[ModelTarget]) -> Mapping[str, OtherTexts]:
    """By model; a dataset that is absent has none."""
    none = {target.model: OtherTexts() for target in targets}
    if not (root / "results").is_dir():
        return none
    texts = targets[0].prompt_hashes  # of the job, the same for all its models
    journal = read_journal(root)
    few = all_rows(root, _FEW_COLUMNS, journal)
    if not pc.any(_to_others(few, gateway, texts)).as_py():
        return none
    rows = all_rows(root, tables.ORDER_COLUMNS, journal)
    counting = tables.latest_of(rows).filter(pc.field("status") != ResultStatus.SKIPPED)
    answered = rows.filter(pc.field("status") == ResultStatus.ANSWERED)
    one, other = (
        _by_model(table.filter(_to_others(table, gateway, texts))) for table in (answered, counting)
    )
    return {model: OtherTexts(one.get(model, _NONE), other.get(model, _NONE)) for model in none}


def _to_others(rows: pa.Table, gateway: str, texts: Mapping[str, str]) -> pa.ChunkedArray:
    """Which rows of this gateway are to a known other text of one of these prompts (texts: by prompt_id)."""
    prompt_id, version = (rows[name].cast("string") for name in ("prompt_id", tables.VERSION))
    pairs = pc.binary_join_element_wise(prompt_id, version, " ")  # null where the text is not known
    now = pa.array([f"{name} {text}" for name, text in texts.items()])
    mine = pc.is_in(prompt_id, value_set=pa.array(list(texts)))
    here = pc.fill_null(pc.equal(rows["gateway"].cast("string"), gateway), False)
    known = pc.and_(pc.is_valid(pairs), pc.invert(pc.is_in(pairs, value_set=now)))
    return pc.and_(pc.and_(mine, here), known)


def _by_model(rows: pa.Table) -> dict[str, Hashes]:
    models = rows["model"].cast("string")
    found = {}
    for model in pc.unique(models).to_pylist():
        names = [rows[name].filter(pc.equal(models, model)).to_pylist() for name in ("item_id", "prompt_id")]
        found[model] = np.fromiter(map(hash, zip(*names, strict=True)), np.int64)
    return found


def _holds(hashes: Hashes, item_id: str, prompt_id: str) -> bool:
    if not len(hashes):
        return False
    looked_for = hash((item_id, prompt_id))  # Python's own: it lives as long as this process
    place = int(np.searchsorted(hashes, looked_for))
    return place < len(hashes) and bool(hashes[place] == looked_for)
