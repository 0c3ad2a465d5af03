"""Spend of small ledgers: every dollar typed by hand, exact to the last digit."""

from datetime import UTC, date, datetime
from decimal import Decimal

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mavi_tasks.costs import cost_report, to_json
from mavi_tasks.errors import InputError, StorageError
from mavi_tasks.reports.terminal.costs import render_terminal
from tests.support.costs_data import FLASH, MINI, Ledger

# The same sums for people who have SQL: one DuckDB query over the files themselves.
SQL = """\
-- duckdb: put the dataset's folder for DIR. `set timezone` decides where days are cut.
set timezone = 'UTC';
with runs as (
    select run_id, any_value(job) as job, any_value(gateway) as gateway
    from read_parquet(['DIR/runs/**/*.parquet', 'DIR/results/**/*.parquet'], union_by_name = true)
    group by run_id
), tries as (
    select coalesce(finished_at, started_at)::date as day, model, job, gateway,
           cost_usd, exposure_usd, 0::decimal(18, 12) as useful_usd, 0::decimal(18, 12) as invalid_usd,
           1 as calls
    from 'DIR/attempts/**/*.parquet' left join runs using (run_id)
), bought as (
    select coalesce(finished_at, started_at)::date as day, model, job, gateway,
           0::decimal(18, 12), 0::decimal(18, 12),
           case when status = 'answered' then cost_usd end, case when status <> 'answered' then cost_usd end,
           0
    from 'DIR/results/**/*.parquet'
)
select day, model,
       coalesce(sum(cost_usd), 0) as cost_usd,
       coalesce(sum(useful_usd), 0) as useful_usd,
       coalesce(sum(invalid_usd), 0) as invalid_usd,
       coalesce(sum(cost_usd), 0) - coalesce(sum(useful_usd), 0) - coalesce(sum(invalid_usd), 0)
           as retried_usd,
       coalesce(sum(exposure_usd), 0) as exposure_usd,
       sum(calls)::bigint as calls
from (from tries union all from bought)
where coalesce(gateway, '') <> 'sandbox'
group by day, model
order by day, model
"""

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "pets")


def told(path, **options):
    return to_json(cost_report([path], now=NOW, **options))


def test_spend_is_split_into_useful_invalid_retried_and_in_doubt(ledger):
    ledger.run()
    ledger.both("k1", "0.000325")
    ledger.attempt("k2", "0.0001").attempt("k2", "0.0002").result("k2", "0.0002")  # repaired: paid twice
    ledger.both("k3", "0.00005", status="invalid")
    ledger.attempt("k4", None, outcome="in_doubt", exposure_usd="0.0123")
    said = told(ledger.write())
    assert said["total_usd"] == "0.000675000000"  # 0.000325 + 0.0001 + 0.0002 + 0.00005
    assert said["useful_usd"] == "0.000525000000"  # 0.000325 + 0.0002
    assert said["invalid_usd"] == "0.000050000000"
    assert said["retried_usd"] == "0.000100000000"
    assert said["exposure_usd"] == "0.012300000000"
    assert [
        (group["day"], group["model"], group["cost_usd"], group["calls"]) for group in said["groups"]
    ] == [("2026-11-03", FLASH, "0.000675000000", 5)]


def test_a_single_pico_dollar_is_not_lost_beside_a_million_dollars(ledger):
    ledger.run()
    for number in range(9):
        ledger.both(f"k{number}", "999999.999999999999")
    ledger.both("small", "0.000000000001")
    assert told(ledger.write())["total_usd"] == "8999999.999999999992"  # 9 * 999999.999999999999 + 1e-12


def test_every_dimension_adds_up_to_the_total(ledger):
    ledger.run("r1", "pets").run("r2", "cars", gateway="https://gateway.example")
    ledger.both("k1", "0.1", prompt_id="label").both("k2", "0.2", model=MINI, prompt_id="caption")
    ledger.both("k3", "0.4", "2026-12-07T10:00", run_id="r2", job="cars", gateway="https://gateway.example")
    ledger.attempt("k9", "0.8", run_id="r2")  # no result row: its prompt is not known
    path = ledger.write()
    wanted = {
        "day": {"2026-11-03": "1.100000000000", "2026-12-07": "0.400000000000"},
        "week": {"2026-W45": "1.100000000000", "2026-W50": "0.400000000000"},
        "month": {"2026-11": "1.100000000000", "2026-12": "0.400000000000"},
        "model": {FLASH: "1.300000000000", MINI: "0.200000000000"},
        "family": {"gemini": "1.300000000000", "gpt": "0.200000000000"},
        "job": {"pets": "0.300000000000", "cars": "1.200000000000"},
        "gateway": {"mavi": "0.300000000000", "https://gateway.example": "1.200000000000"},
        "run": {"r1": "0.300000000000", "r2": "1.200000000000"},
        "prompt": {"label": "0.500000000000", "caption": "0.200000000000", "(unknown)": "0.800000000000"},
        "dataset": {path: "1.500000000000"},
    }
    for name, expected in wanted.items():
        said = told(path, by=(name,))
        assert {group[name]: group["cost_usd"] for group in said["groups"]} == expected
        assert said["total_usd"] == "1.500000000000"


