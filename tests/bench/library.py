"""Measures a run over a large library with few new files: the time before the first request.

    python -m tests.bench.library [--items 1000000] [--new 1000] [--library DIR] [--out DIR]

Makes tiny JPEGs, plans the first run (which reads all of them: the baseline), writes results as that run
would, adds new files, and plans the second run in a new process. Prints both, then one JSON line. Included
are: start, the index of answered requests, listing, the size and time of each file, probes, prompts, keys and
the estimate. All files are removed at the end; --library and --out keep the media and the dataset.
"""

import argparse
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
from PIL import Image

from mavi_tasks.schema import RESULTS
from mavi_tasks.storage import parts

PER_FOLDER = 1000
ROWS_PER_PART = 100_000
MODEL = "gemini:gemini-2.5-flash"
PROMPT = "What is in this {{ media.kind }}?"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--new", type=int, default=1_000)
    parser.add_argument("--library", type=Path, help="use this folder of media, and keep it")
    parser.add_argument("--out", type=Path, help="use this dataset, and keep it")
    # For a child process: plan into this dataset.
    parser.add_argument("--plan-dataset", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.plan_dataset is not None:
        plan_in_this_process(args.library, args.plan_dataset)
        return
    folder = Path(tempfile.mkdtemp(prefix="mavi-library-"))
    library = args.library or folder / "library"
    try:
        run(library, args.out or folder / "out", args.items, args.new)
    finally:
        shutil.rmtree(folder)


def run(library: Path, out: Path, items: int, new: int) -> None:
    if not library.is_dir():
        make_library(library, items)
    first = None
    if not (out / "results").is_dir():
        first = timed("first night (reads every file)", library, out)
        write_results(out, Path(first.pop("spool")))
    shutil.rmtree(out / "_plan", ignore_errors=True)
    fresh = library / f"new-{time.time_ns()}"
    make_library(fresh, new, start=items)
    try:
        second = timed("second night", library, out)
    finally:
        shutil.rmtree(fresh)
    kept = sum(path.stat().st_size for path in (out / "_library").glob("*"))
    print(f"probes kept: {kept / 1e6:,.0f} MB")
    second.pop("spool")
    assert second["to_send"] == new, second
    print(
        json.dumps({"items": items, "new": new, "library_mb": kept / 1e6, "first": first, "second": second})
    )


def make_library(folder: Path, count: int, start: int = 0) -> None:
    """Tiny, different pictures with old timestamps."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(buffer, "JPEG")
    began = time.monotonic()
    for first in range(0, count, PER_FOLDER):
        below = folder / f"{first // PER_FOLDER:05d}"
        below.mkdir(parents=True)
        for n in range(first, min(first + PER_FOLDER, count)):
            path = below / f"{n:07d}.jpg"
            path.write_bytes(buffer.getvalue() + (start + n).to_bytes(8, "big"))
            os.utime(path, (1_700_000_000 + n, 1_700_000_000 + n))
    print(f"{count:,} files made in {time.monotonic() - began:.1f} s")


def timed(name: str, library: Path, out: Path) -> dict:
    command = [sys.executable, "-m", "tests.bench.library", "--plan-dataset", out, "--library", library]
    began = time.monotonic()
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    wall_s = time.monotonic() - began
    if done.returncode:
        raise SystemExit(done.stderr)
    figures = json.loads(done.stdout.splitlines()[-1]) | {"wall_s": round(wall_s, 1)}
    print(
        f"{name}: {figures['requests']:,} items, {figures['to_send']:,} to send: {wall_s:.1f} s wall, "
        f"{figures['cpu_s']:.1f} s CPU, {figures['peak_mb']:.0f} MB peak, {figures['start_s']:.1f} s start"
    )
    return figures


def plan_in_this_process(library: Path, out: Path) -> None:
    """Do everything that a run does before its first request; keep the plan's spool for the parent."""
    from mavi_tasks.job import job_of
    from mavi_tasks.job.endpoint import resolve_endpoint
    from mavi_tasks.planning import forecast
    from mavi_tasks.planning.context import open_context

    job = job_of(manifest=str(library), models=[MODEL], prompt=PROMPT, output=str(out), gateway="sandbox")
    context = open_context(job, resolve_endpoint(job.gateway, os.environ))
    start_s = time.process_time()
    result = forecast.forecast(context)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "requests": result.plan.requests,
        "to_send": sum(result.plan.to_send.values()),
        "start_s": round(start_s, 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": round(usage.ru_maxrss / 1024, 1),
        "spool": str(result.plan.folder),
    }
    print(json.dumps(found))


def write_results(out: Path, spool: Path) -> None:
    """Write results for all requests in the spool, in parts, as earlier runs would."""
    rows: list[tuple[str, str, str]] = []
    parts = 0
    for shard in sorted(spool.glob("*.jsonl")):
        with shard.open("rb") as lines:
            rows += [tuple(json.loads(line)[:3]) for line in lines]
        if len(rows) >= ROWS_PER_PART:
            write_part(out, rows, parts := parts + 1)
            rows = []
    if rows:
        write_part(out, rows, parts + 1)


def write_part(out: Path, rows: list[tuple[str, str, str]], number: int) -> None:
    keys, items, prompts = zip(*rows, strict=True)
    columns_by_row = {"request_key": keys, "item_id": items, "prompt_id": prompts}
    constants = {
        "model": MODEL,
        "gateway": "sandbox",
        "status": "answered",
        "run_id": "first",
        "job": "library",
    }
    constants |= {"prompt": PROMPT, "answer": "a picture", "finish_reason": "stop", "family": "gemini"}
    columns = {
        field.name: pa.array(columns_by_row[field.name], field.type)
        if field.name in columns_by_row
        else pa.array([constants.get(field.name)] * len(rows), pa.string()).cast(field.type)
        if field.name in constants
        else pa.nulls(len(rows), field.type)
        for field in RESULTS
    }
    folder = out / "results" / "run_date=2026-11-21"
    folder.mkdir(parents=True, exist_ok=True)
    parts.write_part(folder / f"part-{number}.parquet", pa.table(columns, RESULTS))


if __name__ == "__main__":
    main()
