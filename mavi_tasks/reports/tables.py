"""Tables as data, and their printers for a terminal and for markdown.

The pages print their tables from templates: their cells carry values to sort by, badges and exact tooltips,
which the other two have no place for.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import rich.table
from rich.text import Text

from mavi_tasks.common.screen import printable
from mavi_tasks.common.skips import Skip, total

# Each may begin markup; `:` and `.` would make links of addresses (https://, www.).
_MARKUP: Final = re.compile(r"[\\`*_{}\[\]()<>#|~&!$^=]|(?<=www)\.|:(?=/)|(?<=\w)@|^[-+]")
_NUMBERED: Final = re.compile(r"^(\d+)\.")


@dataclass(frozen=True, slots=True)
class Table:
    """`text_columns` stand left, `number_columns` right; every row is one text per column, in this order."""

    text_columns: tuple[str, ...]
    number_columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str | None = None


def skipped(skips: Sequence[Skip]) -> Table:
    """What was skipped, by model and code, and the way out: the same wherever it is shown."""
    rows = tuple(
        (one["model"], one["code"], one["why"], one["what_to_do"], f"{one['rows']:,}") for one in skips
    )
    return Table(("model", "code", "why", "what to do"), ("rows",), rows, f"{total(skips):,} skipped")


def to_rich(table: Table) -> rich.table.Table:
    """The table for a rich console; no markup is read from its cells, whatever a job or a model is named."""
    made = rich.table.Table(
        title=table.title,
        title_justify="left",
        title_style="bold",
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    for name in table.text_columns:
        made.add_column(name, overflow="fold")
    for name in table.number_columns:
        made.add_column(name, justify="right", overflow="fold")
    for row in table.rows:
        made.add_row(*map(Text, row))
    return made


def markdown_rows(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows of a `--json` list as markdown, by the names of the first one; None is an empty cell."""
    if not rows:
        return ""
    names = list(rows[0])
    lines = [map(_cell, names), ["---"] * len(names)]
    lines += [map(_cell, map(row.get, names)) for row in rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def markdown_text(value: object) -> str:
    """A text as markdown that shows it as it is, on one line: no markup, link or HTML is read from it."""
    text = _MARKUP.sub(r"\\\g<0>", printable(" ".join(str(value).split())))
    return _NUMBERED.sub(r"\1\\.", text)


def markdown_code(value: object) -> str:
    """A text as code, which shows it as it is; its fence is longer than any in it."""
    text = printable(" ".join(str(value).split()))
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}"


def _cell(value: object) -> str:
    return "" if value is None else markdown_text(value)
