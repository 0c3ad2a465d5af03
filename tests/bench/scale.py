"""Measures memory, resume time and CPU per completion of a million requests, against smaller runs.

    python -m tests.bench.scale [--requests 1000000]

Each size (all requests, a tenth, a hundredth) is one `mavi run` in its own process against the benchmark
server: plan, dispatch, publish. Peak RSS is that of the process. The resume is the same command again, when
all is answered. The last line is JSON, with the ratios to the smaller runs.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from tests.bench.dispatch import run_pipeline
from tests.bench.server import serving


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    args = parser.parse_args()
    sizes = [args.requests // 100, args.requests // 10, args.requests]
    measured = {}
    with serving() as served, tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            cpu, wall, rss = run_pipeline(served.base_url, size, Path(folder) / str(size))
            measured[size] = {"cpu_ms": cpu / size * 1e3, "wall_s": wall, "peak_rss_mb": rss}
            print(
                f"{size:>9}: {cpu / size * 1e3:.3f} ms CPU each, {size / wall:.0f}/s, peak {rss:.0f} MB",
                flush=True,
            )
        began = time.perf_counter()
        cpu, _, rss = run_pipeline(served.base_url, sizes[-1], Path(folder) / str(sizes[-1]), resumed=True)
        resume = time.perf_counter() - began
    small, middle, large = (measured[size] for size in sizes)
    print(f"resume of {sizes[-1]}: {resume:.1f} s wall, {cpu:.1f} s CPU, peak {rss:.0f} MB")
    print(
        json.dumps(
            {
                "bench": "scale",
                "requests": sizes[-1],
                "peak_rss_mb": round(large["peak_rss_mb"]),
                "rss_to_tenth": round(large["peak_rss_mb"] / middle["peak_rss_mb"], 3),
                "cpu_to_hundredth": round(large["cpu_ms"] / small["cpu_ms"], 3),
                "resume_s": round(resume, 1),
                "resume_cpu_s": round(cpu, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
