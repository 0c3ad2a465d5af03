"""Measures the costs of a dataset in a bucket: small parts, shipping, leases, listing.

    python -m tests.bench.objects [--parts 3000] [--rows 100] [--only NAME] [--json-only]

* reads: a table of many small parts read by pyarrow, DuckDB and polars from disk, and from an S3-compatible
  server (moto: one Python process on this machine, far slower than S3): once from nothing, once again.
* leases: the time to take and release all slices, by one run and by several at the same time.
* ship: segments made into parts and PUT, in rows a second.
* losses: a machine killed together with its disk: what was paid and is not in the bucket.
* plan: keys indexed and looked up, in seconds and bytes for each million.
* simulate: the index of 20 million keys, slice by slice; with all these, 100 million a day on paper.
"""

import argparse
import contextlib
import json
import logging
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl

from mavi_tasks.execution.distributed.slice_leases import SliceLeases
from mavi_tasks.planning.spool import SLICES
from mavi_tasks.storage import s3
from mavi_tasks.storage.answered_index import AnsweredIndex, row_fingerprint
from mavi_tasks.storage.publish import Dataset
from mavi_tasks.storage.tables import open_table
from tests.support.gateways import kill, remote_sandbox, start, url_job, wait_for
from tests.support.rows import attempt, intent, key, open_journal, result
from tests.support.s3_server import S3, s3_server

DAY_S = 86_400
PUT_USD, GET_USD = 5e-6, 0.4e-6  # S3 Standard, us-east-1: for one PUT or LIST, and for one GET


