"""`mavi doctor --probe`: what a gateway does where its contract says nothing, written to gateway.yaml."""

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mavi_tasks.cli import job_options
from mavi_tasks.common.screen import print_json, say
from mavi_tasks.errors import InputError

if TYPE_CHECKING:
    from mavi_tasks.job import Gateway
    from mavi_tasks.job.probed import Probed

EXIT_FAILED = 3


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--probe",
        nargs="*",
        metavar="MODEL",
        help="find out by small paid calls what the gateway's documents leave open; its price is asked first",
    )
    parser.add_argument(
        "--gateway", default="mavi", metavar="G", help="what is probed: mavi, sandbox, a base URL"
    )
    parser.add_argument("--api-key-env", metavar="VARIABLE", help="the variable with its key")
    parser.add_argument("--to", default="gateway.yaml", metavar="FILE", help="default: gateway.yaml")
    parser.add_argument("--yes", action="store_true", help="pay without asking")


def command(args: argparse.Namespace) -> int:
    from mavi_tasks.common.clock import utc_today
    from mavi_tasks.common.format import usd as usd_text
    from mavi_tasks.common.money import usd
    from mavi_tasks.gateway import probe
    from mavi_tasks.pricing.book import load_prices
    from mavi_tasks.providers import family_of, probing

    job_options.load_env_file()
    models = args.probe or list(probing.CHEAPEST)
    for model in models:
        if family_of(model).name == "openai":
            raise InputError(f"--probe {model}: OpenAI's API leaves nothing open that mavi needs to know")
    gateway = _gateway(args)
    book, today = load_prices(), utc_today()
    worst = probe.worst_pico(models, book, today)
    calls = sum(map(probe.most_calls, models))
    with _opened(gateway) as (base_url, key):
        price = "at a cost that is not known" if worst is None else f"for at most {usd_text(usd(worst))}"
        if gateway.name == "sandbox":
            price += ", which a sandbox does not charge"
        say(f"mavi: up to {calls} calls to {', '.join(models)} {price}", stderr=True)
        if not args.yes and not _confirmed():
            return 0
        found = asyncio.run(
            probe.probe(base_url, key, models, book, today, lambda text: say(f"mavi: {text}", stderr=True))
        )
    settings = _settings(gateway, found, probe.settings_of(found))
    _write(Path(args.to), settings, found)
    if args.json:
        print_json({"file": args.to, **settings})
    else:
        _show(found, args.to)
    return 0 if any(one.works for one in found.models.values()) else EXIT_FAILED


def _gateway(args: argparse.Namespace) -> "Gateway":
    from pydantic import ValidationError

    from mavi_tasks.job import Gateway

    where = {"base_url": args.gateway} if "://" in args.gateway else {"name": args.gateway}
    try:
        return Gateway.model_validate({**where, "api_key_env": args.api_key_env})
    except ValidationError as error:
        problem = error.errors()[0]
        flag = "--api-key-env" if "api_key_env" in problem["loc"] else "--gateway"
        raise InputError(f"{flag}: {problem['msg']}") from None


@contextmanager
def _opened(gateway: "Gateway") -> Iterator[tuple[str, str | None]]:
    """Base URL and key, found as `mavi run` finds them."""
    from mavi_tasks.job.endpoint import resolve_endpoint

    endpoint = resolve_endpoint(gateway, os.environ)
    if endpoint.base_url is not None:
        yield endpoint.base_url, endpoint.api_key
        return
    from mavi_tasks.sandbox import Sandbox

    with Sandbox() as sandbox:
        yield sandbox.base_url, endpoint.api_key


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise InputError("not a terminal: give --yes to pay for the probe")
    say("Go on? [y/N] ", stderr=True, end="")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _settings(gateway: "Gateway", found: "Probed", settings: dict[str, Any]) -> dict[str, Any]:
    where = {"name": gateway.name, "base_url": gateway.base_url, "api_key_env": gateway.api_key_env}
    seen = found.model_dump(exclude_none=True)
    return {**{name: value for name, value in where.items() if value is not None}, **settings, "probed": seen}


def _write(path: Path, settings: dict[str, Any], found: "Probed") -> None:
    from mavi_tasks.job import gateway_file

    try:
        path.write_text(gateway_file.text_of(settings, found.at[:10]), "utf-8")
    except OSError as error:
        raise InputError(f"--to {path}: cannot be written ({error.strerror})") from error


def _show(found: "Probed", file: str) -> None:
    from mavi_tasks.common.format import usd

    for model, one in found.models.items():
        say(model)
        for name, value in one.model_dump(exclude_none=True).items():
            say(f"  {name:<18} {value}")
    refused = f", of {found.body_refused_bytes:,} not" if found.body_refused_bytes else ""
    say(f"bodies of {found.body_taken_bytes or 0:,} bytes are taken{refused}")
    exposure = Decimal(found.exposure_usd)
    doubt = f", and at most {usd(exposure)} for answers that named no tokens" if exposure else ""
    say(f"{found.calls} calls cost {usd(Decimal(found.cost_usd))}{doubt}")
    say(f"{file} is written; a job includes it: gateway: {file}")
