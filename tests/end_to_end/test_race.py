"""A race of models: who is dropped, what it costs, and that a killed one ends as if it had not been."""

import csv
import json
from decimal import Decimal

import pytest

from tests.support.gateways import kill, mavi, rows, spent, start, wait_for, write_job
from tests.support.known_models import items_csv, known_models, truth

LITE, FLASH, PRO = "gemini:gemini-2.5-flash-lite", "gemini:gemini-2.5-flash", "gemini:gemini-2.5-pro"
RIGHT = {LITE: 0.62, FLASH: 0.93, PRO: 0.80}  # the one in the middle of the prices is the best


@pytest.fixture
def models():
    with known_models(RIGHT) as served:
        yield served


def race_job(folder, served, *, count=400, with_truth=True, **fields):
    return write_job(
        folder,
        **{
            "manifest": str(items_csv(folder, count, with_truth=with_truth)),
            "prompts": {"p": "Item {{ item_id }}. What is it?"},
            "models": [LITE, FLASH, PRO],
            "params": {"max_tokens": 50},
            "answer_schema": {
                "type": "object",
                "properties": {"label": {"type": "string"}, "confidence": {"type": "number"}},
                "required": ["label"],
            },
            "gateway": {"name": "sandbox", "base_url": served.base_url},
            "output": str(folder / "out"),
            "race": {"margin": 3, "seed": 1},
            "media": {"max_url_image_px": 64},  # the largest possible cost of a call is near its cost
            **fields,
        },
    )


def decisions(folder):
    """What a race has decided, without what differs from run to run."""
    record = json.loads((folder / "out" / "race.json").read_text())
    looks = [
        {name: look[name] for name in ("media", "left", "drops", "behind_points", "right", "cost_usd")}
        for look in record["looks"]
    ]
    return record["status"], record["choice"], looks