def timed(work: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    made = work()
    return time.perf_counter() - began, made


# -- data


def fill_dataset(dataset: Dataset, parts: int, rows: int) -> None:
    """Publish `parts` segments: each becomes one part of results and one of attempts."""
    for part in range(parts):
        journal = open_journal(dataset.root, f"run{part}-w0", f"run{part}", durability="os")
        for n in range(part * rows, part * rows + rows):
            journal.record(attempt(n), result(n, answer=f"a cat, number {n}", latency_s=n * 1e-3))
        journal.close()
        if part % 100 == 99:
            dataset.publish()
    dataset.publish()


def copies(root: Path, parts: int, rows: int) -> None:
    """Make many parts quickly: copies of one published part."""
    dataset = Dataset(root)
    dataset.create()
    fill_dataset(dataset, 1, rows)
    for table in ("results", "attempts"):
        first = next((root / table).rglob("*.parquet"))
        for n in range(1, parts):
            shutil.copyfile(first, first.with_name(f"part-copy{n:06}.parquet"))


# -- reads


def reads(server: S3, parts: int, rows: int, folder: Path) -> dict[str, Any]:
    local = folder / "local"
    copies(local, parts, rows)
    glob = f"{local}/results/**/*.parquet"
    columns = ["model", "status", "cost_usd"]
    cpu = time.process_time()
    seconds: dict[str, float] = {
        "pyarrow": timed(lambda: open_table(local, "results").to_table(columns=columns))[0],
        "pyarrow, CPU": time.process_time() - cpu,
        "DuckDB": timed(
            lambda: (
                duckdb.connect()
                .execute(f"select model, status, sum(cost_usd), count(*) from '{glob}' group by all")
                .fetchall()
            )
        )[0],
        "polars": timed(lambda: pl.scan_parquet(glob).select(columns).collect())[0],
    }
    url = server.bucket("reads") + "/many"
    bucket = s3.Bucket(url)
    files = sorted((local / "results").rglob("*.parquet"))
    with ThreadPoolExecutor(16) as pool:
        put_s, _ = timed(
            lambda: list(pool.map(lambda path: bucket.put(path.relative_to(local).as_posix(), path), files))
        )
    seconds["listing, S3"] = timed(lambda: sum(1 for _ in bucket.list("results/")))[0]
    root = s3.folder(url)
    seconds["first read, S3"] = timed(lambda: open_table(root, "results").to_table(columns=columns))[0]
    s3.mirror_of(root).forget()
    seconds["read again, S3"] = timed(lambda: open_table(root, "results").to_table(columns=columns))[0]
    size = sum(path.stat().st_size for path in files)
    return {
        "parts": parts,
        "rows": parts * rows,
        "kilobytes_a_part": round(size / parts / 1e3, 1),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "puts_per_s": round(parts / put_s),
    }


# -- leases


def leases(server: S3, folder: Path) -> dict[str, Any]:
    url = server.bucket("leases") + "/d"
    return {f"{runs} runs": lease_times(url, runs, folder) for runs in (1, 4, 16)}


def lease_times(url: str, runs: int, folder: Path) -> dict[str, float]:
    """Seconds in which `runs` concurrent runs take all slices together, and release them."""
    groups = [{f"m/{n:02}"} for n in range(SLICES)]
    made = []
    for n in range(runs):
        os.environ["MAVI_SPOOL"] = str(folder / f"lease-{runs}-{n}")
        made.append(SliceLeases(s3.mirror_of(s3.folder(url)), f"r{runs}-{n}"))
        made[-1].start()
    with ThreadPoolExecutor(runs) as pool:
        took_s, had = timed(lambda: list(pool.map(lambda one: one.take(groups, -(-SLICES // runs)), made)))
        gave_s, _ = timed(lambda: list(pool.map(SliceLeases.close, made)))
    assert sum(len(one.groups) for one in had) == SLICES
    return {"take_s": round(took_s, 2), "give_back_s": round(gave_s, 2)}


# -- ship


def ship(server: S3, folder: Path, rows: int = 100_000) -> dict[str, Any]:
    """Rows a second from a sealed segment to the bucket, and the bytes of a row in it."""
    os.environ["MAVI_SPOOL"] = str(folder / "ship")
    url = server.bucket("ship") + "/d"
    dataset = Dataset(s3.folder(url))
    dataset.create()
    journal = open_journal(dataset.root, durability="os")
    for n in range(rows):
        journal.intend(intent(n))
        journal.record(attempt(n), result(n, answer=sha256(b"%d" % n).hexdigest()))
    journal.close()
    cpu = time.process_time()
    took_s, _ = timed(dataset.publish)
    cpu = time.process_time() - cpu
    size = {table: sum(one.size for one in s3.Bucket(url).list(f"{table}/"))
            for table in ("results", "attempts")}  # fmt: skip
    return {
        "rows": rows,
        "rows_per_s": round(rows / took_s),
        "cpu_us_a_row": round(cpu / rows * 1e6, 1),
        "bytes_a_row": {table: round(total / rows) for table, total in size.items()},
    }


def losses(server: S3, folder: Path, kills: int = 4) -> list[dict[str, Any]]:
    """A machine lost with its disk: the paid answers that are not in the bucket, by shipping interval."""
    found = []
    with remote_sandbox(latency_s=0.02) as gateway:
        for every_s in (0.5, 2.0, None):
            lost, rates, parts = [], [], []
            for n in range(kills if every_s is not None else 1):
                gateway.reset()
                name = f"loss-{str(every_s).replace('.', '-').lower()}-{n}"
                url = server.bucket(name) + "/d"
                more = {"limits": {"*": {"concurrency": 8}}, "ship_every_s": every_s}
                job = url_job(folder / name, 20_000, gateway.base_url, output=url, **more)
                env = {**server.env, "MAVI_SPOOL": str(folder / name / "spool")}
                process = start("run", "--json", "--quiet", job, **env)
                wait_for(lambda: gateway.bill()["calls"] >= 100)
                began, before = time.monotonic(), gateway.bill()["calls"]
                time.sleep(4 + 0.37 * n)
                kill(process)
                paid = gateway.bill()["calls"]
                rates.append((paid - before) / (time.monotonic() - began))
                os.environ["MAVI_SPOOL"] = str(folder / name / "reader")
                shipped = open_table(s3.folder(url), "results")
                lost.append(paid - shipped.count_rows())
                parts.append(len(shipped.files) if hasattr(shipped, "files") else 0)
            rate = sum(rates) / len(rates)
            found.append({"ship_every_s": every_s or "300 (default)", "kills": len(lost),
                          "calls_per_s": round(rate), "lost_mean": round(sum(lost) / len(lost)),
                          "lost_max": max(lost),
                          "interval_x_rate": round(every_s * rate) if every_s else None,
                          "parts": max(parts)})  # fmt: skip
    return found


# -- plan


def plan(folder: Path, rows: int = 1_000_000) -> dict[str, Any]:
    """Index a million answered keys, and look keys up."""
    dataset = Dataset(folder / "plan")
    dataset.create()
    for part in range(10):
        journal = open_journal(dataset.root, f"run{part}-w0", f"run{part}", durability="os")
        for n in range(part * rows // 10, (part + 1) * rows // 10):
            journal.record(None, result(n))
        journal.close()
        dataset.publish()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    index_s, index = timed(lambda: AnsweredIndex.read(dataset.root))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    keys, marks = [key(n) for n in range(100_000)], [row_fingerprint(f"item{n}", "p") for n in range(100_000)]
    look_up_s, _ = timed(lambda: index.look_up(keys, marks))
    return {
        "keys": rows,
        "index_s": round(index_s, 2),
        "bytes_a_key": 25,
        "peak_rss_grew_mb": round((after - before) / 1024),
        "look_up_us_a_key": round(look_up_s / 100_000 * 1e6, 2),
    }


def simulate(keys: int = 20_000_000) -> dict[str, Any]:
    """Time and memory of the index of 20 million requests, in 64 slices one after the other."""
    draw = np.random.default_rng(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, indexed = 0.0, 0
    each = keys // SLICES
    for _ in range(SLICES):
        high, low = draw.integers(0, 2**64, (2, each), np.uint64)
        mark, known = np.zeros(each, np.uint32), np.ones(each, np.uint8)
        took_s, index = timed(lambda columns=(high, low, mark, known): AnsweredIndex(*columns))
        hexes = [
            f"{a:016x}{b:016x}" for a, b in zip(high[:5_000].tolist(), low[:5_000].tolist(), strict=True)
        ]
        look_s, found = timed(lambda index=index, hexes=hexes: index.look_up(hexes, [0] * len(hexes)))
        assert all(found)
        seconds += took_s + look_s * each / len(hexes)
        indexed += each
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "keys": indexed,
        "sort_and_look_up_all_s": round(seconds, 1),
        "peak_rss_grew_mb": round((after - before) / 1024),
    }


# -- 100 million a day, on paper


def on_paper(found: dict[str, Any], *, a_day: int = 100_000_000, workers: int = 32) -> dict[str, Any]:
    """The measured numbers, extrapolated to a hundred million requests a day."""
    figures: dict[str, Any] = {"requests_per_s": round(a_day / DAY_S)}
    for every_s in (300, 60):
        parts = workers * DAY_S // every_s
        figures[f"ship every {every_s} s"] = {
            "parts_a_day": parts,
            "rows_a_part": a_day // parts,
            "puts_usd_a_day": round(3 * parts * PUT_USD, 2),
            "list_requests_for_30_days": -(-30 * parts // 1_000),
            "lost_with_a_disk_at_most": round(every_s * a_day / DAY_S / workers),
        }
    figures["leases_usd_a_day"] = round(
        workers * (DAY_S / 15 * PUT_USD + 2 * SLICES * (PUT_USD + GET_USD)), 2
    )
    if "ship" in found:
        figures["gigabytes_a_day"] = round(sum(found["ship"]["bytes_a_row"].values()) * a_day / 1e9, 1)
        figures["publishing_cores"] = round(found["ship"]["cpu_us_a_row"] * a_day / 1e6 / DAY_S, 2)
    if "plan" in found:
        figures["index_s_for_a_day"] = round(found["plan"]["index_s"] * a_day / found["plan"]["keys"])
        figures["index_gigabytes_for_a_day"] = round(found["plan"]["bytes_a_key"] * a_day / 1e9, 1)
    return figures


# -- command line


@contextlib.contextmanager
def workplace() -> Iterator[tuple[S3, Path]]:
    logging.disable()
    with s3_server() as server, tempfile.TemporaryDirectory() as folder:
        os.environ.update(server.env, MAVI_SPOOL=str(Path(folder) / "spool"))
        yield server, Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", type=int, default=3_000)
    parser.add_argument("--rows", type=int, default=100, help="of one part")
    parser.add_argument("--only", choices=("reads", "leases", "ship", "losses", "plan", "simulate"))
    parser.add_argument("--json-only", action="store_true")
    args = parser.parse_args()
    found: dict[str, Any] = {"bench": "objects"}
    with workplace() as (server, folder):
        work = {
            "reads": lambda: reads(server, args.parts, args.rows, folder),
            "leases": lambda: leases(server, folder),
            "ship": lambda: ship(server, folder),
            "losses": lambda: losses(server, folder),
            "plan": lambda: plan(folder),
            "simulate": simulate,
        }
        for name, measure in work.items():
            if args.only in (None, name):
                found[name] = measure()
                if not args.json_only:
                    print(name, json.dumps(found[name], indent=1), flush=True)
    found["on_paper"] = on_paper(found)
    if not args.json_only:
        print("100 million a day, on paper", json.dumps(found["on_paper"], indent=1))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
