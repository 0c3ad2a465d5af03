"""Between nights: local files are read once, buckets known by their ETags, what is gone stays in history."""

import os
import threading
import time

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry, register_implementation
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mavi_tasks.job import job_of
from mavi_tasks.job.endpoint import resolve_endpoint
from mavi_tasks.media import Probe
from mavi_tasks.media import probe_index as module
from mavi_tasks.media.probe_index import ProbeIndex
from mavi_tasks.planning import spool
from mavi_tasks.planning.context import open_context
from mavi_tasks.planning.planner import make_plan
from tests.support.gateways import mavi, rows

LATER = 10**18  # far enough after any time in these tests that a file has settled
MODEL = "gemini:gemini-2.5-flash"


def probe(n: int, mime="image/jpeg", size=(64, 48), duration_s=None) -> Probe:
    return Probe(mime, f"{n:064x}", *(size or (None, None)), duration_s)


def opened(folder) -> ProbeIndex:
    return ProbeIndex(folder, now_ns=lambda: LATER)


def filled(folder, count, first=0) -> None:
    with opened(folder) as index:
        for n in range(first, first + count):
            index.put(f"/m/{n}.jpg", n, 2 * n, probe(n))


# -- what is kept


@pytest.mark.parametrize(
    "kept", [probe(1), probe(2**255), probe(3, "video/mp4", None, 12.5), probe(4, "image/svg+xml", None)]
)
def test_what_reading_told_comes_back_in_the_next_process(tmp_path, kept):
    with opened(tmp_path) as index:
        index.put("/m/ü.jpg", 7, 9, kept)
        assert index.get("/m/ü.jpg", 7, 9) == kept
    assert opened(tmp_path).get("/m/ü.jpg", 7, 9) == kept


@pytest.mark.parametrize("other", [("/m/b.jpg", 7, 9), ("/m/a.jpg", 8, 9), ("/m/a.jpg", 7, 10)])
def test_another_path_size_or_time_is_another_file(tmp_path, other):
    with opened(tmp_path) as index:
        index.put("/m/a.jpg", 7, 9, probe(1))
    assert opened(tmp_path).get(*other) is None


def test_a_changed_file_takes_the_place_of_the_old_one(tmp_path):
    for n in range(3):
        with opened(tmp_path) as index:
            index.put("/m/a.jpg", 7, n, probe(n))
    index = opened(tmp_path)
    assert [index.get("/m/a.jpg", 7, n) for n in range(3)] == [None, None, probe(2)]
    assert len(index) == 1


def test_a_file_changed_a_moment_ago_is_read_again_next_time(tmp_path):
    now = 1_000_000_000_000
    with ProbeIndex(tmp_path, now_ns=lambda: now) as index:
        index.put("/m/fresh.jpg", 7, now - 1_000_000_000, probe(1))
        index.put("/m/old.jpg", 7, now - 3_000_000_000, probe(2))
    assert len(opened(tmp_path)) == 1


def test_many_are_looked_up_at_once_in_their_order(tmp_path):
    filled(tmp_path, 500)
    wanted = [499, 3, 1000, 0]
    found = opened(tmp_path).look_up([f"/m/{n}.jpg" for n in wanted], [(n, 2 * n) for n in wanted])
    assert found == [probe(499), probe(3), None, probe(0)]


@settings(max_examples=30)
@given(nights=st.lists(st.dictionaries(st.integers(0, 40), st.integers(0, 5), max_size=30), max_size=8))
def test_after_any_nights_the_newest_of_each_path_is_known(tmp_path_factory, nights):
    folder = tmp_path_factory.mktemp("library")
    newest = {}
    for night in nights:
        with opened(folder) as index:
            for n, time_ns in night.items():
                index.put(f"/m/{n}", 1, time_ns, probe(100 * n + time_ns))
        newest |= night
    index = opened(folder)
    for n, time_ns in newest.items():
        assert index.get(f"/m/{n}", 1, time_ns) == probe(100 * n + time_ns)
    assert len(index) >= len(newest)


