"""One row of each item, prompt and model counts: of the newest text, by status first and clock second."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mavi_tasks.schema import RESULTS, ResultStatus
from mavi_tasks.storage import tables
from mavi_tasks.storage.dataframe import dataframe
from mavi_tasks.storage.export import export
from mavi_tasks.storage.publish import Dataset
from mavi_tasks.storage.recency import current
from tests.support.made_dataset import NOON, row, write
from tests.support.rows import attempt, open_journal, result

WORDS = list(ResultStatus)


def text(version, status, minute, answer=None, **more):
    """A row of one and the same question, finished so many minutes after noon."""
    at = NOON.replace(minute=minute)
    return row(
        "gpt:m", "cat", answer or f"{version} {status}", prompt_hash=version, status=status, finished_at=at,
        request_key=f"{version}{status}{minute}", **more,
    )  # fmt: skip


def counted(tmp_path, *rows):
    found = tables.latest(write(tmp_path, rows))
    return found["answer"].to_pylist()


@pytest.mark.parametrize(
    ("rows", "counts"),
    [
        # the newest text counts, also when it failed: it waits to be asked again
        ([("old", "answered", 1), ("new", "answered", 2)], "new answered"),
        ([("old", "answered", 1), ("new", "failed", 2)], "new failed"),
        ([("old", "answered", 1), ("new", "invalid", 2)], "new invalid"),
        # what was never sent hides no answer, but what failed before it
        ([("old", "answered", 1), ("new", "skipped", 2)], "old answered"),
        ([("old", "invalid", 1), ("new", "skipped", 2)], "old invalid"),
        ([("old", "failed", 1), ("new", "skipped", 2)], "new skipped"),
        # within one text an answer stays
        ([("old", "answered", 1), ("old", "failed", 2)], "old answered"),
        ([("old", "invalid", 1), ("old", "skipped", 2)], "old invalid"),
        ([("old", "answered", 1), ("old", "invalid", 2)], "old answered"),
        # a text is as new as its newest row
        ([("old", "answered", 1), ("new", "answered", 2), ("new", "failed", 3)], "new answered"),
        ([("old", "answered", 1), ("new", "answered", 2), ("old", "failed", 3)], "old answered"),
        ([("old", "answered", 1), ("new", "answered", 2), ("old", "skipped", 3)], "new answered"),
        # rows of versions that did not note it are one text
        ([(None, "answered", 1), ("new", "failed", 2)], "new failed"),
        ([(None, "answered", 1), (None, "failed", 2)], "None answered"),
    ],
)
def test_one_row_counts(tmp_path, rows, counts):
    assert counted(tmp_path, *(text(*one) for one in rows)) == [counts]
    assert counted(tmp_path / "backwards", *(text(*one) for one in reversed(rows))) == [counts]


def test_a_simulated_answer_hides_no_other(tmp_path):
    rows = [text("a", "answered", 1, "real"), text("a", "answered", 2, "simulated", gateway="sandbox")]
    assert sorted(counted(tmp_path, *rows)) == ["real", "simulated"]


def test_a_copy_makes_its_text_the_newest_and_the_answer_that_was_sent_counts(tmp_path):
    rows = [text("a", "answered", 1, "sent"), text("b", "answered", 2)]
    assert counted(tmp_path, *rows, text("a", "answered", 3, "copy", attempts=0)) == ["sent"]


def test_all_versions_are_one_row_for_each_text(tmp_path):
    rows = [text("old", "failed", 1), text("old", "answered", 2), text("new", "answered", 3)]
    found = tables.latest(write(tmp_path, rows), all_versions=True)
    assert sorted(found["answer"].to_pylist()) == ["new answered", "old answered"]


RANKS = {("answered", False): 3, ("answered", True): 2, ("invalid", False): 1, ("invalid", True): 1}


def counts_by_hand(rows):
    """Positions of the rows that count, by the four rules as they are written down."""
    found = set()
    for question in {one[0] for one in rows}:
        left = [(at, *one) for at, one in enumerate(rows) if one[0] == question]
        if any(WORDS[status] in ("answered", "invalid") for _, _, _, status, _, _ in left):
            left = [one for one in left if WORDS[one[3]] != "skipped"]
        newest = {}
        for _, _, version, _, us, _ in left:
            newest[version] = max(us, newest.get(version, us))
        order = [
            (newest[version], RANKS.get((WORDS[status], copied), 0), us, at)
            for at, _, version, status, us, copied in left
        ]
        found.add(max(order)[-1])
    return found


row_values = st.tuples(
    st.integers(0, 4), st.integers(0, 2), st.integers(0, len(WORDS) - 1), st.integers(0, 5), st.booleans()
)


@given(st.lists(row_values, min_size=1, max_size=40))
def test_all_rows_at_once_count_as_one_by_one(rows):
    question, text, status, instant_us, copied = map(np.array, zip(*rows, strict=True))
    found = current(question, text, status, copied, instant_us, WORDS)
    assert set(np.flatnonzero(found).tolist()) == counts_by_hand(rows)


SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}}}


@pytest.fixture(scope="module")
def asked_twice(tmp_path_factory):
    """Two items, labelled with an older and a newer text of the prompt; one failed with the newer one."""
    root = tmp_path_factory.mktemp("twice")
    store = Dataset(root)
    store.create()
    for version in (1, 2):
        book = open_journal(root, f"run{version}-w0", f"run{version}", answer_schema=SCHEMA)
        for item in (1, 2):
            failed = (version, item) == (2, 2)
            values = {
                "item_id": f"item{item}",
                "prompt_hash": f"text{version}",
                "status": "failed" if failed else "answered",
                "answer_json": None if failed else f'{{"label": "text{version} item{item}"}}',
            }
            book.record(attempt(10 * version + item), result(10 * version + item, **values))
        book.close()
    store.publish()
    return root


def test_labels_are_those_of_rows_that_count(asked_twice):
    assert dataframe(asked_twice, "labels")["label"].tolist() == ["text2 item1"]
    every = dataframe(asked_twice, "labels", all_versions=True)["label"].tolist()
    assert sorted(every) == ["text1 item1", "text1 item2", "text2 item1"]


def test_results_are_those_that_count(asked_twice):
    rows = dataframe(asked_twice)
    assert dict(zip(rows["item_id"], rows["status"], strict=True)) == {"item1": "answered", "item2": "failed"}
    assert len(dataframe(asked_twice, all_versions=True)) == 4


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({"table": "results"}, 4),
        ({"table": "results", "latest": True}, 2),
        ({"table": "results", "all_versions": True}, 4),
        ({"table": "labels"}, 1),
        ({"table": "labels", "latest": True}, 1),
        ({"table": "labels", "all_versions": True}, 3),
    ],
)
def test_an_export_has_the_rows_that_count(asked_twice, tmp_path, options, rows):
    assert export(asked_twice, tmp_path / "out.csv", **options) == rows


def test_a_dataset_from_before_the_column_is_readable(tmp_path):
    import pyarrow.parquet as pq

    from mavi_tasks.storage.parts import write_part

    write(tmp_path, [text(None, "answered", 1, "before")])
    (part,) = (tmp_path / "results").rglob("*.parquet")
    older = pq.read_table(part, partitioning=None).drop_columns(["prompt_hash"])
    part.unlink()
    write_part(part, older)
    write(tmp_path, [text("new", "answered", 2, "after")], part="b")
    assert set(RESULTS.names) <= set(tables.latest(tmp_path).column_names)
    assert tables.latest(tmp_path)["answer"].to_pylist() == ["after"]
    assert tables.latest(tmp_path, all_versions=True)["prompt_hash"].to_pylist() == [None, "new"]
