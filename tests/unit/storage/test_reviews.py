"""Reviews are appended, never changed: the newest one that was not taken back counts."""

import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from mavi_tasks.errors import InputError
from mavi_tasks.schema import REVIEWS
from mavi_tasks.storage import reviews
from mavi_tasks.storage.publish import Dataset
from mavi_tasks.storage.reviews import Conflict, Review, append, current, history, publish
from tests.support.gateways import REPOSITORY, environment


@pytest.fixture
def root(tmp_path):
    Dataset(tmp_path).create()
    return tmp_path


def cat(item="1", value='"cat"', **more):
    return Review(item, "label", "corrected", value, **more)


def values(root):
    return [(row["item_id"], row["value_json"]) for row in current(root).to_pylist()]


def test_the_columns_are_those_that_are_promised():
    assert REVIEWS.names == [
        "review_id", "item_id", "prompt_id", "media_sha256", "field", "value_json", "verdict", "chosen_model",
        "note", "reviewer", "reviewed_at", "source", "retracts", "inclusion_probability", "sample_id",
        "schema_version",
    ]  # fmt: skip


def test_the_latest_review_of_an_item_and_field_counts(root):
    append(root, [cat(), cat("2")])
    append(root, [cat(value='"dog"'), cat(field="age", value="3")])
    assert values(root) == [("2", '"cat"'), ("1", '"dog"'), ("1", "3")]


def test_a_review_of_other_media_is_another_one(root):
    append(root, [cat(media_sha256="a"), cat(media_sha256="b", value='"dog"')])
    assert len(values(root)) == 2


def test_an_undo_is_a_row_and_shows_what_was_there_before(root):
    append(root, [cat()])
    [second] = append(root, [cat(value='"dog"')])
    append(root, [Review("1", "label", retracts=second.review_id)])
    assert values(root) == [("1", '"cat"')]
    assert history(root).num_rows == 3


def test_an_undo_can_be_undone(root):
    [first] = append(root, [cat()])
    [undo] = append(root, [Review("1", "label", retracts=first.review_id)])
    assert values(root) == []
    append(root, [Review("1", "label", retracts=undo.review_id)])
    assert values(root) == [("1", '"cat"')]


def test_another_review_since_the_caller_looked_is_a_conflict_and_nothing_is_written(root):
    [first] = append(root, [cat(reviewer="ann")], seen={("1", "label"): None})
    append(root, [cat(value='"dog"', reviewer="bo")], seen={("1", "label"): first.review_id})
    with pytest.raises(Conflict, match="'1': bo has reviewed it") as found:
        append(root, [cat("2"), cat(value='"owl"')], seen={("1", "label"): first.review_id})
    assert found.value.newest.value_json == '"dog"'
    assert values(root) == [("1", '"dog"')]


def test_an_undo_of_somebody_else_is_a_conflict_too(root):
    [first] = append(root, [cat()])
    append(root, [Review("1", "label", retracts=first.review_id)])
    with pytest.raises(Conflict):
        append(root, [cat(value='"owl"')], seen={("1", "label"): first.review_id})


def test_all_that_is_wrong_is_said_at_once_and_nothing_is_written(root):
    bad = [
        Review("", "label", "corrected", '"cat"'),
        Review("1", "label", "good", '"cat"'),
        Review("2", "label", "accepted"),
        Review("3", "label", "corrected", "cat"),
        Review("4", "label", retracts="x"),
        cat("5", inclusion_probability=0.0),
        cat("6", source="mail"),
    ]
    with pytest.raises(InputError) as found:
        append(root, [cat(), *bad])
    assert len(found.value.problems) == 7
    assert values(root) == []


def test_published_reviews_are_a_parquet_table_and_read_once(root):
    append(root, [cat(), cat("2")])
    Dataset(root).publish()
    append(root, [cat("3")])
    assert pd.read_parquet(root / "reviews")["item_id"].tolist() == ["1", "2"]
    assert [item for item, _ in values(root)] == ["1", "2", "3"]
    publish(root)
    assert sorted(pd.read_parquet(root / "reviews")["item_id"]) == ["1", "2", "3"]
    assert not list((root / "_journal").glob("*.review*"))


def test_a_publisher_killed_before_it_removed_the_segment_leaves_no_row_twice(root):
    append(root, [cat()])
    [segment] = (root / "_journal").glob("*.reviews")
    kept = segment.read_bytes()
    publish(root)
    segment.with_suffix(".reviewed").write_bytes(kept)
    assert len(values(root)) == 1
    publish(root)
    assert pd.read_parquet(root / "reviews")["item_id"].tolist() == ["1"]


def test_many_reviews_become_a_part_by_themselves(root, monkeypatch):
    monkeypatch.setattr(reviews, "ROWS_IN_JOURNAL", 3)
    for number in range(7):
        append(root, [cat(str(number))])
    assert len(list((root / "reviews").rglob("*.parquet"))) == 2
    assert len(values(root)) == 7


def test_a_torn_last_line_is_cut_and_the_rest_goes_on(root):
    append(root, [cat()])
    [segment] = (root / "_journal").glob("*.reviews")
    with segment.open("ab") as file:
        file.write(b'deadbeef {"t":"v","r":{"item')
    append(root, [cat("2")])
    assert [item for item, _ in values(root)] == ["1", "2"]


def test_a_damaged_line_is_named_and_the_others_are_kept(root, caplog):
    append(root, [cat()])
    append(root, [cat("2")])
    [segment] = (root / "_journal").glob("*.reviews")
    segment.write_bytes(segment.read_bytes().replace(b"cat", b"cot", 1))
    publish(root)
    assert [item for item, _ in values(root)] == ["2"]
    assert "damaged lines" in caplog.text


APPENDING = """
import sys
from pathlib import Path
from mavi_tasks.storage.reviews import Review, append
for number in range(10_000):
    append(Path(sys.argv[1]), [Review(f"{sys.argv[2]}-{number}", "label", "corrected", '"cat"')])
    print(number, flush=True)
"""


def test_processes_that_append_at_once_and_are_killed_lose_nothing_they_were_told_is_kept(root):
    arguments = [sys.executable, "-c", APPENDING, str(root)]
    started = [
        subprocess.Popen([*arguments, name], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
                         env=environment())
        for name in "ab"
    ]  # fmt: skip
    first = [process.stdout.readline() for process in started]
    time.sleep(0.5)
    for process in started:
        os.kill(process.pid, signal.SIGKILL)
    kept = {
        f"{name}-{number}"
        for name, process, line in zip("ab", started, first, strict=True)
        for number in (line + process.communicate()[0]).split()
    }
    there = [item for item, _ in values(root)]
    assert kept <= set(there)
    assert len(there) == len(set(there)) <= len(kept) + 2
