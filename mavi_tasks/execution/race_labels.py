"""`race-labels.csv` in a dataset: the items that a race asks people about, and what they have said."""

import csv
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from mavi_tasks import manifest
from mavi_tasks.common.spreadsheet import cell_text, text_cell
from mavi_tasks.compare.sheet import Unit
from mavi_tasks.manifest import Problems
from mavi_tasks.storage.filesystem import storage_errors

FILE: Final = "race-labels.csv"
COLUMNS: Final = ("item_id", "prompt_id", "truth")

Labels = Mapping[tuple[str, str], str]  # by item and prompt


def read_labels(path: Path) -> Labels:
    """Return the labels of a CSV file; rows without a truth are left out. Raises InputError."""
    problems = Problems()
    rows = [tuple(map(cell_text, cells)) for _, cells in manifest.cells(path, COLUMNS, problems)]
    problems.raise_any()
    return {(item, prompt): truth.strip() for item, prompt, truth in rows if truth.strip()}


def write_labels(path: Path, known: Labels, waiting: Collection[Unit]) -> None:
    """Write what is to be labelled, first, and what is labelled already."""
    half = path.with_suffix(".csv.new")
    with storage_errors(path.parent, "write to"):
        with half.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow([*COLUMNS, "media_url"])
            for unit in waiting:
                media = text_cell(unit.media_uri or "")
                rows.writerow([*map(text_cell, (unit.item_id, unit.prompt_id)), "", media])
            for (item, prompt), truth in known.items():
                rows.writerow([*map(text_cell, (item, prompt, truth)), ""])
        half.replace(path)
