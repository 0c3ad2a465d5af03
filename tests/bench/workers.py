"""Measures how much of a shared rate limit several workers use, and what a killed worker costs.

    python -m tests.bench.workers [--requests 20000] [--rate 200] [--workers 4]
                                  [--runner processes dask] [--store file redis prefect] [--no-kill]
                                  [--s3] [--budget-usd 5]

Each pair of runner and store sends all requests to a server that accepts `--rate` a second (the baseline).
Half-way, one worker is killed (kill -9). Reported are the answered requests, those paid twice, and the used
fraction of the limit between the first and the last tenth of the requests, and in the busiest second.
`--store redis` needs a server (MAVI_REDIS_URL, or redis-server in the PATH); `prefect` starts one. --s3
writes to a bucket of an S3-compatible server on loopback. The documented size: `--requests 200000 --rate
400`.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import psutil

from tests.bench.dispatch import write_manifest
from tests.bench.server import serving
from tests.support.gateways import one
from tests.support.s3_server import s3_server

MODEL = "gemini:gemini-2.5-flash"
QUIET = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_LOGGING_LEVEL": "WARNING"}


def free_port():
    with socket.socket() as one_socket:
        one_socket.bind(("127.0.0.1", 0))
        return one_socket.getsockname()[1]


@contextlib.contextmanager
def running(command, **env):
    with subprocess.Popen(
        command, env={**os.environ, **QUIET, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextlib.contextmanager
def store_of(name, folder):
    """The environment in which workers find the store, running while the block lasts."""
    if name == "redis" and "MAVI_REDIS_URL" not in os.environ:
        server, port = shutil.which("redis-server") or shutil.which("valkey-server"), free_port()
        if server is None:
            raise SystemExit("--store redis: set MAVI_REDIS_URL, or install redis-server")
        command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        with running(command):
            yield {"MAVI_REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    elif name == "prefect":
        port = free_port()
        url = f"http://127.0.0.1:{port}/api"
        command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
        with running(command, PREFECT_HOME=str(folder / "prefect"), PREFECT_UI_ENABLED="false"):
            wait_for_url(f"{url}/health")
            yield {"PREFECT_API_URL": url}
    else:
        yield {}


def wait_for_url(url):
    for _ in range(600):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=5).close()
            return
        time.sleep(0.2)
    raise SystemExit(f"{url} does not answer")


# -- one run


def write_job(folder, options, base_url, runner, store, output):
    manifest = write_manifest(folder / "manifest.csv", options.requests)
    job = {
        "manifest": str(manifest),
        "prompts": {"p": "What is in this picture?"},
        "models": [MODEL],
        "limits": {"*": {"requests_per_minute": options.rate * 60}},
        "gateway": {"base_url": base_url},
        "runner": runner,
        "workers": options.workers,
        "shared_limits": store,
        "shard_size": options.shard_size,
        "output": output,
    }
    if options.budget_usd:
        job["budget_usd"] = options.budget_usd
    path = folder / "job.yaml"
    path.write_text(json.dumps(job))
    return path


@contextlib.contextmanager
def output_of(options, folder):
    """Where the dataset goes, the environment it needs, and a function that counts its rows."""
    if not options.s3:
        out = folder / "out"
        yield str(out), {}, lambda what, table="results", where="true": one(out, table, what, where)
        return
    with s3_server() as server:
        url = f"{server.bucket('bench')}/{folder.name}"

        def count(what, table="results", where="true"):
            copy = folder / "copy"
            client = server.client()
            for key in server.keys(f"{url}/{table}/", ".parquet"):
                path = copy / table / key.rsplit("/", 1)[1]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(client.get_object(Bucket="bench", Key=key)["Body"].read())
            client.close()
            return one(copy, table, what, where)

        yield url, {**server.env, "MAVI_SPOOL": str(folder / "spool")}, count


def a_worker(process):
    """A child process that has a segment of this run open."""
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any("_journal" in file.path for file in child.open_files() if ".jsonl" in file.path):
                return child
    return None


def time_run(options, runner, store, folder):
    with (
        store_of(store, folder) as store_env,
        output_of(options, folder) as (output, output_env, count),
        serving(*server_options(options)) as served,
    ):
        job = write_job(folder, options, served.base_url, runner, store, output)
        env = {**os.environ, **QUIET, "MAVI_API_KEY": "sk-bench", **store_env, **output_env}
        command = [sys.executable, "-m", "mavi_tasks", "run", str(job), "--json", "--quiet"]
        if runner == "processes":
            command.append("--no-prefect")
        log = (folder / "stderr.log").open("w+")
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=log, text=True)
        watch = Watch(served, options, process)
        out, _ = process.communicate()
        watch.stop()
        stats = served.stats()
        log.seek(0)
        report = json.loads(out.splitlines()[-1]) if out.strip() else {}
        if not report:
            raise SystemExit(f"{runner}/{store}: no report; {log.read()[-3000:]}")
        return figures(options, runner, store, count, report, stats, watch)


def server_options(options):
    burst = max(1, round(options.rate * options.burst_s))
    return ("--latency-s", options.latency_s, "--rate", options.rate, "--burst", burst)


class Watch:
    """Reads the server's counts five times a second; kills a worker half-way."""

    def __init__(self, served, options, process):
        self.samples, self.killed, self._over = [], None, threading.Event()
        self._served, self._options = served, options
        self._process = psutil.Process(process.pid)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self):
        while not self._over.wait(0.2):
            billed = self._served.stats()["billed"]
            self.samples.append((time.monotonic(), billed))
            if self._options.kill and self.killed is None and billed >= self._options.requests / 2:
                with contextlib.suppress(psutil.Error):
                    worker = a_worker(self._process)
                    if worker is not None:
                        worker.kill()
                        self.killed = billed

    def stop(self):
        self._over.set()
        self._thread.join()

    def rate_between(self, low, high):
        """Requests a second from the first sample with `low` to the first with `high`."""
        first, last = (next(s for s in self.samples if s[1] >= count) for count in (low, high))
        return (last[1] - first[1]) / max(1e-9, last[0] - first[0])


