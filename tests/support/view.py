"""The local app in this process: a server on loopback, requests as a browser or an attacker sends them."""

import asyncio
import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from mavi_tasks.view.server import Options, run

START_S = 30


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Served:
    """A running server. links: as it announced them; cookie: of the first browser that was let in."""

    links: list[str] = field(default_factory=list)
    cookie: str = ""

    @property
    def port(self) -> int:
        return urlsplit(self.links[0]).port or 0

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, path: str, *, method: str = "GET", body: Any = None, cookie: bool = True, **headers: str
    ) -> Reply:
        """One request; `Host=None` sends none. Names are written with _ for -."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"Host": f"127.0.0.1:{self.port}", **({"Cookie": self.cookie} if cookie else {}), **given}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            raw = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
            if raw is not None:
                sent["Content-Length"] = str(len(raw))
            for name, value in sent.items():
                connection.putheader(name, value)
            connection.endheaders(raw)
            reply = connection.getresponse()
            return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())

    def enter(self) -> None:
        """Follow the link as a first browser, and wait until the index is there."""
        reply = self.ask(self.links[0].removeprefix(self.origin), cookie=False)
        assert reply.status == 303, reply.text
        self.cookie = reply.headers["set-cookie"].partition(";")[0]
        self.wait()

    def get(self, path: str, **query: str) -> Any:
        """JSON of the API, as the page asks for it."""
        reply = self.ask(f"{path}?{urlencode(query)}")
        assert reply.status == 200, reply.text
        return reply.json

    def post(self, path: str, body: Any, **more: str) -> Reply:
        """As the page posts."""
        own = {"Content_Type": "application/json", "X_Mavi_View": "1", "Origin": self.origin}
        return self.ask(path, method="POST", body=body, **{**own, **more})

    def wait(self, version: int = 1) -> "Served":
        """Until this version of the index is there."""
        ended = threading.Event()
        for _ in range(600):
            if self.get("/api/state")["version"] >= version:
                return self
            ended.wait(0.05)
        raise TimeoutError(self.get("/api/state"))


@contextlib.contextmanager
def served(*roots: Path, options: Options | None = None, enter: bool = True) -> Iterator[Served]:
    """A server over datasets. enter: let a first browser in, and wait until the index is there."""
    made, ready, failed = Served(), threading.Event(), []
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    def announce(link: str) -> None:
        made.links.append(link)
        ready.set()

    def main() -> None:
        try:
            loop.run_until_complete(run(roots, options or Options(reviewer="tester"), announce, stop))
        except BaseException as error:
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=main, daemon=True)
    thread.start()
    assert ready.wait(START_S)
    if failed:
        raise failed[0]
    try:
        if enter:
            made.enter()
        yield made
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(START_S)
        loop.close()
