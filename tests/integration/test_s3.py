"""A dataset in a bucket: what is put there, what is fetched, and who may ask what."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mavi_tasks.errors import InputError, StorageError
from mavi_tasks.execution.distributed.slice_leases import SliceLeases
from mavi_tasks.planning.request import key_start
from mavi_tasks.planning.spool import SLICES, SlicePartitioner, slice_of, slices_of
from mavi_tasks.storage import damage
from mavi_tasks.storage import s3 as objects
from mavi_tasks.storage.answered_index import AnsweredIndex, AnswerState, row_fingerprint
from mavi_tasks.storage.publish import Dataset
from mavi_tasks.storage.s3 import Bucket
from mavi_tasks.storage.tables import latest, open_table
from tests.support.gateways import wait_for
from tests.support.rows import attempt, intent, key, open_journal, result
from tests.support.s3_server import s3_server


@pytest.fixture(scope="module")
def s3():
    with s3_server() as server:
        yield server


@pytest.fixture
def url(s3, monkeypatch, tmp_path, request):
    """A dataset's URL in a bucket of its own; this process uses the server, and spools below tmp_path."""
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MAVI_SPOOL", str(tmp_path / "spool"))
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    name = "b" + "".join(c for c in request.node.name.lower() if c.isalnum())[-50:]
    return s3.bucket(name) + "/nightly/pets"


def machine(url, name, monkeypatch):
    """The spool that another machine has of the same dataset."""
    monkeypatch.setenv("MAVI_SPOOL", str(Path(os.environ["MAVI_SPOOL"]).parent / name))
    dataset = Dataset(objects.folder(url))
    dataset.create()
    return dataset


def machine_of(url):
    """This machine's dataset."""
    dataset = Dataset(objects.folder(url))
    dataset.create()
    return dataset


def written(dataset, count, run_id="run", first=0):
    """Answers in a sealed journal."""
    journal = open_journal(dataset.root, f"{run_id}-w0", run_id)
    for n in range(first, first + count):
        journal.intend(intent(n))
        journal.record(attempt(n), result(n))
    journal.close()


# -- the bucket


def test_an_object_whose_key_leaves_the_dataset_is_ignored(url, tmp_path, caplog):
    """Keys are a stranger's: none may be written outside the spool, or over another file of it."""
    dataset = machine_of(url)
    written(dataset, 2)
    dataset.publish()
    mirror = objects.mirror_of(dataset.root)
    for name in ("results/../../evil.parquet", "results/run_date=evil/part-x.parquet", "results/x.parquet"):
        mirror.bucket.put(name, b"PAR1")
    mirror.forget()
    assert latest(dataset.root).num_rows == 2
    assert [path for path in tmp_path.rglob("*.parquet") if path.read_bytes() == b"PAR1"] == []
    assert "3 objects are not parts of a dataset" in caplog.text


def test_of_many_who_create_an_object_exactly_one_does(url):
    bucket = Bucket(url)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: bucket.put_new(f"one-{n % 5}", b"%d" % n), range(40)))
    assert sum(etag is not None for etag in made) == 5


def test_an_object_is_written_over_only_by_who_has_seen_it_as_it_is(url):
    bucket = Bucket(url)
    first = bucket.put("it", b"1")
    second = bucket.put_over("it", b"2", first)
    assert second is not None
    assert bucket.put_over("it", b"3", first) is None
    assert bucket.put_over("nothing", b"3", first) is None
    assert bucket.get("it") == (b"2", second)


def test_a_listing_has_every_object_however_many_there_are(url):
    bucket = Bucket(url)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: bucket.put(f"many/{n:04}", b""), range(1_003)))
    assert [one.key for one in bucket.list("many/")] == [f"many/{n:04}" for n in range(1_003)]


@pytest.mark.parametrize("wrong", ["s3://", "gs://bucket/x", "s3:///x/", "s3://bucket/x?versionId=1"])
def test_a_location_that_is_no_bucket_is_refused(wrong):
    with pytest.raises(InputError, match="s3://BUCKET/PREFIX"):
        objects.folder(wrong)


def test_a_missing_bucket_is_told_in_words(url):
    mirror = objects.mirror_of(objects.folder("s3://nobody-made-this/x"))
    with pytest.raises(InputError, match="there is no such bucket"):
        mirror.check(writes=True)


