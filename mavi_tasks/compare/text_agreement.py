"""How alike free texts are, and which answer stands in the middle: agreement, never quality.

    token F1   2 x common words / (words of both), words counted as often as they stand there
    chrF       the F-score of character sequences of 1 to 6, recall counted twice (Popovic 2015,
               as sacrebleu); the mean of both directions

The consensus answer of an item is the one most like the others by chrF. Texts are compared without case.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mavi_tasks.compare.field_labels import Field, Labels
from mavi_tasks.compare.sheet import Sheet
from mavi_tasks.compare.statistics import MISSING, Estimate, Floats, proportion

MOST_PAIRS = 20_000  # pairs of texts; of more a random part of the items is compared
ORDER = 6
BETA2 = 4.0

_WORD = re.compile(r"\w+")

Grams = Sequence["Counter[str]"]


@dataclass(frozen=True, slots=True)
class Alike:
    """How like the other models' texts one model's are, 0 to 1."""

    token_f1: Estimate | None
    chrf: Estimate | None


@dataclass(frozen=True, slots=True)
class TextAgreement:
    """Agreement on a free-text field over `items`; `consensus` names the model in the middle of each item."""

    field: str
    items: int
    models: Mapping[str, Alike]
    consensus: Mapping[tuple[str, str], str]

    @property
    def most_central(self) -> Mapping[str, float]:
        """Return, per model, the share of items whose consensus answer it gave."""
        counts = Counter(self.consensus.values())
        return {name: counts[name] / max(len(self.consensus), 1) for name in self.models}


def agree(sheet: Sheet, labels: Labels, seed: int = 0) -> TextAgreement | None:
    """Return the agreement on the first free-text field; None without one, or with one model only."""
    field = next((one for one in labels.fields if one.free_text), None)
    models = len(sheet.models)
    if field is None or models < 2:
        return None
    several = np.flatnonzero((field.codes != MISSING).sum(0) >= 2)
    most = max(1, MOST_PAIRS // (models * (models - 1) // 2))
    if len(several) > most:
        several = np.sort(np.random.default_rng(seed).choice(several, most, replace=False))
    words, characters = np.full((2, models, len(sheet.units)), np.nan)
    consensus = {}
    for at in several.tolist():
        words[:, at], characters[:, at] = _with_others(field, at)
        unit = sheet.units[at]
        consensus[unit.item_id, unit.prompt_id] = sheet.models[int(np.nanargmax(characters[:, at]))]
    return TextAgreement(
        field=field.name,
        items=len(several),
        models={
            name: Alike(*(_mean(values[model], sheet) for values in (words, characters)))
            for model, name in enumerate(sheet.models)
        },
        consensus=consensus,
    )


def _with_others(field: Field, at: int) -> tuple[Floats, Floats]:
    """Each model's mean likeness to the other texts of one item; NaN where it gave none."""
    codes = field.codes[:, at]
    given = np.flatnonzero(codes != MISSING).tolist()
    texts = {model: field.labels[codes[model]] for model in given}
    grams = {model: ngrams(text) for model, text in texts.items()}
    out = np.full((2, len(codes), len(codes)), np.nan)
    for a, b in combinations(given, 2):
        alike = (chrf(grams[a], grams[b]) + chrf(grams[b], grams[a])) / 2
        out[:, a, b] = out[:, b, a] = (token_f1(texts[a], texts[b]), alike)
    means = np.full((2, len(codes)), np.nan)
    means[:, given] = np.nanmean(out[:, given], axis=2)
    return means[0], means[1]


def _mean(values: Floats, sheet: Sheet) -> Estimate | None:
    known = ~np.isnan(values)
    return proportion(values[known], sheet.clusters[known])


def token_f1(a: str, b: str) -> float:
    """Return the F1 of two texts' words; two texts without words are alike."""
    one, other = Counter(_WORD.findall(a.casefold())), Counter(_WORD.findall(b.casefold()))
    size = one.total() + other.total()
    return 2 * (one & other).total() / size if size else 1.0


def ngrams(text: str) -> Grams:
    """Return how often each sequence of 1 to 6 characters stands in a text, blanks left out."""
    joined = "".join(text.split())
    return [
        Counter(joined[at : at + size] for at in range(len(joined) - size + 1))
        for size in range(1, ORDER + 1)
    ]


def chrf(said: Grams, reference: Grams) -> float:
    """Return chrF of a text against a reference, 0 to 1."""
    precision, recall, orders = 0.0, 0.0, 0
    for mine, theirs in zip(said, reference, strict=True):
        if mine and theirs:
            common = (mine & theirs).total()
            precision, recall = precision + common / mine.total(), recall + common / theirs.total()
            orders += 1
    if not orders or precision + recall == 0:
        return 0.0
    precision, recall = precision / orders, recall / orders
    return (1 + BETA2) * precision * recall / (BETA2 * precision + recall)
