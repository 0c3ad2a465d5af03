"""docs/getting-started.md is true: its commands, run in an empty folder, print what the page shows."""

import shutil

import pytest

from tests.support import worked_page
from tests.support.gateways import REPOSITORY

PAGE = REPOSITORY / "docs" / "getting-started.md"
RENEW = f"the page shows another output; make it again: python -m tests.support.worked_page docs/{PAGE.name}"


@pytest.mark.skipif(shutil.which("bash") is None, reason="the page is for a POSIX shell")
def test_every_step_prints_what_the_page_shows(tmp_path):
    steps = worked_page.steps(PAGE)
    assert len(steps) == 5
    for commands, shown in steps:
        printed = worked_page.run(commands, tmp_path)
        assert worked_page.comparable(printed) == worked_page.comparable(shown), RENEW