def test_days_are_cut_in_the_reporting_zone(ledger):
    ledger.run()
    ledger.both("k1", "0.99", "2026-11-03T23:30").both("k2", "8.78", "2026-11-03T22:30")
    path = ledger.write()
    assert {g["day"]: g["cost_usd"] for g in told(path)["groups"]} == {"2026-11-03": "9.770000000000"}
    berlin = told(path, tz="Europe/Berlin")  # one hour ahead: 00:30 on the 4th and 23:30 on the 3rd
    assert {g["day"]: g["cost_usd"] for g in berlin["groups"]} == {
        "2026-11-03": "8.780000000000",
        "2026-11-04": "0.990000000000",
    }
    assert told(path, tz="Europe/Berlin", since=date(2026, 11, 4))["total_usd"] == "0.990000000000"


def test_a_day_of_25_hours_keeps_all_of_them(ledger):
    ledger.run()  # Berlin set its clocks back on 25 October 2026: that day lasted from 22:00 to 23:00 UTC
    for number, when in enumerate(("2026-10-24T22:00", "2026-10-25T00:30", "2026-10-25T22:59")):
        ledger.both(f"k{number}", "1", when)
    ledger.both("before", "10", "2026-10-24T21:59").both("after", "100", "2026-10-25T23:00")
    said = told(ledger.write(), tz="Europe/Berlin")
    assert {g["day"]: g["cost_usd"] for g in said["groups"]} == {
        "2026-10-24": "10.000000000000",
        "2026-10-25": "3.000000000000",
        "2026-10-26": "100.000000000000",
    }


def test_since_and_until_are_both_counted(ledger):
    ledger.run()
    for day in (1, 2, 3, 4):
        ledger.both(f"k{day}", f"{10**day}", f"2026-11-0{day}T12:00")
    said = told(ledger.write(), since=date(2026, 11, 2), until=date(2026, 11, 3))
    assert said["total_usd"] == "1100.000000000000"
    assert said["requests"] == 2


def test_a_try_without_an_end_counts_on_the_day_it_began(ledger):
    ledger.run()
    ledger.attempt("k1", None, "2026-11-05T10:00", "in_doubt", finished_at=None, exposure_usd="0.5")
    said = told(ledger.write(), since=date(2026, 11, 5), until=date(2026, 11, 5))
    assert said["exposure_usd"] == "0.500000000000"
    assert said["total_usd"] == "0.000000000000"


def test_all_rows_cost_but_only_the_latest_counts_as_the_answer(ledger):
    ledger.run().run("r2")
    ledger.both("k1", "0.1", "2026-11-03T10:00", status="failed")
    ledger.both("k1", "0.2", "2026-11-04T10:00", run_id="r2")
    ledger.both("k2", "0.4")
    said = told(ledger.write())
    assert (said["requests"], said["answered"], said["failed"]) == (2, 2, 0)
    assert (said["total_usd"], said["useful_usd"], said["invalid_usd"]) == (
        "0.700000000000",
        "0.600000000000",
        "0.100000000000",
    )


def test_sandbox_spend_is_never_mixed_with_real_spend(ledger):
    ledger.run().run("s1", gateway="sandbox")
    ledger.both("k1", "0.5").both("k2", "99", run_id="s1", gateway="sandbox")
    said = told(ledger.write())
    assert (said["total_usd"], said["sandbox_usd"]) == ("0.500000000000", "99.000000000000")
    assert said["sandbox"] is False
    assert [group["cost_usd"] for group in said["sandbox_groups"]] == ["99.000000000000"]
    assert any("Sandbox calls (1)" in note for note in said["notes"])


def test_a_ledger_of_the_sandbox_alone_is_shown_and_called_so(ledger):
    ledger.run("s1", gateway="sandbox").both("k2", "99", run_id="s1", gateway="sandbox")
    said = told(ledger.write())
    assert (said["total_usd"], said["sandbox"]) == ("99.000000000000", True)
    assert "Nothing here is real spend" in said["notes"][0]