def figures(options, runner, store, rows, report, stats, watch):
    count, model = options.requests, stats["models"][MODEL]
    rate = watch.rate_between(count * 0.1, count * 0.9)
    return {
        "runner": runner,
        "store": store,
        "s3": options.s3,
        "requests": count,
        "answered": report["answered"],
        "rows": rows("count(*)"),
        "distinct": rows("count(distinct request_key)"),
        "unsent": report["unsent"],
        "status": report["status"],
        "killed_at": watch.killed,
        "in_doubt": rows("count(*)", "attempts", "outcome = 'in_doubt'"),
        "paid_twice": stats["billed_again"],
        "throttled": stats["throttled"],
        "used": round(rate / options.rate, 3),
        "most_in_a_second": model["max_per_s"],
        "limit_per_s": options.rate,
        "per_s_by_tenth": [
            round(watch.rate_between(count * tenth / 10, count * (tenth + 1) / 10)) for tenth in range(1, 9)
        ],
        "wall_s": report["wall_s"],
        "cost_usd": report["cost_usd"],
        "exposure_usd": report["exposure_usd"],
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument(
        "--burst-s", type=float, default=0.1, help="burst of the server, in seconds of its rate"
    )
    parser.add_argument("--latency-s", type=float, default=0.2)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--shard-size", type=int, default=500)
    parser.add_argument("--runner", nargs="+", default=["processes", "dask"])
    parser.add_argument("--store", nargs="+", default=["file"])
    parser.add_argument("--no-kill", dest="kill", action="store_false")
    parser.add_argument("--s3", action="store_true", help="the dataset in a bucket")
    parser.add_argument("--budget-usd")
    options = parser.parse_args()
    for runner in options.runner:
        for store in options.store:
            with tempfile.TemporaryDirectory() as folder:
                found = time_run(options, runner, store, Path(folder))
            print(json.dumps({"bench": "workers", **found}), flush=True)


if __name__ == "__main__":
    main()
