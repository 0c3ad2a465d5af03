"""`mavi status`: what a dataset holds, by model and by code; what waits; and how far a run is."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mavi_tasks.common.screen import print_json, say
from mavi_tasks.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from mavi_tasks.storage.status import Status

REFRESH_S: Final = 1.0
AT_REST: Final = 4  # a large dataset is read for at most a fifth of the time


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", metavar="DIR", help="a dataset: a folder or s3://BUCKET/PREFIX")
    parser.add_argument("--failed", action="store_true", help="list the rows that failed or do not fit")
    parser.add_argument(
        "--to",
        metavar="FILE",
        help="with --failed: write them to this .csv, .jsonl or .parquet file; "
        "`mavi run JOB --only FILE.csv` asks them again",
    )
    parser.add_argument(
        "--watch",
        action="store_true",
        help="show it anew until no run goes on; once where there is no terminal, or with --json",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def command(args: argparse.Namespace) -> int:
    if args.to is not None and not args.failed:
        raise InputError(f"--to {args.to}: says where --failed writes its rows: give --failed, too")
    if args.failed and args.watch:
        raise InputError("--watch shows a run, --failed lists rows: give one of them")
    from mavi_tasks.reports.terminal.console import open_console
    from mavi_tasks.storage.s3 import existing

    root, console = existing(args.dir), open_console()
    if args.failed:
        _failed(root, args, console)
    elif args.watch and console.is_terminal and not args.json:
        _watch(root, console)
    else:
        _once(root, args, console)
    return 0


def _once(root: Path, args: argparse.Namespace, console: "Console") -> None:
    from mavi_tasks.reports.terminal import status as terminal
    from mavi_tasks.storage.status import of

    status = of(root)
    if args.json:
        print_json(status.to_json())
    else:
        terminal.show(status, console)


def _failed(root: Path, args: argparse.Namespace, console: "Console") -> None:
    from mavi_tasks.reports.terminal import status as terminal
    from mavi_tasks.storage import export
    from mavi_tasks.storage.status import failures, of

    if args.to is not None:
        export.writer_of(args.to)  # before a large dataset is read
    table = failures(root)
    if args.to is not None:
        export.write(table.to_batches(), table.schema, args.to)
    if args.json:
        rows = export.plain_rows(table.to_batches())
        print_json({**of(root).to_json(), "failed_rows": list(rows)})
    elif args.to is not None:
        say(f"{table.num_rows:,} rows -> {args.to}")
    else:
        terminal.show_failures(table.slice(0, terminal.FAILURES_LISTED).to_pylist(), table.num_rows, console)


def _watch(root: Path, console: "Console") -> None:
    """Until no run goes on; the last view stays on the screen."""
    from rich.live import Live

    from mavi_tasks.reports.terminal import status as terminal

    status, took_s = _read(root, verify=True)
    with Live(terminal.view(status), console=console, auto_refresh=False) as live:
        while status.running:
            time.sleep(max(REFRESH_S, AT_REST * took_s))
            status, took_s = _read(root, verify=False)
            live.update(terminal.view(status), refresh=True)


def _read(root: Path, *, verify: bool) -> "tuple[Status, float]":
    from mavi_tasks.storage.status import of

    began_s = time.monotonic()
    return of(root, verify=verify), time.monotonic() - began_s
