"""A part that was changed behind our back is named and left out, whatever bit it was; never a traceback."""

import json
import logging
import random
import shutil
from decimal import Decimal

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest

from mavi_tasks.cli.main import main
from mavi_tasks.errors import StorageError
from mavi_tasks.storage import damage, parts, tables
from mavi_tasks.storage.answered_index import AnsweredIndex
from mavi_tasks.storage.dataframe import dataframe
from mavi_tasks.storage.publish import Dataset
from mavi_tasks.storage.request_locks import RequestLocks
from tests.support.rows import attempt, key, open_journal, result

SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}}}


def fill(root, *, runs=2, rows=3):
    """Each run leaves a part in every table."""
    store = Dataset(root)
    store.create()
    for run in range(runs):
        book = open_journal(
            root, writer=f"run{run}-w0", run_id=f"run{run}", answer_schema=SCHEMA, durability="os"
        )
        for number in range(run * rows, (run + 1) * rows):
            book.record(attempt(number), result(number, answer_json='{"label": "cat"}'))
        book.close()
        store.publish()
        store.write_run(
            {"run_id": f"run{run}", "job": "pets", "started_at": 1_700_000_000_000_000}, date="2023-11-14"
        )
    return root


@pytest.fixture
def root(tmp_path):
    return fill(tmp_path / "out")


def part_of(root, table, run=0):
    (path,) = (root / table).rglob(f"*run{run}*.parquet")
    return path


def flip(path, bit):
    raw = bytearray(path.read_bytes())
    raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    path.write_bytes(raw)


def run_command(capsys, *argv):
    status = main(list(map(str, argv)))
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return status, said.out, said.err


@pytest.mark.parametrize("table", ["results", "attempts", "labels", "runs"])
def test_every_flipped_bit_of_a_part_is_noticed(root, table):
    path = part_of(root, table)
    raw, draw = path.read_bytes(), random.Random(table)
    for _ in range(200):
        flip(path, draw.randrange(8 * len(raw)))
        assert parts.problem_of(path) is not None
        path.write_bytes(raw)
        assert parts.problem_of(path) is None


@pytest.mark.parametrize("size", [0, 1, 11, 12, 100, -1, -8, -100])
def test_a_part_that_was_cut_off_is_broken(root, size):
    path = part_of(root, "results")
    path.write_bytes(path.read_bytes()[:size])
    assert "is broken" in parts.problem_of(path)


def test_other_readers_read_a_part_with_its_checksum(root):
    path = part_of(root, "results")
    assert b"mavi-sha256 " in path.read_bytes()
    want = Decimal("0.000000037035")
    assert pq.read_table(path, page_checksum_verification=True, partitioning=None).num_rows == 3
    assert pl.read_parquet(path)["cost_usd"].sum() == want
    assert duckdb.sql(f"select sum(cost_usd) from '{path}'").fetchall() == [(want,)]


def test_a_part_without_a_checksum_is_read_as_before_and_named_when_it_cannot_be(root):
    path = part_of(root, "results")
    pq.write_table(pq.read_table(path, partitioning=None), path, compression="zstd")  # of an earlier version
    assert tables.open_table(root, "results").count_rows() == 6
    raw = bytearray(path.read_bytes())
    raw[4:400] = bytes(396)
    path.write_bytes(raw)
    assert "cannot be read as Parquet" in parts.problem_of(path)
    assert tables.open_table(root, "results").to_table().num_rows == 3


def test_readers_leave_a_broken_part_out_and_name_it(root, caplog):
    path = part_of(root, "results")
    flip(path, 4000)
    with caplog.at_level(logging.WARNING):
        assert len(dataframe(root)) == 3
    assert str(path) in caplog.text
    assert len(AnsweredIndex.read(root)) == 3


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["status", "DIR"], 3),
        (["export", "DIR", "--to", "FILE"], 3),
        (["compare", "DIR"], 3),
        (["costs", "DIR"], 4),  # a smaller sum would mislead
        (["doctor", "DIR", "--verify"], 3),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_command_over_a_broken_part_names_it_and_does_not_end_with_0(root, tmp_path, capsys, argv, status):
    path = part_of(root, "results")
    argv = [{"DIR": root, "FILE": tmp_path / "out.csv"}.get(word, word) for word in argv]
    assert run_command(capsys, *argv)[0] == 0
    flip(path, 4000)
    ended, out, err = run_command(capsys, *argv)
    assert ended == status
    assert str(path) in out + err
    assert path.exists()


@pytest.mark.parametrize("command", ["status", "compare", "costs", "doctor"])
def test_a_part_in_a_foreign_partition_is_named_and_no_traceback(root, capsys, command):
    evil = root / "results" / "run_date=evil" / "part.parquet"
    evil.parent.mkdir()
    shutil.copy(part_of(root, "results"), evil)
    status, out, err = run_command(capsys, command, root, *(["--verify"] if command == "doctor" else []))
    assert status in (3, 4)
    assert str(evil) in out + err


def test_a_run_that_watches_others_stops_at_a_broken_part_of_theirs(root):
    locks = RequestLocks(root, "mine-w0")
    locks.start_watching()
    fill(root, runs=3)
    flip(part_of(root, "results", 2), 4000)
    with pytest.raises(StorageError, match="is broken"):
        locks.answered_elsewhere(key(1))
    locks.close()


def test_verify_names_each_damaged_file_what_is_lost_and_what_to_do(root, capsys):
    for table in ("results", "labels", "runs"):
        flip(part_of(root, table), 4000)
    flip(part_of(root, "attempts", 1), 4000)
    book = open_journal(root, writer="live-w0")
    book.record(attempt(9), result(9))
    flip(book._path, 8 * (book._path.stat().st_size - 100))
    ended, out, _ = run_command(capsys, "doctor", root, "--verify", "--json")
    found = {one["path"].removeprefix(str(root)).split("/")[1]: one for one in json.loads(out)["damaged"]}
    book.close()
    assert ended == 3
    assert set(found) == {"results", "attempts", "labels", "runs", "_journal"}
    assert found["results"]["lost"] == "3 rows of results, paid for with $0.000000037035"
    assert "the spend shown is too low" in found["attempts"]["lost"]
    assert all("--pay-again" in one["advice"] for one in found.values())


def test_verify_says_that_every_file_is_whole(root, capsys):
    assert run_command(capsys, "doctor", root, "--verify")[:2] == (0, "every file is whole\n")


def test_verify_and_a_dataset_belong_together(root, tmp_path, capsys):
    assert run_command(capsys, "doctor", root)[0] == 2
    assert run_command(capsys, "doctor", "--verify")[0] == 2
    assert run_command(capsys, "doctor", tmp_path, "--verify")[0] == 2


def test_what_is_settled_lies_in_quarantine_and_is_not_asked_about_again(root):
    path = part_of(root, "results")
    flip(path, 4000)
    broken = path.read_bytes()
    with pytest.raises(StorageError, match=r"nothing was sent(.|\n)*--pay-again"):
        damage.require_settled(root)
    damage.settle(root)
    damage.require_settled(root)
    assert not path.exists()
    kept = root / "_quarantine" / "settled" / path.relative_to(root)
    assert kept.read_bytes() == broken
    assert damage.verify(root) == []
