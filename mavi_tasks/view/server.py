"""The app on its port, until it is stopped."""

import asyncio
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from mavi_tasks.view.access import Access
from mavi_tasks.view.app import App
from mavi_tasks.view.following import Datasets

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Options:
    """port: 0 takes a free one. password: None = the link of the terminal is the only way in."""

    host: str = "127.0.0.1"
    port: int = 0
    password: str | None = None
    reviewer: str = ""


async def run(
    roots: Sequence[Path], options: Options, announce: Callable[[str], None], stop: asyncio.Event
) -> None:
    """Serve until `stop` is set. announce: gets a link that lets one browser in, and the next after its use.

    Raises OSError when the port is taken.
    """
    bound = socket.create_server(
        (options.host, options.port), family=socket.AF_INET6 if ":" in options.host else socket.AF_INET
    )
    port = bound.getsockname()[1]
    access = Access(port, password=options.password, any_address=options.host not in LOOPBACK)
    if access.any_address:
        access.hosts |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    access.announce = lambda token: announce(_link(options.host, port, token))
    runner = web.AppRunner(
        App(Datasets(roots, options.reviewer), access).build(), access_log=None, shutdown_timeout=1
    )
    await runner.setup()
    try:
        await web.SockSite(runner, bound).start()
        access.announce(access.token)
        await stop.wait()
    finally:
        await runner.cleanup()


def serve(roots: Sequence[Path], options: Options, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. Raises OSError when the port is taken."""

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, stop.set)
            except NotImplementedError:  # Windows' loop has none
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
        await run(roots, options, announce, stop)

    asyncio.run(main())


def _link(host: str, port: int, token: str) -> str:
    name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname(), "::1": "[::1]"}.get(host, host)  # noqa: S104
    return f"http://{name}:{port}/open?token={token}"
