"""Cells of CSV files that no spreadsheet runs as a formula."""

import re
import unicodedata
from typing import Final

_SIGNS: Final = ("=", "+", "-", "@", "\N{MINUS SIGN}")
# Spreadsheets trim a cell before they read it: blanks of all kinds, control and invisible characters.
_INVISIBLE: Final = re.compile(
    r"[\s\x00-\x20\x7f-\xa0\xad\u115f\u1160\u180e\u200b-\u200f\u2028-\u202f\u205f-\u206f\u3164\ufeff]+"
)


def text_cell(text: str) -> str:
    """The text, after an apostrophe when a spreadsheet could take it for a formula.

    Answers, names and notes are written by others, and `=cmd|...` runs where the file is opened.
    """
    if text[:1].isalnum() and text[:1].isascii():
        return text  # nearly every cell
    # Full-width and other forms of these signs are read as the signs.
    blank = _INVISIBLE.match(text)
    at = blank.end() if blank is not None else 0
    first = unicodedata.normalize("NFKC", text[at : at + 1])
    changed = first in _SIGNS or text[:1] in ("\t", "\r", "\n") or cell_text(text) != text
    return f"'{text}" if changed else text


def cell_text(cell: str) -> str:
    """The text of a cell that `text_cell` has written."""
    return cell[1:] if cell[:1] == "'" and text_cell(cell[1:]) == cell else cell