def test_one_bucket_at_two_endpoints_is_two_datasets(url, monkeypatch):
    here = objects.folder(url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert objects.folder(url) != here


# -- parts


def test_published_parts_are_in_the_bucket_and_the_journal_is_empty(url, s3):
    dataset = Dataset(objects.folder(url))
    dataset.create()
    written(dataset, 3)
    assert dataset.publish() == 1
    assert sorted(key.split("/")[2] for key in s3.keys(url, ".parquet")) == ["attempts", "results"]
    assert not list(dataset.journal.glob("*.sealed"))


def test_publishing_a_segment_twice_changes_nothing(url, s3):
    dataset = Dataset(objects.folder(url))
    dataset.create()
    written(dataset, 3)
    segment = next(dataset.journal.glob("*.sealed"))
    copy = segment.read_bytes()
    dataset.publish()
    before = {one.key: one.etag for one in Bucket(url).list("")}
    segment.write_bytes(copy)  # killed after the upload, before the segment was deleted
    dataset.publish()
    assert {one.key: one.etag for one in Bucket(url).list("")} == before
    assert open_table(dataset.root, "results").count_rows() == 3


def test_a_truncated_part_is_never_published(url, s3, tmp_path):
    dataset = Dataset(objects.folder(url))
    dataset.create()
    written(dataset, 50)
    dataset.publish()
    part = next((dataset.root / "results").rglob("*.parquet"))
    staged = tmp_path / "staged"
    staged.write_bytes(part.read_bytes()[:-200])
    mirror = objects.mirror_of(dataset.root)
    with pytest.raises(StorageError, match="is not published"):
        mirror.ship(staged, part.with_name("part-cut.parquet"), 50)
    staged.write_bytes(part.read_bytes())
    with pytest.raises(StorageError, match="holds 50 rows instead of 60"):
        mirror.ship(staged, part.with_name("part-short.parquet"), 60)
    assert len(s3.keys(url, ".parquet")) == 2


def test_a_part_of_the_same_name_with_other_rows_is_not_taken_for_ours(url):
    dataset = Dataset(objects.folder(url))
    dataset.create()
    written(dataset, 2)
    dataset.publish()
    written(dataset, 3)
    with pytest.raises(StorageError, match="another file of this name"):
        dataset.publish()
    assert list(dataset.journal.glob("*.sealed"))


def test_while_the_store_is_out_of_reach_answers_stay_in_the_journal(url, monkeypatch, s3):
    dataset = Dataset(objects.folder(url))
    dataset.create()
    written(dataset, 3)
    mirror = objects.mirror_of(dataset.root)
    there = mirror.bucket
    assert there.is_empty()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    mirror.bucket = Bucket(url)
    with pytest.raises(StorageError, match="cannot be reached"):
        dataset.publish()
    assert s3.keys(url, ".parquet") == []
    assert not list((dataset.root / "results").rglob("*.parquet"))
    mirror.bucket = there
    assert dataset.publish() == 1
    assert len(s3.keys(url, ".parquet")) == 2


def test_a_machine_sees_what_another_answered_and_fetches_it_once(url, monkeypatch):
    one = machine(url, "one", monkeypatch)
    other = machine(url, "other", monkeypatch)
    written(one, 3)
    one.publish()
    index = AnsweredIndex.read(other.root)
    assert index.look_up([key(0), key(9)], [row_fingerprint("item0", "p")] * 2) == [
        AnswerState.ANSWERED,
        AnswerState.NOTHING,
    ]
    part = next((other.root / "results").rglob("*.parquet"))
    fetched = part.stat().st_ino
    objects.mirror_of(other.root).forget()
    assert latest(other.root).num_rows == 3
    assert part.stat().st_ino == fetched


def test_a_part_removed_from_the_bucket_is_not_read_any_more(url, s3):
    dataset = Dataset(objects.folder(url))
    dataset.create()
    written(dataset, 3)
    dataset.publish()
    for one in list(Bucket(url).list("results/")):
        Bucket(url).delete(one.key)
    objects.mirror_of(dataset.root).forget()
    assert open_table(dataset.root, "results").count_rows() == 0


def test_reading_where_no_dataset_lies_is_refused(url):
    with pytest.raises(InputError, match="no dataset lies there"):
        objects.existing(url + "/nothing")


def flipped(path):
    raw = bytearray(path.read_bytes())
    raw[500] ^= 1
    path.write_bytes(raw)
    return path


def test_a_broken_copy_of_a_part_is_fetched_again(url):
    dataset = machine_of(url)
    written(dataset, 2)
    dataset.publish()
    flipped(next((dataset.root / "results").rglob("*.parquet")))
    assert latest(dataset.root).num_rows == 2
    assert damage.verify(dataset.root) == []


def test_a_part_that_is_broken_in_the_bucket_is_named_and_can_be_settled(url):
    dataset = machine_of(url)
    written(dataset, 2)
    dataset.publish()
    part = flipped(next((dataset.root / "results").rglob("*.parquet")))
    mirror = objects.mirror_of(dataset.root)
    part_key = part.relative_to(dataset.root).as_posix()
    mirror.bucket.put(part_key, part)
    assert [one.path for one in damage.verify(dataset.root)] == [part]
    with pytest.raises(StorageError, match="nothing was sent"):
        damage.require_settled(dataset.root)
    damage.settle(dataset.root)
    mirror.forget()
    damage.require_settled(dataset.root)
    assert mirror.bucket.get(part_key) is None
    assert mirror.bucket.get(f"_quarantine/settled/{part_key}") is not None


# -- leases


@pytest.fixture
def leases(url, monkeypatch):
    """Makes the leases of a run on a machine of its own; ends them all."""
    made = []

    def make(run_id, spool=None, **options):
        root = machine(url, spool or run_id, monkeypatch).root
        made.append(SliceLeases(objects.mirror_of(root), run_id, **options))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_two_runs_never_hold_the_same_slice(leases):
    a, b = leases("a"), leases("b")
    groups = [{"m/01", "m/02"}, {"m/02", "m/03"}, {"m/04"}]
    assert a.take(groups, 1).groups == (0,)
    had = b.take(groups, 3)
    assert (had.groups, had.holders) == ((2,), ("a",))
    a.release({"m/01", "m/02"})
    assert b.take(groups, 3).groups == (0, 1, 2)


def test_many_runs_that_grasp_at_once_share_every_slice_out(leases):
    runs = [leases(f"r{n}", ttl_s=600) for n in range(4)]
    groups = [{f"m/{n:02}"} for n in range(SLICES)]
    with ThreadPoolExecutor(4) as pool:
        had = list(pool.map(lambda run: run.take(groups, 16).groups, runs))
    assert sorted(at for groups in had for at in groups) == list(range(SLICES))


def test_what_was_given_back_since_a_run_looked_is_counted(leases):
    a, b = leases("a"), leases("b")
    assert a.take([{"m/01"}], 1).releases == a.seen_releases
    b.take([{"m/02"}], 1)
    b.release({"m/02"})
    assert a.take([{"m/02"}], 1).releases != a.seen_releases


def test_a_run_that_was_killed_on_this_machine_is_known_dead_at_once(leases):
    a, b = leases("a", spool="same"), leases("b", spool="same")
    a.take([{"m/01"}], 1)
    a._ended.set()
    a._lock.release()
    assert b.take([{"m/01"}], 1).groups == (0,)


def test_a_dead_runs_slices_go_to_another_when_its_lease_is_out(leases):
    a, b = leases("a", ttl_s=1.0), leases("b", ttl_s=1.0)
    a.take([{"m/01"}], 1)
    a._ended.set()
    assert b.take([{"m/01"}], 1).groups == ()
    assert wait_for(lambda: b.take([{"m/01"}], 1).groups, 10) == (0,)
    assert [one.key for one in b._bucket.list("_claims/run-")] == ["_claims/run-b.json"]


def test_a_live_run_whose_heartbeat_was_deleted_is_not_dead(leases):
    a, b = leases("a"), leases("b")
    a.take([{"m/01"}], 1)
    a._bucket.delete("_claims/run-a.json")
    assert b.take([{"m/01"}], 1).groups == ()


def test_a_run_whose_heartbeat_stays_away_is_dead_when_its_lease_is_out(leases):
    a, b = leases("a", ttl_s=1.0), leases("b", ttl_s=1.0)
    a.take([{"m/01"}], 1)
    a._ended.set()
    a._thread.join()
    a._bucket.delete("_claims/run-a.json")
    assert b.take([{"m/01"}], 1).groups == ()
    assert wait_for(lambda: b.take([{"m/01"}], 1).groups, 10) == (0,)


def test_a_run_that_could_not_renew_its_leases_sends_nothing_more(leases):
    a = leases("a", ttl_s=0.01)
    a._ended.set()
    wait_for(lambda: time.monotonic_ns() % 7 == 0)
    time.sleep(0.01)
    with pytest.raises(StorageError, match="could not be renewed"):
        a.check()
    a._beat()
    with pytest.raises(StorageError, match="could not be renewed"):
        a.check()


def test_an_ended_run_leaves_no_lease_and_no_heartbeat(leases):
    a = leases("a")
    a.take([{"m/01"}], 1)
    a.close()
    assert a._read()[0]["held"] == {}
    assert list(a._bucket.list("_claims/run-")) == []
    assert list((a._mirror.root / "_owners").iterdir()) == []


# -- slices


@pytest.mark.parametrize("size", [1, 7, 40, 1_000])
def test_cut_shards_hold_whole_slices_and_every_request_once(tmp_path, size):
    lines = [f'["{key(n)}","item{n}"]\n'.encode() for n in range(1_000)]
    (tmp_path / "0-00000.jsonl").write_bytes(b"".join(lines))
    shards = SlicePartitioner(tmp_path, 0, size).partition([tmp_path / "0-00000.jsonl"])
    cut = [shard.read_bytes().splitlines(keepends=True) for shard in shards]
    assert sorted(line for shard in cut for line in shard) == sorted(lines)
    assert max(map(len, cut)) <= size
    for shard, held in zip(shards, cut, strict=True):
        assert {slice_of(key_start(line)) for line in held} <= set(slices_of(shard))
    assert sorted(tmp_path.iterdir()) == sorted(shards)
