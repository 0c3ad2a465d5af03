"""Choices that depend on the words alone, so that a rerun gives the same ones."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import TypeVar

T = TypeVar("T")


def fraction(*words: str) -> float:
    """A number in [0, 1) that depends on the words alone."""
    return int.from_bytes(sha256("\0".join(words).encode()).digest()[:6], "big") / 2**48


def choose(options: Sequence[T], *words: str) -> T:
    """One of the options, by the words alone."""
    return options[int(fraction(*words) * len(options))]


def first_match(globs: Mapping[str, T], model: str) -> T | None:
    """The value of the first glob the model fits, None when none does."""
    return next((value for glob, value in globs.items() if fnmatchcase(model, glob)), None)
