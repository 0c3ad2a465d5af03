"""Measures the CPU time per completion: `mavi run` against plain HTTP loops, with the same server.

    python -m tests.bench.dispatch [--requests 20000] [--repeats 5] [--httpx-requests 3000]

The server runs in its own process. All clients send the same bodies, 64 in flight. CPU is the user + system
time of the client's process. For `mavi run` it is the difference between a run with a tenth of the requests
and a run with all, divided by the difference in requests, so that start-up is not counted.
"""

import argparse
import asyncio
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.server import serving

MODEL = "gemini:gemini-2.5-flash"
PROMPT = "What is in this picture? Answer with one word."
IN_FLIGHT = 64


def bodies(count):
    for number in range(count):
        yield json.dumps(
            {
                "model": MODEL,
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": PROMPT},
                            {
                                "type": "input_file",
                                "file_uri": f"https://media.example/{number}.jpg",
                                "mime_type": "image/jpeg",
                            },
                        ],
                    }
                ],
            }
        ).encode()


async def workers(send, count):
    source = bodies(count)

    async def work():
        for body in source:
            await send(body)

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))


async def bare_httpx(url, count):
    import httpx

    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    async with httpx.AsyncClient(limits=limits, headers=HEADERS) as client:

        async def send(body):
            reply = await client.post(url, content=body)
            assert reply.json()["choices"]

        await workers(send, count)


async def bare_httpx_aiohttp(url, count):
    import httpx
    import httpx_aiohttp

    async with httpx.AsyncClient(transport=httpx_aiohttp.AiohttpTransport(), headers=HEADERS) as client:

        async def send(body):
            reply = await client.post(url, content=body)
            assert reply.json()["choices"]

        await workers(send, count)


async def bare_aiohttp(url, count):
    import aiohttp

    async with aiohttp.ClientSession(headers=HEADERS) as session:

        async def send(body):
            async with session.post(url, data=body) as reply:
                assert json.loads(await reply.read())["choices"]

        await workers(send, count)


HEADERS = {"authorization": "sk-bench", "content-type": "application/json"}
BARE = {"httpx": bare_httpx, "httpx-aiohttp": bare_httpx_aiohttp, "aiohttp": bare_aiohttp}


def cpu_s(who=resource.RUSAGE_SELF):
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def time_bare(name, url, count):
    """CPU and wall seconds of one request, in a process of its own."""
    code = (
        "import asyncio, time\n"
        "from tests.bench import dispatch as d\n"
        f"url, count = {url!r}, {count}\n"
        f"asyncio.run(d.BARE[{name!r}](url, 200))\n"
        "cpu, wall = d.cpu_s(), time.perf_counter()\n"
        f"asyncio.run(d.BARE[{name!r}](url, count))\n"
        "print((d.cpu_s() - cpu) / count, (time.perf_counter() - wall) / count)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    cpu, wall = map(float, out.split())
    return cpu, wall


def time_pipeline(base_url, count, folder):
    """CPU and wall seconds of one completion of `mavi run`: the slope between a tenth and the whole."""
    small = run_pipeline(base_url, count // 10, folder / "small")
    large = run_pipeline(base_url, count, folder / "large")
    return (
        tuple((b - a) / (count - count // 10) for a, b in zip(small[:2], large[:2], strict=True)) + large[2:]
    )


def run_pipeline(base_url, count, folder, *, resumed=False):
    """(CPU s, wall s, peak RSS MB) of one `mavi run` over `count` image URLs, or of its resume."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = write_manifest(folder / "manifest.csv", count)
    job = folder / "job.yaml"
    job.write_text(
        f"manifest: {manifest.name}\nprompts: {{p: {PROMPT!r}}}\nmodels: ['{MODEL}']\n"
        f"limits: {{'*': {{concurrency: {IN_FLIGHT}}}}}\ngateway: {{base_url: {base_url!r}}}\noutput: out\n"
    )
    env = {**os.environ, "MAVI_API_KEY": "sk-bench"}
    began = time.perf_counter()
    command = [sys.executable, "-m", "mavi_tasks", "run", str(job), "--json", "--quiet"]
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        out, err = process.stdout.read(), process.stderr.read()
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0
    wall = time.perf_counter() - began
    report = json.loads(out.splitlines()[-1]) if out else {}
    if report.get("already_answered" if resumed else "answered") != count:
        raise SystemExit(f"the pipeline answered {report.get('answered')} of {count}: {err[-2000:]}")
    return used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024


def write_manifest(path, count):
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["item_id", "media_url", "truth"])
        for number in range(count):
            rows.writerow([f"item-{number}", f"https://media.example/{number}.jpg", "cat"])
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--httpx-requests", type=int, default=3_000, help="fewer: it is slow")
    args = parser.parse_args()
    measured = {name: [] for name in [*BARE, "mavi"]}
    with serving() as served:
        for repeat in range(args.repeats):
            for name in BARE:
                count = args.httpx_requests if name == "httpx" else args.requests
                measured[name].append(time_bare(name, f"{served.base_url}/vu/chat/completions", count))
            with tempfile.TemporaryDirectory() as folder:
                measured["mavi"].append(time_pipeline(served.base_url, args.requests, Path(folder)))
            print(f"round {repeat + 1} of {args.repeats}", file=sys.stderr)
    cpu = {name: statistics.median(run[0] for run in runs) for name, runs in measured.items()}
    wall = {name: statistics.median(run[1] for run in runs) for name, runs in measured.items()}
    print(f"{'':>14}  CPU ms/call  calls/s   CPU against httpx-aiohttp")
    for name in measured:
        ratio = cpu[name] / cpu["httpx-aiohttp"]
        print(f"{name:>14}  {cpu[name] * 1e3:11.3f}  {1 / wall[name]:7.0f}   {ratio:.2f}")
    print(
        json.dumps(
            {
                "bench": "dispatch",
                "cpu_ms": {name: round(value * 1e3, 4) for name, value in cpu.items()},
                "calls_per_s": {name: round(1 / value) for name, value in wall.items()},
                "mavi_to_httpx_aiohttp": round(cpu["mavi"] / cpu["httpx-aiohttp"], 3),
                "mavi_to_httpx": round(cpu["mavi"] / cpu["httpx"], 3),
            }
        )
    )


if __name__ == "__main__":
    main()
