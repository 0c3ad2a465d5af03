"""`mavi plan`: what a job would send, cost and take. Nothing is sent."""

import argparse
import os

from mavi_tasks.cli import job_options
from mavi_tasks.common.screen import print_json

options = job_options.options


def command(args: argparse.Namespace) -> int:
    """Also `mavi run --dry-run`, whose further options count."""
    job = job_options.job_of_args(args)
    job_options.load_env_file()
    from mavi_tasks.execution import local
    from mavi_tasks.execution.local import RunCallbacks
    from mavi_tasks.reports.terminal import run as terminal
    from mavi_tasks.reports.terminal.console import open_console
    from mavi_tasks.reports.terminal.progress import reading

    quiet = getattr(args, "quiet", False)
    forecast = local.plan(
        job,
        os.environ,
        RunCallbacks(reading=lambda: reading(quiet=quiet)),
        retry_invalid=getattr(args, "retry_invalid", False),
        only=args.only,
    )
    terminal.show_plan(forecast, open_console(stderr=args.json), brief=False)
    if args.json:
        print_json(forecast.to_json())
    return 0
