"""Gateways in processes of their own, and the command line as its users run it."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb

REPOSITORY = Path(__file__).parents[2]
KEY = "sk-mavi-tester-0123456789"
ALL_FAMILIES = (
    "gemini:gemini-2.5-flash", "qwen:qwen3-vl-flash", "nova:us.amazon.nova-lite-v1:0", "gpt:gpt-4o-mini",
)  # fmt: skip
_SERVE = """
import json, sys
from mavi_tasks.sandbox import SandboxConfig, FaultRule, Limit, serve
fields = json.loads(sys.argv[1])
fields["limits"] = {glob: Limit(**limit) for glob, limit in fields.get("limits", {}).items()}
serve("127.0.0.1", 0, announce=lambda url: print(url, flush=True), **fields)
"""


@dataclass(frozen=True)
class Remote:
    """A sandbox in another process."""

    base_url: str
    pid: int

    @property
    def origin(self) -> str:
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def media_url(self) -> str:
        """Where the folder given as media_root is served."""
        return f"{self.origin}/media"

    def bill(self, *, bodies: bool = False) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.origin}/_sandbox/bill{'?bodies' if bodies else ''}") as reply:
            return json.load(reply)

    def faults(self, **settings: Any) -> None:
        self._post("faults", settings)

    def reset(self) -> None:
        self._post("reset", {})

    def _post(self, control: str, body: Mapping[str, Any]) -> None:
        request = urllib.request.Request(f"{self.origin}/_sandbox/{control}", data=json.dumps(body).encode())
        urllib.request.urlopen(request).close()


@contextlib.contextmanager
def remote_sandbox(**config: Any) -> Iterator[Remote]:
    """The strict sandbox in a process of its own; without latency unless configured."""
    fields = {"latency_s": 0, "huge_body_bytes": 1 << 20, "hang_s": 5, **config}
    command = [sys.executable, "-c", _SERVE, json.dumps(fields, default=str)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        try:
            yield Remote(process.stdout.readline().strip(), process.pid)
        finally:
            process.terminate()


@contextlib.contextmanager
def says(
    body: bytes, status: int = 200, then: tuple[bytes, int] | None = None, **headers: str
) -> Iterator[str]:
    """The base URL of a server with one fixed reply, or with `then` for all requests but the first."""
    calls = itertools.count()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content, code = (body, status) if then is None or next(calls) == 0 else then
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(code)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v2"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# -- the command line


@dataclass(frozen=True)
class Ended:
    """The exit status and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The JSON object of the last line of stdout."""
        return json.loads(self.out.splitlines()[-1])


def environment(**more: str | None) -> dict[str, str]:
    """This process's environment, with a key, and without settings that change the gateway or the flow.

    more: other variables; None = not set.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAVI_", "MEMORIES_", "PREFECT_"))}
    given = {**kept, "MAVI_API_KEY": KEY, "PYTHONPATH": str(REPOSITORY), **more}
    return {name: value for name, value in given.items() if value is not None}


def start(*arguments: object, cwd: Path | None = None, **more: str | None) -> "subprocess.Popen[str]":
    """Start `mavi ARGUMENTS`."""
    command = [sys.executable, "-m", "mavi_tasks", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=cwd, env=environment(**more))


def ended(process: "subprocess.Popen[str]", timeout_s: float = 120) -> Ended:
    """Wait for the end of a command."""
    out, err = process.communicate(timeout=timeout_s)
    return Ended(process.returncode, out, err)


def mavi(*arguments: object, cwd: Path | None = None, **more: str | None) -> Ended:
    """Run `mavi ARGUMENTS` and wait for its end."""
    return ended(start(*arguments, cwd=cwd, **more))


def kill(process: "subprocess.Popen[str]") -> None:
    """Kill a process (kill -9) and wait for its end."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


def wait_for(condition: Any, timeout_s: float = 60.0) -> Any:
    """Call `condition` until it is true; its value."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(0.005)
    raise AssertionError(f"not true within {timeout_s:g} s")


# -- jobs


def write_job(folder: Path, name: str = "job.yaml", **fields: Any) -> Path:
    """A job file; JSON is YAML."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps({"retry": {"base_s": 0.001, "cap_s": 0.002}, **fields}, indent=1, default=str))
    return path


def url_rows(folder: Path, count: int, name: str = "items.csv") -> Path:
    """A manifest of image URLs that do not exist: the sandbox accepts them without a download."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    rows = "".join(f"i{n},https://media.example/{n}.jpg\n" for n in range(count))
    path.write_text("item_id,media_url\n" + rows)
    return path


def url_job(folder: Path, count: int, base_url: str, **fields: Any) -> Path:
    """A job over image URLs, of one model unless configured, for a sandbox at `base_url`."""
    return write_job(
        folder,
        **{
            "manifest": str(url_rows(folder, count)),
            "prompts": {"p": "What is it?"},
            "models": [ALL_FAMILIES[0]],
            "params": {"max_tokens": 50},
            "gateway": {"name": "sandbox", "base_url": base_url},
            "output": str(folder / "out"),
            **fields,
        },
    )


# -- the dataset of a run


def rows(out: Path, table: str = "results", columns: str = "*", where: str = "true") -> list[dict[str, Any]]:
    """Rows of a dataset, read with DuckDB as users do; empty before the first publish."""
    files = f"{out}/{table}/**/*.parquet"
    if not any((out / table).rglob("*.parquet")):
        return []
    found = duckdb.connect().execute(f"select {columns} from read_parquet('{files}') where {where}")
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def one(out: Path, table: str, columns: str, where: str = "true") -> Any:
    """The single value of a query."""
    return next(iter(rows(out, table, columns, where)[0].values()))


def spent(out: Path, table: str) -> Decimal:
    """The exact sum of a table's cost."""
    return one(out, table, "coalesce(sum(cost_usd), 0)::decimal(38, 12)")
