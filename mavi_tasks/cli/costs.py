"""`mavi costs`: what was spent, on what, and what it bought; priced anew; held against a bill."""

import argparse
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

from mavi_tasks.cli.arguments import day
from mavi_tasks.common.screen import print_json, say
from mavi_tasks.errors import InputError

if TYPE_CHECKING:
    from mavi_tasks.costs import CostReport
    from mavi_tasks.costs.reconciliation import Reconciled
    from mavi_tasks.costs.repricing import Repriced
    from mavi_tasks.pricing.book import PriceBook


def options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("dirs", nargs="+", metavar="DIR", help="datasets, local or s3://")
    sub.add_argument(
        "--by", default="day,model", metavar="A,B", help="day week month model family job prompt ..."
    )
    sub.add_argument("--html", type=Path, metavar="FILE", help="write the dashboard page")
    sub.add_argument("--to", type=Path, metavar="FILE", help="export the groups: .csv, .parquet or .json")
    sub.add_argument("--focus", action="store_true", help="export with FOCUS columns, for FinOps tools")
    sub.add_argument("--tz", default="UTC", metavar="ZONE", help="days are cut in this time zone")
    sub.add_argument("--since", type=day, metavar="DATE")
    sub.add_argument("--until", type=day, metavar="DATE", help="the last day that counts")
    sub.add_argument("--budget-usd", metavar="X", help="a budget per calendar month: burn and projection")
    sub.add_argument("--what-if", metavar="MODEL", help="the same usage at this model's price")
    sub.add_argument("--as-of", type=day, metavar="DATE", help="at the prices of this day")
    sub.add_argument("--prices", type=Path, metavar="FILE", help="prices of your own, as prices.toml")
    sub.add_argument("--invoice", type=Path, metavar="FILE", help="hold the spend against a bill (CSV)")
    sub.add_argument(
        "--invoice-column",
        action="append",
        default=[],
        metavar="date|model|amount=NAME",
        help="where the bill has it",
    )
    sub.add_argument(
        "--tolerance", metavar="SHARE", help="drift that passes, of the bill: 1%% (default 0.5%%)"
    )
    sub.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def command(args: argparse.Namespace) -> int:
    from mavi_tasks.costs import cost_report, to_json
    from mavi_tasks.reports.terminal.console import open_console
    from mavi_tasks.reports.terminal.costs import render_terminal

    _publish(args.dirs)
    report = cost_report(
        args.dirs,
        by=tuple(name.strip() for name in args.by.split(",") if name.strip()),
        tz=args.tz,
        since=args.since,
        until=args.until,
        budget_usd=_dollars(args.budget_usd),
    )
    console = open_console(stderr=args.json)
    render_terminal(report, console)
    repriced = _reprice(args, report) if args.what_if or args.as_of or args.prices else None
    reconciled = _reconcile(args, report) if args.invoice is not None else None
    _write(args, report, repriced, reconciled)
    if args.json:
        more = {"repriced": repriced and repriced.to_json(), "invoice": reconciled and reconciled.to_json()}
        print_json(to_json(report) | more)
    return reconciled.exit_status if reconciled is not None else 0


def _publish(dirs: Sequence[str]) -> None:
    """What dead runs left in the journal of local datasets counts too."""
    from mavi_tasks.storage.publish import Dataset

    for folder in dirs:
        if "://" not in folder and Path(folder, "_journal").is_dir():
            Dataset(Path(folder)).publish_if_possible()


def _dollars(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        amount = Decimal(text.lstrip("$"))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount <= 0:
        raise InputError(f"--budget-usd {text!r}: must be dollars > 0")
    return amount


def _book(args: argparse.Namespace) -> "PriceBook":
    from mavi_tasks.pricing.book import load_prices

    return load_prices(args.prices)


def _reprice(args: argparse.Namespace, report: "CostReport") -> "Repriced":
    from mavi_tasks.costs.repricing import reprice
    from mavi_tasks.reports.terminal.console import open_console

    found = reprice(report, _book(args), as_of=args.as_of, what_if=args.what_if)
    values = found.to_json()
    console = open_console(stderr=args.json)
    what = f"as {args.what_if}" if args.what_if else "at these prices"
    console.print(f"The same usage {what}: ${values['repriced_usd']} instead of ${values['recorded_usd']}")
    if values["caveat"]:
        console.print(values["caveat"])
    return found


def _reconcile(args: argparse.Namespace, report: "CostReport") -> "Reconciled":
    from mavi_tasks.costs.invoice_csv import read_bill
    from mavi_tasks.costs.reconciliation import Tolerance, reconcile
    from mavi_tasks.reports.terminal import run
    from mavi_tasks.reports.terminal.console import open_console

    columns = dict(_pair(text) for text in args.invoice_column)
    tolerance = Tolerance(share=_fraction(args.tolerance)) if args.tolerance is not None else None
    found = reconcile(report, read_bill(args.invoice, columns), _book(args), tolerance=tolerance)
    values = found.to_json()
    console = open_console(stderr=args.json)
    console.print(
        f"Bill ${values['billed_usd']}, ledger ${values['ledger_usd']}, "
        f"drift ${values['drift_usd']}: {found.verdict}"
    )
    run.plain([row for row in values["lines"] if row["verdict"] != "agrees"], _DRIFTING, console)
    for note in values["notes"]:
        console.print(note)
    return found


_DRIFTING = ("when", "model", "billed_usd", "ledger_usd", "drift_usd", "verdict")


def _pair(text: str) -> tuple[str, str]:
    name, found, title = text.partition("=")
    if not found or not title:
        raise InputError(f"--invoice-column {text!r}: give amount=NAME, date=NAME or model=NAME")
    return name, title


def _fraction(text: str) -> Decimal:
    from mavi_tasks.compare import parse_fraction

    return Decimal(str(parse_fraction(text)))


def _write(
    args: argparse.Namespace,
    report: "CostReport",
    repriced: "Repriced | None",
    reconciled: "Reconciled | None",
) -> None:
    if args.html is not None:
        from mavi_tasks.reports.html.costs_page import costs_page

        args.html.parent.mkdir(parents=True, exist_ok=True)
        page = costs_page(report, repriced=repriced, reconciled=reconciled)
        args.html.write_text(page, encoding="utf-8")
        say(f"Dashboard: {args.html}", stderr=True)
    if args.to is not None:
        from mavi_tasks.costs.export import export

        rows = export(report, args.to, focus=args.focus)
        say(f"{rows} rows -> {args.to}", stderr=True)
    elif args.focus:
        raise InputError("--focus needs --to FILE")
