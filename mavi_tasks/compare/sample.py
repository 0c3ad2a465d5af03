"""Which items to label: where the models differ a label tells them apart, elsewhere it only checks them.

Where all models answer alike their scores are equal, whatever is right, so those items need no label to tell
the models apart. Each item gets an inclusion probability, which the estimates (few_labels.py) divide by:
labels of a hand-picked list have none, and say nothing of the other items.

    differences    nine in ten labels evenly over the items the models differ on, the rest elsewhere
    accuracy       more where the vote is split, some everywhere: probability as
                   sqrt(max q (1 - q) + .02), q a model's share of the votes, over a floor of 10 %

A sample has exactly the size asked for. Each item has a fixed random number, so that with the same seed a
larger sample holds the smaller one (order sampling: Rosen 1997, Pareto).
"""

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mavi_tasks.common.spreadsheet import text_cell
from mavi_tasks.compare import field_labels, labelled, match_rules
from mavi_tasks.compare import sheet as read
from mavi_tasks.compare.labelled import Labelled
from mavi_tasks.compare.sheet import Unit
from mavi_tasks.compare.statistics import MISSING, Bools, Floats, Ints
from mavi_tasks.errors import InputError

AIMS = ("differences", "accuracy")
ELSEWHERE = 0.1  # of the labels, on items all models agree on
FLOOR = 0.1  # of the probability, the same for every item
COLUMNS = ("item_id", "prompt_id", "media_url", "question", "truth", "inclusion_probability")


@dataclass(frozen=True, slots=True)
class Chosen:
    """An item to be labelled, by its place, and how likely it was to be chosen (0 to 1)."""

    unit: int
    inclusion_probability: float


def sample_of(
    dirs: Sequence[Path],
    size: int,
    *,
    aim: str = "differences",
    seed: int = 0,
    fields: Mapping[str, str] | None = None,
    truth: Labelled | None = None,
) -> tuple[tuple[Unit, ...], tuple[Chosen, ...]]:
    """Return the items of datasets and which of them to label, in the order to label them.

    `fields` declares how answers are matched, as in a comparison. Labels in `truth` are kept in the items, so
    that a larger sample of the same seed asks only for what is new. Raises InputError as a comparison does.
    """
    sheet = read.sheet(dirs)
    if truth is not None:
        sheet = labelled.apply(sheet, truth)
    codes = field_labels.read(sheet, match_rules.declared(fields or {})).codes
    return sheet.units, draw(sheet.units, codes, size, aim=aim, seed=seed)


def differ(codes: Ints) -> Bools:
    """Tell, per item, whether the models gave more than one answer; no answer is one of its own."""
    several: Bools = (codes != codes[:1]).any(0)
    return several


def draw(
    units: Sequence[Unit], codes: Ints, size: int, *, aim: str = "differences", seed: int = 0
) -> tuple[Chosen, ...]:
    """Return the items to label, where the models differ first; all items when `size` is no less than those.

    `codes` [models, items] are the answers (MISSING: none). Raises InputError on a size below 1.
    """
    if size < 1:
        raise InputError(f"a sample of {size} labels: ask for 1 or more")
    split = differ(codes)
    probability = inclusion(codes, split, min(size, len(units)), aim)
    fixed = np.array([_random_number(unit, seed) for unit in units])
    chosen: list[int] = []
    for stratum in (split, ~split):
        at = np.flatnonzero(stratum)
        pi = probability[at]
        count = round(float(pi.sum()))
        with np.errstate(divide="ignore"):
            order = np.where(pi >= 1, 0.0, fixed[at] / (1 - fixed[at]) * (1 - pi) / pi)
        chosen += at[np.argsort(order, kind="stable")[:count]].tolist()
    chosen.sort(key=lambda unit: float(fixed[unit]))  # whoever stops half-way has labelled a random half
    return tuple(Chosen(unit, float(probability[unit])) for unit in chosen)


def inclusion(codes: Ints, split: Bools, size: int, aim: str) -> Floats:
    """Return each item's inclusion probability; they add up to a whole number where the models differ."""
    weight = np.ones(codes.shape[1])
    many, few = int(split.sum()), int((~split).sum())
    if aim == "accuracy":
        weight = np.sqrt(_uncertainty(codes) + 0.02)
        even = (1 - FLOOR) * weight / weight.sum() + FLOOR / len(weight)
        there = min(many, size, max(1, round(size * float(even[split].sum())))) if many else 0
    else:
        there = min(many, size - int(ELSEWHERE * size))
    elsewhere = min(few, size - there)
    there = min(many, size - elsewhere)
    out = np.zeros(len(weight))
    for stratum, count in ((split, there), (~split, elsewhere)):
        out[stratum] = _probabilities(weight[stratum], count)
    return out


def votes(codes: Ints) -> Floats:
    """Return, per model and item, the share of the answering models that gave this model's answer."""
    same = np.zeros(codes.shape)
    for one in codes:
        same += (codes == one) & (one != MISSING)
    shares: Floats = same / np.maximum((codes != MISSING).sum(0), 1)
    return shares


def _uncertainty(codes: Ints) -> Floats:
    q = votes(codes)
    most: Floats = (q * (1 - q)).max(0)
    return most


def _probabilities(weight: Floats, count: int) -> Floats:
    """Probabilities in proportion to the weights over a floor, none above 1, that add up to `count`."""
    if count in (0, len(weight)):
        return np.full(len(weight), float(count > 0))
    mixed = (1 - FLOOR) * weight / weight.sum() + FLOOR / len(weight)
    certain = np.zeros(len(weight), bool)
    while True:
        left = count - int(certain.sum())
        free = ~certain
        out = np.where(certain, 1.0, left * mixed / max(float(mixed[free].sum()), 1e-300))
        over = free & (out > 1)
        if not over.any():
            return np.minimum(out, 1.0)
        certain |= over


def _random_number(unit: Unit, seed: int) -> float:
    """A number in (0, 1) that belongs to the item and the seed."""
    digest = hashlib.sha256(f"{seed}|{unit.item_id}|{unit.prompt_id}".encode()).digest()
    return (int.from_bytes(digest[:6], "big") + 0.5) / 2**48


def write_csv(units: Sequence[Unit], chosen: Sequence[Chosen], path: Path) -> int:
    """Write the sample as a table whose `truth` is to be filled in; return the number of its rows.

    A truth that an item has already is kept. Texts that a spreadsheet would run are defused.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for one in chosen:
            unit = units[one.unit]
            texts = (unit.item_id, unit.prompt_id, unit.media_uri, unit.prompt, unit.truth)
            writer.writerow([*(text_cell(text or "") for text in texts), repr(one.inclusion_probability)])
    return len(chosen)
