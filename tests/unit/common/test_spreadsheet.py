"""No text of other people runs as a formula where an exported file is opened."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mavi_tasks.common.spreadsheet import cell_text, text_cell
from tests.bench.hostile import exports


@pytest.mark.parametrize("blank", exports.BEFORE.values(), ids=exports.BEFORE)
def test_a_formula_is_a_text_behind_any_blank_and_with_any_form_of_its_sign(blank, tmp_path):
    assert exports.formulas(blank, tmp_path) is None


@pytest.mark.parametrize("text", ["a cat", "5", "a=b", "", "'", "é=1", "猫", "#1"])
def test_what_is_no_formula_stays_as_it_is(text):
    assert text_cell(text) == text


@given(st.text(st.sampled_from("'=+-@\t\n ａx1＝") | st.characters(), max_size=6))
@example("'=1")
@example("''=1")
def test_every_text_comes_back_from_its_cell(text):
    assert cell_text(text_cell(text)) == text
