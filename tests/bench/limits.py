"""Measures how well runs use rate limits: configured limits, unconfigured limits, and four models at once.

    python -m tests.bench.limits [--requests 3000]

Each case is one `mavi run` against the benchmark server, which replies 429 above its limit. The baseline is
the ideal time, requests / limit. Unconfigured limits are learned: their use is the accepted requests per
second after the warm-up, divided by the limit. Prints one line per case, then one JSON line.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.dispatch import PROMPT, write_manifest
from tests.bench.server import serving

FOUR = {  # model: (requests/s, latency s)
    "gemini:gemini-2.5-flash": (100, 0.3),
    "gemini:gemini-2.5-pro": (20, 1.0),
    "qwen:qwen3-vl-flash": (50, 0.1),
    "gpt:gpt-4o-mini": (10, 0.5),
}


def run(base_url, folder, count, models, limits):
    """The run report, and the seconds of each model from the first to the last attempt."""
    folder.mkdir(parents=True)
    write_manifest(folder / "manifest.csv", count)
    job = folder / "job.yaml"
    limits_yaml = "".join(f"  '{model}': {{{limit}}}\n" for model, limit in limits.items())
    job.write_text(
        f"manifest: manifest.csv\nprompts: {{p: {PROMPT!r}}}\nmodels: {json.dumps(list(models))}\n"
        + (f"limits:\n{limits_yaml}" if limits_yaml else "")
        + f"gateway: {{base_url: {base_url!r}}}\noutput: out\n"
    )
    command = [sys.executable, "-m", "mavi_tasks", "run", str(job), "--json", "--quiet"]
    env = {**os.environ, "MAVI_API_KEY": "sk-bench"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1]), span_by_model(folder / "out")


def span_by_model(dataset):
    """Seconds from each model's first send to its last answer."""
    import duckdb

    query = (
        "select model, epoch(max(finished_at)) - epoch(min(started_at)) "
        f"from '{dataset}/attempts/**/*.parquet' group by 1"
    )
    return dict(duckdb.sql(query).fetchall())


def configured(count, folder):
    model = "gemini:gemini-2.5-flash"
    with serving("--rate", 100, "--burst", 10, "--latency-s", 0.3) as served:
        report, span = run(served.base_url, folder, count, [model], {"*": "requests_per_minute: 6000"})
        stats = served.stats()
    ideal = count / 100
    return {
        "case": "configured 100/s",
        "wall_to_ideal": round(span[model] / ideal, 3),
        "throttled": report["models"][0]["throttled"],
        "answered": report["answered"],
        "most_in_1_s": stats["max_per_s"],
    }


def unconfigured(count, folder):
    model = "gemini:gemini-2.5-flash"
    with serving("--rate", 100, "--burst", 10, "--latency-s", 0.3) as served:
        report, span = run(served.base_url, folder, count, [model], {})
    attempts = report["answered"] + report["models"][0]["throttled"]
    return {
        "case": "unconfigured 100/s",
        "wall_to_ideal": round(span[model] / (count / 100), 3),
        "use_after_warm_up": round(warm_use(folder / "out", 100), 3),
        "throttled_fraction": round(report["models"][0]["throttled"] / attempts, 4),
        "answered": report["answered"],
    }


def warm_use(dataset, rate, warm_s=10.0):
    """Answers a second after the warm-up, up to where the last requests come back, against the limit."""
    import duckdb

    times = [
        finished_s
        for (finished_s,) in duckdb.sql(
            f"select epoch(finished_at) from '{dataset}/attempts/**/*.parquet' "
            "where outcome = 'answered' order by 1"
        ).fetchall()
    ]
    first, last = times[0] + warm_s, times[-1] - 2.0
    return sum(first <= finished_s <= last for finished_s in times) / max(0.1, last - first) / rate


def four(count, folder):
    rules = [f"{model};rate={rate};burst=10;latency_s={latency}" for model, (rate, latency) in FOUR.items()]
    limits = {model: f"requests_per_minute: {rate * 60}" for model, (rate, _) in FOUR.items()}
    per_model = max(50, count // 10)
    with serving("--models", *rules) as served:
        report, span = run(served.base_url, folder, per_model, list(FOUR), limits)
    return {
        "case": "four models, configured",
        "wall_to_ideal": {
            model: round(span[model] / (per_model / rate), 3) for model, (rate, _) in FOUR.items()
        },
        "throttled": sum(m["throttled"] for m in report["models"]),
        "answered": report["answered"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for case in (configured, unconfigured, four):
            began = time.perf_counter()
            found.append(case(args.requests, Path(folder) / case.__name__))
            print({**found[-1], "took_s": round(time.perf_counter() - began)}, flush=True)
    print(json.dumps({"bench": "limits", "cases": found}))


if __name__ == "__main__":
    main()
