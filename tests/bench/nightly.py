"""Runs nightly jobs under a real `prefect server` and `prefect worker`, with cancellation and crashes.

    python -m tests.bench.nightly [--keep DIR]       # about five minutes; DIR gets screenshots and logs

Deploys prefect.yaml with a schedule of every minute, and checks: the scheduled run completes; its artifacts
are in the UI; a run is cancelled in the UI; the process of a run is killed (kill -9), and the next scheduled
run continues where it stopped; `python -m mavi_tasks.flows.serve` runs a deployment without a worker. Prints
each step with its duration, then one JSON line. Loopback only.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import yaml
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.support.gateways import REPOSITORY, environment, remote_sandbox, rows

PREFECT = [sys.executable, "-m", "prefect"]
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
MODEL = "gemini:gemini-2.5-flash"
CONCURRENCY = 4
PICTURES = 600  # half a minute of requests: a run is still active when it is stopped, also on a busy machine
NIGHT = "nightly-label"
COSTS = "daily-costs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where screenshots and logs go")
    args = parser.parse_args()
    keep = args.keep or Path(tempfile.mkdtemp(prefix="mavi-nightly-kept-"))
    keep.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="mavi-nightly-"))
    try:
        with remote_sandbox(latency_s=0.2) as gateway, server(folder, keep) as prefect:
            figures = NightlyScenario(folder, keep, prefect, gateway).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"screenshots and logs: {keep}")
    print(json.dumps(figures))


class Prefect:
    """A Prefect server, used by its REST API and its command line."""

    def __init__(self, port: int, folder: Path) -> None:
        self.ui = f"http://127.0.0.1:{port}"
        self.env = environment(
            PYTHONPATH=os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
            PREFECT_HOME=str(folder / "prefect"),
            PREFECT_API_URL=f"{self.ui}/api",
            PREFECT_UI_API_URL=f"{self.ui}/api",
            PREFECT_SERVER_ANALYTICS_ENABLED="false",
            DO_NOT_TRACK="1",
            PREFECT_LOGGING_LEVEL="INFO",
        )

    def api(self, path: str, **body: Any) -> Any:
        data = json.dumps(body).encode() if body or path.endswith("filter") else None
        request = urllib.request.Request(f"{self.ui}/api{path}", data, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.load(reply)

    def run(self, *arguments: str) -> None:
        done = subprocess.run(
            [*PREFECT, *arguments], cwd=REPOSITORY, env=self.env, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"prefect {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}")

    def runs(self) -> list[dict[str, Any]]:
        """Flow runs that have begun, the first one first."""
        found = self.api("/flow_runs/filter", sort="START_TIME_ASC")
        return [run for run in found if run["start_time"]]


@contextlib.contextmanager
def server(folder: Path, keep: Path) -> Iterator[Prefect]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    prefect = Prefect(port, folder)
    with process(
        keep / "server.log",
        prefect.env,
        "prefect",
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ):
        until("the server answers", lambda: healthy(prefect), 120)
        yield prefect


def healthy(prefect: Prefect) -> bool:
    try:
        return prefect.api("/health") is True
    except OSError:
        return False


@contextlib.contextmanager
def process(log: Path, env: dict[str, str], *module: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        started = subprocess.Popen(
            [sys.executable, "-m", *module], stdout=out, stderr=out, env=env, cwd=REPOSITORY
        )
        try:
            yield started
        finally:
            mine = psutil.Process(started.pid).children(recursive=True)
            started.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(15)
            for one in [*mine, psutil.Process(started.pid)] if started.poll() is None else mine:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            started.wait()


def until(what: str, holds: Callable[[], Any], at_most_s: float) -> Any:
    """Wait until something holds; returns it."""
    began = time.monotonic()
    while not (found := holds()):
        if time.monotonic() - began > at_most_s:
            raise SystemExit(f"not within {at_most_s:.0f} s: {what}")
        time.sleep(0.25)
    print(f"{time.monotonic() - began:6.1f} s until {what}", flush=True)
    return found


class NightlyScenario:
    """The scenario, step by step."""

    def __init__(self, folder: Path, keep: Path, prefect: Prefect, gateway: Any) -> None:
        self.folder, self.keep, self.prefect, self.gateway = folder, keep, prefect, gateway
        self.library, self.out = folder / "library", folder / "out"
        self.figures: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        self.library.mkdir()
        self.add_pictures(12)
        self.deploy()
        with process(
            self.keep / "worker.log", self.prefect.env, "prefect", "worker", "start", "--pool", "mavi"
        ) as worker:
            self.the_schedule_fires()
            self.the_ui_shows_it()
            self.a_run_is_cancelled()
            self.a_run_is_killed(worker)
            self.the_next_one_goes_on()
        self.one_is_served_without_a_worker()
        return self.figures

    def add_pictures(self, count: int) -> None:
        first = len(list(self.library.iterdir()))
        for n in range(first, first + count):
            Image.new("RGB", (20 + n % 50, 20 + n // 50), (n % 256, 90, 90)).save(
                self.library / f"{n:04}.jpg"
            )

    def deploy(self) -> None:
        job = {
            "manifest": str(self.library),
            "prompts": "What is it?",
            "models": [MODEL],
            "limits": {"*": {"concurrency": CONCURRENCY}},
            "gateway": {"name": "sandbox", "base_url": self.gateway.base_url},
            "output": str(self.out),
        }
        (self.folder / "job.yaml").write_text(yaml.safe_dump(job))
        config = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())
        for one in config["deployments"]:
            if one["name"] == NIGHT:
                one["schedules"] = [{"cron": "* * * * *", "timezone": "Etc/UTC", "slug": "nightly"}]
                one["parameters"]["job"] = str(self.folder / "job.yaml")
        (self.folder / "prefect.yaml").write_text(yaml.safe_dump(config))
        self.prefect.run("work-pool", "create", "mavi", "--type", "process")
        self.prefect.run(
            "--no-prompt", "deploy", "--all", "--prefect-file", str(self.folder / "prefect.yaml")
        )
        found = self.prefect.api("/deployments/filter", limit=10)
        self.figures["deployments"] = sorted(one["name"] for one in found)
        print(f"deployed: {', '.join(self.figures['deployments'])}")

    # -- steps

    def the_schedule_fires(self) -> None:
        run = until("the schedule fired and the run completed", lambda: self.ended("Completed", after=0), 180)
        late_s = seconds(run["start_time"]) - seconds(run["expected_start_time"])
        self.figures["first"] = {"message": run["state"]["message"], "late_s": round(late_s, 1)}
        print(f"         {run['state']['message']}; began {late_s:.1f} s late")

    def the_ui_shows_it(self) -> None:
        shown = self.prefect.api("/artifacts/filter", limit=50)
        self.figures["artifacts"] = sorted({one["key"] for one in shown})
        with self.browser() as page:
            for key in ("mavi-job", "mavi-job-plan", "mavi-job-models"):
                one = next(artifact for artifact in shown if artifact["key"] == key)
                page.goto(f"{self.prefect.ui}/artifacts/artifact/{one['id']}")
                page.get_by_text(MODEL).first.wait_for()
                page.screenshot(path=self.keep / f"{key}.png")
            page.goto(f"{self.prefect.ui}/deployments")
            page.get_by_text(NIGHT).first.wait_for()
            page.screenshot(path=self.keep / "deployments.png")
        print(f"         the UI shows {', '.join(self.figures['artifacts'])}")

    def a_run_is_cancelled(self) -> None:
        self.add_pictures(PICTURES)
        run = until("the next run sends requests", self.sending, 180)
        with self.browser() as page:
            page.goto(f"{self.prefect.ui}/runs/flow-run/{run['id']}")
            page.get_by_role("button", name="Cancel", exact=True).click()
            page.get_by_role("button", name="Confirm", exact=True).wait_for()
            page.screenshot(path=self.keep / "cancel.png")
            page.get_by_role("button", name="Confirm", exact=True).click()
            until("the UI says it is being cancelled", lambda: not self.state_of(run, "Running"), 30)
        stopped = until("the run is cancelled", lambda: self.state_of(run, "Cancelled"), 90)
        until("its answers are published", lambda: self.ended_as("interrupted"), 60)
        with self.browser() as page:
            page.goto(f"{self.prefect.ui}/runs/flow-run/{run['id']}")
            page.get_by_text("Cancelled").first.wait_for()
            page.wait_for_timeout(2000)  # the page fades in
            page.screenshot(path=self.keep / "cancelled.png")
        kept = len(rows(self.out))
        self.figures["cancelled"] = {"state": stopped["state"]["name"], "answers_kept": kept}
        print(f"         {kept} answers are published, the run's row says interrupted")

    def a_run_is_killed(self, worker: "subprocess.Popen[bytes]") -> None:
        self.add_pictures(PICTURES)
        run = until("the next run sends requests", self.sending, 180)
        time.sleep(1.0)
        for child in psutil.Process(worker.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()  # -9
        until("Prefect calls it crashed", lambda: self.state_of(run, "Crashed"), 120)

    def the_next_one_goes_on(self) -> None:
        def done() -> Any:
            runs = [run for run in self.prefect.runs() if run["state_name"] == "Completed"]
            return len(rows(self.out, where="status = 'answered'")) >= 12 + 2 * PICTURES and runs[1:]

        last = until("later runs have answered all the rest", done, 240)[-1]
        bill = self.gateway.bill()
        answered = len(rows(self.out, where="status = 'answered'"))
        paid_twice = bill["billed_calls"] - answered
        self.figures["after_kill"] = {
            "message": last["state"]["message"],
            "answered": answered,
            "paid_twice": paid_twice,
        }
        self.figures["runs"] = [run["state_name"] for run in self.prefect.runs()]
        self.figures["rows_of_runs"] = sorted(row["status"] for row in rows(self.out, "runs", "status"))
        print(f"         {answered} answers, {paid_twice} paid twice (in flight when killed: {CONCURRENCY})")
        print(f"         flow runs: {', '.join(self.figures['runs'])}")
        assert 0 <= paid_twice <= CONCURRENCY, bill

    def one_is_served_without_a_worker(self) -> None:
        config = yaml.safe_load((self.folder / "prefect.yaml").read_text())
        costs = next(one for one in config["deployments"] if one["name"] == COSTS)
        costs["schedules"] = [{"cron": "* * * * *", "slug": "daily"}]
        costs["parameters"] |= {"datasets": [str(self.out)], "page": str(self.keep / "costs.html")}
        (self.folder / "served.yaml").write_text(yaml.safe_dump({"deployments": [costs]}))
        serve = ("mavi_tasks.flows.serve", str(self.folder / "served.yaml"))
        with process(self.keep / "serve.log", self.prefect.env, *serve):
            run = until("the costs are reported by mavi_tasks.flows.serve", self.costs_reported, 180)
        self.figures["served"] = run["state"]["message"]
        print(f"         {run['state']['message']}")

    # -- queries

    def costs_reported(self) -> Any:
        runs = [run for run in self.prefect.runs() if run["state_name"] == "Completed"]
        return runs[-1] if (self.keep / "costs.html").exists() and runs[-1]["name"] == "spend" else None

    def ended(self, state: str, after: int) -> Any:
        runs = self.prefect.runs()
        return runs[after] if len(runs) > after and runs[after]["state_name"] == state else None

    def sending(self) -> Any:
        """The active run, once it has sent some requests."""
        running = [run for run in self.prefect.runs() if run["state_name"] == "Running"]
        if not running or not any((self.out / "_journal").glob("*.jsonl")):
            return None
        size = sum(path.stat().st_size for path in (self.out / "_journal").glob("*.jsonl"))
        return running[-1] if size > 20_000 else None

    def state_of(self, run: dict[str, Any], name: str) -> Any:
        found = self.prefect.api(f"/flow_runs/{run['id']}")
        return found if found["state_name"] == name else None

    def ended_as(self, status: str) -> bool:
        return bool(rows(self.out, "runs", "status", f"status = '{status}'"))

    @contextlib.contextmanager
    def browser(self) -> Iterator[Page]:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            yield chromium.new_page(viewport={"width": 1400, "height": 900})
            chromium.close()


def seconds(instant: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(instant.replace("Z", "+00:00")).timestamp()


if __name__ == "__main__":
    main()
