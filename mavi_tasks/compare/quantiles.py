"""Quantiles of Student's t and of the beta distribution, equal to scipy's (the tests show it)."""

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

_TINY = 1e-300
_MOST_TERMS = 10_000
_NORMAL_FROM = 1e7  # degrees of freedom


def beta_cdf(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b), by Lentz's continued fraction."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_cdf(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    fraction, c = 1.0, 1.0
    d = 1 / _off_zero(1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, _MOST_TERMS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _off_zero(1 + term * d)
            c = _off_zero(1 + term / c)
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return math.exp(log_front) / a * fraction


def _off_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


@lru_cache(maxsize=4096)
def t_quantile(probability: float, freedom: float) -> float:
    """Return Student's t at a probability between 0 and 1; `freedom` at least 1."""
    if freedom > _NORMAL_FROM:
        return NormalDist().inv_cdf(probability)
    tail = 1 - probability if probability > 0.5 else probability
    # P(|T| > t) = I_x(freedom/2, 1/2) with x = freedom / (freedom + t^2)
    high = 1.0
    while _two_tails(high, freedom) > 2 * tail:
        high *= 2
    found = _root(lambda t: 2 * tail - _two_tails(t, freedom), 0.0, high)
    return math.copysign(found, probability - 0.5)


def _two_tails(t: float, freedom: float) -> float:
    return beta_cdf(freedom / (freedom + t * t), freedom / 2, 0.5)


def beta_quantile(probability: float, a: float, b: float) -> float:
    """Return where the beta distribution reaches a probability; `a` and `b` above 0."""
    return _root(lambda x: beta_cdf(x, a, b) - probability, 0.0, 1.0)


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Return the zero of a rising function by bisection, to the last digits."""
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
