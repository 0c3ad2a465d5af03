"""`mavi sandbox`: serve the embedded gateway."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mavi_tasks.common.screen import say
from mavi_tasks.errors import InputError

if TYPE_CHECKING:
    from mavi_tasks.sandbox import Unknowns


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8787)
    parser.add_argument("--latency-s", type=float, metavar="S", help="the same for every call")
    parser.add_argument("--media-root", type=Path, metavar="DIR", help="serve this folder under /media")
    parser.add_argument(
        "--unknown",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what the contract leaves open: base64=raw, nova_url=object, stream=openai, usage=missing ...",
    )


def command(args: argparse.Namespace) -> int:
    from mavi_tasks.gateway import embedded_sandbox
    from mavi_tasks.sandbox import serve

    def announce(url: str) -> None:
        say(f"sandbox: {url}  ({embedded_sandbox.answers()}; any key that begins with sk-)")

    try:
        serve(
            args.host,
            args.port,
            announce=announce,
            latency_s=args.latency_s,
            media_root=args.media_root,
            answerer=embedded_sandbox.answerer(),
            unknowns=_unknowns(args.unknown),
        )
    except (OSError, OverflowError) as error:  # the latter: no port is so large
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot serve on {args.host}:{args.port}: {reason}") from error
    return 0


def _unknowns(given: Sequence[str]) -> "Unknowns":
    from mavi_tasks.sandbox.unknowns import UnknownSetting, from_settings

    try:
        return from_settings(dict(one.partition("=")[::2] for one in given))
    except UnknownSetting as error:
        raise InputError(f"--unknown {error}") from error
