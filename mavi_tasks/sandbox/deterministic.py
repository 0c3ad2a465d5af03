"""Choices that depend only on their input texts, so that a second run makes the same choices."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import TypeVar

T = TypeVar("T")


def fraction(*texts: str) -> float:
    """A number in [0, 1) that depends only on the texts."""
    return int.from_bytes(sha256("\0".join(texts).encode()).digest()[:6], "big") / 2**48


def choose(options: Sequence[T], *texts: str) -> T:
    """One of the options; the choice depends only on the texts."""
    return options[int(fraction(*texts) * len(options))]


def first_match(globs: Mapping[str, T], model: str) -> T | None:
    """The value of the first glob that matches the model, or None."""
    return next((value for glob, value in globs.items() if fnmatchcase(model, glob)), None)
