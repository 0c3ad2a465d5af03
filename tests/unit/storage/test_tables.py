"""The four tables of a dataset are opened, exported and framed by one reader."""

import csv

import pytest

from mavi_tasks.cli.main import main
from mavi_tasks.errors import InputError
from mavi_tasks.storage.dataframe import dataframe
from mavi_tasks.storage.publish import Dataset
from mavi_tasks.storage.tables import open_table
from tests.support.rows import attempt, key, open_journal, result

SCHEMA = {"type": "object", "properties": {"label": {"enum": ["cat", "dog"]}, "age": {"type": "integer"}}}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    root = tmp_path_factory.mktemp("dataset")
    store = Dataset(root)
    store.create()
    book = open_journal(root, answer_schema=SCHEMA)
    book.record(attempt(1), result(1, answer_json='{"label": "cat", "age": 3}'))
    book.record(attempt(2), result(2, answer_json='{"label": "dog"}'))
    book.record(attempt(3), result(3, status="failed"))
    book.close()
    store.publish()
    return root


def test_labels_open_like_any_other_table(labelled):
    rows = open_table(labelled, "labels").to_table(columns=["request_key", "label", "age"]).to_pylist()
    assert rows == [
        {"request_key": key(1), "label": "cat", "age": 3},
        {"request_key": key(2), "label": "dog", "age": None},
    ]


def test_labels_are_a_frame(labelled):
    assert dataframe(labelled, "labels")["age"].sum() == 3


def test_labels_are_exported_by_the_command(labelled, tmp_path):
    to = tmp_path / "labels.csv"
    assert main(["export", str(labelled), "--to", str(to), "--table", "labels"]) == 0
    with to.open() as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["cat", "dog"]


@pytest.mark.parametrize("table", ["results", "attempts", "runs", "labels"])
def test_a_folder_that_is_no_dataset_says_so(tmp_path, table):
    with pytest.raises(InputError, match="is not a dataset"):
        open_table(tmp_path, table)
