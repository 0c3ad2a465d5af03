"""The journal keeps what it acknowledged, whatever happens to the process, the file or the disk."""

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mavi_tasks.errors import StorageError
from mavi_tasks.storage import segments
from mavi_tasks.storage.journal import Journal
from mavi_tasks.storage.segments import Columns, Intent, Outcome
from tests.support.gateways import REPOSITORY

COLUMNS = Columns(results=("request_key",), attempts=("attempt_id",), intents=("attempt_id", "exposure_usd"))


def open_journal(folder, writer="run-w0", **options):
    return Journal(folder, writer, {"run_id": "run"}, COLUMNS, **options)


def read(path):
    with segments.reading(path) as reader:
        assert reader is not None
        return reader.header, list(reader)


def carried(path):
    with segments.reading(path) as reader:
        return reader.carried


def test_what_was_recorded_reads_back_in_order(tmp_path):
    book = open_journal(tmp_path)
    for number in range(5):
        book.intend([f"a{number}", 7])
        book.record([f"a{number}"], [f"key{number}"])
    book.close()
    (path,) = segments.segments(tmp_path)
    assert path.suffix == ".sealed"
    _, records = read(path)
    assert [r.result.request_key for r in records if isinstance(r, Outcome)] == [f"key{n}" for n in range(5)]
    assert [r.attempt.exposure_pico for r in records if isinstance(r, Intent)] == [7] * 5


def outcomes(records):
    """The numbers of the outcomes that were read."""
    for record in records:
        if record is not None:
            number = int(record.attempt.attempt_id[1:])
            assert record == Outcome([f"a{number}"], [f"key{number}"])
            yield number


def written(folder, count):
    book = open_journal(folder, durability="os")
    for number in range(count):
        book.record([f"a{number}"], [f"key{number}"])
    book.close()
    (path,) = segments.segments(folder)
    return path


