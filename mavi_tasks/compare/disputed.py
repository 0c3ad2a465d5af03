"""The items that separate the models best: where they are wrong together, or disagree."""

from dataclasses import dataclass

import numpy as np

from mavi_tasks.compare.agreement import disagreement
from mavi_tasks.compare.field_labels import Labels
from mavi_tasks.compare.sheet import Sheet
from mavi_tasks.compare.statistics import MISSING

LISTED = 20


@dataclass(frozen=True, slots=True)
class Disputed:
    """One item with each model's answer; None where a model gave no usable answer."""

    item_id: str
    prompt_id: str
    media_uri: str | None
    truth: str | None
    disagreement: float
    labels: dict[str, str | None]


def worst_first(sheet: Sheet, labels: Labels) -> list[int]:
    """Order items: most models wrong, then most disagreement, then most unanswered, then as they came."""
    asked = sheet.asked
    split = disagreement(labels.codes, len(labels.names))
    wrong = (~labels.right & asked & labels.judged).sum(0) / np.maximum(asked.sum(0), 1)
    unanswered = (asked & ~sheet.answered).sum(0)
    order: list[int] = np.lexsort((np.arange(len(split)), -unanswered, -split, -wrong)).tolist()
    return order


def most(sheet: Sheet, labels: Labels) -> tuple[Disputed, ...]:
    """Return the items the models disagree on most."""
    split = disagreement(labels.codes, len(labels.names))
    order = np.argsort(-split, kind="stable")[:LISTED]
    return tuple(_disputed(sheet, labels, at, float(split[at])) for at in order.tolist() if split[at] > 0)


def _disputed(sheet: Sheet, labels: Labels, at: int, split: float) -> Disputed:
    unit = sheet.units[at]
    answers = {
        name: labels.names[code] if (code := labels.codes[model, at]) != MISSING else None
        for model, name in enumerate(sheet.models)
    }
    return Disputed(unit.item_id, unit.prompt_id, unit.media_uri, unit.truth, split, answers)
