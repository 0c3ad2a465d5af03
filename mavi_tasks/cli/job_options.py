"""The options that `mavi run` and `mavi plan` share: which job, and what to change in it."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mavi_tasks.common.screen import say
from mavi_tasks.errors import InputError

if TYPE_CHECKING:
    from mavi_tasks.job import Job

JOB_SUFFIXES: Final = (".yaml", ".yml")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "job", metavar="JOB", help="a job YAML, or a manifest (then give --model and --prompt)"
    )
    parser.add_argument("--model", action="append", metavar="FAMILY:NAME", help="repeat for several")
    parser.add_argument("--prompt", metavar="TEXT", help="what to ask of every item; may use {{ columns }}")
    parser.add_argument("--out", metavar="DIR", help="the dataset's folder")
    parser.add_argument("--limit", metavar="N", help="only the first N items")
    parser.add_argument(
        "--only",
        metavar="WHAT",
        help="ask only the rows that failed, were skipped, or stand in a file: failed, skipped or FILE.csv "
        "(as `mavi status DIR --failed --to FILE.csv` writes it)",
    )
    parser.add_argument("--budget-usd", metavar="X", help="never spend more than this")
    parser.add_argument("--max-cost-per-item", metavar="X", help="skip requests that may cost more (dollars)")
    parser.add_argument("--gateway", metavar="G", help="mavi, sandbox or a base URL")
    parser.add_argument(
        "--allow-unknown-model",
        action="store_true",
        default=None,
        help="send models that are in no price table; their cost is unknown",
    )
    parser.add_argument("--base-url", metavar="URL", help="where the gateway answers")
    parser.add_argument(
        "--trust-module",
        action="append",
        default=[],
        metavar="MODULE",
        help="from now on jobs may import this Python file or module: answer_schema: module:Class",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def load_env_file() -> None:
    """Take keys from the `.env` of the current folder, and say what is wrong with it. Raises InputError."""
    from mavi_tasks.job import env_file

    for warning in env_file.load(Path.cwd(), os.environ):
        say(f"mavi: {warning}", stderr=True)


def job_of_args(args: argparse.Namespace) -> "Job":
    """The job that the arguments describe. Raises InputError."""
    from mavi_tasks.job import job_of, load_job, trusted_modules

    for entry in args.trust_module:
        trusted_modules.trust(entry, os.environ)
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
        "allow_unknown_model": args.allow_unknown_model,
        "max_skipped_share": 0 if getattr(args, "fail_on_skipped", False) else None,
    }
    return {name: value for name, value in given.items() if value is not None}
