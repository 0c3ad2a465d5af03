"""Answers from pixels: a small local image classifier, EfficientNet-Lite0, in numpy.

Needs the extra `vision`: a package with only the weights. It is not a language model: `facts` defines what it
can answer, `levels` the image resolution that each model gets.
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
