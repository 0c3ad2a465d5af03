"""Segments become Parquet once, whole, and readable by everybody; money is exact."""

from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mavi_tasks.common.money_columns import usd_array
from mavi_tasks.costs import cost_report, to_json
from mavi_tasks.errors import InputError
from mavi_tasks.schema import RESULTS, ResultStatus
from mavi_tasks.storage import segments, status, tables
from mavi_tasks.storage.answered_index import AnsweredIndex, AnswerState, row_fingerprint
from mavi_tasks.storage.damage import quarantined
from mavi_tasks.storage.publish import Dataset
from mavi_tasks.storage.request_locks import RequestLocks
from mavi_tasks.storage.tables import open_table
from tests.support.rows import attempt, intent, key, open_journal, result

SEGMENT_V1 = Path(__file__).with_name("segment_v1.jsonl")


@pytest.fixture
def store(tmp_path):
    store = Dataset(tmp_path / "out")
    store.create()
    return store


def write(store, numbers, **options):
    book = open_journal(store.root, **options)
    for number in numbers:
        book.intend(intent(number))
        book.record(attempt(number), result(number))
    return book


def test_all_readers_see_the_same_rows_types_and_exact_sums(store):
    write(store, range(1000)).close()
    store.publish()
    folder = store.root / "results"
    want = Decimal("0.000012345")  # 1000 rows of 12,345 pico-dollars
    frame = pd.read_parquet(folder)
    assert len(frame) == 1000
    assert frame["cost_usd"].sum() == want
    lazy = pl.scan_parquet(folder / "**/*.parquet", hive_partitioning=True).collect()
    assert lazy["cost_usd"].dtype == pl.Decimal(18, 12)
    assert lazy["cost_usd"].sum() == want
    rows, total, kind = duckdb.sql(
        f"select count(*), sum(cost_usd), any_value(typeof(cost_usd)) from '{folder}/**/*.parquet'"
    ).fetchall()[0]
    assert (rows, total, kind) == (1000, want, "DECIMAL(18,12)")
    table = open_table(store.root, "results").to_table()
    assert pc.sum(table["cost_usd"]).as_py() == want
    assert table.schema.names == [*RESULTS.names, "run_date"]


def test_publishing_twice_gives_the_same_file(store):
    book = write(store, range(10))
    book.close()
    (segment,) = segments.segments(store.journal)
    raw = segment.read_bytes()
    store.publish()
    (part,) = (store.root / "results").rglob("*.parquet")
    first = part.read_bytes()
    segment.write_bytes(raw)  # as if the process had died before it deleted the segment
    store.publish()
    assert [p.read_bytes() for p in (store.root / "results").rglob("*.parquet")] == [first]
    assert segments.segments(store.journal) == []


def test_a_segment_of_version_1_is_indexed_counted_and_published(store):
    (store.journal / "run-w0.00001.jsonl").write_bytes(SEGMENT_V1.read_bytes())  # its writer died
    (store.journal / "run-w0.lock").touch()
    assert len(AnsweredIndex.read(store.root)) == 2  # answered and skipped
    before = status.of(store.root)
    assert (before.cost_pico, before.exposure_pico, before.in_doubt, before.in_flight) == (12_345, 577, 1, 1)
    assert store.publish() == 1
    first, skipped = open_table(store.root, "results").to_table().to_pylist()
    assert (first["answer"], first["input_cost_usd"]) == ("a cat", Decimal("0.000000012"))
    assert (skipped["status"], skipped["cost_usd"]) == ("skipped", None)
    attempts = open_table(store.root, "attempts").to_table().to_pylist()
    assert [(row["outcome"], row["exposure_usd"]) for row in attempts] == [
        ("answered", None),
        ("in_doubt", Decimal("0.000000000077")),
        ("in_doubt", Decimal("0.000000000500")),
    ]
    (run,) = open_table(store.root, "runs").to_table().to_pylist()
    assert (run["status"], run["budget_usd"], run["answered"]) == ("crashed", Decimal(5), 1)
    after = status.of(store.root)
    assert (after.cost_pico, after.exposure_pico, after.in_doubt) == (12_345, 577, 2)


def test_a_live_segment_is_left_alone_and_a_dead_one_is_published(store):
    book = write(store, range(3))
    assert store.publish() == 0
    book.roll()
    assert store.publish() == 1
    assert open_table(store.root, "results").count_rows() == 3
    book.close()


