"""The patterns of an answer schema, matched in linear time by RE2, whatever the pattern and the text.

Python's own `re` backtracks: "^(a+)+$" takes hours for 60 characters that a model may write.
"""

import re
from functools import lru_cache
from typing import Any, Final

import re2

MAX_PROGRAM: Final = 20_000  # instructions; "^.{1,1000}$" has about 8,000
STEPS_PER_US: Final = 200  # characters times instructions, where RE2 is slowest: measured 170 to 250

_HINT: Final = (
    "RE2 matches it in linear time, which excludes lookaround, back-references and repeats above 1,000"
)


class PatternProblem(ValueError):
    """A pattern that cannot be matched in linear time; says why."""


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> Any:
    """The pattern for RE2. Raises PatternProblem."""
    options = re2.Options()
    options.log_errors = False
    try:
        found = re2.compile(_translated(pattern), options)
    except (re2.error, UnicodeEncodeError) as error:
        why = error.args[0].decode(errors="replace") if isinstance(error, re2.error) else "it is no UTF-8"
        raise PatternProblem(f"{why}; {_HINT}") from error
    if found.programsize > MAX_PROGRAM:
        raise PatternProblem("the pattern is too large; use minLength and maxLength for lengths")
    return found


def _translated(pattern: str) -> str:
    r"""JSON Schema's \uXXXX as RE2 writes it; its other common escapes are the same."""
    return _ESCAPE.sub(lambda found: rf"\x{{{found[1]}}}" if found[1] else found[0], pattern)


_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)


def work_of(pattern: str, text: str) -> int:
    """The most microseconds that matching may take, roughly. Raises PatternProblem."""
    return len(text) * int(compiled(pattern).programsize) // STEPS_PER_US


def occurs(pattern: str, text: str) -> bool:
    """Whether the pattern matches anywhere in the text. Raises PatternProblem."""
    # As bytes: of a text RE2's Python side counts every character to give positions.
    return compiled(pattern).search(text.encode(errors="replace")) is not None
