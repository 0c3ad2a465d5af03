"""Short model names: without the family where that leaves no doubt."""

from collections import Counter
from collections.abc import Iterable, Mapping


def short(models: Iterable[str]) -> Mapping[str, str]:
    """Return a shorter name per model; the whole name where two would be the same."""
    names = list(models)
    tails = {name: name.partition(":")[2] or name for name in names}
    times = Counter(tails.values())
    return {name: tails[name] if times[tails[name]] == 1 else name for name in names}


def listed(names: Iterable[str]) -> str:
    """Return "a", "a and b", "a, b and c"; "" of none."""
    held = list(names)
    if not held:
        return ""
    *most, last = held
    return f"{', '.join(most)} and {last}" if most else last
