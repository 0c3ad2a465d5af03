"""What a race sees at a look: which of its answers are right, by model, and what they cost."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mavi_tasks.compare import choice, field_labels, match_rules, scoring
from mavi_tasks.compare import sheet as read
from mavi_tasks.compare.race_decisions import without_labels
from mavi_tasks.compare.sheet import Sheet
from mavi_tasks.compare.sheet import Unit as Question
from mavi_tasks.compare.statistics import Bools, Floats, Ints
from mavi_tasks.storage import tables

Unit = tuple[str, str]  # item_id, prompt_id


@dataclass(frozen=True, slots=True)
class Scores:
    """Arrays are [models, items], models in the order asked for. A model that was not asked is not judged.

    costs: dollars an item, infinite where a price is not known. waiting: questions that the models in the
    race answer differently, and that nobody has labelled, in a race by labels.
    """

    right: Floats
    judged: Bools
    clusters: Ints
    costs: tuple[float, ...]
    waiting: tuple[Question, ...] = ()

    def accuracy(self, model: int) -> float | None:
        """Return the model's share of right answers; None when none is judged."""
        judged = self.judged[model]
        return float(self.right[model][judged].mean()) if judged.any() else None


def scores(
    root: Path,
    models: Sequence[str],
    units: Collection[Unit],
    *,
    gateway: str,
    reference: str | None,
    fields: Mapping[str, str],
    left: Sequence[str],
    labelled: Mapping[Unit, str] | None,
) -> Scores:
    """Return what the dataset's answers to these questions are worth. Answers of other gateways do not count.

    reference: the model whose answers stand in for the expected ones. fields: as for `compare`. left: who is
    in the race. labelled: what people said of some questions, in place of expected answers; None = the
    dataset has those. Where all that are left answer alike, no label is needed: see `without_labels`.
    Raises InputError when none of these questions has an answer, or a field is not in the answers.
    """
    asked = {*models, reference} - {None}
    sheet = read.from_table(rows(root, asked, units, gateway), where=str(root))
    if labelled is not None:
        sheet = replace(
            sheet,
            units=tuple(
                replace(one, truth=labelled.get((one.item_id, one.prompt_id))) for one in sheet.units
            ),
        )
    labels = field_labels.read(sheet, match_rules.declared(fields), reference)
    shape = (len(models), len(sheet.units))
    right, judged, costs = np.zeros(shape), np.zeros(shape, bool), [float("inf")] * len(models)
    present = np.zeros(shape, bool)
    for row, name in enumerate(models):
        if name not in sheet.models:
            continue
        at = sheet.models.index(name)
        right[row], judged[row] = labels.scores[at], labels.judged & sheet.asked[at]
        present[row] = sheet.asked[at]
        costs[row] = _dollars(sheet, at)
    if labelled is None:
        return Scores(right, judged, sheet.clusters, tuple(costs))
    among = [sheet.models.index(name) for name in left if name in sheet.models]
    split = choice.differing(sheet, labels, among)
    right, judged = without_labels(~split, judged, right, present)
    waiting = tuple(sheet.units[at] for at in np.flatnonzero(split & ~labels.judged))
    return Scores(right, judged, sheet.clusters, tuple(costs), waiting)


def rows(root: Path, models: Collection[str | None], units: Collection[Unit], gateway: str) -> pa.Table:
    """Return the rows that count of these models, for these questions, from this gateway."""
    table = tables.latest(root, read.COLUMNS).select(read.COLUMNS)
    kept = pc.and_(
        pc.equal(table["gateway"].cast("string"), gateway),
        pc.is_in(table["model"].cast("string"), value_set=pa.array(sorted(filter(None, models)))),
    )
    table = table.filter(kept)
    wanted = set(units)
    pairs = zip(read.strings_of(table["item_id"]), read.strings_of(table["prompt_id"]), strict=True)
    return table.filter(pa.array([pair in wanted for pair in pairs], pa.bool_()))


def _dollars(sheet: Sheet, at: int) -> float:
    total, unknown = scoring.money(sheet, at)
    asked = int(sheet.asked[at].sum())
    return float("inf") if total is None or unknown or not asked else total / asked / 1e12
