"""Exports keep every digit, and FOCUS rows are what finance tools expect."""

import csv
import json
from datetime import UTC, datetime
from decimal import Decimal

import duckdb
import pyarrow.parquet as pq
import pytest

from mavi_tasks.costs import cost_report
from mavi_tasks.costs.export import export
from mavi_tasks.costs.focus import SCHEMA
from mavi_tasks.errors import InputError
from tests.support.costs_data import MINI, Ledger

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def report(tmp_path):
    ledger = Ledger(tmp_path / "pets").run(job="=cmd|' /C calc'!A0").run("r2", "cars")
    ledger.both("k1", "0.000000000001", input_tokens=900, output_tokens=100)
    ledger.both("k2", "123456.789", run_id="r2", model=MINI, input_tokens=1, output_tokens=2)
    return cost_report([ledger.write()], by=("day", "job"), tz="America/New_York", now=NOW)


def test_csv_parquet_and_json_hold_the_same_exact_dollars(report, tmp_path):
    wanted = {Decimal("0.000000000001"), Decimal("123456.789")}
    for suffix in (".csv", ".parquet", ".json"):
        assert export(report, tmp_path / f"costs{suffix}") == 2
    with (tmp_path / "costs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {Decimal(row["cost_usd"]) for row in rows} == wanted
    assert set(pq.read_table(tmp_path / "costs.parquet")["cost_usd"].to_pylist()) == wanted
    told = json.loads((tmp_path / "costs.json").read_text())
    assert {Decimal(row["cost_usd"]) for row in told["rows"]} == wanted
    assert told["time_zone"] == "America/New_York"


def test_a_job_named_like_a_formula_stays_text_in_a_spreadsheet(report, tmp_path):
    export(report, tmp_path / "costs.csv")
    with (tmp_path / "costs.csv").open(newline="") as file:
        assert "'=cmd|' /C calc'!A0" in {row["job"] for row in csv.DictReader(file)}


def test_an_unknown_suffix_is_refused(report, tmp_path):
    with pytest.raises(InputError, match=r"suffix '\.xlsx' must be one of \.csv, \.parquet, \.json"):
        export(report, tmp_path / "costs.xlsx")


def test_focus_rows_add_up_and_state_their_version(report, tmp_path):
    for suffix in (".csv", ".parquet", ".json"):
        export(report, tmp_path / f"focus{suffix}", focus=True)
    table = pq.read_table(tmp_path / "focus.parquet")
    assert table.schema.metadata[b"focus_version"] == b"1.2"
    assert sum(table["BilledCost"].to_pylist()) == Decimal("123456.789000000001")
    assert set(table["x_FocusVersion"].to_pylist()) == {"1.2"}
    with duckdb.connect() as connection:
        ((amount,),) = connection.sql(
            f"select sum(BilledCost::decimal(38, 12)) from '{tmp_path / 'focus.csv'}'"
        ).fetchall()
    assert amount == Decimal("123456.789000000001")


def test_focus_columns_that_may_not_be_null_are_told(report, tmp_path):
    export(report, tmp_path / "focus.parquet", focus=True)
    table = pq.read_table(tmp_path / "focus.parquet")
    empty = {name for name in SCHEMA.names if table[name].null_count}
    assert empty == {"ChargeClass"}  # null means: not a correction


def test_focus_periods_are_the_days_of_the_reporting_zone_in_utc(report, tmp_path):
    export(report, tmp_path / "focus.csv", focus=True)
    with (tmp_path / "focus.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert (row["ChargePeriodStart"], row["ChargePeriodEnd"]) == (
        "2026-11-03T05:00:00Z",
        "2026-11-04T05:00:00Z",
    )
    assert row["BillingPeriodStart"] == "2026-11-01T04:00:00Z"  # still summer time on that morning
    assert row["BillingPeriodEnd"] == "2026-12-01T05:00:00Z"


def test_sandbox_calls_are_no_charges(tmp_path):
    ledger = Ledger(tmp_path / "s").run(gateway="sandbox").both("k1", "1", gateway="sandbox")
    with pytest.raises(InputError, match="only sandbox calls"):
        export(cost_report([ledger.write()], now=NOW), tmp_path / "focus.csv", focus=True)