# -- files


def test_many_nights_leave_few_files(tmp_path):
    for night in range(40):
        filled(tmp_path, 10, first=10 * night)
    assert len(list(tmp_path.iterdir())) <= 8  # about the logarithm of the rows
    assert len(opened(tmp_path)) == 400


def test_a_night_without_news_writes_nothing(tmp_path):
    filled(tmp_path, 10)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with opened(tmp_path) as index:
        index.get("/m/3.jpg", 3, 6)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_long_first_night_keeps_what_it_learned_along_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAVE_AFTER_ROWS", 10)
    index = opened(tmp_path)  # never closed: the process is killed
    for n in range(25):
        index.put(f"/m/{n}.jpg", n, 2 * n, probe(n))
    assert len(opened(tmp_path)) == 20


def test_a_flipped_bit_costs_reading_again_and_never_gives_another_digest(tmp_path, caplog):
    filled(tmp_path, 20)
    (path,) = tmp_path.glob("*.arrow")
    raw = path.read_bytes()
    for bit in range(0, 8 * len(raw), 997):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        assert module.damaged(tmp_path) == [path]
        index = ProbeIndex(tmp_path, keep=False)
        assert index.get("/m/1.jpg", 1, 2) is None
    with opened(tmp_path) as index:
        index.put("/m/1.jpg", 1, 2, probe(1))
    assert opened(tmp_path).get("/m/1.jpg", 1, 2) == probe(1)
    assert module.damaged(tmp_path) == [path.with_suffix(".damaged")]


@pytest.mark.parametrize("damage", [b"", b"ARROW1", b"\x00" * 4096])
def test_a_damaged_file_only_costs_reading_again(tmp_path, damage, caplog):
    filled(tmp_path, 10)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage)
    assert opened(tmp_path).get("/m/3.jpg", 3, 6) is None
    assert "are read again" in caplog.text
    filled(tmp_path, 10)
    assert opened(tmp_path).get("/m/3.jpg", 3, 6) == probe(3)


