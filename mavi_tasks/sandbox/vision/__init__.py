"""Answers that come from pixels: a small local image classifier, EfficientNet-Lite0, in numpy.

Needs the extra `vision`: a package that holds nothing but the weights. It is no language model: what it can
and cannot say stands in `facts`, how closely each model looks in `levels`.
"""

from .answer import Vision
from .weights import WeightsError, path

__all__ = ["Vision", "WeightsError", "available"]


def available() -> bool:
    """Whether the weights are installed."""
    try:
        path()
    except WeightsError:
        return False
    return True
