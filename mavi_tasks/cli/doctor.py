"""`mavi doctor`: is everything in place? Versions, key, gateway, Prefect, disk, extras, sandbox.

`mavi doctor DIR --verify` reads every file of a dataset, and names those that are damaged.
"""

import argparse
import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from mavi_tasks.common.screen import print_json, say
from mavi_tasks.common.version import __version__
from mavi_tasks.errors import InputError

if TYPE_CHECKING:
    from mavi_tasks.job.env_file import EnvFile
    from mavi_tasks.storage.damage import Damaged

CONNECT_S: Final = 5.0
FREE_BYTES_NEEDED: Final = 1 << 30
EXIT_FOUND: Final = 4
EXIT_DAMAGED: Final = 3
EXTRAS: Final[Mapping[str, tuple[str, str]]] = {
    "video": ("av", "frames out of videos"),
    "stats": ("scipy", "exact tests"),
    "s3": ("s3fs", "s3:// media"),
}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", metavar="DIR", nargs="?", help="with --verify: a folder or s3://BUCKET/PREFIX")
    parser.add_argument("--verify", action="store_true", help="read every file; exit 3 if one is damaged")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def command(args: argparse.Namespace) -> int:
    if args.verify != (args.dir is not None):
        raise InputError("give a dataset and --verify together: mavi doctor DIR --verify")
    if args.verify:
        return _verify(args)
    from mavi_tasks.job import env_file

    found = env_file.read(Path.cwd(), os.environ)
    os.environ.update(found.values if found is not None and found.problem is None else {})
    return _check(args, _env_file(found))


def _verify(args: argparse.Namespace) -> int:
    from mavi_tasks.storage import damage
    from mavi_tasks.storage.s3 import existing

    root = existing(args.dir)
    if not (root / "results").is_dir():
        raise InputError(f"{args.dir}: is not a dataset (it has no results/ folder)")
    found = [*damage.verify(root), *_library(root)]
    if args.json:
        print_json({"damaged": [{**asdict(one), "path": str(one.path)} for one in found]})
        return EXIT_DAMAGED if found else 0
    for one in found:
        say(f"{one.path}: {one.problem}\n    lost: {one.lost}\n    what to do: {one.advice}")
    say(f"{len(found)} files are damaged" if found else "every file is whole")
    return EXIT_DAMAGED if found else 0


def _library(root: Path) -> "list[Damaged]":
    from mavi_tasks.media import probe_index
    from mavi_tasks.storage.damage import Damaged

    lost, advice = "nothing: the next run reads these media again", "delete it"
    return [
        Damaged(path, "is a damaged table of the media index", lost, advice)
        for path in probe_index.damaged(root / "_library")
    ]


def _check(args: argparse.Namespace, before: "Sequence[Check]") -> int:
    found = [*before, *checks(os.environ)]
    if args.json:
        print_json({"checks": [{"name": c.name, "ok": c.ok, "text": c.text} for c in found]})
    else:
        for check in found:
            say(f"{'ok ' if check.ok else '-> '} {check.name}: {check.text}")
    return 0 if all(check.ok for check in found) else EXIT_FOUND


@dataclass(frozen=True, slots=True)
class Check:
    """One check's result. When `ok` is False, `text` says what to do."""

    name: str
    ok: bool
    text: str


def checks(env: Mapping[str, str]) -> list[Check]:
    """All checks, in the order a first run needs them. Sends no request and costs nothing."""
    return [_python(), _key(env), _gateway(env), _prefect(env), _disk(), *_extras(), _sandbox()]


def _python() -> Check:
    from importlib import metadata

    names = ("prefect", "httpx", "aiohttp", "pyarrow", "pandas")
    found = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    text = f"mavi {__version__}, Python {sys.version.split()[0]}, {found}"
    return Check("versions", True, text)


def _env_file(found: "EnvFile | None") -> list[Check]:
    """What the `.env` of the current folder gives, by name; none when there is no such file."""
    if found is None:
        return []
    names = ", ".join(found.values) or "nothing"
    wrong = "; ".join([*([found.problem] if found.problem else ()), *found.warnings])
    return [Check("env file", not wrong, wrong or f"{found.path}: gives {names} (no value is shown)")]


def _key(env: Mapping[str, str]) -> Check:
    from mavi_tasks.job import Gateway
    from mavi_tasks.job import endpoint as settings

    try:
        endpoint = settings.resolve_endpoint(Gateway(), env)
    except InputError as error:
        return Check("key", False, str(error))
    key = endpoint.api_key or ""
    return Check("key", True, f"set ({len(key)} characters; it is not shown, stored or logged)")


def _gateway(env: Mapping[str, str]) -> Check:
    from mavi_tasks.job import endpoint as settings

    base_url = env.get("MAVI_BASE_URL") or settings.MAVI_BASE_URL
    url = urlsplit(base_url)
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        with socket.create_connection((url.hostname or "", port), CONNECT_S):
            return Check("gateway", True, f"{url.hostname}:{port} can be reached")
    except OSError as error:
        text = (
            f"{url.hostname}:{port} cannot be reached ({error}): check the network, or use --gateway sandbox"
        )
        return Check("gateway", False, text)


def _prefect(env: Mapping[str, str]) -> Check:
    url = env.get("PREFECT_API_URL")
    if not url:
        return Check("prefect", True, "PREFECT_API_URL is not set: `mavi run` works without a server")
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 443), CONNECT_S):
            return Check("prefect", True, f"{parts.hostname} can be reached: `mavi run` runs the flow there")
    except OSError as error:
        return Check(
            "prefect", False, f"{url} cannot be reached ({error}): start it with `prefect server start`"
        )


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free / 1e9:.1f} GB free here (a million answers take about 0.2 GB, and 1.5 GB while they run)"
    return Check("disk", free > FREE_BYTES_NEEDED, text)


def _extras() -> list[Check]:
    found = []
    for extra, (module, purpose) in EXTRAS.items():
        is_installed = importlib.util.find_spec(module) is not None
        text = (
            f"installed: {purpose}"
            if is_installed
            else f"not installed; for {purpose}: pip install 'mavi-tasks[{extra}]'"
        )
        found.append(Check(f"extra {extra}", True, text))
    return found


def _sandbox() -> Check:
    from mavi_tasks.sandbox import Sandbox

    with Sandbox(latency_s=0) as sandbox:
        return Check("sandbox", True, f"serves on loopback ({sandbox.origin})")
