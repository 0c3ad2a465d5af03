"""`mavi export`: one file out of a dataset."""

import argparse

from mavi_tasks.common.screen import say


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", metavar="DIR", help="a dataset: a folder or s3://BUCKET/PREFIX")
    parser.add_argument("--to", required=True, metavar="FILE", help=".parquet, .csv or .jsonl; s3:// too")
    parser.add_argument(
        "--latest", action="store_true", help="one row per item, prompt and model: the one that counts now"
    )
    parser.add_argument(
        "--all-versions", action="store_true", help="... and one for each older text of a prompt"
    )
    parser.add_argument("--table", choices=("results", "attempts", "runs", "labels"), default="results")


def command(args: argparse.Namespace) -> int:
    from mavi_tasks.storage.export import export
    from mavi_tasks.storage.s3 import existing

    rows = export(
        existing(args.dir), args.to, table=args.table, latest=args.latest, all_versions=args.all_versions
    )
    say(f"{rows} rows -> {args.to}")
    return 0
