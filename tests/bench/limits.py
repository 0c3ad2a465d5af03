"""Measures how well runs use rate limits: configured, unconfigured, shared with others, and through storms.

    python -m tests.bench.limits [--requests 3000] [--only scattered] [--seed 1]

Each case is one `mavi run` against the benchmark server, which replies 429 above its limit. The baseline is
the ideal time. At a limit that is requests / limit. Where 429s are scattered (refused at random, whatever the
rate) it is the time of the same run without them and with as many tries, plus the pauses that the server
asked for with Retry-After. Unconfigured limits are learned: their use is the accepted requests per second
after the warm-up, divided by the limit. `cpu_ms_each` is the CPU time of a request beyond that of starting.
Prints one line per case, then one JSON line.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
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
    """The run report with its CPU seconds, and each model's seconds from first send to last attempt."""
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
    cpu_s = child_cpu_s()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise SystemExit(done.stderr)
    report = json.loads(done.stdout.splitlines()[-1])
    return report | {"cpu_s": child_cpu_s() - cpu_s}, span_by_model(folder / "out")


def child_cpu_s():
    """CPU seconds of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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


def scattered(count, folder, seed):
    """429s at random, with and without Retry-After: 64 at a time, 100 ms each."""
    for retry_after in (None, 1):
        asked = [] if retry_after is None else ["--retry-after", retry_after]
        for percent in (0.1, 1, 5, 20):
            tries = round(count / (1 - percent / 100))
            ideal_s, _, _ = sixty_four(tries, folder / f"ideal-{retry_after}-{percent}", [])
            faults = ["--fault", f"429={percent}", "--seed", seed, *asked]
            wall_s, report, stats = sixty_four(count, folder / f"{retry_after}-{percent}", faults)
            yield {
                "case": f"{percent} % 429, Retry-After {retry_after}",
                "wall_to_ideal": round(wall_s / (ideal_s + stats["paused_s"]), 3),
                "ideal_s": round(ideal_s, 1),
                "paused_s": round(stats["paused_s"], 1),
                "throttled_fraction": round(report["models"][0]["throttled"] / stats["calls"], 4),
                "answered": report["answered"],
            }


def sixty_four(count, folder, options):
    """Seconds, the report, and what the server counted, of a run with 64 requests at a time."""
    model = "gemini:gemini-2.5-flash"
    with serving("--latency-s", 0.1, "--latency-spread", 0.3, *options) as served:
        report, span = run(served.base_url, folder, count, [model], {"*": "concurrency: 64"})
        stats = served.stats()["models"][model]
    return span[model], report, stats


def real_limits(count, folder, seed):
    """Unconfigured limits of 10, 100 and 500 a second that take 1, 10 or 100 at once."""
    for rate in (10, 100, 500):
        for burst in (1, 10, 100):
            options = ["--rate", rate, "--burst", burst, "--latency-s", 0.3, "--latency-spread", 0.3]
            yield learned(f"{rate}/s, burst {burst}", rate, 60 * rate, folder / f"{rate}-{burst}", options)


def changes(count, folder, seed):
    """A limit that rises or falls half-way, a slow server, storms of 503."""
    latency = ["--latency-s", 0.3, "--latency-spread", 0.3, "--burst", 10]
    for before, after in ((200, 100), (100, 200)):
        rules = f"{MODEL};rate={before};then_rate={after};then_s=30"
        name = f"{before}/s, after 30 s {after}/s"
        yield learned(
            name, after, 30 * before + 60 * after, folder / rules[-40:-1], [*latency, "--models", rules], 40
        )
    slow = ["--latency-s", 5, "--latency-spread", 0.3, "--rate", 20, "--burst", 10]
    yield learned("slow server: 5 s, 20/s", 20, 1800, folder / "slow", slow, 40)
    rules = f"{MODEL};storm_s=5;storm_every_s=20"
    with serving("--latency-s", 0.1, "--models", rules) as served:
        report, span = run(
            served.base_url, folder / "storm", 4000, [MODEL], {"*": "requests_per_minute: 6000"}
        )
    calm = 15 / 20
    yield {
        "case": "5 s of 503s every 20 s, configured 100/s",
        "wall_to_ideal": round(span[MODEL] / (4000 / 100 / calm), 3),
        "failed": report["failed"],
        "answered": report["answered"],
    }


def learned(name, rate, count, folder, options, warm_s=10.0):
    """One run without a configured limit."""
    with serving(*options) as served:
        report, _ = run(served.base_url, folder, count, [MODEL], {})
        calls = served.stats()["models"][MODEL]["calls"]
    return {
        "case": name,
        "use_after_warm_up": round(warm_use(folder / "out", rate, warm_s), 3),
        "throttled_fraction": round(report["models"][0]["throttled"] / calls, 4),
        "answered": report["answered"],
    }


def waiting(count, folder, seed):
    """The CPU time of a request while a configured limit makes it wait, and of one that need not wait."""
    with serving("--latency-s", 0.3) as served:
        few, _ = run(served.base_url, folder / "few", 10, [MODEL], {})
        paced, _ = run(served.base_url, folder / "paced", count, [MODEL], {"*": "requests_per_minute: 6000"})
    with serving("--latency-s", 0) as served:
        fast, _ = run(served.base_url, folder / "fast", count, [MODEL], {})
    paced_ms, fast_ms = (1000 * (report["cpu_s"] - few["cpu_s"]) / (count - 10) for report in (paced, fast))
    yield {
        "case": "waiting at 100/s",
        "cpu_ms_each": round(paced_ms, 3),
        "cpu_ms_each_fast": round(fast_ms, 3),
        "ratio": round(paced_ms / fast_ms, 2),
    }


MODEL = "gemini:gemini-2.5-flash"
CASES = {
    "configured": lambda count, folder, _: [configured(count, folder)],
    "unconfigured": lambda count, folder, _: [unconfigured(count, folder)],
    "four": lambda count, folder, _: [four(count, folder)],
    "scattered": scattered,
    "real": real_limits,
    "changes": changes,
    "waiting": waiting,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--only", choices=CASES, action="append", help="repeat")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for name in args.only or CASES:
            for figures in CASES[name](args.requests, Path(folder) / name, args.seed):
                found.append(figures)
                print(figures, flush=True)
    print(json.dumps({"bench": "limits", "cases": found}))


if __name__ == "__main__":
    main()