def test_a_run_without_a_row_is_known_by_its_results(ledger):
    ledger.both("k1", "0.5", job="cars").attempt("k2", "0.25")
    ledger.attempt("k3", "0.125", run_id="nobody")
    said = told(ledger.write(), by=("job",))
    assert {g["job"]: g["cost_usd"] for g in said["groups"]} == {
        "cars": "0.750000000000",
        "(unknown)": "0.125000000000",
    }


def test_a_call_without_a_price_is_told_and_never_counted_as_zero(ledger):
    ledger.run().both("k1", "0.5").attempt("k2", None, input_tokens=900, output_tokens=100)
    ledger.attempt("k3", None, outcome="throttled")
    said = told(ledger.write())
    assert said["unpriced_calls"] == 1
    assert said["unpriced"] == [{"model": FLASH, "calls": 1, "tokens": 1000}]
    assert said["units"][0]["lower_bound"] is True
    assert any("The true spend is higher" in note for note in said["notes"])


def test_error_and_throttling_rates_are_shares_of_all_calls(ledger):
    ledger.run()
    for number, outcome in enumerate(
        ["answered"] * 5 + ["throttled"] * 2 + ["failed", "rejected", "in_doubt"]
    ):
        ledger.attempt(f"k{number}", None, outcome=outcome)
    said = told(ledger.write())
    assert (said["error_rate"], said["throttled_rate"]) == (0.3, 0.2)  # 3 and 2 of 10


def test_unit_costs_divide_all_that_was_billed(ledger):
    ledger.run()
    video = {"media_kind": "video", "duration_s": 1800.0}
    ledger.both("k1", "0.3", item_id="a", input_tokens=600, output_tokens=400, **video)
    ledger.both("k2", "0.1", item_id="a", input_tokens=300, output_tokens=200, media_kind="image")
    ledger.both("k3", "0.2", item_id="b", model=MINI, input_tokens=900, output_tokens=100)
    ledger.attempt("k3", "0.2", model=MINI, input_tokens=400, output_tokens=100)  # a billed retry
    everything, flash, mini = told(ledger.write())["units"]
    assert (everything["items"], flash["items"], mini["items"]) == (2, 1, 1)
    assert everything["per_1000_items_usd"] == "400.000000000000"  # 0.8 / 2 * 1000
    assert mini["per_1000_items_usd"] == "400.000000000000"  # 0.4 / 1 * 1000
    assert flash["per_answered_usd"] == "0.200000000000"  # 0.4 / 2
    assert flash["per_video_hour_usd"] == "0.600000000000"  # 0.3 for half an hour
    assert mini["per_video_hour_usd"] is None
    assert everything["per_million_tokens_usd"] == "266.666666666667"  # 0.8 / 3,000 tokens


def test_cached_and_reasoning_tokens_are_null_where_nobody_told_them(ledger):
    ledger.run().both("k1", "0.1", reasoning_tokens=0).both("k2", "0.1", reasoning_tokens=7)
    said = told(ledger.write())
    assert (said["cached_tokens"], said["reasoning_tokens"]) == (None, 7)


def test_the_most_expensive_job_comes_first(ledger):
    ledger.run("r1", "small").run("r2", "large").run("r3", "middle")
    for run, amount in (("r1", "0.1"), ("r2", "3"), ("r3", "0.5")):
        ledger.both(run, amount, run_id=run)
    assert [job["job"] for job in told(ledger.write())["jobs"]] == ["large", "middle", "small"]


def test_run_budgets_stand_beside_what_was_spent(ledger):
    ledger.run(budget_usd=Decimal("5.00")).both("k1", "1.25")
    assert told(ledger.write())["run_budgets"] == [
        {
            "run_id": "r1",
            "job": "pets",
            "status": "finished",
            "budget_usd": "5.000000000000",
            "cost_usd": "1.250000000000",
        }
    ]


def test_datasets_add_up_and_the_same_one_twice_is_refused(tmp_path):
    one, two = Ledger(tmp_path / "one"), Ledger(tmp_path / "two")
    one.run("r1").both("k1", "0.1")
    two.run("r2").both("k1", "0.2", run_id="r2")
    paths = [one.write(), two.write()]
    report = cost_report(paths, by=("dataset",), now=NOW)
    assert to_json(report)["total_usd"] == "0.300000000000"
    assert report.total.answered == 2  # each dataset has its own answer
    with pytest.raises(InputError, match="named more than once"):
        cost_report([paths[0], paths[0]], now=NOW)


def test_a_copied_run_is_refused_because_it_would_count_twice(tmp_path):
    for name in ("one", "copy"):
        Ledger(tmp_path / name).run("r1").both("k1", "0.1").write()
    with pytest.raises(InputError, match=r"run r1 is in .*one too; a copy counts twice"):
        cost_report([str(tmp_path / "one"), str(tmp_path / "copy")], now=NOW)


