"""Measures `mavi view` on a large dataset: how long pages take, and how much memory the server takes.

    python -m tests.bench.view [--results 1000000] [--dir DIR]

The dataset is made up: four models, JSON answers of three fields, parts of 100,000 rows. The server is a
process of its own. Each query is timed once, when it is first asked for; `new_search` and `item` are the
median of ten different ones; the first paint is that of Chromium, from the address to the first item on the
screen. `to_tenth` compares with a dataset of a tenth of the size. The last line is JSON.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode

import psutil

from tests.support import large_dataset
from tests.support.gateways import environment
from tests.support.pages import launched
from tests.support.view import Served

MB = 1 << 20
TIMES = 10
QUERIES = {
    "all": {},
    "model_and_value": {"model": "gpt:gpt-4o-mini", "field": "label", "value": "cat", "below": "0.2"},
    "models_differ": {"differ": "1", "sort": "spread"},
    "wrong": {"wrong": "1"},
    "failed": {"status": "failed", "sort": "latency"},
    "search": {"q": "moose"},
    "search_id": {"q": "0012345"},
    "last_page": {"page": "999999"},
}


def measured(root: Path) -> dict[str, float]:
    """Seconds and MB for one dataset."""
    command = [sys.executable, "-m", "mavi_tasks", "view", str(root), "--no-open", "--json"]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            link = json.loads(process.stdout.readline())["url"]
            app = Served([link])
            app.cookie = app.ask(link.removeprefix(app.origin), cookie=False).headers["set-cookie"]
            found = {"listening_s": time.perf_counter() - began}
            memory = psutil.Process(process.pid)
            while app.get("/api/state")["version"] < 1:
                time.sleep(0.1)
            found["indexed_s"] = time.perf_counter() - began
            found["index_cpu_s"] = sum(memory.cpu_times()[:2])
            for name, query in QUERIES.items():
                began = time.perf_counter()
                app.get("/api/page", **query)
                found[f"{name}_s"] = time.perf_counter() - began
            searches = [f"/api/page?{urlencode({'q': f'cat 00{at:02}', 'wrong': 1})}" for at in range(TIMES)]
            found |= _timed("new_search", searches, app)
            items = [f"item-{at * 7919 % (app.get('/api/state')['items']):07d}" for at in range(TIMES)]
            found |= _timed(
                "item", [f"/api/item?{urlencode({'id': one, 'differ': 1})}" for one in items], app
            )
            found |= _painted(app)
            found["rss_mb"] = memory.memory_info().rss / MB
            found["peak_rss_mb"] = _peak_mb(process.pid)
        finally:
            process.terminate()
    return found


def _timed(name: str, paths: list[str], app: Served) -> dict[str, float]:
    took = []
    for path in paths:
        began = time.perf_counter()
        assert app.ask(path).status == 200
        took.append(time.perf_counter() - began)
    return {f"{name}_s": statistics.median(took), f"{name}_worst_s": max(took)}


def _painted(app: Served) -> dict[str, float]:
    """The first paint and a filtered page, in a browser."""
    with launched() as browser:
        context = browser.new_context()
        name, _, value = app.cookie.partition(";")[0].partition("=")
        context.add_cookies([{"name": name, "value": value, "url": app.origin}])
        first, filtered = [], []
        for _ in range(TIMES):
            page = context.new_page()
            for took, address in ((first, "/"), (filtered, "/?differ=1&sort=spread")):
                began = time.perf_counter()
                page.goto(app.origin + address, wait_until="commit")
                page.locator("li.item").first.wait_for()
                took.append(time.perf_counter() - began)
            page.close()
        context.close()
    return {"first_paint_s": statistics.median(first), "filtered_paint_s": statistics.median(filtered)}


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=int, default=1_000_000)
    parser.add_argument("--dir", type=Path, help="keep the datasets here, and use them again")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for results in (args.results // 10, args.results):
            root = (args.dir or Path(folder)) / str(results)
            if not root.exists():
                large_dataset.write(root, results)
            found[results] = measured(root)
            print(f"{results:,}: " + "  ".join(f"{k} {v:.3g}" for k, v in found[results].items()), flush=True)
    small, large = found.values()
    print(
        json.dumps(
            {
                "bench": "view",
                "results": args.results,
                **{name: round(value, 3) for name, value in large.items()},
                "to_tenth": {
                    name: round(large[name] / small[name], 2) for name in ("first_paint_s", "rss_mb")
                },
            }
        )
    )


if __name__ == "__main__":
    main()