def test_a_send_without_an_outcome_is_in_doubt_with_its_worst_cost(store):
    book = write(store, range(2))
    book.intend(intent(7, exposure_pico=500))
    book.close()
    store.publish()
    rows = open_table(store.root, "attempts").to_table().to_pylist()
    (doubt,) = [r for r in rows if r["outcome"] == "in_doubt"]
    assert (doubt["request_key"], doubt["exposure_usd"]) == (key(7), Decimal("0.000000000500"))
    assert doubt["finished_at"] is None
    assert doubt["cost_usd"] is None


def test_a_send_carried_over_a_roll_is_counted_once(store):
    book = write(store, [])
    book.record(attempt(0), result(0))
    book.intend(intent(1))
    book.roll()
    store.publish()
    book.record(attempt(1), result(1))
    book.close()
    store.publish()
    outcomes = open_table(store.root, "attempts").to_table()["outcome"].cast(pa.string()).to_pylist()
    assert outcomes == ["answered", "answered"]


def test_status_counts_once_what_is_published_while_it_reads(store, monkeypatch):
    book = write(store, [])
    for number in (1, 2):
        book.intend(intent(number))
    book.record(attempt(1), result(1))
    book.roll()  # the second is in flight: carried over
    opened = tables.open_table

    def publish_first(*args, **options):
        store.publish()
        return opened(*args, **options)

    monkeypatch.setattr(tables, "open_table", publish_first)
    for _ in range(2):  # while it is published, and after
        found = status.of(store.root)
        assert (found.statuses["answered"], found.in_flight) == (1, 1)
        assert found.cost_pico == found.answers_pico > 0
    book.close()


def test_a_crashed_run_gets_a_row_with_what_is_known_of_it(store):
    book = write(store, range(4))
    path = segments.segments(store.journal)[0]
    raw = path.read_bytes()
    book.close()
    path.with_suffix(".sealed").unlink()
    path.write_bytes(raw)  # the writer's lock is free: it died
    store.publish()
    (row,) = open_table(store.root, "runs").to_table().to_pylist()
    assert (row["status"], row["answered"], row["cost_usd"]) == ("crashed", 4, Decimal("0.000000049380"))


def test_damaged_lines_are_kept_aside_and_the_rest_is_published(store):
    write(store, range(5)).close()
    (path,) = segments.segments(store.journal)
    lines = path.read_bytes().split(b"\n")
    lines[5] = lines[5][:-3] + b"xyz"
    path.write_bytes(b"\n".join(lines))
    store.publish()
    assert [p.name for p in quarantined(store.root)] == [path.name]
    assert open_table(store.root, "results").count_rows() == 4


def test_a_foreign_file_in_the_journal_is_left_alone(store):
    (store.journal / "notes.jsonl").write_text("shopping list\n")
    write(store, range(2)).close()
    store.publish()
    assert (store.journal / "notes.jsonl").exists()
    assert open_table(store.root, "results").count_rows() == 2


def test_a_segment_whose_header_is_damaged_is_kept_aside(store):
    (store.journal / "run-w9.00001.sealed").write_text("not a header\n")
    store.publish()
    assert [p.name for p in quarantined(store.root)] == ["run-w9.00001.sealed"]


@pytest.mark.parametrize("copies", [1, 2])
def test_the_answers_of_a_segment_whose_header_is_damaged_are_published(store, copies):
    write(store, range(5)).close()
    (path,) = segments.segments(store.journal)
    raw = bytearray(path.read_bytes())
    for copy in range(copies):
        raw[copy * (raw.index(b"\n") + 1) + 20] ^= 1
    path.write_bytes(raw)
    store.publish()
    rows = open_table(store.root, "results").to_table().to_pylist()
    assert [row["request_key"] for row in rows] == [key(n) for n in range(5)]
    assert {row["run_id"] for row in rows} == {"run"}
    assert {row["job"] for row in rows} == ({"pets"} if copies == 1 else {None})
    assert len(quarantined(store.root)) == copies - 1


def test_a_segment_of_a_newer_version_is_left_alone(store, caplog):
    header = {"t": "h", "v": 2, "anything": 1}
    path = store.journal / "run-w9.00001.sealed"
    path.write_bytes(segments.line(header))
    store.publish()
    assert path.exists()
    assert "newer version" in caplog.text


