"""`mavi run --race`: models are dropped while the run goes on, until one can be chosen."""

import argparse
import os
from typing import TYPE_CHECKING

from mavi_tasks.common.screen import print_json
from mavi_tasks.errors import InputError

if TYPE_CHECKING:
    from mavi_tasks.compare.race_record import RaceRecord
    from mavi_tasks.execution.local import RunCallbacks
    from mavi_tasks.job import Job


def command(args: argparse.Namespace, job: "Job", callbacks: "RunCallbacks") -> int:
    """Run the race, with a line for each look; returns the exit status. Raises MaviError."""
    from mavi_tasks.execution.race import race
    from mavi_tasks.reports.terminal import race as terminal
    from mavi_tasks.reports.terminal.console import open_console

    for option in ("pilot", "only", "retry_invalid", "prefect"):
        if getattr(args, option):
            raise InputError(f"--{option.replace('_', '-')}: not together with --race")

    def show_look(record: "RaceRecord") -> None:
        if not args.quiet:
            terminal.show_look(record, open_console(stderr=True))

    report = race(job, os.environ, callbacks, on_look=show_look, pay_again=args.pay_again, labels=args.truth)
    if not args.quiet:
        terminal.show_race(report, args.job, open_console(stderr=args.json))
    if args.json:
        print_json(report.to_json())
    return report.exit_status
