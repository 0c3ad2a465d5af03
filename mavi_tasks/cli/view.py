"""`mavi view`: look at datasets in a browser, correct answers, follow a run."""

import argparse
import os
from typing import Final

from mavi_tasks.common.screen import print_json, say
from mavi_tasks.errors import InputError

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
PASSWORD: Final = "MAVI_VIEW_PASSWORD"  # noqa: S105 - the variable's name
SHORTEST: Final = 12  # characters of a password


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dirs", nargs="+", metavar="DIR", help="datasets: folders or s3://BUCKET/PREFIX")
    parser.add_argument("--port", type=int, default=0, metavar="P", help="default: any free one")
    parser.add_argument("--no-open", action="store_true", help="print the link, open no browser")
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="default: this machine only")
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        help=f"with --host: let other machines in, by the password in {PASSWORD}; not encrypted",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object for each link")


def command(args: argparse.Namespace) -> int:
    password = _password(args)
    if not 0 <= args.port < 65536:
        raise InputError(f"--port {args.port}: must be a number from 0 to 65535")
    import getpass

    from mavi_tasks.storage.s3 import existing
    from mavi_tasks.view.server import Options, serve

    roots = [existing(text) for text in args.dirs]
    for root, text in zip(roots, args.dirs, strict=True):
        if not (root / "results").is_dir():
            raise InputError(f"{text}: is not a dataset (it has no results/ folder); give a run's output")
    links: list[str] = []

    def announce(link: str) -> None:
        links.append(link)
        if args.json:
            print_json({"url": link})
        elif len(links) == 1:
            say(f"mavi view: {link}\nThe link lets one browser in. Ctrl-C ends it.")
        else:
            say(f"For another browser: {link}")
        if len(links) == 1 and not args.no_open:
            _open(link)

    try:
        serve(roots, Options(args.host, args.port, password, getpass.getuser()), announce)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot serve on {args.host}:{args.port}: {reason}") from error
    return 0


def _password(args: argparse.Namespace) -> str | None:
    """None on loopback. Raises InputError when other machines are let in without one."""
    if args.host in LOOPBACK:
        return None
    if not args.allow_remote:
        raise InputError(f"--host {args.host}: shows the datasets to other machines; add --allow-remote")
    password = os.environ.get(PASSWORD, "")
    if len(password) < SHORTEST:
        raise InputError(f"--allow-remote: set {PASSWORD} to a password of at least {SHORTEST} characters")
    return password


def _open(link: str) -> None:
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(link,), daemon=True).start()
