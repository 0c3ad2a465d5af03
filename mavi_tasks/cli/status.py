"""`mavi status`: what a dataset holds."""

import argparse

from mavi_tasks.common.screen import print_json


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", metavar="DIR", help="a dataset: a folder or s3://BUCKET/PREFIX")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def command(args: argparse.Namespace) -> int:
    from mavi_tasks.reports.terminal import run as terminal
    from mavi_tasks.reports.terminal.console import open_console
    from mavi_tasks.storage.s3 import existing
    from mavi_tasks.storage.status import of

    status = of(existing(args.dir))
    if args.json:
        print_json(status.to_json())
    else:
        terminal.show_status(status, open_console())
    return 0
