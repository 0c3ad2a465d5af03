"""`mavi completion SHELL`: a script by which a shell completes commands, flags and files."""

import argparse
from collections.abc import Iterator
from typing import Final

from mavi_tasks.common.screen import say

SHELLS: Final = ("bash", "zsh", "fish", "tcsh", "powershell")
FILES: Final = ("JOB", "FILE")  # arguments, by the name that --help shows, for which files are offered
FOLDERS: Final = ("DIR",)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the script goes to stdout")
    parser.epilog = 'For bash, in ~/.bashrc: eval "$(mavi completion bash)"'


def command(args: argparse.Namespace) -> int:
    import shtab

    for action in _actions(args.parser):
        if action.metavar in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab looks for it there
        elif action.metavar in FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    say(shtab.complete(args.parser, args.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every argument of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _actions(sub)
