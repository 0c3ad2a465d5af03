"""How command lines are read: a parser that suggests the near command or flag, and types of arguments."""

import argparse
import re
from collections.abc import Sequence
from datetime import date
from typing import Any, Final

from mavi_tasks.common import screen
from mavi_tasks.common.suggest import nearest

_MOST_CHARS: Final = 1000  # of an error: what was typed may be long
_MOST_TOKENS: Final = 10**12  # of one request
_CHOICE: Final = re.compile(r"invalid choice: '([^']*)'")


class Parser(screen.Parser):
    """The parser of the command line; an unknown word or flag is answered with the nearest known."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse's, but unknown flags are an error here, where the command's own flags are known."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._near_flag(unknown)}")
        return known, []

    def error(self, message: str) -> Any:
        if found := _CHOICE.search(message):
            near = nearest(found[1], self._commands())
            message += f"; did you mean {near}?" if near else ""
        super().error(message if len(message) <= _MOST_CHARS else message[: _MOST_CHARS - 3] + "...")

    def _near_flag(self, unknown: Sequence[str]) -> str:
        flags = [text for action in self._actions for text in action.option_strings if len(text) > 2]
        near = [nearest(text.partition("=")[0], flags) for text in unknown if text.startswith("-")]
        return "".join(f"; did you mean {flag}?" for flag in near[:1] if flag)

    def _commands(self) -> list[str]:
        return [str(choice) for action in self._actions for choice in action.choices or ()]


def tokens(text: str) -> int:
    """How many tokens."""
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _MOST_TOKENS:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text[:60]!r} must be a whole number from 0 to {_MOST_TOKENS:,}")


def day(text: str) -> date:
    """A date; says what one looks like when it is none."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:60]!r} must be a date, such as 2026-11-22") from None
