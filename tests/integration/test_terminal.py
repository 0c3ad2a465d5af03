"""No command prints what a terminal obeys, wherever the text came from."""

import pytest

from tests.bench.hostile.terminal import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_escape_sequences_do_not_reach_the_screen(case, tmp_path):
    assert case.attempt(tmp_path) is None
