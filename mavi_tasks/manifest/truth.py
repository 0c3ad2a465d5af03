"""Expected answers for a comparison, read when it is made: nothing is asked again for them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from mavi_tasks import manifest
from mavi_tasks.compare.truth import Truth
from mavi_tasks.errors import InputError, MaviError
from mavi_tasks.manifest.columns import Columns
from mavi_tasks.storage.tables import open_table

COLUMN: Final = "truth"
ITEM_ID: Final = "item_id"


def of_file(given: str) -> Truth:
    """Those of `FILE` or `FILE:COLUMN`, a manifest or any table with a column item_id.

    Without item_id the media name the items, as in a run. Raises InputError that names file, line and column.
    """
    path, column = _split(given)
    if not Path(path).is_file():
        raise InputError(f"--truth {given}: there is no file {path}")
    names = manifest.column_names(path)
    by_id = names is None or ITEM_ID in names
    columns = Columns(media=None, id=ITEM_ID, truth=column) if by_id else Columns(truth=column)
    if names is not None and column not in names:
        raise InputError(
            f"{path}:1: has no column {column!r} with the expected answers; it has {', '.join(names)}; "
            "give --truth FILE:COLUMN"
        )
    values = _read(path, columns, skip_bad=False)
    if not any(values.values()):
        raise InputError(f"{path}: column {column}: is empty in all {len(values):,} rows")
    return Truth(values, source=path)


def of_manifests(datasets: Sequence[Path]) -> Truth:
    """Those that the manifests of the datasets' jobs hold now, as far as they are tables on this machine.

    A manifest that cannot be read now is noted, and what the results say stays.
    """
    values: dict[str, str | None] = {}
    notes = []
    for written in _manifests(datasets):
        path, columns = written["path"], Columns(**written["columns"])
        try:
            if not Path(path).is_file() or not _may_hold_truth(path, columns):
                continue
            values |= _read(path, columns, skip_bad=True)
        except MaviError as problem:
            notes.append(
                f"The expected answers of the run are used: the manifest cannot be read now ({problem})"
            )
    return Truth(values, notes=tuple(notes))


def _split(given: str) -> tuple[str, str]:
    path, found, column = given.rpartition(":")
    if Path(given).is_file() or not found or not path or not column:
        return given, COLUMN
    return path, column


def _read(path: str, columns: Columns, *, skip_bad: bool) -> dict[str, str | None]:
    """The expected answer of each item."""
    return {
        item.item_id: item.truth
        for batch in manifest.read(path, columns, variables=(), skip_bad=skip_bad)
        for item in batch
    }


def _may_hold_truth(path: str, columns: Columns) -> bool:
    """A manifest without the column keeps what the results say."""
    names = manifest.column_names(path)
    return names is None or columns.truth in names


def _manifests(datasets: Sequence[Path]) -> list[dict[str, Any]]:
    """The manifest of the last run of each job, the latest run last; runs of older versions name none."""
    found: dict[tuple[Path, str], dict[str, Any]] = {}
    for root in datasets:
        rows = open_table(root, "runs").to_table(columns=["job", "started_at", "extra"]).to_pylist()
        for row in sorted(rows, key=lambda row: str(row["started_at"] or "")):
            written = json.loads(row["extra"] or "{}").get("manifest")
            if written is not None:
                found.pop((root, row["job"]), None)
                found[root, row["job"]] = written
    return list(found.values())
