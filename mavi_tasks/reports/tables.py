"""Tables as data, and their printers for a terminal and for markdown.

The pages print their tables from templates: their cells carry values to sort by, badges and exact tooltips,
which the other two have no place for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import rich.table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Table:
    """`text_columns` stand left, `number_columns` right; every row is one text per column, in this order."""

    text_columns: tuple[str, ...]
    number_columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str | None = None


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
    head: list[Sequence[object]] = [names, ["---"] * len(names)]
    lines = [*head, *([row.get(name) for name in names] for row in rows)]
    return "".join("| " + " | ".join(map(_cell, line)) + " |\n" for line in lines)


def _cell(value: object) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
