"""`mavi compare`: a bake-off of the models in datasets, or what changed between two runs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mavi_tasks.cli import cascade
from mavi_tasks.common.screen import print_json, say
from mavi_tasks.errors import InputError

if TYPE_CHECKING:
    from mavi_tasks.compare import Run

EXIT_DRIFT = 3


def options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("dirs", nargs="+", metavar="DIR", help="datasets; DIR@RUN_ID for one run of a dataset")
    sub.add_argument("--html", type=Path, metavar="FILE", help="write the report page")
    sub.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    sub.add_argument("--cascade-out", type=Path, metavar="FILE", help="write the job of a certified cascade")
    sub.add_argument("--job", type=Path, metavar="JOB", help="with --cascade-out: the job that was compared")
    sub.add_argument(
        "--match",
        action="append",
        default=[],
        metavar="FIELD=RULE",
        help="exact, normalised, numeric[:TOL], set",
    )
    sub.add_argument(
        "--margin",
        type=float,
        default=2.0,
        metavar="POINTS",
        help="how far behind the best the choice may be (2)",
    )
    sub.add_argument("--reference", metavar="MODEL", help="this model's answers stand in for the truth")
    sub.add_argument("--baseline", metavar="MODEL", help="the model in use now")
    sub.add_argument(
        "--like-for-like", action="store_true", help="leave out items that models saw differently"
    )
    sub.add_argument(
        "--drift",
        action=argparse.BooleanOptionalAction,
        help="compare two runs of the same models (default: when both have a model in common)",
    )
    sub.add_argument(
        "--fail-if-flips", metavar="SHARE", help="exit 3 when more labels than this changed: 5%%"
    )


def command(args: argparse.Namespace) -> int:
    fields = dict(_field(text) for text in args.match)
    sources = [_source(text) for text in args.dirs]
    if args.cascade_out is not None:
        return cascade.write_job(args, [one for one in sources if isinstance(one, Path)], fields)
    if _is_drift(args, sources):
        return _drift(args, sources, fields)
    return _bakeoff(args, [source for source in sources if isinstance(source, Path)], fields)


def _field(text: str) -> tuple[str, str]:
    name, found, rule = text.partition("=")
    if not found or not name or not rule:
        raise InputError(f"--match {text!r}: give FIELD=RULE, for example label=normalised")
    return name, rule


def _source(text: str) -> "Path | Run":
    from mavi_tasks.compare import Run
    from mavi_tasks.storage.s3 import existing

    folder, found, run_id = text.rpartition("@")
    return Run(existing(folder), run_id) if found and not Path(text).exists() else existing(text)


def _is_drift(args: argparse.Namespace, sources: "list[Path | Run]") -> bool:
    from mavi_tasks.compare import shared_models

    if len(sources) != 2:
        if args.drift or args.fail_if_flips:
            raise InputError("give two datasets or runs to compare: the one before and the one after")
        return False
    if args.drift is not None:
        return bool(args.drift)
    roots = [source if isinstance(source, Path) else source.root for source in sources]
    return bool(args.fail_if_flips) or roots[0] == roots[1] or bool(shared_models(roots[0], roots[1]))


def _bakeoff(args: argparse.Namespace, dirs: list[Path], fields: dict[str, str]) -> int:
    from mavi_tasks.compare import compare
    from mavi_tasks.reports.terminal.compare import render_terminal
    from mavi_tasks.reports.terminal.console import open_console

    if len(dirs) != len(args.dirs):
        raise InputError("DIR@RUN_ID is for two runs: give one before and one after")
    found = compare(
        dirs,
        fields=fields,
        like_for_like=args.like_for_like,
        reference=args.reference,
        baseline=args.baseline,
        margin=args.margin,
    )
    render_terminal(found, open_console(stderr=args.json))
    if args.html is not None:
        from mavi_tasks.reports.html.compare_page import write

        _wrote(write(found, args.html))
    if args.json:
        print_json(found.to_json())
    return 0


def _drift(args: argparse.Namespace, sources: "list[Path | Run]", fields: dict[str, str]) -> int:
    from mavi_tasks.compare import compare_runs, parse_fraction
    from mavi_tasks.reports.terminal.compare import render_drift
    from mavi_tasks.reports.terminal.console import open_console

    allowed = parse_fraction(args.fail_if_flips) if args.fail_if_flips is not None else None
    found = compare_runs(sources[0], sources[1], fields=fields)
    render_drift(found, open_console(stderr=args.json))
    if args.html is not None:
        from mavi_tasks.reports.html.drift_page import write

        _wrote(write(found, args.html))
    if args.json:
        print_json(found.to_json())
    if allowed is not None and found.exceeds(allowed):
        say(f"mavi: more than {allowed:.1%} of the labels changed", stderr=True)
        return EXIT_DRIFT
    return 0


def _wrote(path: Path) -> None:
    say(f"Report: {path}", stderr=True)
