"""`mavi models`: every model, what it takes and its price; `--check` finds what is out of date."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from mavi_tasks.common.screen import print_json, say


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--check", action="store_true", help="list old prices, unpriced and retired models")
    parser.add_argument("--older-than", type=int, default=90, metavar="DAYS")
    parser.add_argument(
        "--seen-in", action="append", default=[], metavar="DIR", help="models of these datasets"
    )


def command(args: argparse.Namespace) -> int:
    from mavi_tasks.common.clock import utc_today
    from mavi_tasks.pricing.book import load_prices

    if args.check:
        return _check(args)
    rows = [row.to_json() for row in load_prices().models(utc_today())]
    if args.json:
        print_json({"models": rows})
        return 0
    from mavi_tasks.reports.terminal import run as terminal
    from mavi_tasks.reports.terminal.console import open_console

    terminal.show_models(rows, open_console())
    return 0


def _check(args: argparse.Namespace) -> int:
    from mavi_tasks.common.clock import utc_today
    from mavi_tasks.pricing.book import load_prices

    findings = load_prices().check(args.older_than, utc_today(), _models_in(args.seen_in))
    if args.json:
        print_json({"findings": [{"kind": f.kind, "model": f.model, "text": f.text} for f in findings]})
    else:
        for finding in findings:
            say(f"{finding.kind}: {finding.model}: {finding.text}")
    return 0


def _models_in(folders: Iterable[str]) -> list[str]:
    found: list[str] = []
    for folder in folders:
        from mavi_tasks.storage.tables import open_table

        models = open_table(Path(folder), "results").to_table(columns=["model"])["model"]
        found += models.unique().to_pylist()
    return found
