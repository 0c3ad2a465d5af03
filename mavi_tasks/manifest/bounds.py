"""The most that one row of a manifest may hold, so that no file, however small or packed, fills the memory.

Ordinary rows are a thousand times smaller. What is larger is told with its file and line.
"""

from typing import Any, Final

MAX_ROW_BYTES: Final = 32_000_000  # a row of text, unpacked: an image of 20 MB as a data: URL fits
MAX_COLUMNS: Final = 10_000
MAX_NAME_CHARS: Final = 1000  # of a column's name
MAX_MEDIA: Final = 1000  # of one row
MAX_VALUES: Final = 1_000_000  # of one JSON line; an empty list of 2 bytes takes 64 in memory
MAX_DEPTH: Final = 100  # of lists and objects in each other, in JSON
BATCH_BYTES: Final = 16_000_000  # rows that are read together: fewer of them when they are large

TOO_LONG: Final = f"has more than {MAX_ROW_BYTES:,} bytes; keep media in files, and name the files"


def columns_problem(count: int, longest: int) -> str | None:
    """What is wrong with so many columns, or with the longest name of one; None when they may be."""
    if count > MAX_COLUMNS:
        return f"has {count:,} columns; at most {MAX_COLUMNS:,} are read"
    if longest > MAX_NAME_CHARS:
        return f"has a column whose name is longer than {MAX_NAME_CHARS:,} characters"
    return None


def is_deeper(value: Any, most: int = MAX_DEPTH) -> bool:
    """Whether lists and dicts lie in each other more than `most` levels deep."""
    level = [value]
    for _ in range(most):
        inner = (part.values() if isinstance(part, dict) else part for part in level)
        level = [child for parts in inner for child in parts if isinstance(child, dict | list)]
        if not level:
            return False
    return True
