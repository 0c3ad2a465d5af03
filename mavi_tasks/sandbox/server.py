"""The sandbox on a port: in a thread of this process, or blocking for `mavi sandbox`."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from aiohttp import web

from . import faults
from .config import SandboxConfig
from .service import BASE, Service

T = TypeVar("T")
START_S = 30.0


async def _listen(service: Service, host: str, port: int) -> web.AppRunner:
    """The running server; its port is in `service.port`. Raises OSError when the port is taken."""
    # Requests that hang on purpose end when `stopping` is set; other requests are short.
    runner = web.AppRunner(service.app(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=1024).start()
    except OSError:
        await runner.cleanup()
        raise
    service.port = runner.addresses[0][1]
    return runner


async def _run(
    config: SandboxConfig,
    host: str,
    port: int,
    stop: asyncio.Event,
    ready: Callable[[Service], None],
) -> None:
    service = Service(config)
    runner = await _listen(service, host, port)
    try:
        ready(service)
        await stop.wait()
    finally:
        service.stopping.set()
        await runner.cleanup()


class Sandbox:
    """An embedded gateway on loopback: `with Sandbox(latency_s=0) as sandbox: sandbox.base_url`.

    Takes a SandboxConfig, or its fields by name (which override the config's). The server runs in its own
    thread and event loop; all methods may be called from other threads.
    """

    def __init__(self, config: SandboxConfig | None = None, **fields: Any) -> None:
        self.config = replace(config or SandboxConfig(), **fields)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._service: Service | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Start the server; it serves when this returns. Raises the error that prevented the start."""
        if self._thread is not None:
            raise RuntimeError("the sandbox is already running")
        started: Future[Service] = Future()
        self._thread = threading.Thread(target=self._main, args=(started,), name="mavi-sandbox", daemon=True)
        self._thread.start()
        try:
            self._service = started.result(START_S)
        except BaseException:
            self.stop()
            raise
        return self

    def _main(self, started: "Future[Service]") -> None:
        async def main() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            await _run(self.config, "127.0.0.1", 0, self._stop, started.set_result)

        try:
            asyncio.run(main())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    def stop(self) -> None:
        """Stop the server and its thread; does nothing if it is not running."""
        if self._thread is None:
            return
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = self._loop = self._stop = None

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self._running().port}"

    @property
    def base_url(self) -> str:
        """What `/vu/chat/completions` is appended to."""
        return self.origin + BASE

    def media_url(self, root: Path | str) -> str:
        """Serve a folder; its URL, without a trailing slash.

        Raises NotADirectoryError.
        """
        return self.origin + self._call(lambda service: service.media_folders.path_of(root))

    def bill(self, bodies: bool = False) -> dict[str, Any]:
        """The requests and their cost, as GET /_sandbox/bill returns them; also available after `stop`."""
        return self._call(lambda service: service.as_json(bodies))

    def reset(self) -> None:
        """Start a new bill, with full buckets and the faults of the config."""
        self._call(lambda service: service.reset())

    def faults(self, **settings: Any) -> None:
        """Replace the faults, as POST /_sandbox/faults does: probabilities, rules, script, seed."""
        injector = faults.from_json(settings)
        self._call(lambda service: setattr(service, "fault_injector", injector))

    def _running(self) -> Service:
        if self._service is None:
            raise RuntimeError("the sandbox is not running: start it first")
        return self._service

    def _call(self, action: Callable[[Service], T]) -> T:
        """Run `action` on the server's event loop, the only place that uses its state."""
        service = self._running()
        if self._loop is None:
            return action(service)

        async def on_loop() -> T:
            return action(service)

        return asyncio.run_coroutine_threadsafe(on_loop(), self._loop).result(START_S)


def serve(
    host: str = "127.0.0.1",
    port: int = 8787,
    config: SandboxConfig | None = None,
    announce: Callable[[str], None] | None = None,
    **fields: Any,
) -> None:
    """Serve until SIGINT or SIGTERM. `announce` gets the base URL when the server is ready.

    Raises OSError when the port is taken.
    """

    async def main() -> None:
        stop = asyncio.Event()
        _on_signals(stop)

        def ready(service: Service) -> None:
            if announce is not None:
                announce(f"http://{host}:{service.port}{BASE}")

        await _run(replace(config or SandboxConfig(), **fields), host, port, stop, ready)

    asyncio.run(main())


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows' loop has none
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
