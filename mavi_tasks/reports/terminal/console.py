"""The consoles that tables, plans and progress bars are printed on."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from mavi_tasks.common.screen import printable

WIDTH = 160  # columns where there is no terminal: our tables fit


class _CleanConsole(Console):
    """A console on which only rich itself writes escape sequences: texts have theirs replaced."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            # `control` marks what rich itself says to the terminal, such as moving the cursor.
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


def open_console(*, stderr: bool = False) -> Console:
    """As wide as the terminal; wide enough for our tables where there is none.

    What is printed is text, never markup: a job may be named "[/]" and a model "x:v:0".
    """
    made = _CleanConsole(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = WIDTH
    return made
