"""The folders of a bake-off's periods."""

from datetime import date

import pytest

from mavi_tasks.flows.bakeoff import folder_of, previous
from mavi_tasks.job import job_of
from tests.support.gateways import ALL_FAMILIES

MODEL = ALL_FAMILIES[0]


def job_for(library, **more):
    fields = {"models": [MODEL], "prompt": "Which word?", "gateway": "sandbox"}
    return job_of(**{"manifest": str(library), "output": str(library.parent / "out"), **fields, **more})


@pytest.mark.parametrize(
    ("period", "name"), [(None, "out"), ("day", "2027-01-01"), ("week", "2026-W53"), ("month", "2027-01")]
)
def test_each_period_has_its_folder(tmp_path, period, name):
    assert folder_of(job_for(tmp_path, output=str(tmp_path / "out")), period, date(2027, 1, 1)).name == name


def test_the_previous_period_is_the_newest_before(tmp_path):
    for name in ("2026-W45", "2026-W46", "2026-W48", "notes"):
        (tmp_path / name / "results").mkdir(parents=True)
        (tmp_path / name / "results" / "part.parquet").touch()
    (tmp_path / "2026-W47" / "results").mkdir(parents=True)  # it ended before it had an answer
    assert previous(tmp_path / "2026-W48") == tmp_path / "2026-W46"
    assert previous(tmp_path / "2026-W45") is None
