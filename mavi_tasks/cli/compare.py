"""`mavi compare`: a bake-off of the models in datasets, or what changed between two runs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mavi_tasks.common.screen import print_json, say
from mavi_tasks.errors import InputError

if TYPE_CHECKING:
    from mavi_tasks.compare import Run
    from mavi_tasks.compare.labelled import Labelled

EXIT_DRIFT = 3


def options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("dirs", nargs="+", metavar="DIR", help="datasets; DIR@RUN_ID for one run of a dataset")
    sub.add_argument("--html", type=Path, metavar="FILE", help="write the report page")
    sub.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    sub.add_argument("--escalate", type=Path, metavar="FILE", help="write the items that --model left open")
    sub.add_argument("--model", action="append", default=[], metavar="MODEL", help="with --escalate")
    sub.add_argument(
        "--below", action="append", type=float, default=[], metavar="X", help="... by confidence"
    )
    sub.add_argument(
        "--match",
        action="append",
        default=[],
        metavar="FIELD=RULE",
        help="exact, normalised, numeric[:TOL], set",
    )
    sub.add_argument(
        "--truth",
        type=Path,
        metavar="FILE",
        help="CSV of labels: item_id, truth and, of a sample, inclusion_probability",
    )
    sub.add_argument(
        "--label-sample", type=int, metavar="N", help="draw the N items to label first, with --to"
    )
    sub.add_argument(
        "--label-for",
        choices=("differences", "accuracy"),
        default="differences",
        help="what the labels are to show: which model is better (default), or how good each is",
    )
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="of the sample (default 0)")
    sub.add_argument("--to", type=Path, metavar="FILE", help="where --label-sample writes its CSV")
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
    if args.escalate is not None:
        return _escalate(args, fields)
    if args.label_sample is not None or args.to is not None:
        return _label_sample(args, fields)
    if _is_drift(args, sources):
        return _drift(args, sources, fields)
    return _bakeoff(args, [source for source in sources if isinstance(source, Path)], fields)


def _escalate(args: argparse.Namespace, fields: dict[str, str]) -> int:
    """The next step of a cascade: a manifest of the items that the models so far have not settled."""
    from mavi_tasks.compare import open_items, write_manifest
    from mavi_tasks.storage.s3 import existing

    if not args.model:
        raise InputError("--escalate needs --model: the models of the steps so far")
    units = open_items(
        [existing(folder) for folder in args.dirs], args.model, below=args.below, fields=fields
    )
    say(f"{write_manifest(units, args.escalate)} items -> {args.escalate}")
    return 0


def _label_sample(args: argparse.Namespace, fields: dict[str, str]) -> int:
    """The items whose labels tell the models apart, as a table to be filled in."""
    from mavi_tasks.compare import sample_of, write_csv
    from mavi_tasks.storage.s3 import existing

    if args.label_sample is None or args.to is None:
        raise InputError("--label-sample N and --to FILE go together: how many items, and where to")
    units, chosen = sample_of(
        [existing(folder) for folder in args.dirs],
        args.label_sample,
        aim=args.label_for,
        seed=args.seed,
        fields=fields,
        truth=_truth(args),
    )
    count = write_csv(units, chosen, args.to)
    say(f"{count} of {len(units):,} items -> {args.to}: fill in its column truth, from the top")
    say(f"then: mavi compare {' '.join(args.dirs)} --truth {args.to}")
    return 0


def _truth(args: argparse.Namespace) -> "Labelled | None":
    from mavi_tasks.compare import read_csv

    return None if args.truth is None else read_csv(args.truth)


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
        truth=_truth(args),
        fields=fields,
        like_for_like=args.like_for_like,
        reference=args.reference,
        baseline=args.baseline,
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
