"""The items a cascade's next step must ask: those its models have not settled, as a manifest."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mavi_tasks.compare import field_labels, match_rules
from mavi_tasks.compare import sheet as read
from mavi_tasks.compare.pairwise import same_answer
from mavi_tasks.compare.sheet import Unit
from mavi_tasks.compare.statistics import Bools
from mavi_tasks.errors import InputError

OWN_PROMPT = "row"  # the prompt_id of a prompt that came with its item


def open_items(
    dirs: Sequence[Path],
    models: Sequence[str],
    *,
    below: Sequence[float] = (),
    fields: Mapping[str, str] | None = None,
) -> tuple[Unit, ...]:
    """Return the items that all `models` have and have not settled.

    Several models settle an item when two of them agree; one settles it by answering. With `below` (one
    number per
    model) a model settles an item when its own `confidence` is not below its number. Raises InputError
    when a model is not in the datasets or the numbers are not one per model.
    """
    sheet = read.sheet(dirs)
    if unknown := [name for name in models if name not in sheet.models]:
        raise InputError(f"model {unknown[0]!r}: has no results here, only {', '.join(sheet.models)}")
    if below and len(below) != len(models):
        raise InputError(f"give one confidence per model: {len(models)} models, {len(below)} numbers")
    at = [sheet.models.index(name) for name in models]
    labels = field_labels.read(sheet, match_rules.declared(fields or {}))
    settled = np.zeros(len(sheet.units), bool)
    for one in _settling(at, below, labels, sheet):
        settled |= one
    still = sheet.asked[at].all(axis=0) & ~settled
    return tuple(sheet.units[unit] for unit in np.flatnonzero(still).tolist())


def _settling(
    at: Sequence[int], below: Sequence[float], labels: field_labels.Labels, sheet: read.Sheet
) -> list[Bools]:
    if below:
        return [labels.confidence[model] >= limit for model, limit in zip(at, below, strict=True)]
    if len(at) == 1:
        return [sheet.answered[at[0]]]
    return [same_answer(labels, a, b) for rank, a in enumerate(at) for b in at[rank + 1 :]]


def write_manifest(units: Sequence[Unit], path: Path) -> int:
    """Write items as a JSONL manifest with the default columns; return how many there are.

    An item with several prompts is written once.
    """
    rows = {unit.item_id: _row(unit) for unit in units}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.values()), encoding="utf-8"
    )
    return len(rows)


def _row(unit: Unit) -> dict[str, str]:
    own = unit.prompt if unit.prompt_id == OWN_PROMPT else None
    values = {"item_id": unit.item_id, "media_url": unit.media_uri, "prompt": own, "truth": unit.truth}
    return {name: value for name, value in values.items() if value is not None}
