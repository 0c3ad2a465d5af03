"""`mavi ...`: the command line, and where the parts are put together.

Every command imports what it needs when it runs, so that `mavi --help` answers at once.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mavi_tasks import __version__
from mavi_tasks.cli import compare, costs
from mavi_tasks.errors import InputError, MaviError

if TYPE_CHECKING:
    from mavi_tasks.execution.local import RunCallbacks
    from mavi_tasks.execution.run_report import RunReport
    from mavi_tasks.job import Job
    from mavi_tasks.planning.forecast import Forecast
    from mavi_tasks.planning.pilot import PilotResult

JOB_SUFFIXES = (".yaml", ".yml")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status. No error of ours ends in a traceback."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    args = _parser().parse_args(arguments)
    level = logging.INFO if getattr(args, "verbose", False) else logging.WARNING
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("mavi").setLevel(level)
    try:
        return int(args.command(args))
    except InputError as error:
        _complain(error.problems)
        return error.exit_status
    except MaviError as error:
        _complain([str(error)])
        return error.exit_status
    except KeyboardInterrupt:
        _complain(["interrupted"])
        return 130
    except BrokenPipeError:  # `mavi ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a file that an option names, as --html: datasets raise StorageError
        if error.errno is None:
            raise
        _complain([": ".join(str(part) for part in (error.filename, error.strerror) if part)])
        return MaviError.exit_status


def _complain(problems: Sequence[str]) -> None:
    for problem in problems:
        print(f"mavi: {problem}", file=sys.stderr)


def _print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False))


# -- the parser


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mavi",
        description="Label media with vision models, choose between the models, account for every dollar.",
        epilog="Exit status: 0 all answered, 2 wrong input (nothing was sent), 3 some rows failed, "
        "4 stopped early (run again to go on), 130 interrupted (likewise).",
    )
    parser.add_argument("--version", action="version", version=f"mavi {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, function, options, text in COMMANDS:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=function)
        options(sub)
    return parser


def _job_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("job", metavar="JOB", help="a job YAML, or a manifest (then give --model and --prompt)")
    sub.add_argument("--model", action="append", metavar="FAMILY:NAME", help="repeat for several")
    sub.add_argument("--prompt", metavar="TEXT", help="what to ask of every item; may use {{ columns }}")
    sub.add_argument("--out", metavar="DIR", help="the dataset's folder")
    sub.add_argument("--limit", metavar="N", help="only the first N items")
    sub.add_argument("--budget-usd", metavar="X", help="never spend more than this")
    sub.add_argument("--max-cost-per-item", metavar="X", help="skip requests that may cost more (dollars)")
    sub.add_argument("--gateway", metavar="G", help="mavi, sandbox or a base URL")
    sub.add_argument("--base-url", metavar="URL", help="where the gateway answers")
    sub.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def _run_options(sub: argparse.ArgumentParser) -> None:
    _job_options(sub)
    sub.add_argument(
        "--prefect",
        action=argparse.BooleanOptionalAction,
        help="run as a Prefect flow (default: when PREFECT_API_URL is set)",
    )
    sub.add_argument(
        "--trust-host",
        action="append",
        default=[],
        metavar="HOST[=VARIABLE]",
        help="from now on this host may get the MAVI key, or the key in this variable",
    )
    sub.add_argument("--dry-run", action="store_true", help="check and plan, send nothing: as `mavi plan`")
    sub.add_argument("--pilot", type=int, metavar="N", help="ask N items first, show the cost, then ask you")
    sub.add_argument("--yes", action="store_true", help="go on after the pilot without asking")
    sub.add_argument("--retry-invalid", action="store_true", help="ask again what did not fit the schema")
    sub.add_argument("--quiet", action="store_true", help="no progress, no table")
    sub.add_argument("-v", "--verbose", action="store_true", help="tell every change of a limit")


def _price_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", metavar="MODEL")
    sub.add_argument("--input", type=int, required=True, metavar="N", help="input tokens of one request")
    sub.add_argument("--output", type=int, required=True, metavar="N", help="output tokens")
    sub.add_argument("--on", type=date.fromisoformat, metavar="DATE", help="the price in force on this day")
    sub.add_argument("--json", action="store_true")


def _models_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true")
    sub.add_argument("--check", action="store_true", help="tell old prices, unpriced and retired models")
    sub.add_argument("--older-than", type=int, default=90, metavar="DAYS")
    sub.add_argument("--seen-in", action="append", default=[], metavar="DIR", help="models of these datasets")


def _status_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("dir", metavar="DIR", help="a dataset: a folder or s3://BUCKET/PREFIX")
    sub.add_argument("--json", action="store_true")


def _export_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("dir", metavar="DIR", help="a dataset: a folder or s3://BUCKET/PREFIX")
    sub.add_argument("--to", required=True, metavar="FILE", help=".parquet, .csv or .jsonl; s3:// too")
    sub.add_argument("--latest", action="store_true", help="one row per request: the one that finished last")
    sub.add_argument("--table", choices=("results", "attempts", "runs", "labels"), default="results")


def _sandbox_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--host", default="127.0.0.1")
    sub.add_argument("--port", type=int, default=8787)
    sub.add_argument("--latency-s", type=float, metavar="S", help="the same for every call")
    sub.add_argument("--media-root", type=Path, metavar="DIR", help="serve this folder under /media")


def _doctor_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true")


# -- jobs


def _job(args: argparse.Namespace) -> "Job":
    from mavi_tasks.job import job_of, load_job

    overrides = _overrides(args)
    if args.job.lower().endswith(JOB_SUFFIXES):
        return load_job(Path(args.job), overrides)
    missing = [flag for flag, value in (("--model", args.model), ("--prompt", args.prompt)) if not value]
    if "--model" in missing:
        raise InputError(f"{args.job}: a manifest needs {' and '.join(missing)}; or give a job file (.yaml)")
    return job_of(manifest=args.job, **overrides)


def _overrides(args: argparse.Namespace) -> dict[str, Any]:
    given = {
        "models": args.model,
        "prompt": args.prompt,
        "output": args.out,
        "limit": args.limit,
        "budget_usd": args.budget_usd,
        "max_cost_per_item_usd": args.max_cost_per_item,
        "gateway": args.gateway,
        "base_url": args.base_url,
    }
    return {name: value for name, value in given.items() if value is not None}


# -- commands


def run(args: argparse.Namespace) -> int:
    if args.dry_run:
        return plan(args)
    if args.pilot is not None and args.pilot < 1:
        raise InputError("--pilot wants the number of items to ask first: 1 or more")
    job = _job(args)
    from mavi_tasks.job import trusted_hosts
    from mavi_tasks.reports.terminal import run as screen

    for entry in args.trust_host:
        trusted_hosts.trust(entry, os.environ)

    report = _by_prefect(args, job) if _wants_prefect(args, job) else _here(args, job)
    if not args.quiet:
        screen.ending(report, screen.console(stderr=args.json))
    if args.json:
        _print_json(report.to_json())
    return report.exit_status


def _here(args: argparse.Namespace, job: "Job") -> "RunReport":
    from mavi_tasks.execution.local import execute

    return execute(
        job,
        os.environ,
        _callbacks(args),
        retry_invalid=args.retry_invalid,
        pilot_size=args.pilot,
    )


def _by_prefect(args: argparse.Namespace, job: "Job") -> "RunReport":
    if args.pilot is not None:
        raise InputError("--pilot asks you, which a Prefect flow cannot do: add --no-prefect")
    from mavi_tasks.flows import label

    return label.run(job, retry_invalid=args.retry_invalid)


def _callbacks(args: argparse.Namespace) -> "RunCallbacks":
    from mavi_tasks.execution.local import RunCallbacks
    from mavi_tasks.reports.terminal.run import Progress, reading

    quiet = getattr(args, "quiet", False)
    return RunCallbacks(
        reading=lambda: reading(quiet=quiet),
        on_planned=_planned(args),
        confirm=_go_on(args),
        show_progress=lambda counters, limiters: Progress(counters, limiters, quiet=quiet).show(),
    )


def _planned(args: argparse.Namespace) -> "Callable[[Forecast], None]":
    from mavi_tasks.reports.terminal import run as screen

    def show(told: "Forecast") -> None:
        if not args.quiet:
            screen.planned(told, screen.console(stderr=True))

    return show


def _go_on(args: argparse.Namespace) -> "Callable[[PilotResult, Forecast], bool]":
    """After a pilot: yes by --yes, by an answer on the terminal, or not at all."""
    from mavi_tasks.reports.terminal import run as screen

    def ask(measured: "PilotResult", told: "Forecast") -> bool:
        screen.piloted(measured, told, screen.console(stderr=True))
        if args.yes:
            return True
        if not sys.stdin.isatty():
            print("mavi: not a terminal: give --yes to go on after a pilot", file=sys.stderr)
            return False
        print("Go on with the rest? [y/N] ", end="", file=sys.stderr, flush=True)
        try:
            return sys.stdin.readline().strip().lower() in ("y", "yes")
        except KeyboardInterrupt:  # a no like any other: the run still ends with its row and its report
            return False

    return ask


def plan(args: argparse.Namespace) -> int:
    from mavi_tasks.execution import local
    from mavi_tasks.reports.terminal import run as screen

    told = local.plan(
        _job(args),
        os.environ,
        _callbacks(args),
        retry_invalid=getattr(args, "retry_invalid", False),
    )
    screen.planned(told, screen.console(stderr=args.json), brief=False)
    if args.json:
        _print_json(told.to_json())
    return 0


def _wants_prefect(args: argparse.Namespace, job: "Job") -> bool:
    from mavi_tasks.job import BY_PREFECT

    if args.prefect is not None:
        return bool(args.prefect)
    return job.runner in BY_PREFECT or bool(os.environ.get("PREFECT_API_URL"))


def price(args: argparse.Namespace) -> int:
    from mavi_tasks.common.money import exact_text
    from mavi_tasks.pricing.book import load_prices

    prices = load_prices()
    found = prices.price(args.model, args.on or _today())
    if found is None:
        raise InputError(prices.hint(args.model) or f"{args.model}: no price was in force then")
    if args.input < 0 or args.output < 0:
        raise InputError("--input and --output are token counts: 0 or more")
    cost = found.cost(args.input, args.output)
    assert cost.total_pico is not None
    row = {
        "model": args.model,
        "input_tokens": args.input,
        "output_tokens": args.output,
        "cost_usd": exact_text(cost.total_pico),
        "price_id": cost.price_id,
    }
    if args.json:
        _print_json(row)
    else:
        print(f"{args.model}: {args.input} in + {args.output} out = ${row['cost_usd']} ({cost.price_id})")
    return 0


def models(args: argparse.Namespace) -> int:
    from mavi_tasks.pricing.book import load_prices

    if args.check:
        return _check_models(args)
    rows = [row.to_json() for row in load_prices().models(_today())]
    if args.json:
        _print_json({"models": rows})
        return 0
    from mavi_tasks.reports.terminal import run as screen

    screen.models(rows, screen.console())
    return 0


def _check_models(args: argparse.Namespace) -> int:
    from mavi_tasks.pricing.book import load_prices

    seen = []
    for folder in args.seen_in:
        from mavi_tasks.storage.tables import open_table

        seen += open_table(Path(folder), "results").to_table(columns=["model"])["model"].unique().to_pylist()
    findings = load_prices().check(args.older_than, _today(), seen)
    if args.json:
        _print_json({"findings": [{"kind": f.kind, "model": f.model, "text": f.text} for f in findings]})
    else:
        for finding in findings:
            print(f"{finding.kind}: {finding.model}: {finding.text}")
    return 0


def status(args: argparse.Namespace) -> int:
    from mavi_tasks.storage.s3 import existing
    from mavi_tasks.storage.status import of

    found = of(existing(args.dir))
    if args.json:
        _print_json(found.to_json())
        return 0
    from mavi_tasks.reports.terminal import run as screen

    screen.status(found, screen.console())
    return 0


def export(args: argparse.Namespace) -> int:
    from mavi_tasks.storage.export import export as write
    from mavi_tasks.storage.s3 import existing

    rows = write(existing(args.dir), args.to, table=args.table, latest=args.latest)
    print(f"{rows} rows -> {args.to}")
    return 0


def sandbox(args: argparse.Namespace) -> int:
    from mavi_tasks.gateway import embedded_sandbox
    from mavi_tasks.sandbox import serve

    def announce(url: str) -> None:
        print(f"sandbox: {url}  ({embedded_sandbox.answers()}; any key that begins with sk-)", flush=True)

    options = {
        "latency_s": args.latency_s,
        "media_root": args.media_root,
        "answerer": embedded_sandbox.answerer(),
    }
    try:
        serve(args.host, args.port, announce=announce, **options)
    except (OSError, OverflowError) as error:  # the latter: no port is so large
        why = getattr(error, "strerror", None) or error
        raise InputError(f"cannot serve on {args.host}:{args.port}: {why}") from error
    return 0


def doctor(args: argparse.Namespace) -> int:
    from mavi_tasks.cli.doctor import checks

    found = checks(os.environ)
    if args.json:
        _print_json({"checks": [{"name": c.name, "ok": c.ok, "text": c.text} for c in found]})
    else:
        for check in found:
            print(f"{'ok ' if check.ok else '-> '} {check.name}: {check.text}")
    return 0 if all(check.ok for check in found) else 4


def _today() -> date:
    return datetime.now(UTC).date()


_Options = Callable[[argparse.ArgumentParser], None]
COMMANDS: tuple[tuple[str, Callable[[argparse.Namespace], int], _Options, str], ...] = (
    ("run", run, _run_options, "run a job"),
    ("plan", plan, _job_options, "what a job would send, cost and take; nothing is sent"),
    ("status", status, _status_options, "what a dataset holds: answered, failed, in doubt, spent"),
    ("compare", compare.command, compare.options, "which model to choose, and how sure that is"),
    ("costs", costs.command, costs.options, "what was spent, on what, and what it bought"),
    ("export", export, _export_options, "one Parquet, CSV or JSONL file out of a dataset"),
    ("models", models, _models_options, "every model, what it takes and the price in force"),
    ("price", price, _price_options, "the exact cost of one request, and the tier used"),
    ("sandbox", sandbox, _sandbox_options, "serve the embedded gateway"),
    ("doctor", doctor, _doctor_options, "check key, gateway, Prefect, disk and versions"),
)
