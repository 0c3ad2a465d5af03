"""`mavi sandbox`: serve the embedded gateway."""

import argparse
from pathlib import Path

from mavi_tasks.common.screen import say
from mavi_tasks.errors import InputError


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8787)
    parser.add_argument("--latency-s", type=float, metavar="S", help="the same for every call")
    parser.add_argument("--media-root", type=Path, metavar="DIR", help="serve this folder under /media")


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
        )
    except (OSError, OverflowError) as error:  # the latter: no port is so large
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot serve on {args.host}:{args.port}: {reason}") from error
    return 0