def test_latest_keeps_the_row_that_finished_last(store):
    book = open_journal(store.root)
    book.record(attempt(1), result(1, status="failed", finished_at=10))
    book.record(attempt(1), result(1, status="answered", finished_at=30, answer="late"))
    book.record(attempt(2), result(2, status="answered", finished_at=20, answer="only"))
    book.close()
    store.publish()
    assert sorted(tables.latest(store.root)["answer"].to_pylist()) == ["late", "only"]


def test_a_run_by_a_clock_of_the_future_hides_no_later_answer(store):
    later = 4_000_000_000_000_000  # 2096
    book = open_journal(store.root)
    for number, status_then in enumerate(["failed", "skipped", "invalid", "failed"]):
        book.record(attempt(number), result(number, status=status_then, finished_at=later))
    book.close()
    store.publish()
    book = open_journal(store.root, writer="next-w0", run_id="next")
    for number, status_now in enumerate(["answered", "failed", "answered"]):
        book.record(attempt(9 + number), result(number, status=status_now))
    found = status.of(store.root).statuses
    book.close()
    store.publish()
    want = {"answered": 2, "failed": 2}
    assert found == status.of(store.root).statuses == want
    words = tables.latest(store.root)["status"].to_pylist()
    assert sorted(words) == ["answered", "answered", "failed", "failed"]
    (group,) = to_json(cost_report([str(store.root)], by=("model",)))["groups"]
    assert {name: group[name] for name in want} == want


def test_a_folder_that_is_no_dataset_says_so(tmp_path):
    with pytest.raises(InputError, match="is not a dataset"):
        open_table(tmp_path, "results")


@given(st.lists(st.one_of(st.none(), st.integers(-(10**17), 10**17), st.integers()), max_size=50))
@example([10**18, 1])
@example([10**19, None, 2])
@example([-(2**63)])
def test_money_columns_equal_decimals_to_the_last_digit_and_hold_nothing_beyond(amounts):
    want = [None if a is None or abs(a) >= 10**18 else Decimal(a).scaleb(-12) for a in amounts]
    assert usd_array(amounts).to_pylist() == want


def test_answered_knows_whose_answer_it_is(store):
    book = open_journal(store.root)
    book.record(attempt(1), result(1))
    book.record(attempt(2), result(2, status="failed"))
    book.record(attempt(3), result(3, status="invalid"))
    book.close()
    store.publish()
    live = open_journal(store.root, writer="live-w0")
    live.record(None, result(4, status="skipped"))
    live.record(attempt(2), result(2))
    known = AnsweredIndex.read(store.root).look_up(
        [key(n) for n in (1, 1, 2, 3, 4, 5)],
        [row_fingerprint(f"item{n}", "p") for n in (1, 99, 2, 3, 4, 5)],
    )
    live.close()
    assert known == [
        AnswerState.ANSWERED,
        AnswerState.ANSWERED_FOR_ANOTHER,
        AnswerState.ANSWERED,
        AnswerState.INVALID,
        AnswerState.SKIPPED,
        AnswerState.NOTHING,
    ]


def test_requests_are_unanswered_until_a_row_has_paid_for_them(store):
    book = open_journal(store.root)
    for number, reached in enumerate(ResultStatus):
        book.record(attempt(number), result(number, status=reached))
    book.close()
    requests = [SimpleNamespace(key=key(n), item_id=f"item{n}", prompt_id="p") for n in range(5)]
    left = AnsweredIndex.read(store.root).unanswered(requests)
    assert [requests.index(one) for one in left] == [2, 3, 4]  # failed, skipped, never sent


def test_one_request_is_claimed_by_one_run_at_a_time(store):
    one, two = RequestLocks(store.root, "one-w0"), RequestLocks(store.root, "two-w0")
    assert one.take(key(1))
    assert not two.take(key(1))
    assert two.take(key(2))
    one.release(key(1))
    assert two.take(key(1))
    one.close()
    two.close()


@pytest.mark.parametrize("published", [False, True])
def test_what_another_run_answered_meanwhile_is_seen(store, published):
    claims = RequestLocks(store.root, "mine-w0")
    claims.start_watching()
    book = write(store, [1], writer="theirs-w0")
    assert claims.answered_elsewhere(key(1))
    book.record(attempt(2), result(2))
    if published:
        book.close()
        store.publish()
    assert claims.answered_elsewhere(key(2))
    assert not claims.answered_elsewhere(key(3))
    claims.close()
    book.close()
