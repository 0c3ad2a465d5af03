"""Measures peak memory and speed of the media stage, with many local 4K photos in flight.

    python -m tests.bench.media [--photos 200] [--in-flight 64] [--shrink-every 8]

Prints a table, then one JSON line; the baseline is the memory before the first photo. Each photo is sent to a
model that accepts its size, one in eight also to a model that needs a smaller copy. Each delivery becomes a
request body, as in a run, that is held for 10 ms.
"""

import argparse
import asyncio
import json
import random
import resource
import tempfile
import time
from pathlib import Path

import orjson
from PIL import Image

from mavi_tasks.media import Delivery, MediaLoader, identify, route_for
from mavi_tasks.providers.base import Route
from tests.support.media_files import IMAGE_MIMES, Family

AS_IT_IS = Family("as_it_is", image=Route("/iu", True, True, max_inline_bytes=20_000_000, mimes=IMAGE_MIMES))
SHRUNK = Family("shrunk", image=Route("/iu", True, True, max_inline_bytes=1_500_000, mimes=IMAGE_MIMES))


def peak_mb() -> float:
    """The peak memory of this process. Not ru_maxrss, which starts with the memory of the parent."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000


def make_photos(folder: Path, count: int) -> list[str]:
    """Photos of 3840 x 2160 that differ in their last bytes, about 3 MB each."""
    noise = Image.effect_noise((1920, 1080), 60).resize((3840, 2160))
    shade = Image.linear_gradient("L").resize((3840, 2160))
    photo = Image.merge("RGB", (noise, shade, Image.blend(noise, shade, 0.5)))
    first = folder / "0.jpg"
    photo.save(first, quality=93)
    data = first.read_bytes()
    chance = random.Random(1)
    for index in range(1, count):
        (folder / f"{index}.jpg").write_bytes(data + chance.randbytes(16))  # after the end marker
    return [str(folder / f"{index}.jpg") for index in range(count)]


async def deliver_all(paths: list[str], in_flight: int, shrink_every: int) -> tuple[int, int]:
    """The numbers of requests with media, and of media that were encoded."""
    semaphore = asyncio.Semaphore(in_flight)
    delivered = 0

    async def one(loader: MediaLoader, path: str, family: Family) -> None:
        nonlocal delivered
        async with semaphore:
            media = await loader.identify(path)
            async with loader.delivery(route_for([media], family)) as done:
                assert isinstance(done, Delivery), done
                body = orjson.dumps({"messages": [{"image_url": {"url": part.data}} for part in done.parts]})
                await asyncio.sleep(0.01)
                delivered += len(body) > 0

    async with MediaLoader() as loader:
        requests = [(path, AS_IT_IS) for path in paths] + [(path, SHRUNK) for path in paths[::shrink_every]]
        random.Random(2).shuffle(requests)
        await asyncio.gather(*(one(loader, path, family) for path, family in requests))
        return delivered, loader.encoded


def microseconds_per_url(count: int = 20_000) -> float:
    """Time to identify one plain URL."""
    urls = [f"https://cdn.example.com/library/{index}/photo.jpg" for index in range(count)]
    started = time.perf_counter()
    for url in urls:
        identify(url)
    return (time.perf_counter() - started) / count * 1e6


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--shrink-every", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = make_photos(Path(folder), options.photos)
        before = peak_mb()
        started = time.perf_counter()
        delivered, encoded = asyncio.run(deliver_all(paths, options.in_flight, options.shrink_every))
        figures = {
            "photos": options.photos,
            "in_flight": options.in_flight,
            "photo_bytes": Path(paths[0]).stat().st_size,
            "delivered": delivered,
            "encoded": encoded,
            "wall_s": round(time.perf_counter() - started, 2),
            "rss_before_mb": round(before),
            "peak_rss_mb": round(peak_mb()),
            "identify_url_us": round(microseconds_per_url(), 2),
        }
    for name, value in figures.items():
        print(f"{name:<16} {value:>14}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
