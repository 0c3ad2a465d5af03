"""The mean of scores between 0 and 1, with an interval that fits them."""

import numpy as np

from mavi_tasks.compare import margin
from mavi_tasks.compare.statistics import Bools, Estimate, Floats, Ints, wilson


def mean_score(score: Floats, among: Bools, clusters: Ints) -> Estimate | None:
    """Return the mean of scores [items] in 0..1 with its 95 % interval, None of none.

    Wilson's when each is 0 or 1, else Student's t over clusters.
    """
    held = score[among]
    if ((held == 0) | (held == 1)).all():
        return wilson(int(held.sum()), len(held))
    found = margin.difference(score, np.zeros(len(score)), among, clusters).interval()
    if found is None or found.low is None or found.high is None:
        return found
    return Estimate(found.value, max(0.0, found.low), found.high)