def test_a_race_finds_the_best_model_for_a_part_of_the_money(tmp_path, models):
    path = race_job(tmp_path, models)
    ran = mavi("run", path, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["race"]["choice"] == FLASH
    assert "look 1: 50 of 400 media" in ran.err
    assert "out: gemini-2.5-flash-lite, at least" in ran.err
    assert "Choose gemini-2.5-flash" in ran.err
    asked = {model: len(items) for model, items in models.calls.items()}
    assert asked[LITE] < 400
    assert sum(asked.values()) < 0.7 * 3 * 400
    assert len(models.calls[LITE]) == len(set(models.calls[LITE]))
    total = sum(row["cost_usd"] for row in rows(tmp_path / "out", "attempts"))
    assert Decimal(ran.json["race"]["spent_usd"]) == total == Decimal(ran.json["cost_usd"])
    page = tmp_path / "page.html"
    compared = mavi("compare", tmp_path / "out", "--html", page, "--json")
    assert compared.json["choice"]["model"] == FLASH
    assert "Choose gemini-2.5-flash: " in compared.err
    assert "out after " in page.read_text()


def test_the_media_of_a_look_come_in_a_random_order_and_not_in_the_manifests(tmp_path, models):
    """The manifest is sorted by what the media show; a look at its first 50 would see cats only."""
    mavi("run", race_job(tmp_path, models, count=100))
    first_look = json.loads((tmp_path / "out" / "race.json").read_text())["looks"][0]["run_id"]
    seen = rows(tmp_path / "out", "results", "distinct truth", f"run_id = '{first_look}'")
    assert len(seen) == 3


def test_a_killed_race_decides_the_same_and_pays_nothing_twice(tmp_path, models):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    mavi("run", race_job(whole, models))
    models.calls.clear()
    models.delay_s = 0.02
    path = race_job(killed, models)
    for asked in (20, 220):
        process = start("run", path, "--quiet")
        wait_for(lambda asked=asked: sum(map(len, models.calls.values())) >= asked)
        kill(process)
    models.delay_s = 0.0
    ended = mavi("run", path, "--json")
    assert ended.code == 0, ended.err
    status, choice, looks = decisions(killed)
    expected_status, expected_choice, expected = decisions(whole)
    assert (status, choice) == (expected_status, expected_choice) == ("decided", FLASH)
    for look, other in zip(looks, expected, strict=True):
        in_doubt = Decimal(look.pop("cost_usd")) - Decimal(other.pop("cost_usd"))
        assert in_doubt >= 0  # calls in flight at the kill may have been billed
        assert look == other
    answered = rows(killed / "out", "results", "item_id, model", "status = 'answered'")
    assert len(answered) == len({(row["item_id"], row["model"]) for row in answered})
    assert Decimal(ended.json["race"]["spent_usd"]) == spent(killed / "out", "attempts") + sum(
        row["exposure_usd"] or 0 for row in rows(killed / "out", "attempts")
    )


def test_a_finished_race_run_again_sends_nothing(tmp_path, models):
    path = race_job(tmp_path, models)
    mavi("run", path)
    models.calls.clear()
    again = mavi("run", path, "--json")
    assert (again.code, again.json["race"]["choice"], models.calls) == (0, FLASH, {})


def test_the_dollars_of_a_race_hold_over_all_its_commands(tmp_path, models):
    """The last look is made as large as the money allows, and its bounds are said."""
    models.right = {LITE: 0.80, FLASH: 0.80, PRO: 0.80}
    cap = Decimal("0.15")
    path = race_job(tmp_path, models, race={"margin": 2, "max_usd": str(cap)})
    first = mavi("run", path, "--json")
    assert first.code == 4, first.err
    assert first.json["race"]["status"] == "out of money"
    assert "Points that each may be behind the best" in " ".join(first.err.split())
    last = first.json["race"]["looks"][-1]
    assert last["media"] not in (50, 100, 200, 300, 400)
    for _ in range(3):
        mavi("run", path)
    assert cap / 2 < spent(tmp_path / "out", "attempts") <= cap
    more = mavi("run", race_job(tmp_path, models, race={"margin": 2, "max_usd": "10"}), "--json")
    assert more.code == 0, more.err
    assert more.json["race"]["looks"][: len(first.json["race"]["looks"])] == first.json["race"]["looks"]


def test_the_budget_of_the_job_holds_too(tmp_path, models):
    ran = mavi("run", race_job(tmp_path, models, budget_usd="0.01"), "--json")
    assert ran.code == 4
    assert spent(tmp_path / "out", "attempts") <= Decimal("0.01")


def test_a_reference_model_stands_in_for_the_truth_and_that_is_said(tmp_path, models):
    path = race_job(tmp_path, models, with_truth=False, race={"margin": 3, "reference": PRO})
    ran = mavi("run", path, "--json")
    assert ran.code == 0, ran.err
    assert f"Right means: as {PRO} answers" in " ".join(ran.err.split())
    assert PRO not in ran.json["race"]["models"]
    assert ran.json["race"]["truth"] == PRO


def test_what_cannot_race_is_said_before_anything_is_sent(tmp_path, models):
    alone = mavi("run", race_job(tmp_path, models), "--model", LITE)
    assert alone.code == 2
    assert "at least 2 models" in alone.err
    strange = mavi("run", race_job(tmp_path, models, race={"reference": "gpt:gpt-4o"}))
    assert strange.code == 2
    assert "race.reference 'gpt:gpt-4o'" in strange.err
    assert models.calls == {}


def test_a_margin_cannot_be_changed_after_looking(tmp_path, models):
    mavi("run", race_job(tmp_path, models))
    changed = mavi("run", race_job(tmp_path, models, race={"margin": 1, "seed": 1}))
    assert changed.code == 2
    assert "began with other margin" in changed.err


def test_without_any_truth_a_race_asks_people_about_what_models_answer_differently(tmp_path, models):
    path = race_job(tmp_path, models, with_truth=False)
    asked, labels = 0, tmp_path / "out" / "race-labels.csv"
    for _ in range(9):
        ran = mavi("run", path, "--json")
        if ran.code == 0:
            break
        assert (ran.code, ran.json["stop_reason"]) == (4, "labels"), ran.err
        with labels.open(newline="") as file:
            found = list(csv.DictReader(file))
        open_rows = [row for row in found if not row["truth"]]
        assert f"label {len(open_rows):,} items" in " ".join(ran.err.split())
        asked += len(open_rows)
        with labels.open("w", newline="") as file:
            rewritten = csv.DictWriter(file, found[0])
            rewritten.writeheader()
            rewritten.writerows({**row, "truth": truth(row["item_id"])} for row in found)
    assert (ran.code, ran.json["race"]["choice"]) == (0, FLASH), ran.err
    assert 0 < asked < len(models.calls[FLASH]) * 0.7  # where all agree nobody is asked
