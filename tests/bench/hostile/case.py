"""What one attack is: a name, its topic, and a function that tries it and says whether mavi held."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """`attempt(folder)` gets an empty folder. It returns None when mavi held, else one line: what went wrong.

    The attempt runs in a process of its own. Raising, dying, running longer than `longest_s` or using more
    memory than `most_mb` (the process and its children, whichever is largest) all count as not held.
    """

    name: str
    attempt: Callable[[Path], str | None]
    longest_s: float = 30.0
    most_mb: int = 1000
