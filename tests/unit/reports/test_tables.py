"""Names and notes of other people are only text in markdown."""

import pytest

from mavi_tasks.reports.tables import markdown_code, markdown_rows, markdown_text
from tests.bench.hostile import exports


@pytest.mark.parametrize("text", exports.MARKUP.values(), ids=exports.MARKUP)
def test_no_markup_is_read_from_a_text(text, tmp_path):
    assert exports.markup(text, tmp_path) is None


def test_ordinary_names_are_written_as_they_are():
    assert markdown_text("gemini:gemini-2.5-flash, 12.5 % of 3") == "gemini:gemini-2.5-flash, 12.5 % of 3"
    assert markdown_code("out/pets") == "`out/pets`"


def test_rows_are_a_table():
    shown = markdown_rows([{"model": "a|b", "n": 1}, {"model": None, "n": 2}])
    assert shown == "| model | n |\n| --- | --- |\n| a\\|b | 1 |\n|  | 2 |\n"
