"""The known name that is most like a misspelt one, for error messages."""

import difflib
from collections.abc import Iterable
from itertools import islice
from typing import Final

_MOST_NAMES: Final = 1000  # difflib looks at each, and takes the square of their length
_MOST_CHARS: Final = 100


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The nearest known name, whatever its case and its - or _; None when none is near enough."""
    if len(name) > _MOST_CHARS:
        return None
    short = [one for one in islice(known, _MOST_NAMES) if len(one) <= _MOST_CHARS]
    by_spelling = {_plain(one): one for one in reversed(short)}
    found = difflib.get_close_matches(_plain(name), by_spelling, n=1, cutoff=cutoff)
    return by_spelling[found[0]] if found else None


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
