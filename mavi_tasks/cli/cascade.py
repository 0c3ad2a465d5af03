"""Cascades on the command line: `mavi compare --cascade-out` writes a job, `mavi run` runs it."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mavi_tasks.common.screen import print_json, say
from mavi_tasks.errors import InputError

if TYPE_CHECKING:
    from mavi_tasks.execution.local import RunCallbacks
    from mavi_tasks.job import Job


def run(args: argparse.Namespace, job: "Job", callbacks: "RunCallbacks") -> int:
    """Run a job's cascade; returns the exit status. Raises MaviError."""
    from mavi_tasks.execution.cascade import cascade

    for option in ("pilot", "only", "retry_invalid", "prefect"):
        if getattr(args, option):
            raise InputError(f"--{option.replace('_', '-')}: not together with a cascade")
    report = cascade(job, os.environ, callbacks, pay_again=args.pay_again)
    if not args.quiet:
        state = "answered" if report.finished else report.runs[-1].message or "stopped: run it again to go on"
        say(
            f"Cascade: {report.items:,} items, {report.escalated:,} escalated; {state}; "
            f"{report.output}/cascade.parquet",
            stderr=args.json,
        )
        say(f"compare: mavi compare {report.output}", stderr=True)
    if args.json:
        print_json(report.to_json())
    return report.exit_status


def write_job(args: argparse.Namespace, dirs: list[Path], fields: dict[str, str]) -> int:
    """Certify a cascade by the answers in datasets, and write the job that runs it. Raises InputError."""
    import yaml

    from mavi_tasks.compare.cascade_choice import certified
    from mavi_tasks.execution.cascade import prompts_mark
    from mavi_tasks.job import load_job

    if args.job is None:
        raise InputError("--cascade-out needs --job JOB.yaml: the job whose prompts and manifest it takes")
    job = load_job(args.job)
    plan = certified(dirs, args.margin, fields, args.reference)
    proven = {**plan.certificate, "prompts": prompts_mark(job)}
    written = _fields(job, args.cascade_out)
    models = (*plan.first, plan.last)
    written["models"] = [one for one in written["models"] if one["model"] in models]
    written["cascade"] = {
        "first": list(plan.first), "last": plan.last, "below": plan.below, "match": fields,
        "certificate": proven,
    }  # fmt: skip
    if missing := [name for name in models if name not in [one["model"] for one in written["models"]]]:
        raise InputError(f"{args.job}: {missing[0]} is not one of its models, but of the cascade")
    args.cascade_out.parent.mkdir(parents=True, exist_ok=True)
    args.cascade_out.write_text(yaml.safe_dump(written, sort_keys=False, allow_unicode=True), "utf-8")
    behind = f"at most {proven['behind_points_high']:.1f} points behind {plan.last} alone (95%)"
    cost, alone = proven["cost_per_1000_usd"], proven["last_cost_per_1000_usd"]
    say(f"Cascade: {' + '.join(plan.first)}, then {plan.last}: {behind}")
    say(f"${cost} per 1,000 instead of ${alone} -> {args.cascade_out}")
    say(f"next: mavi run {args.cascade_out}", stderr=True)
    return 0


def _fields(job: "Job", path: Path) -> dict[str, Any]:
    """The job's fields as another file can hold them: paths relative to that file."""
    written = job.model_dump(mode="json", exclude={"source", "race", "cascade"}, exclude_defaults=True)
    here = path.resolve().parent
    written["name"] = f"{job.name}-cascade"
    for name, value in (("manifest", job.manifest), ("output", f"{job.output}-cascade")):
        written[name] = value if "://" in value else Path(os.path.relpath(value, here)).as_posix()
    return written
