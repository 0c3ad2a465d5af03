"""`--only`: which rows a run asks, and no others: failed ones, skipped ones, or those that a file names.

The file is what `mavi status DIR --failed --to FILE.csv` writes: its columns item_id, model and prompt_id
count. A row that is selected is asked by the same rules as ever: never when it has an answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from mavi_tasks import manifest
from mavi_tasks.common.spreadsheet import cell_text
from mavi_tasks.common.suggest import nearest
from mavi_tasks.errors import InputError
from mavi_tasks.manifest import Problems
from mavi_tasks.planning.context import RunContext
from mavi_tasks.prompts.templates import ROW
from mavi_tasks.schema import ResultStatus
from mavi_tasks.storage.current_rows import current_rows

COLUMNS: Final = ("item_id", "model", "prompt_id")
# Invalid answers are paid for: with --retry-invalid a run asks them again.
STATUSES: Final[Mapping[str, tuple[str, ...]]] = {
    "failed": (ResultStatus.FAILED, ResultStatus.INVALID),
    "skipped": (ResultStatus.SKIPPED,),
}

Unit = tuple[str, str]  # item_id, prompt_id


class Selection:
    """Rows by model, and which of them the manifest turned out to have.

    lines: where the file names each row, for messages; empty when there is no file.
    """

    def __init__(
        self, name: str, units: Mapping[str, set[Unit]], lines: Mapping[tuple[str, Unit], int]
    ) -> None:
        self.name, self._units, self._lines = name, units, lines
        self._items = {item_id for found in units.values() for item_id, _ in found}
        self._seen: dict[str, set[Unit]] = {model: set() for model in units}
        self.notes: list[str] = []

    def has_item(self, item_id: str) -> bool:
        """Whether any model is to be asked about this item."""
        return item_id in self._items

    def takes(self, model: str, unit: Unit) -> bool:
        """Whether this row is asked; remembers that the manifest has it."""
        if unit not in self._units.get(model, ()):
            return False
        self._seen[model].add(unit)
        return True

    def finish(self) -> None:
        """After the whole manifest: note what it lacks. Raises InputError when that is all of a file."""
        total = sum(map(len, self._units.values()))
        missing = [
            (model, unit) for model, units in self._units.items() for unit in units - self._seen[model]
        ]
        if not total:
            self.notes.append(f"--only {self.name}: there are no such rows, so nothing is asked")
        if not missing:
            return
        first = min(missing, key=lambda row: (self._lines.get(row, 0), row))
        line = f":{self._lines[first]}" if first in self._lines else ""
        text = f"item_id {first[1][0]!r} with prompt_id {first[1][1]!r} is not in what the job reads now"
        if len(missing) == total and self._lines:
            raise InputError(f"{self.name}{line}: {text}, nor is any other row of this file")
        self.notes.append(
            f"--only {self.name}: {len(missing):,} of {total:,} rows are not asked; the first{line}: {text}"
        )


Only = str | Selection | None  # how --only names rows, or these rows; None = all


def select(only: str, context: RunContext) -> Selection:
    """What `--only` means for a run: failed, skipped or the path of a CSV file. Raises InputError."""
    if only in STATUSES:
        return _by_status(only, context)
    if not Path(only).is_file():
        raise InputError(
            f"--only {only}: is neither failed, skipped nor a file; "
            "mavi status DIR --failed --to FILE.csv writes one"
        )
    return _by_file(only, context)


def _by_status(only: str, context: RunContext) -> Selection:
    units: dict[str, set[Unit]] = {target.model: set() for target in context.targets}
    others: set[str] = set()
    for row in _rows(context, STATUSES[only]):
        if row["gateway"] != context.endpoint.identity:
            continue
        if row["model"] in units:
            units[row["model"]].add((row["item_id"], row["prompt_id"]))
        else:
            others.add(row["model"])
    made = Selection(only, units, {})
    if others:
        made.notes.append(
            f"--only {only}: rows of {', '.join(sorted(others))} are not asked: not a model of this job"
        )
    return made


def _rows(context: RunContext, statuses: Sequence[str]) -> Iterator[Mapping[str, str]]:
    root = context.dataset.root
    if (root / "results").is_dir():
        yield from current_rows(root, (*COLUMNS, "gateway"), statuses).to_pylist()


def _by_file(only: str, context: RunContext) -> Selection:
    models = [target.model for target in context.targets]
    known = {"model": models, "prompt_id": [*context.job.prompts, ROW]}
    units: dict[str, set[Unit]] = {model: set() for model in models}
    lines: dict[tuple[str, Unit], int] = {}
    problems = Problems()
    for line, cells in manifest.cells(only, COLUMNS, problems):
        row = dict(zip(COLUMNS, map(cell_text, cells), strict=True))
        wrong = _wrong(row, known)
        if wrong is not None:
            problems.add(f"{only}:{line}: {wrong}")
            continue
        unit = (row["item_id"], row["prompt_id"])
        units[row["model"]].add(unit)
        lines.setdefault((row["model"], unit), line)
    problems.raise_any()
    if not lines:
        raise InputError(f"{only}: has a header but no rows")
    return Selection(only, units, lines)


def _wrong(row: Mapping[str, str], known: Mapping[str, Sequence[str]]) -> str | None:
    """What is wrong with a row of the file, by its column; None when nothing is."""
    empty = next((name for name, value in row.items() if not value), None)
    if empty is not None:
        return f"column {empty}: is empty"
    for name, values in known.items():
        if row[name] not in values:
            near = nearest(row[name], values)
            hint = f"did you mean {near!r}?" if near is not None else f"it has {', '.join(values)}"
            return f"column {name}: this job has no {row[name]!r}; {hint}"
    return None
