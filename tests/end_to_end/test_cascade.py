"""From a bake-off to a certified cascade, one command each."""

from decimal import Decimal

import pyarrow.parquet as pq
import pytest
import yaml

from tests.end_to_end.test_race import LITE, PRO, race_job
from tests.support.gateways import mavi, rows, spent
from tests.support.known_models import known_models


@pytest.fixture
def models():
    with known_models({LITE: 0.85, PRO: 0.9}) as served:
        yield served


@pytest.fixture
def certified(tmp_path, models):
    """A bake-off of 800 items, and the cascade that its answers certify."""
    job = race_job(tmp_path, models, count=800, race=None, models=[LITE, PRO])
    assert mavi("run", job, "--quiet").code == 0
    path = tmp_path / "cascade.yaml"
    made = mavi("compare", tmp_path / "out", "--job", job, "--cascade-out", path, "--margin", "3")
    assert made.code == 0, made.err
    assert "at most" in made.out
    models.calls.clear()
    return path


def test_a_cascade_answers_cheaply_and_shows_its_steps(tmp_path, models, certified):
    written = yaml.safe_load(certified.read_text())
    assert (written["cascade"]["first"], written["cascade"]["last"]) == ([LITE], PRO)
    ran = mavi("run", certified, "--json")
    assert ran.code == 0, ran.err
    assert len(models.calls[LITE]) == 800
    assert len(models.calls[PRO]) == ran.json["cascade"]["escalated"] < 600
    table = pq.read_table(tmp_path / "out-cascade" / "cascade.parquet").to_pylist()
    assert len(table) == 800
    assert {(row["step"], row["model"]) for row in table} == {(1, LITE), (2, PRO)}
    assert all((row["escalated_because"] is not None) == (row["step"] == 2) for row in table)
    assert sum(row["cost_usd"] for row in table) == spent(tmp_path / "out-cascade", "attempts")
    again = mavi("run", certified, "--json")
    assert (again.code, Decimal(again.json["cost_usd"])) == (0, 0)


def test_compare_puts_what_a_cascade_did_beside_its_certificate(tmp_path, models, certified):
    mavi("run", certified, "--quiet")
    found = mavi("compare", tmp_path / "out-cascade", "--json")
    said = " ".join(found.err.split())
    assert "Cascade of gemini-2.5-flash-lite, then gemini-2.5-pro" in said
    assert "Certificate: at most" in said
    assert found.json["cascade_run"]["void"] == []
    assert found.json["cascade_run"]["right"] > 0.8
    assert found.json["choice"] is None


def test_a_certificate_is_void_when_a_model_is_answered_by_another_version(tmp_path, models, certified):
    models.provider_models[PRO] = "gemini-2.5-pro-002"
    mavi("run", certified, "--quiet")
    said = " ".join(mavi("compare", tmp_path / "out-cascade").out.split())
    assert "Certificate void: gemini:gemini-2.5-pro is answered by gemini-2.5-pro-002" in said


def test_a_certificate_is_void_when_the_prompts_have_changed(tmp_path, models, certified):
    written = yaml.safe_load(certified.read_text())
    written["prompts"] = {"p": "Item {{ item_id }}. Name the animal."}
    certified.write_text(yaml.safe_dump(written))
    mavi("run", certified, "--quiet")
    said = " ".join(mavi("compare", tmp_path / "out-cascade").out.split())
    assert "Certificate void: the prompts are others" in said


def test_the_budget_of_a_cascade_holds_for_all_its_steps(tmp_path, models, certified):
    ran = mavi("run", certified, "--budget-usd", "0.08", "--json")
    assert ran.code == 4
    assert spent(tmp_path / "out-cascade", "attempts") <= Decimal("0.08")
    assert mavi("run", certified, "--json").code == 0
    answered = rows(tmp_path / "out-cascade", "results", "item_id, model", "status = 'answered'")
    assert len(answered) == len({(row["item_id"], row["model"]) for row in answered})


def test_no_job_is_written_when_nothing_can_be_proven(tmp_path, models):
    job = race_job(tmp_path, models, count=40, race=None, models=[LITE, PRO])
    mavi("run", job, "--quiet")
    path = tmp_path / "cascade.yaml"
    made = mavi("compare", tmp_path / "out", "--job", job, "--cascade-out", path)
    assert made.code == 2
    assert "no cascade is proven" in made.err
    assert not path.exists()