def test_wrong_arguments_are_named(tmp_path, ledger):
    path = ledger.run().both("k1", "0.1").write()
    for options, words in (
        ({"by": ("day", "colour")}, "by: 'colour' is not a dimension"),
        ({"tz": "Mars/Olympus"}, "time zone 'Mars/Olympus' is not known"),
        ({"since": date(2026, 11, 2), "until": date(2026, 11, 1)}, "since 2026-11-02 is after"),
    ):
        with pytest.raises(InputError, match=words):
            cost_report([path], now=NOW, **options)
    with pytest.raises(InputError, match="no dataset here"):
        cost_report([str(tmp_path)], now=NOW)
    with pytest.raises(InputError, match="no dataset was named"):
        cost_report([], now=NOW)


def test_a_dataset_may_lie_on_any_file_system(ledger):
    path = ledger.run().both("k1", "0.000325").write()
    store = fsspec.filesystem("memory")
    store.put(path, "/bucket/pets", recursive=True)
    try:
        assert told("memory://bucket/pets")["total_usd"] == "0.000325000000"
    finally:
        store.rm("/bucket", recursive=True)  # the store is one for the whole process


def test_an_empty_dataset_cost_nothing(ledger):
    said = told(ledger.write())
    assert (said["total_usd"], said["groups"], said["error_rate"]) == ("0.000000000000", [], None)


def test_a_broken_part_is_an_error_and_not_a_smaller_sum(ledger):
    path = ledger.run().both("k1", "0.1").write()
    part = next((ledger.folder / "attempts").rglob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(StorageError, match="is broken"):
        cost_report([path], now=NOW)


def test_segments_that_are_not_published_yet_are_told(ledger):
    path = ledger.run().both("k1", "0.1").write()
    (ledger.folder / "_journal").mkdir()
    (ledger.folder / "_journal" / "w.1.jsonl").write_text("")
    assert any("journal segments not published yet: 1 " in note for note in told(path)["notes"])


def test_the_terminal_prints_the_exact_total_and_no_markup_of_a_job(ledger):
    from rich.console import Console

    path = ledger.run(job="[bold]pets").both("k1", "0.000325").write()
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - closed below
    with console.file:
        render_terminal(cost_report([path], by=("job",), now=NOW), console)
        text = console.export_text()
    assert "$0.000325000000" in text
    assert "[bold]pets" in text


def sums_of_sql(path):
    with duckdb.connect() as connection:
        rows = connection.sql(SQL.replace("DIR", path)).fetchall()
    return {(str(day), model): tuple(f"{amount:f}" for amount in rest[:5]) for day, model, *rest in rows}


def test_the_query_of_the_readme_gives_the_same_sums(ledger):
    ledger.run().run("s1", gateway="sandbox")
    ledger.both("k1", "0.000000000001").attempt("k1", "0.25").both("k2", "7", status="invalid", model=MINI)
    ledger.both("k3", "99", run_id="s1", gateway="sandbox")
    ledger.attempt("k4", None, "2026-11-04T10:00", "in_doubt", exposure_usd="0.5", finished_at=None)
    path = ledger.write()
    names = ("cost_usd", "useful_usd", "invalid_usd", "retried_usd", "exposure_usd")
    ours = {(g["day"], g["model"]): tuple(g[name] for name in names) for g in told(path)["groups"]}
    assert sums_of_sql(path) == ours


amounts = st.integers(min_value=0, max_value=10**18 - 1).map(lambda pico: f"{Decimal(pico).scaleb(-12):f}")
rows = st.lists(
    st.tuples(amounts, st.sampled_from([FLASH, MINI]), st.integers(1, 28)), min_size=1, max_size=30
)


@settings(max_examples=25)
@given(rows=rows)
def test_groups_attempts_and_total_agree_to_the_last_digit(tmp_path_factory, rows):
    ledger = Ledger(tmp_path_factory.mktemp("any")).run()
    for number, (amount, model, day) in enumerate(rows):
        ledger.both(f"k{number}", amount, f"2026-11-{day:02}T10:00", model=model)
    path = ledger.write()
    said = told(path)
    summed = sum(Decimal(group["cost_usd"]) for group in said["groups"])
    column = pads.dataset(f"{path}/attempts").to_table()["cost_usd"].cast(pa.decimal128(38, 12))
    assert (
        Decimal(said["total_usd"]) == summed == pc.sum(column).as_py() == sum(Decimal(a) for a, _, _ in rows)
    )
    assert said["useful_usd"] == said["total_usd"]
