"""The exact sign-flip test: can sums of clusters be this far from 0 when each sign is a coin's?

For two models that are equally good, the sum of differences of each cluster is as likely above 0 as below. Of
all 2^C ways to choose the signs the p-value is the share whose total is as far from 0 as the one seen. With
one item in each cluster and right or wrong as scores this is McNemar's exact test.
"""

from statistics import NormalDist

import numpy as np

from mavi_tasks.compare.statistics import Floats, Ints, mcnemar

MOST_UNITS = 1 << 14  # of a total that is no whole number: sums are rounded to this many parts of it
MOST_EXACT = 1000  # clusters with such sums; of more the distribution is normal to 3 digits
MOST_TOTAL = 1 << 22  # of whole sums: beyond, normal too


def sign_flip_p(sums: Floats) -> float:
    """Return the two-sided p-value of cluster sums [clusters]; 1.0 when all are 0.

    Precise to 1e-12: the distribution of the total is a product of cosines, brought back by one transform.
    Sums that are no whole numbers (graded scores) are rounded to a 16,384th of their total, which leaves the
    test exact; from 1,000 of them on the normal approximation is used.
    """
    weights = np.abs(sums[sums != 0])
    if len(weights) == 0:
        return 1.0
    whole = bool((weights == np.round(weights)).all())
    if whole and len(set(weights.tolist())) == 1:
        above = int((sums > 0).sum())
        return mcnemar(above, len(weights) - above)
    if (not whole and len(weights) > MOST_EXACT) or (whole and weights.sum() > MOST_TOTAL):
        return _normal(sums)
    unit = 1.0 if whole else float(weights.sum()) / MOST_UNITS
    rounded = np.round(sums / unit).astype(np.int64)
    return _exact(np.abs(rounded[rounded != 0]), abs(int(rounded.sum())))


def _exact(weights: Ints, seen: int) -> float:
    total = int(weights.sum())
    if total == 0:
        return 1.0
    size = 1 << (2 * total + 1).bit_length()
    angles = 2 * np.pi * np.arange(size // 2 + 1) / size
    product = np.ones(len(angles))
    for weight, times in zip(*np.unique(weights, return_counts=True), strict=True):
        product *= np.cos(angles * weight) ** int(times)
    chances = np.fft.irfft(product, size)  # entry t, counted round: the chance of a total of t
    far = chances[seen : total + 1].sum() if seen else 0.5
    return float(min(1.0, max(2 * far, 2.0 ** (1 - min(len(weights), 1000)))))


def _normal(sums: Floats) -> float:
    z = abs(float(sums.sum())) / float(np.sqrt((sums**2).sum()))
    return min(1.0, 2 * NormalDist().cdf(-z))
