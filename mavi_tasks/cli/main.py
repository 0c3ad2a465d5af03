"""`mavi ...`: the parser, the choice of a command, and how errors are printed.

One command is one file here, with `options(parser)` and `command(args)`; it imports what it needs when it
runs, so that `mavi --help` answers at once.
"""

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from mavi_tasks.cli import (
    compare,
    completion,
    costs,
    doctor,
    export,
    init,
    models,
    plan,
    price,
    run,
    sandbox,
    schema,
    status,
    view,
)
from mavi_tasks.cli.arguments import Parser
from mavi_tasks.common import screen
from mavi_tasks.common.version import __version__
from mavi_tasks.errors import InputError, MaviError

Options = Callable[[argparse.ArgumentParser], None]
Command = Callable[[argparse.Namespace], int]
COMMANDS: Final[tuple[tuple[str, Options, Command, str], ...]] = (
    ("init", init.options, init.command, "write a first job, ready to run"),
    ("run", run.options, run.command, "run a job"),
    ("plan", plan.options, plan.command, "what a job would send, cost and take; nothing is sent"),
    ("status", status.options, status.command, "what a dataset holds: answered, failed, in doubt, spent"),
    ("compare", compare.options, compare.command, "which model to choose, and how sure that is"),
    ("costs", costs.options, costs.command, "what was spent, on what, and what it bought"),
    ("view", view.options, view.command, "look at results in a browser, correct answers, follow a run"),
    ("export", export.options, export.command, "one Parquet, CSV or JSONL file out of a dataset"),
    ("models", models.options, models.command, "every model, what it takes and the price in force"),
    ("price", price.options, price.command, "the exact cost of one request, and the tier used"),
    ("schema", schema.options, schema.command, "the JSON Schema of a job, for editors"),
    ("sandbox", sandbox.options, sandbox.command, "serve the embedded gateway"),
    ("doctor", doctor.options, doctor.command, "check key, gateway, Prefect, disk and versions"),
    ("completion", completion.options, completion.command, "a script by which your shell completes mavi"),
)
EXIT_DAMAGED: Final = 3  # files of a dataset are damaged, and were left out
EXIT_INTERRUPTED: Final = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status. No error of ours ends in a traceback."""
    given = sys.argv[1:] if argv is None else list(argv)
    if (wrong := _not_text(given)) is not None:
        _print_errors([f"{wrong!r}: an argument that is not UTF-8; rename the file, or write it as UTF-8"])
        return InputError.exit_status
    whole = parser()
    if not given:
        whole.print_help()
        return 0
    args = whole.parse_args(given)
    level = logging.INFO if getattr(args, "verbose", False) else logging.WARNING
    screen.log_to_stderr(level)
    try:
        with _damage_shown() as shown:
            status = int(args.command(args))
        return status or (EXIT_DAMAGED if shown else 0)
    except InputError as error:
        _print_errors(error.problems)
        return error.exit_status
    except MaviError as error:
        _print_errors([str(error)])
        return error.exit_status
    except KeyboardInterrupt:
        _print_errors(["interrupted"])
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `mavi ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a file that an option names, as --html: datasets raise StorageError
        if error.errno is None:
            raise
        _print_errors([": ".join(str(part) for part in (error.filename, error.strerror) if part)])
        return MaviError.exit_status


def _not_text(arguments: Sequence[str]) -> str | None:
    """The first argument that holds bytes which are no text: neither JSON nor Parquet could keep it."""
    return next((text for text in arguments if not _is_text(text)), None)


def _is_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextlib.contextmanager
def _damage_shown() -> Iterator[set[str]]:
    """Prints what is logged of damaged files, each once; yields what was printed."""
    shown: set[str] = set()

    def show(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if message not in shown:
            shown.add(message)
            _print_errors([message])
        return False

    damage_log = logging.getLogger("mavi.damage")
    damage_log.addFilter(show)
    try:
        yield shown
    finally:
        damage_log.removeFilter(show)


def _print_errors(messages: Sequence[str]) -> None:
    for message in messages:
        screen.say(f"mavi: {message}", stderr=True)


def parser() -> Parser:
    """The parser of the whole command line."""
    whole = Parser(
        prog="mavi",
        description="Label media with vision models, choose between the models, account for every dollar.",
        epilog="Exit status: 0 all answered, 2 wrong input (nothing was sent), 3 some rows failed, or files "
        "are damaged, 4 stopped early (run again to go on), 130 interrupted (likewise).",
    )
    whole.add_argument("--version", action="version", version=f"mavi {__version__}")
    whole.set_defaults(parser=whole)
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    for name, options, command, text in COMMANDS:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        options(sub)
    return whole