@given(cut=st.integers(0, 9_999), count=st.integers(1, 20), sealed=st.booleans())
def test_a_file_cut_anywhere_reads_back_a_prefix_and_a_sealed_one_says_so(
    tmp_path_factory, cut, count, sealed
):
    path = written(tmp_path_factory.mktemp("journal"), count)
    whole = path.read_bytes()
    kept = whole[: len(whole) * cut // 10_000]
    if not sealed:  # its writer died, and the power failed
        path = path.rename(path.with_suffix(".jsonl"))
    path.write_bytes(kept)
    _, records = read(path)
    assert list(outcomes(records)) == list(range(len(records) - records.count(None)))
    missing = len(kept) < (len(whole) - 1 if sealed else whole.index(b"\n"))
    assert (None in records) is missing


@given(at=st.integers(0, 5_000), byte=st.integers(0, 255))
@example(at=0, byte=10)  # a newline at the start
def test_a_damaged_byte_costs_its_line_and_no_other(tmp_path_factory, at, byte):
    path = written(tmp_path_factory.mktemp("journal"), 20)
    raw = bytearray(path.read_bytes())
    raw[at % len(raw)] = byte
    path.write_bytes(raw)
    header, records = read(path)
    assert header["results"] == ["request_key"]
    kept = list(outcomes(records))
    assert kept == sorted(kept)
    assert len(kept) >= 19
    assert len(kept) == 20 or None in records


@pytest.mark.parametrize("sealed", [True, False])
def test_a_flipped_newline_loses_nothing(tmp_path, sealed):
    path = written(tmp_path, 5)
    raw = path.read_bytes()
    if not sealed:  # its writer died: there is no last line that counts the others
        path = path.rename(path.with_suffix(".jsonl"))
        raw = raw[: raw.rindex(b"\n", 0, -1) + 1]
    for at in (at for at, byte in enumerate(raw) if byte == 10):
        path.write_bytes(raw[:at] + b"\x0b" + raw[at + 1 :])
        assert list(outcomes(read(path)[1])) == [0, 1, 2, 3, 4]


def test_a_header_without_any_copy_is_taken_from_another_segment_of_the_run(tmp_path):
    book = open_journal(tmp_path)
    for number in range(2):
        book.record([f"a{number}"], [f"key{number}"])
        book.roll()
    book.close()
    first, second, _ = segments.segments(tmp_path)
    raw = first.read_bytes()
    head = 2 * (raw.index(b"\n") + 1)
    first.write_bytes(b"\0" * head + raw[head:])
    header, records = read(first)
    assert (header["run_id"], header["results"]) == ("run", ["request_key"])
    assert list(outcomes(records)) == [0]
    assert None in records
    assert read(second)[1] == [Outcome(["a1"], ["key1"])]


def test_no_text_in_an_answer_is_taken_for_a_record(tmp_path):
    forged = segments.line({"t": "o", "a": ["forged"], "r": None}).decode()
    book = open_journal(tmp_path)
    book.record(["a0"], [f"x{forged}y"])
    book.close()
    (path,) = segments.segments(tmp_path)
    raw = path.read_bytes()
    at = raw.index(b"forged")
    path.write_bytes(raw[:at] + b"F" + raw[at + 1 :])
    assert read(path)[1] == [None]


def test_answers_in_a_folder_that_was_removed_are_said_to_be_lost(tmp_path):
    book = open_journal(tmp_path / "out", durability="os")
    book.record(["a0"], ["key0"])
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(StorageError, match=r"was removed during the run; the answers .* are lost"):
        book.close()


def test_nothing_more_is_sent_after_the_folder_was_removed(tmp_path):
    book = open_journal(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(StorageError, match="was removed"):
        for number in range(300):
            book.intend([f"a{number}", 7])
            time.sleep(0.01)
    with pytest.raises(StorageError, match="was removed"):
        book.close()


def test_a_rolled_segment_names_what_it_carries_over(tmp_path):
    book = open_journal(tmp_path)
    book.intend(["flying", 7])
    book.record(["done"], ["key"])
    book.roll()
    book.record(["flying"], ["key2"])
    book.close()
    first, second = segments.segments(tmp_path)
    assert carried(second) == [["flying", 7]]
    assert carried(first) == []


def test_a_second_writer_of_the_same_name_is_refused(tmp_path):
    book = open_journal(tmp_path)
    with pytest.raises(StorageError, match="another process"):
        open_journal(tmp_path)
    book.close()


def test_a_folder_that_cannot_be_written_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="--out"):
        open_journal(tmp_path / "file" / "_journal")


def test_kill_9_loses_nothing_that_was_recorded(tmp_path):
    """The child tells each record after it was written; the parent kills it in the middle."""
    program = f"""
import sys
import time
from tests.unit.storage.test_journal import open_journal
from pathlib import Path
book = open_journal(Path({str(tmp_path)!r}))
for number in range(10**9):
    book.intend([f"a{{number}}", 7])
    book.record([f"a{{number}}"], [f"key{{number}}"])
    print(number, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=REPOSITORY)
    told = -1
    with child:
        for _ in range(500):
            told = int(child.stdout.readline())
        child.kill()
        for line in child.stdout:
            told = int(line)
    (path,) = segments.segments(tmp_path)
    kept = [r.result.request_key for r in read(path)[1] if isinstance(r, Outcome)]
    assert kept[: told + 1] == [f"key{n}" for n in range(told + 1)]
    assert len(kept) <= told + 2


def test_a_roll_that_fails_loses_no_row_and_leaves_no_gap(tmp_path, monkeypatch):
    book = open_journal(tmp_path, roll_after_s=0.0)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("os.fdatasync", full)
        book.record(["a1"], ["k1"])
    with pytest.raises(StorageError, match="the disk is full"):
        book.intend(["a2"])
    book.roll()
    book.close()
    names = sorted(path.name for path in segments.segments(tmp_path))
    assert [name.split(".")[1] for name in names] == ["00001", "00002"]


@pytest.mark.skipif(
    not Path("/dev/shm").is_dir() or os.geteuid() != 0, reason="mounts a small disk: Linux, root"
)
def test_a_full_disk_refuses_new_sends_and_keeps_answers_in_flight(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(disk)], check=True)
    try:
        book = open_journal(disk / "_journal")
        (disk / "ballast").write_bytes(b"x" * 900_000)
        sent = []
        with pytest.raises(StorageError, match="disk is full"):
            for number in range(1_000_000):
                book.intend([f"a{number}", "x" * 1000])
                sent.append(f"a{number}")
        assert book.full
        for attempt in sent[-50:]:
            book.record([attempt], [f"key-{attempt}" + "y" * 1000])
        book.close()
        records = [r for path in segments.segments(disk / "_journal") for r in read(path)[1]]
        kept = [r.attempt.attempt_id for r in records if isinstance(r, Outcome)]
        assert kept == sent[-50:]
    finally:
        subprocess.run(["umount", str(disk)], check=True)
