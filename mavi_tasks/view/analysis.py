"""Where models differ, what is wrong, how sure each answer says it is: arrays over an index's rows."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mavi_tasks.compare import match_rules
from mavi_tasks.view import values
from mavi_tasks.view.columns import MISSING
from mavi_tasks.view.index import Bools, Floats, Index, Ints

UNKNOWN, WRONG, RIGHT = -1, 0, 1
MOST_TRUTHS = 100_000  # different expected answers; with more nothing is called wrong
FREE_ABOVE = 500  # different values, after which a field is not compared


@dataclass(frozen=True)
class Analysis:
    """Of the rows that count, those of one item and prompt are compared with each other."""

    index: Index

    @cached_property
    def compared(self) -> dict[str, Ints]:
        """Field -> the code of each row's value, the same for equal values; MISSING for none."""
        return {name: codes for name, (codes, _) in self._canonical.items()}

    @cached_property
    def _canonical(self) -> dict[str, tuple[Ints, dict[str, int]]]:
        """Field -> codes and the code of each canonical text. Free text, reasons and the confidence are not
        compared."""
        found = {}
        for name, words in self.index.fields.items():
            if name.casefold() in match_rules.AIDES or len(words.values) > FREE_ABOVE:
                continue
            texts = words.values.to_pylist()
            if values.FREE_TEXT not in texts and texts:
                same: dict[str, int] = {}
                codes = [same.setdefault(values.canonical(text), len(same)) for text in texts]
                found[name] = np.array([*codes, MISSING], np.int32)[words.codes], same
        return found

    @cached_property
    def spread(self) -> Floats:
        """For each item: the share of answers that are not with the most frequent one, summed over fields."""
        index = self.index
        found = np.zeros(index.items, np.float32)
        for codes in self.compared.values():
            rows = np.flatnonzero(index.current & (codes != MISSING))
            if not len(rows):
                continue
            width = int(codes.max()) + 1
            pairs, times = np.unique(index.unit[rows] * width + codes[rows], return_counts=True)
            unit = pairs // width
            first = np.flatnonzero(np.append(True, unit[1:] != unit[:-1]))
            most, all_ = np.maximum.reduceat(times, first), np.add.reduceat(times, first)
            prompts = len(index.words["prompt_id"].values) + 1
            np.add.at(found, unit[first] // prompts, (1 - most / all_).astype(np.float32))
        return found

    @cached_property
    def right(self) -> npt.NDArray[np.int8]:
        """For each row RIGHT, WRONG, or UNKNOWN where nothing is expected or there is no answer."""
        index, truth = self.index, self.index.words["truth"]
        found = np.full(index.rows, UNKNOWN, np.int8)
        if not len(truth.values) or len(truth.values) > MOST_TRUTHS:
            return found
        expected = [_expected(text, self.label) for text in truth.values.to_pylist()]
        for name in {name for one in expected for name in one} & self.compared.keys():
            codes, known = self._canonical[name]
            aims = [known.get(one[name], -2) if name in one else MISSING for one in expected]
            aim = np.array([*aims, MISSING], np.int32)[truth.codes]
            judged = (aim != MISSING) & index.answered
            found[judged & (found == UNKNOWN)] = RIGHT
            found[judged & (codes != aim)] = WRONG
        return found

    @cached_property
    def label(self) -> str | None:
        """The field that a plain expected answer is about."""
        if values.WHOLE in self.compared:
            return values.WHOLE
        return values.label_field(list(self.compared))

    @cached_property
    def confidence(self) -> Floats:
        """For each row what its answer's field `confidence` says, in 0..1; NaN where it says nothing."""
        words = next(
            (one for name, one in self.index.fields.items() if name.casefold() == values.CONFIDENCE), None
        )
        if words is None:
            return np.full(self.index.rows, np.nan, np.float32)
        numbers = [match_rules.as_number(text) for text in words.values.to_pylist()]
        sure = np.array([np.nan if one is None else one for one in [*numbers, None]], np.float32)
        in_percent = np.nanmax(sure, initial=0.0) > 1
        found: Floats = (sure * np.float32(0.01 if in_percent else 1))[words.codes]
        return found

    @cached_property
    def by_spread(self) -> Ints:
        return _order(-self.spread)

    @cached_property
    def by_cost(self) -> Ints:
        """Items, the dearest first."""
        return _order(-self._summed(self.index.cost_usd))

    @cached_property
    def by_latency(self) -> Ints:
        return _order(-self._summed(self.index.latency_s))

    def _summed(self, amounts: Floats) -> Floats:
        rows = self.index.current
        weights = np.nan_to_num(amounts[rows])
        return np.bincount(self.index.item[rows], weights, minlength=self.index.items).astype(np.float32)

    def warm(self) -> None:
        """Compute what a first page may need."""
        for array in (
            self.spread,
            self.right,
            self.confidence,
            self.by_spread,
            self.by_cost,
            self.by_latency,
        ):
            array.flags.writeable = False


def changed(analysis: Analysis, before: str, after: str) -> tuple[Bools, dict[int, int], int]:
    """What differs between two runs: rows of the second, which row of the first each replaces, and how many
    questions both runs asked."""
    index = analysis.index
    models = len(index.words["model"].values) + 1
    question = index.unit * models + index.words["model"].codes + 1
    rows = [_last_of(question, np.flatnonzero(index.words["run_id"].equal(run))) for run in (before, after)]
    shared, here, there = np.intersect1d(question[rows[0]], question[rows[1]], return_indices=True)
    first, second = rows[0][here], rows[1][there]
    status = index.words["status"].codes
    differs = status[first] != status[second]
    for codes in analysis.compared.values():
        differs |= codes[first] != codes[second]
    found = np.zeros(index.rows, np.bool_)
    found[second[differs]] = True
    pairs = dict(zip(second[differs].tolist(), first[differs].tolist(), strict=True))
    return found, pairs, len(shared)


def _last_of(question: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """One row for each question: a run may have retried one."""
    _, last = np.unique(question[rows][::-1], return_index=True)
    return rows[len(rows) - 1 - last]


def _order(key: Floats) -> Ints:
    return np.argsort(key, kind="stable").astype(np.int32)


def _expected(text: str, label: str | None) -> dict[str, str]:
    """Field -> canonical text of an expected answer."""
    found = values.loaded(text) if text.lstrip()[:1] == "{" else None
    if isinstance(found, dict):
        return {
            name: values.canonical(values.short(values.text_of(one)))
            for name, one in found.items()
            if one is not None
        }
    return {label: values.canonical(values.short(text))} if label is not None and text.strip() else {}
