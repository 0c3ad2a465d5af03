"""Serve the deployments of prefect.yaml from this process: schedules on one machine, without a work pool.

    python -P -m mavi_tasks.flows.serve [prefect.yaml]    # needs a Prefect API: prefect server start

An entrypoint is mavi_tasks.flows.label.label_media, or a flow of your own: flows/label.py:label_media.
Runs are processes of their own, in this folder; Ctrl-C pauses the schedules and stops. With -P, no module of
this folder is run by chance.
"""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from prefect import Flow, serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType

from mavi_tasks.common.regular_file import read_text
from mavi_tasks.common.screen import Parser, log_to_stderr, say
from mavi_tasks.errors import InputError, MaviError


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until stopped; returns the exit status."""
    parser = Parser(prog="python -P -m mavi_tasks.flows.serve", description=__doc__.partition("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, default=Path("prefect.yaml"), metavar="prefect.yaml")
    parser.add_argument("--only", action="append", metavar="NAME", help="of these deployments; repeat")
    args = parser.parse_args(argv)
    log_to_stderr()
    here = str(Path.cwd())
    if not {"", here} & set(sys.path):
        sys.path.append(here)  # for flows of the user's own; behind all that is installed
    try:
        served = deployments(args.file, args.only)
    except MaviError as error:
        say(f"mavi: {error}", stderr=True)
        return error.exit_status
    keep_this_folder_out_of_runs(served)
    serve(*served)
    return 0


def keep_this_folder_out_of_runs(served: Sequence[RunnerDeployment]) -> None:
    """Have the processes of flow runs take no module from this folder, unless it holds one of the flows.

    Prefect starts them by `python -m`, with the key in their environment: a `base64.py` here would be run.
    """
    if not any(map(_is_of_this_folder, served)):
        os.environ["PYTHONSAFEPATH"] = "1"


def _is_of_this_folder(deployment: RunnerDeployment) -> bool:
    module = sys.modules[str(deployment.entrypoint).rpartition(".")[0]]
    return Path(module.__file__ or "").resolve().is_relative_to(Path.cwd().resolve())


def deployments(file: Path, only: Sequence[str] | None = None) -> list[RunnerDeployment]:
    """The deployments of a prefect.yaml, as `flow.serve` takes them. Raises InputError."""
    entries = _read(file)
    names = [entry["name"] for entry in entries]
    unknown = sorted(set(only or ()) - set(names))
    if unknown:
        raise InputError(f"--only {unknown[0]}: {file} has {', '.join(names)}")
    return [_deployment(entry) for entry in entries if only is None or entry["name"] in only]


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        found = yaml.safe_load(read_text(file))
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{file}: {error}") from error
    if not isinstance(found, dict) or not found.get("deployments"):
        raise InputError(f"{file}: has no deployments")
    return list(found["deployments"])


def _deployment(entry: Mapping[str, Any]) -> RunnerDeployment:
    schedules = [
        Cron(
            one["cron"],
            timezone=one.get("timezone"),
            slug=one.get("slug", f"schedule-{number}"),  # without one the server does not take a change
            active=one.get("active", True),
        )
        for number, one in enumerate(entry.get("schedules", ()), 1)
    ]
    limit = entry.get("concurrency_limit")
    made: Any = _flow(entry["entrypoint"]).to_deployment(
        entry["name"],
        schedules=schedules,
        parameters=dict(entry.get("parameters", {})),
        description=entry.get("description"),
        tags=list(entry.get("tags", ())),
        entrypoint_type=EntrypointType.MODULE_PATH,
        concurrency_limit=ConcurrencyLimitConfig(**limit) if isinstance(limit, dict) else limit,
    )
    assert isinstance(made, RunnerDeployment)
    return made


def _flow(entrypoint: str) -> "Flow[Any, Any]":
    """The flow of `package.module.flow` or `folder/module.py:flow`, imported as a module.

    Loaded by its path, a deployment that had a worker before would look for the file in that worker's folder.
    """
    path, _, name = entrypoint.rpartition(":" if ":" in entrypoint else ".")
    module = path.removesuffix(".py").replace("/", ".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"entrypoint {entrypoint}: {error} (in {Path.cwd()})") from error
    if not isinstance(found, Flow):
        raise InputError(f"entrypoint {entrypoint}: {name} is not a Prefect flow")
    return found


if __name__ == "__main__":
    sys.exit(main())
