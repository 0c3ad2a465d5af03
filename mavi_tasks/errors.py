"""Errors that reach the user as plain text, each with the exit status of the command line.

MaviError
 ├── InputError      2  job, manifest, prompt or command line is wrong; nothing was sent
 ├── StorageError    4  the dataset cannot be written or read
 └── StoppedError    4  the run stopped early: budget, balance, key or outage; run again to go on
"""

from collections.abc import Iterable
from typing import ClassVar


class MaviError(Exception):
    """Base of every error meant for the user's eyes; `str()` is the whole message."""

    exit_status: ClassVar[int] = 4


class InputError(MaviError):
    """Everything wrong with what the user wrote, all of it at once.

    Each problem says where (file, line, field), the value, and what is wanted.
    """

    exit_status = 2

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class StorageError(MaviError):
    """The dataset folder cannot be used; says which file and what to do."""


class StoppedError(MaviError):
    """A run ended before its end; what was not sent stays unsent."""
