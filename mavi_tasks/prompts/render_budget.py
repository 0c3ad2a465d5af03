"""What one rendering of a prompt may cost: steps, counted where a template cannot reach them.

Every value that a template makes, reads or prints is checked and paid for here: a step for each 100
characters or value inside. Single values are free: the sandbox pays for the statements that touch them, by
their number. Counted, not measured: a template renders on every machine, or on none.
"""

import types
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from itertools import chain, islice
from typing import Any, Final

from jinja2 import Undefined
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.utils import Cycler, Joiner, Namespace

MAX_CHARS: Final = 1_000_000  # of a rendered prompt, and of every text on the way
MAX_STEPS: Final = 100_000  # of one rendering; the numbers of a range count, too
MAX_MEMBERS: Final = 100_000  # of a list or mapping, with all that is inside it
MAX_DEPTH: Final = 32
MAX_BITS: Final = 20_000  # of a whole number
CHARS_PER_STEP: Final = 100

_LEFT: ContextVar[list[int]] = ContextVar("left")
_PLAIN: Final = frozenset((float, bool, types.NoneType))
_NESTED: Final = (list, tuple, dict)
# Values of the engine itself: their texts are of no use in a prompt, and may be of any length.
_MACHINERY: Final = (Namespace, Cycler, Joiner, Context, types.ModuleType)


def begin() -> None:
    """Give the rendering that follows its full budget."""
    _LEFT.set([MAX_STEPS])


def spend(steps: int) -> None:
    """Raises SecurityError when the budget is used up."""
    left = _LEFT.get()
    left[0] -= steps
    if left[0] < 0:
        raise SecurityError(f"rendering takes more than {MAX_STEPS:,} steps")


def pay(value: Any) -> Any:
    """The value, checked and paid for. Raises SecurityError for what is too large, or is no value."""
    kind = type(value)
    if (kind is str and len(value) < CHARS_PER_STEP) or kind in _PLAIN:
        return value
    if isinstance(value, str):
        if len(value) > MAX_CHARS:
            raise SecurityError(f"a text of more than {MAX_CHARS:,} characters is too much for a prompt")
        spend(1 + len(value) // CHARS_PER_STEP)
    elif isinstance(value, _NESTED):
        spend(1 + _size(value))
    else:
        _check_single(value)
    return value


def as_value(value: Any) -> Any:
    """Iterators and views as a list; anything else as it is."""
    if isinstance(value, str | list | tuple | dict | range) or not isinstance(value, Iterable):
        return value
    if isinstance(value, (Undefined, bytes, *_MACHINERY)):
        return value
    return list(islice(value, MAX_MEMBERS + 1))


def _check_single(value: Any) -> None:
    if isinstance(value, int):
        if value.bit_length() > MAX_BITS:
            raise SecurityError(f"a number of more than {MAX_BITS:,} bits is too much for a prompt")
    elif isinstance(value, _MACHINERY) or (callable(value) and not isinstance(value, Undefined)):
        raise SecurityError(f"a {type(value).__name__.lower()} cannot be used as a value")


def _size(value: list[Any] | tuple[Any, ...] | dict[Any, Any]) -> int:
    """The steps for all that is inside, each time it is inside: a list of a list twice is twice as large."""
    members, chars, level = 0, 0, [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for node in level:
            for child in _children(node):
                members += 1
                if isinstance(child, str):
                    chars += len(child)
                elif isinstance(child, _NESTED):
                    inner.append(child)
                else:
                    _check_single(child)
            if members > MAX_MEMBERS or chars > MAX_CHARS:
                raise SecurityError(f"a list of more than {MAX_MEMBERS:,} values is too much for a prompt")
        if not inner:
            return members + chars // CHARS_PER_STEP
        level = inner
    raise SecurityError(f"a list nested deeper than {MAX_DEPTH} levels is too much for a prompt")


def _children(node: Any) -> Iterator[Any]:
    return chain.from_iterable(node.items()) if isinstance(node, dict) else iter(node)
