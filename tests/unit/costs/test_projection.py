"""Projection, budget and anomalies: the stated rules, on spend typed by hand."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from mavi_tasks.costs import cost_report, to_json
from mavi_tasks.costs.anomaly import find
from mavi_tasks.costs.projection import burn, project
from tests.support.costs_data import Ledger

USD = 10**12
TODAY = date(2026, 11, 22)  # a Sunday


def every_day(usd, *, days=60, until=TODAY):
    return {until - timedelta(days=back): usd * USD for back in range(days)}


def test_steady_spend_projects_to_itself():
    found, note = project(every_day(10), TODAY)
    assert (found.spent_pico, note) == (220 * USD, "")  # 22 days of $10
    assert (found.low_pico, found.mid_pico, found.high_pico) == (300 * USD,) * 3  # 30 days of $10
    assert [step.day for step in (found.steps[0], found.steps[-1])] == [TODAY, date(2026, 11, 30)]


def test_weekends_are_projected_from_weekends():
    daily = {day: (0 if day.weekday() >= 5 else pico) for day, pico in every_day(10).items()}
    found, _ = project(daily, TODAY)
    # 2 to 6, 9 to 13 and 16 to 20 November: 15 working days so far; 23 to 27 and the 30th: 6 to come
    assert (found.spent_pico, found.mid_pico) == (150 * USD, 210 * USD)


def test_uneven_spend_gives_an_interval_around_the_median():
    daily = {day: (index % 7 + 1) * USD for index, day in enumerate(sorted(every_day(1, days=60)))}
    uneven = {day: pico * (1 + day.toordinal() // 7 % 3) for day, pico in daily.items()}
    found, _ = project(uneven, TODAY)
    assert found.low_pico < found.mid_pico < found.high_pico
    assert project(uneven, TODAY) == project(uneven, TODAY)  # the same ledger, the same projection


def test_too_little_history_gives_a_reason_instead_of_a_number():
    found, note = project(every_day(10, days=5), TODAY)
    assert found is None
    assert note == "No projection: it needs 14 full days of history, there are 4."


def test_a_budget_says_what_is_left_and_when_it_runs_out():
    state = burn(every_day(10), TODAY, 250 * USD)
    assert (state.left_pico, state.runs_out, state.chance_over) == (30 * USD, date(2026, 11, 26), 1.0)
    assert burn(every_day(10), TODAY, 300 * USD).runs_out is None
    assert burn(every_day(10, days=3), TODAY, 20 * USD).left_pico == -10 * USD


def steady(extra):
    """$10 and $12 in turn on 40 days before Friday 20 November, and `extra` on that day."""
    friday = date(2026, 11, 20)
    return friday, {friday - timedelta(days=back): (10 + back % 2 * 2) * USD for back in range(1, 41)} | {
        friday: extra * USD
    }


def test_a_day_out_of_line_is_flagged_with_its_limit():
    friday, daily = steady(30)
    (found,) = find([("total", "", daily)])
    assert (found.day, found.cost_pico) == (friday, 30 * USD)
    # 20 working days before it, ten of $10 and ten of $12: median 11, deviation 1, limit 11 + 5 * 1
    assert (found.usual_pico, found.limit_pico, found.history_days) == (11 * USD, 16 * USD, 20)


def test_a_day_within_its_limit_is_not_flagged():
    assert find([("total", "", steady(16)[1])]) == ()


def test_cents_are_never_an_anomaly():
    day = date(2026, 11, 20)
    daily = {day - timedelta(days=back): USD // 100 for back in range(1, 29)} | {day: USD // 2}
    assert find([("total", "", daily)]) == ()
    assert len(find([("total", "", daily)], USD // 10)) == 1


def test_weekends_are_compared_with_weekends():
    daily = {day: (0 if day.weekday() >= 5 else 100) * USD for day in every_day(1, days=60)}
    sundays = {day: 5 * USD for day in daily if day.weekday() == 6}
    found = find([("total", "", {**daily, **sundays, TODAY: 50 * USD})])
    assert found == ()  # only four Sundays before it: too few to say what is usual
    saturdays = {day: 5 * USD for day in daily if day.weekday() == 5}
    (one,) = find([("total", "", {**daily, **sundays, **saturdays, TODAY: 50 * USD})])
    assert (one.day, one.usual_pico) == (TODAY, 5 * USD)


def test_the_report_checks_models_and_jobs_and_tells_its_rules(tmp_path):
    ledger = Ledger(tmp_path / "pets").run()
    for back in range(20):
        day = date(2026, 11, 20) - timedelta(days=back)
        ledger.both(f"k{back}", "50" if back == 0 else "10", f"{day}T10:00")
    now = datetime(2026, 11, 22, tzinfo=UTC)
    said = to_json(cost_report([ledger.write()], now=now, budget_usd=Decimal(300)))
    assert [(one["day"], one["scope"], one["usual_usd"]) for one in said["anomalies"]] == [
        ("2026-11-20", scope, "10.000000000000") for scope in ("total", "model", "job")
    ]
    assert "5 times the median absolute deviation" in said["anomaly_rule"]
    assert said["budget"]["left_usd"] == "60.000000000000"  # 300 - (19 * 10 + 50)
    assert "drawn 4,000 times" in said["projection_note"]
    assert said["projection"]["level"] == 0.8
