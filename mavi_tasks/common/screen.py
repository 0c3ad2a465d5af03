"""What goes to a screen: the only module that prints. Nothing it prints can steer a terminal.

What gateways, manifests, file names and model names say comes from other people. A terminal obeys escape
sequences in it: they hide lines, change the title, or show text in another order. Tables are printed by
`reports.terminal.console`, which cleans its text by `printable`, too.
"""

import argparse
import json
import logging
import re
import sys
from typing import Any, Final, NoReturn

# C0 but tab and newline, DEL, C1, line separators, bidirectional overrides, halves of characters.
_CONTROL: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff]"
)
REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


def printable(text: str) -> str:
    """The text with U+FFFD for every character that a terminal could obey; newlines and tabs stay."""
    return text if text.isprintable() and text.isascii() else _CONTROL.sub(REPLACEMENT, text)


def say(text: str, *, stderr: bool = False, end: str = "\n") -> None:
    """Print a text."""
    print(printable(text), file=sys.stderr if stderr else sys.stdout, end=end, flush=True)


def print_json(value: object) -> None:
    """One line of JSON on stdout, what `--json` promises: control characters are escaped, so none is lost."""
    text = json.dumps(value, ensure_ascii=False)
    print(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


class Parser(argparse.ArgumentParser):
    """A parser of the command line whose errors, which quote what was typed, are printable."""

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        super().exit(status, None if message is None else printable(message))


class _Record(logging.LogRecord):
    """A log record whose text and traceback are printable, whatever handler shows it."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        if self.exc_info:  # handlers take this text, when it is there, for the traceback
            self.exc_text = printable(logging.Formatter().formatException(self.exc_info))

    def getMessage(self) -> str:
        return printable(super().getMessage())


def log_to_stderr(level: int = logging.WARNING) -> None:
    """Send this process's log to stderr: ours from `level`, the warnings of others."""
    logging.setLogRecordFactory(_Record)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("mavi").setLevel(level)
