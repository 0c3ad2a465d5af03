"""Measures the cost summary of many attempts against a plain pyarrow scan of the same columns.

    python -m tests.bench.costs [--rows 1000000] [--keep DIR] [--by day,model]

Prints a table, then one JSON line with the ratios `costs / scan` of wall and CPU time. Each step runs in its
own process, so that its peak memory is its own.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads

from mavi_tasks.costs import cost_report, to_json
from mavi_tasks.costs.aggregate import ATTEMPT_COLUMNS
from mavi_tasks.costs.result_counts import RESULT_COLUMNS
from mavi_tasks.schema import ATTEMPTS, RESULTS, RUNS, TABLES, USD
from mavi_tasks.storage.parts import write_part

MODELS = {  # pico-dollars per input and output token, without tiers
    "gemini:gemini-2.5-flash": (300_000, 2_500_000),
    "gemini:gemini-2.5-pro": (1_250_000, 10_000_000),
    "gpt:gpt-4o-mini": (150_000, 600_000),
    "qwen:qwen3-vl-plus": (200_000, 1_600_000),
    "nova:us.amazon.nova-lite-v1:0": (60_000, 240_000),
    "nova:us.amazon.nova-pro-v1:0": (800_000, 3_200_000),
}
ROWS_PER_RUN = 100_000
FIRST = date(2026, 7, 1)
US_PER_S = 1_000_000


def dictionary(values, entries):
    return pa.DictionaryArray.from_arrays(pa.array(values, pa.int32()), pa.array(entries, pa.string()))


def constant(text, rows):
    return dictionary(np.zeros(rows, np.int32), [text])


def usd(pico, valid_rows):
    halves = np.zeros((len(pico), 2), np.int64)
    halves[:, 0] = pico
    valid = pa.py_buffer(np.packbits(valid_rows, bitorder="little").tobytes())
    return pa.Array.from_buffers(USD, len(pico), [valid, pa.py_buffer(halves.tobytes())])


def instants(us):
    return pa.array(us, pa.int64()).cast(RESULTS.field("finished_at").type)


def table_of(schema, rows, columns):
    arrays = [columns.get(field.name, pa.nulls(rows, field.type)) for field in schema]
    return pa.Table.from_arrays(
        [array.cast(field.type) for array, field in zip(arrays, schema, strict=True)], schema=schema
    )


def write(folder, table, name, day):
    folder = folder / f"run_date={day}"
    folder.mkdir(parents=True, exist_ok=True)
    write_part(folder / name, table)


def make_run(root, number, rows, random):
    """One run: `rows` attempts of one day; 3 % have no result (throttled, failed, in doubt)."""
    run_id, day = f"run-{number:05}", FIRST + timedelta(days=number % 120)
    start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * US_PER_S
    finished = start + np.sort(random.integers(0, 86_400 * US_PER_S, rows))
    model = random.integers(0, len(MODELS), rows)
    prices = np.array(list(MODELS.values()))
    tokens_in, tokens_out = random.integers(200, 3_000, rows), random.integers(5, 400, rows)
    pico = tokens_in * prices[model, 0] + tokens_out * prices[model, 1]
    draw = random.random(rows)
    outcome = np.select([draw < 0.97, draw < 0.985, draw < 0.995], [0, 1, 2], 3).astype(np.int32)
    billed = outcome == 0
    keys = np.array([hashlib.sha256(b"%d-%d" % (number, row)).hexdigest() for row in range(rows)])
    shared = {
        "run_id": constant(run_id, rows),
        "model": dictionary(model.astype(np.int32), list(MODELS)),
        "request_key": pa.array(keys),
        "started_at": instants(finished - US_PER_S),
        "finished_at": instants(finished),
        "input_tokens": pa.array(tokens_in, mask=~billed),
        "output_tokens": pa.array(tokens_out, mask=~billed),
        "cost_usd": usd(pico, billed),
        "schema_version": pa.array(np.ones(rows, np.int64)),
    }
    attempts = table_of(
        ATTEMPTS,
        rows,
        {
            **shared,
            "attempt_id": pa.array(np.char.add(keys.astype("U32"), "a")),
            "outcome": dictionary(outcome, ["answered", "throttled", "failed", "in_doubt"]),
            "exposure_usd": usd(pico, outcome == 3),
        },
    )
    write(root / "attempts", attempts, f"part-{run_id}.parquet", day)
    answered = shared | {
        "job": constant(f"job-{number % 20}", rows),
        "gateway": constant("mavi", rows),
        "item_id": pa.array([f"item-{row // 6:09}" for row in range(rows)]),
        "prompt_id": dictionary((np.arange(rows) % 3).astype(np.int32), ["label", "caption", "count"]),
        "status": dictionary((random.random(rows) < 0.01).astype(np.int32), ["answered", "invalid"]),
        "media_kind": dictionary((np.arange(rows) % 4 == 0).astype(np.int32), ["image", "video"]),
        "duration_s": pa.array(np.full(rows, 12.5), mask=np.arange(rows) % 4 != 0),
        "cached_tokens": pa.array(np.zeros(rows, np.int64)),
    }
    results = table_of(RESULTS, rows, answered).filter(pa.array(billed))
    write(root / "results", results, f"part-{run_id}.parquet", day)
    row = {
        "run_id": run_id,
        "job": f"job-{number % 20}",
        "gateway": "mavi",
        "status": "finished",
        "schema_version": 1,
    }
    write(root / "runs", pa.Table.from_pylist([row], schema=RUNS), f"run-{run_id}.parquet", day)


def make_dataset(root, rows):
    """A dataset of `rows` attempts and nearly as many results."""
    random = np.random.default_rng(7)
    for number, first in enumerate(range(0, rows, ROWS_PER_RUN)):
        make_run(root, number, min(ROWS_PER_RUN, rows - first), random)


def scan(root):
    """What pyarrow needs merely to read the columns that a cost report needs."""
    rows = 0
    for table, columns in (("attempts", ATTEMPT_COLUMNS), ("results", RESULT_COLUMNS)):
        figures = pads.dataset(root / table, schema=TABLES[table], format="parquet", partitioning=None)
        rows += sum(batch.num_rows for batch in figures.to_batches(columns=list(columns)))
    return {"rows": rows}


def summarise(root, by):
    report = cost_report([str(root)], by=by)
    return {
        "rows": report.total.calls,
        "total_usd": to_json(report)["total_usd"],
        "groups": len(report.groups),
    }


def measured(run_step, root, by):
    """Run one step in a new process; its result, wall and CPU seconds and peak memory."""
    code = (
        "import json,sys,time,resource,pathlib\n"
        "from tests.bench import costs\n"
        "start = time.perf_counter()\n"
        "found = costs.run_step(sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3].split(','))\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(json.dumps({**found, 'wall_s': time.perf_counter() - start,"
        " 'cpu_s': used.ru_utime + used.ru_stime, 'peak_mb': used.ru_maxrss / 1024}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, run_step, str(root), ",".join(by)],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def run_step(name, root, by):
    return scan(root) if name == "scan" else summarise(root, by)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="make the dataset here and keep it; reuse an existing one")
    parser.add_argument("--by", default="day,model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = options.keep or Path(scratch)
        if not (root / "attempts").is_dir():
            start = time.perf_counter()
            make_dataset(root, options.rows)
            print(f"made {options.rows:,} attempts in {time.perf_counter() - start:.1f} s")
        figures = {name: measured(name, root, options.by.split(",")) for name in ("scan", "costs")}
    print(f"{'':8}{'wall s':>8}{'CPU s':>8}{'peak MB':>9}")
    for name, one in figures.items():
        print(f"{name:8}{one['wall_s']:8.2f}{one['cpu_s']:8.2f}{one['peak_mb']:9.0f}")
    ratio = figures["costs"]["wall_s"] / figures["scan"]["wall_s"]
    cpu_ratio = figures["costs"]["cpu_s"] / figures["scan"]["cpu_s"]
    print(
        json.dumps(
            {
                "attempts": figures["costs"]["rows"],
                "ratio": round(ratio, 2),
                "cpu_ratio": round(cpu_ratio, 2),
                **figures,
            }
        )
    )


if __name__ == "__main__":
    main()
