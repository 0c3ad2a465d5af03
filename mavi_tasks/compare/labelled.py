"""Labels from a table beside the dataset: an expected answer per item, and how likely it was to be chosen.

    item_id,prompt_id,truth,inclusion_probability
    img-17,label,cat,0.33

`prompt_id` may be missing or empty: then the label counts for every prompt of the item. A row without a
truth is one that nobody has labelled yet. `inclusion_probability` comes from the draw (sample.py).
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mavi_tasks.common.spreadsheet import cell_text
from mavi_tasks.compare.sheet import Sheet, Unit
from mavi_tasks.errors import InputError

PROBABILITY = "inclusion_probability"


@dataclass(frozen=True, slots=True)
class Label:
    """An item's expected answer; `probability` (0 to 1) is None when it is not known how it was chosen."""

    truth: str
    probability: float | None


Labelled = Mapping[tuple[str, str], Label]  # by item and prompt; prompt "": all prompts of the item


def read_csv(path: Path) -> Labelled:
    """Return the labels of a CSV file. Raises InputError of all its problems, with their lines."""
    try:
        file = path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    with file:
        reader = csv.DictReader(file)
        missing = [name for name in ("item_id", "truth") if name not in (reader.fieldnames or ())]
        if missing:
            raise InputError(f"{path}:1: the column {missing[0]!r} is missing; expected item_id and truth")
        found: dict[tuple[str, str], Label] = {}
        problems: list[str] = []
        for row in reader:
            try:
                key, label = _label(row)
            except ValueError as error:
                problems.append(f"{path}:{reader.line_num}: {error}")
                continue
            if label is not None:
                found[key] = label
    if problems:
        raise InputError(problems)
    return found


def _label(row: Mapping[str, str | None]) -> tuple[tuple[str, str], Label | None]:
    item, prompt, truth = (cell_text(row.get(name) or "") for name in ("item_id", "prompt_id", "truth"))
    if not item:
        raise ValueError("item_id is empty")
    text = (row.get(PROBABILITY) or "").strip()
    return (item, prompt), Label(truth, _probability(text)) if truth.strip() else None


def _probability(text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise ValueError(f"{PROBABILITY} {text!r} must be a number above 0, at most 1")
    return value


def apply(sheet: Sheet, labelled: Labelled) -> Sheet:
    """Return the sheet with these labels as its only expected answers.

    Raises InputError when no label belongs to an item of the sheet.
    """
    units = tuple(_with(unit, labelled) for unit in sheet.units)
    if labelled and not any(unit.truth for unit in units):
        item, _ = next(iter(labelled))
        raise InputError(
            f"no label belongs to an item of these datasets: {item!r} is not one of their item_id, such as "
            f"{sheet.units[0].item_id!r}"
        )
    return replace(sheet, units=units)


def _with(unit: Unit, labelled: Labelled) -> Unit:
    label = labelled.get((unit.item_id, unit.prompt_id)) or labelled.get((unit.item_id, ""))
    if label is None:
        return replace(unit, truth=None, inclusion_probability=None)
    return replace(unit, truth=label.truth, inclusion_probability=label.probability)