def test_a_folder_that_cannot_be_written_stops_no_run(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    with opened(tmp_path / "file" / "_library") as index:
        index.put("/m/a.jpg", 7, 9, probe(1))
    assert "cannot be saved" in caplog.text


def test_two_runs_at_once_both_keep_what_they_learned(tmp_path):
    both = [opened(tmp_path), opened(tmp_path)]
    for n, index in enumerate(both):
        index.put(f"/m/{n}.jpg", n, 2 * n, probe(n))
    for index in both:
        index.close()
    assert len(opened(tmp_path)) == 2


def test_threads_may_share_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAVE_AFTER_ROWS", 50)
    index = opened(tmp_path)

    def fill(first):
        for n in range(first, first + 300):
            index.put(f"/m/{n}.jpg", n, 2 * n, probe(n))
            assert index.get(f"/m/{n}.jpg", n, 2 * n) == probe(n)

    threads = [threading.Thread(target=fill, args=(300 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    index.close()
    assert len(opened(tmp_path)) == 1200


# -- nights over a folder


@pytest.fixture
def media(tmp_path):
    folder = tmp_path / "media"
    folder.mkdir()
    for n in range(6):
        Image.new("RGB", (20 + n, 20), (40 * n, 0, 90)).save(folder / f"{n}.jpg")
        os.utime(folder / f"{n}.jpg", (1_700_000_000 + n, 1_700_000_000 + n))
    return folder


def planned(manifest, out, **more):
    """What a night would send, by item; nothing is sent."""
    fields = {"models": [MODEL], "prompt": "What?", "gateway": "sandbox"}
    job = job_of(**{"manifest": str(manifest), "output": str(out), **fields, **more})
    plan = make_plan(open_context(job, resolve_endpoint(job.gateway, {})))
    found = [request for shards in plan.shards.values() for request in spool.read(shards)]
    plan.discard()
    return found


def test_a_second_night_reads_no_file_it_knows(media, tmp_path):
    first = {request.item_id: request.key for request in planned(media, tmp_path / "out")}
    for path in media.iterdir():  # unreadable as pictures, but of the same size and time
        stamp = path.stat()
        path.write_bytes(b"\x00" * stamp.st_size)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert {request.item_id: request.key for request in planned(media, tmp_path / "out")} == first


def test_a_changed_file_is_another_request_and_a_touched_one_is_not(media, tmp_path):
    first = {request.item_id: request.key for request in planned(media, tmp_path / "out")}
    Image.new("RGB", (99, 20)).save(media / "1.jpg")
    os.utime(media / "2.jpg")
    second = {request.item_id: request.key for request in planned(media, tmp_path / "out")}
    assert [name for name in first if first[name] != second[name]] == ["1.jpg"]


def test_newest_first_with_a_limit_takes_the_last_changed(media, tmp_path):
    found = planned(media, tmp_path / "out", order="newest", limit=2)
    assert [request.item_id for request in found] == ["5.jpg", "4.jpg"]


def test_since_takes_only_what_was_changed_after_it(media, tmp_path):
    found = planned(media, tmp_path / "out", since="2023-11-14T22:13:23+00:00")  # 1_700_000_003
    assert [request.item_id for request in found] == ["4.jpg", "5.jpg"]
    os.utime(media / "0.jpg", (time.time() - 3600, time.time() - 3600))
    assert [request.item_id for request in planned(media, tmp_path / "out", since="2h")] == ["0.jpg"]


def test_a_night_in_which_nothing_is_new_is_no_error(media, tmp_path):
    assert planned(media, tmp_path / "out", since="1h") == []


def test_removed_items_stay_in_history(media, tmp_path):
    asked = (
        "run",
        media,
        "--model",
        MODEL,
        "--prompt",
        "x",
        "--gateway",
        "sandbox",
        "--no-prefect",
        "--json",
    )
    first = mavi(*asked, "--out", tmp_path / "out")
    (media / "0.jpg").unlink()
    second = mavi(*asked, "--out", tmp_path / "out")
    assert (first.json["answered"], second.json["answered"], second.json["already_answered"]) == (6, 0, 5)
    assert len(rows(tmp_path / "out")) == 6


# -- nights over a bucket


class Bucket(MemoryFileSystem):
    """s3:// in memory, listed with ETags as S3 lists them."""

    protocol = ("s3",)
    store = {}  # noqa: RUF012 - as fsspec's own
    pseudo_dirs = [""]  # noqa: RUF012

    def find(self, path, *given, **more):
        found = super().find(path, *given, **more)
        for name, info in found.items():
            info["ETag"] = f'"{hash(self.store[name].getvalue()):x}"'
        return found


@pytest.fixture
def bucket():
    known = _registry.get("s3")
    register_implementation("s3", Bucket, clobber=True)
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    for name in ("b/in/1.jpg", "b/in/2.jpg"):
        fs.pipe_file("s3://" + name, name.encode())
    yield fs
    Bucket.store.clear()
    _registry.pop("s3", None)
    if known is not None:
        register_implementation("s3", known, clobber=True)


def test_an_object_replaced_under_its_name_is_asked_again(bucket, tmp_path):
    first = {request.item_id: request.key for request in planned("s3://b/in/", tmp_path / "out")}
    again = {request.item_id: request.key for request in planned("s3://b/in/", tmp_path / "out")}
    bucket.pipe_file("s3://b/in/2.jpg", b"another picture")
    second = {request.item_id: request.key for request in planned("s3://b/in/", tmp_path / "out")}
    assert first == again
    assert [name for name in first if first[name] != second[name]] == ["2.jpg"]


def test_a_table_may_tell_etags_too(tmp_path):
    def keys(etag):
        (tmp_path / "items.csv").write_text(
            f"item_id,media_url,media_etag\na,https://h.example/a.jpg,{etag}\n"
        )
        return [request.key for request in planned(tmp_path / "items.csv", tmp_path / "out")]

    assert keys("one") == keys("one") != keys("two")
