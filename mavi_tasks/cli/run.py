"""`mavi run`: a whole job, in this process or as a Prefect flow."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mavi_tasks.cli import job_options, plan
from mavi_tasks.common.screen import print_json, say
from mavi_tasks.errors import InputError, MaviError

if TYPE_CHECKING:
    from mavi_tasks.execution.local import RunCallbacks
    from mavi_tasks.execution.run_report import RunReport
    from mavi_tasks.job import Job
    from mavi_tasks.planning.forecast import Forecast
    from mavi_tasks.planning.pilot import PilotResult


def options(parser: argparse.ArgumentParser) -> None:
    job_options.options(parser)
    parser.add_argument(
        "--prefect",
        action=argparse.BooleanOptionalAction,
        help="run as a Prefect flow (default: when PREFECT_API_URL is set)",
    )
    parser.add_argument(
        "--trust-host",
        action="append",
        default=[],
        metavar="HOST[=VARIABLE]",
        help="from now on this host may get the MAVI key, or the key in this variable",
    )
    parser.add_argument("--dry-run", action="store_true", help="check and plan, send nothing: as `mavi plan`")
    parser.add_argument(
        "--pilot",
        type=int,
        metavar="N",
        help="label N items first, show the cost, then ask for confirmation",
    )
    parser.add_argument("--yes", action="store_true", help="go on after the pilot without confirmation")
    parser.add_argument(
        "--retry-invalid", action="store_true", help="send again what did not fit the answer schema"
    )
    parser.add_argument(
        "--pay-again",
        action="store_true",
        help="go on although damaged files have lost paid answers: set them aside, and ask again",
    )
    parser.add_argument(
        "--fail-on-skipped",
        action="store_true",
        help="exit 3 when any request was skipped: max_skipped_share: 0",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress, no table")
    parser.add_argument("-v", "--verbose", action="store_true", help="log every change of a rate limit")


def command(args: argparse.Namespace) -> int:
    if args.dry_run:
        return plan.command(args)
    if args.pilot is not None and args.pilot < 1:
        raise InputError(f"--pilot {args.pilot}: give the number of items to label first, 1 or more")
    job = job_options.job_of_args(args)
    from mavi_tasks.job import trusted_hosts
    from mavi_tasks.reports.terminal import run as terminal
    from mavi_tasks.reports.terminal.console import open_console

    for entry in args.trust_host:
        trusted_hosts.trust(entry, os.environ)
    job_options.load_env_file()
    report = _run_by_prefect(args, job) if _uses_prefect(args, job) else _run_here(args, job)
    if not args.quiet:
        console = open_console(stderr=args.json)
        terminal.show_report(report, console)
        terminal.show_answers(_first_answers(report), report, console)
        terminal.show_next(report, console)
    if args.json:
        print_json(report.to_json())
    return report.exit_status


def _first_answers(report: "RunReport") -> "Sequence[Mapping[str, Any]]":
    """Three answers of this run; none when the dataset cannot be read, which is no reason to fail now."""
    from mavi_tasks.reports.terminal.run import ANSWERS_SHOWN
    from mavi_tasks.storage.s3 import existing
    from mavi_tasks.storage.tables import first_answers

    if not report.total("answered"):
        return ()
    try:
        return first_answers(existing(report.output), report.run_id, ANSWERS_SHOWN)
    except (MaviError, OSError):
        return ()


def _uses_prefect(args: argparse.Namespace, job: "Job") -> bool:
    from mavi_tasks.job import BY_PREFECT

    if args.prefect is not None:
        return bool(args.prefect)
    return job.runner in BY_PREFECT or bool(os.environ.get("PREFECT_API_URL"))


def _run_by_prefect(args: argparse.Namespace, job: "Job") -> "RunReport":
    if args.pilot is not None:
        raise InputError("--pilot asks for confirmation, which a Prefect flow cannot do: add --no-prefect")
    from mavi_tasks.flows import run_flow

    return run_flow.run(job, retry_invalid=args.retry_invalid, pay_again=args.pay_again, only=args.only)


def _run_here(args: argparse.Namespace, job: "Job") -> "RunReport":
    from mavi_tasks.execution.local import execute

    return execute(
        job,
        os.environ,
        _callbacks(args),
        retry_invalid=args.retry_invalid,
        pay_again=args.pay_again,
        only=args.only,
        pilot_size=args.pilot,
    )


def _callbacks(args: argparse.Namespace) -> "RunCallbacks":
    from mavi_tasks.execution.local import RunCallbacks
    from mavi_tasks.reports.terminal import run as terminal
    from mavi_tasks.reports.terminal.console import open_console
    from mavi_tasks.reports.terminal.progress import Progress, reading

    def show_plan(forecast: "Forecast") -> None:
        if not args.quiet:
            terminal.show_plan(forecast, open_console(stderr=True))

    return RunCallbacks(
        reading=lambda: reading(quiet=args.quiet),
        on_planned=show_plan,
        confirm=_confirmation(assume_yes=args.yes),
        show_progress=lambda counters, limiters: Progress(counters, limiters, quiet=args.quiet).show(),
    )


def _confirmation(*, assume_yes: bool) -> "Callable[[PilotResult, Forecast], bool]":
    """Shows a pilot; True by --yes or by an answer on the terminal."""
    from mavi_tasks.reports.terminal import run as terminal
    from mavi_tasks.reports.terminal.console import open_console

    def confirm(result: "PilotResult", forecast: "Forecast") -> bool:
        terminal.show_pilot(result, forecast, open_console(stderr=True))
        if assume_yes:
            return True
        if not sys.stdin.isatty():
            say("mavi: not a terminal: give --yes to go on after a pilot", stderr=True)
            return False
        say("Go on with the rest? [y/N] ", stderr=True, end="")
        try:
            return sys.stdin.readline().strip().lower() in ("y", "yes")
        except KeyboardInterrupt:  # means no: the run still ends with its row and its report
            return False

    return confirm
