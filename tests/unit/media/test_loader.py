"""Media for the dispatcher: once each, off the event loop, within a memory budget."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mavi_tasks.media import Delivery, LoaderStopped, MediaLoader, MediaOptions, Refusal, identify, route_for
from mavi_tasks.media.thread_pool import ByteBudget, ThreadPool
from tests.support.gateways import REPOSITORY
from tests.support.media_files import EVERYTHING, IMAGES_ONLY, TWO_ENDPOINTS, clip, found, image_file


def plan_of(ref: str, family=EVERYTHING, **asked):
    return route_for([found(identify(ref))], family, **asked)


def test_requests_of_urls_alone_start_no_thread_and_take_no_memory():
    async def run() -> None:
        async with MediaLoader(budget_bytes=0) as loader:
            before = threading.active_count()
            async with loader.delivery(plan_of("https://host.com/a.jpg")) as done:
                assert done.parts[0].url == "https://host.com/a.jpg"
                assert threading.active_count() == before
            assert loader.encoded == 0

    asyncio.run(run())


def test_one_media_wanted_by_many_at_one_time_is_encoded_once(tmp_path):
    path = image_file(tmp_path / "a.jpg")

    async def one(loader: MediaLoader, family) -> str:
        async with loader.delivery(plan_of(path, family)) as done:
            await asyncio.sleep(0)
            return done.parts[0].data

    async def run() -> None:
        async with MediaLoader() as loader:
            texts = await asyncio.gather(
                *(one(loader, f) for f in [EVERYTHING, IMAGES_ONLY, TWO_ENDPOINTS] * 10)
            )
            assert len(set(texts)) == 1
            assert loader.encoded == 1
            await one(loader, EVERYTHING)  # kept for a while
            assert loader.encoded == 1

    asyncio.run(run())


def test_other_forms_of_one_media_are_encoded_each(tmp_path):
    path = clip(tmp_path / "a.mp4", seconds=1)

    async def run() -> None:
        async with MediaLoader() as loader:
            for plan in (plan_of(path), plan_of(path, frames=2), plan_of(path, IMAGES_ONLY, frames=2)):
                async with loader.delivery(plan) as done:
                    assert isinstance(done, Delivery)
            assert loader.encoded == 2

    asyncio.run(run())


def test_what_is_too_much_for_the_cache_is_not_kept(tmp_path):
    path = image_file(tmp_path / "a.jpg")

    async def run() -> None:
        async with MediaLoader(cache_bytes=10) as loader:
            for _ in range(2):
                async with loader.delivery(plan_of(path)):
                    pass
            assert loader.encoded == 2

    asyncio.run(run())


def test_a_refusal_at_the_last_moment_is_handed_over_and_frees_the_memory(tmp_path):
    path = image_file(tmp_path / "a.jpg")
    plan = plan_of(path)
    Path(path).unlink()

    async def run() -> None:
        async with MediaLoader(budget_bytes=1) as loader:
            for _ in range(2):
                async with loader.delivery(plan) as outcome:
                    assert isinstance(outcome, Refusal)
                    assert outcome.code == "media_missing"

    asyncio.run(run())


def test_texts_in_flight_stay_within_the_budget(tmp_path):
    paths = [image_file(tmp_path / f"{i}.png", "PNG", (100, 100 + i)) for i in range(12)]
    size = max(Path(path).stat().st_size for path in paths)
    held = most = 0

    async def one(loader: MediaLoader, path: str) -> None:
        nonlocal held, most
        async with loader.delivery(plan_of(path)) as done:
            assert isinstance(done, Delivery)
            held += 1
            most = max(most, held)
            await asyncio.sleep(0.005)
            held -= 1

    async def run() -> None:
        async with MediaLoader(budget_bytes=3 * size * 4, cache_bytes=0) as loader:  # four at a time
            await asyncio.gather(*(one(loader, path) for path in paths))

    asyncio.run(run())
    assert 2 <= most <= 4


def test_one_request_that_is_cancelled_leaves_the_others_their_media(tmp_path):
    path = image_file(tmp_path / "a.jpg")

    async def one(loader: MediaLoader) -> Delivery | Refusal:
        async with loader.delivery(plan_of(path)) as done:
            return done

    async def run() -> None:
        async with MediaLoader() as loader:
            first, second = asyncio.create_task(one(loader)), asyncio.create_task(one(loader))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            first.cancel()
            assert isinstance(await second, Delivery)
            with pytest.raises(asyncio.CancelledError):
                await first
            assert loader.encoded == 1

    asyncio.run(run())


def test_a_stop_lets_nobody_wait_for_media(tmp_path, monkeypatch):
    monkeypatch.setattr("mavi_tasks.media.loader.encode", lambda *_: time.sleep(30))
    path = image_file(tmp_path / "a.jpg")

    async def one(loader: MediaLoader) -> None:
        async with loader.delivery(plan_of(path)):
            pass

    async def run() -> None:
        async with MediaLoader() as loader:
            waiting = asyncio.create_task(one(loader))
            await asyncio.sleep(0.05)
            loader.stop()
            with pytest.raises(LoaderStopped):
                await waiting
            with pytest.raises(LoaderStopped):
                await one(loader)

    began = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began < 10


def test_files_are_identified_off_the_event_loop(tmp_path):
    path = image_file(tmp_path / "a.jpg")

    async def run() -> None:
        async with MediaLoader(MediaOptions()) as loader:
            units = await asyncio.gather(
                loader.identify(path), loader.identify(path), loader.identify("https://h.com/a.png")
            )
            assert [found(unit).mime for unit in units] == ["image/jpeg", "image/jpeg", "image/png"]

    asyncio.run(run())


def test_a_call_that_is_stuck_is_given_up_and_its_place_is_free_again():
    stuck = threading.Event()

    async def run() -> None:
        pool = ThreadPool(1)
        with pytest.raises(TimeoutError):
            await pool.run(stuck.wait, timeout_s=0.01)
        assert await pool.run(lambda: "next", timeout_s=5) == "next"

    try:
        asyncio.run(run())
    finally:
        stuck.set()


def test_a_budget_of_bytes_is_fair_and_survives_cancellation():
    async def run() -> None:
        budget = ByteBudget(10)
        assert await budget.take(6) == 6
        big, small = asyncio.create_task(budget.take(8)), asyncio.create_task(budget.take(1))
        await asyncio.sleep(0)
        assert not small.done()  # behind the big one, so that the big one is not starved
        big.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert small.done()
        budget.give_back(7)
        assert await budget.take(99) == 10

    asyncio.run(run())


def test_a_budget_given_at_the_moment_of_cancellation_is_not_lost():
    async def run() -> None:
        budget = ByteBudget(10)
        await budget.take(10)
        waiting = asyncio.create_task(budget.take(10))
        await asyncio.sleep(0)
        budget.give_back(10)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert await asyncio.wait_for(budget.take(10), 1) == 10

    asyncio.run(run())


def test_200_local_4k_photos_with_64_in_flight_stay_under_600_mb():
    root = REPOSITORY
    command = [sys.executable, "-m", "tests.bench.media", "--photos", "200", "--in-flight", "64"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["delivered"] == 225  # each photo, and one in eight also shrunk
    assert told["photo_bytes"] > 2_000_000
    assert told["peak_rss_mb"] < 600
