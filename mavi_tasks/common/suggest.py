"""The known name that is most like a misspelt one, for error messages."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The nearest known name, whatever its case; None when none is near enough."""
    spelled = {one.lower(): one for one in reversed(list(known))}
    found = difflib.get_close_matches(name.lower(), list(spelled), 1, cutoff)
    return spelled[found[0]] if found else None
