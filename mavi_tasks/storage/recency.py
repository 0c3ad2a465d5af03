"""Which of several rows of one question counts. A question is one item, prompt and model of one gateway.

    1. A skipped row was never sent: it gives way to any answer that was paid for, whatever its text.
    2. The newest text of the prompt (`prompt_hash`) counts: the one with the newest row. So a row that failed
       with it says so, and is asked again; it does not stand there as answered by an older text.
    3. Within one text the status counts before the clocks: an answered row before an invalid one, and that
       before any other, because a request that has an answer is not sent again. An answer that was sent
       counts before its copy: when a prompt goes back to an older text, a copy makes that text the newest
       (rule 2), and the row that counts is the first one, with what it cost.
    4. Then the row that finished last.

A time that lies ahead of now was made by a wrong clock: it counts as older than every time that can be right,
so that it does not hide what came later.
"""

import time
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mavi_tasks.schema import ResultStatus

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

RANK: Final[Mapping[str, int]] = {ResultStatus.ANSWERED: 2, ResultStatus.INVALID: 1}  # any other: 0
AHEAD_US: Final = 3_600_000_000  # clocks of machines may differ by so much
_BEFORE_ALL: Final = 1 << 62


def plausible_us(instant_us: Any, now_us: int | None = None) -> Any:
    """Instants to sort by (an int or an array of int64): those ahead of now come before all others.

    now_us: None is this machine's clock.
    """
    limit_us = (time.time_ns() // 1000 if now_us is None else now_us) + AHEAD_US
    return instant_us - (instant_us > limit_us) * _BEFORE_ALL


def current(
    question: Ints, text: Ints, status: Ints, copied: Bools, instant_us: Ints, words: list[str]
) -> Bools:
    """Which rows count: one of each question. All arrays have one value for each row.

    question, text: numbers; rows with equal ones have the same. status: positions in `words`.
    copied: nothing was sent for the row. instant_us: when the row was finished; of two equal ones the later
    row counts.
    """
    ordered = np.sort(question)
    several = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    counts = np.ones(len(question), np.bool_)
    if not len(several):
        return counts
    place = np.minimum(np.searchsorted(several, question), len(several) - 1)
    rows = np.flatnonzero(several[place] == question)  # the others are alone, and need no sorting
    asked, us = place[rows], plausible_us(instant_us[rows])
    rank = np.array([2 * RANK.get(word, 0) for word in words], np.int64)[status[rows]]
    rank -= copied[rows] & (rank == 2 * RANK[ResultStatus.ANSWERED])
    skipped = np.array([word == ResultStatus.SKIPPED for word in words], np.bool_)[status[rows]]
    paid = np.zeros(len(several), np.bool_)
    paid[asked[rank > 0]] = True
    outdated = skipped & paid[asked]
    version = np.unique(asked * (int(text.max()) + 1) + text[rows], return_inverse=True)[1]
    newest = _largest(version[~outdated], us[~outdated], int(version.max()) + 1)[version]
    kept = np.arange(len(rows))
    for value in (~outdated, newest, rank, us):
        here = value[kept].astype(np.int64)
        kept = kept[here == _largest(asked[kept], here, len(several))[asked[kept]]]
    last = np.empty(len(several), np.int64)
    last[asked[kept]] = kept  # of equal ones the last stays
    counts[rows] = False
    counts[rows[last]] = True
    return counts


def _largest(group: Ints, value: Ints, groups: int) -> Ints:
    """The largest value of each group; of an empty one, less than all others."""
    found = np.full(groups, np.iinfo(np.int64).min)
    np.maximum.at(found, group, value)
    return found
