"""Usage at other prices, and the ledger against a bill."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from mavi_tasks.costs import cost_report, to_json
from mavi_tasks.costs.invoice_csv import read_bill
from mavi_tasks.costs.reconciliation import Tolerance, reconcile
from mavi_tasks.costs.repricing import reprice
from mavi_tasks.errors import InputError
from mavi_tasks.pricing.book import load_prices
from tests.support.costs_data import FLASH, MINI, Ledger

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PRO = "gemini:gemini-2.5-pro"


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "pets").run()


def report_of(ledger, **options):
    return cost_report([ledger.write()], now=NOW, **options)


def model(said, name):
    return next(line for line in said["models"] if line["model"] == name)


# ---- other prices ----


def test_the_prices_in_force_give_back_what_was_recorded(ledger):
    ledger.attempt("k1", "0.000325", input_tokens=1000, output_tokens=10)  # 1000*0.30/1e6 + 10*2.50/1e6
    ledger.attempt("k2", "0.2501", model=PRO, input_tokens=200_000, output_tokens=10)  # 1.25 and 10 a million
    ledger.attempt("k3", "0.5001525", model=PRO, input_tokens=200_001, output_tokens=10)  # 2.50 and 15
    said = reprice(report_of(ledger), load_prices()).to_json()
    assert said["recorded_usd"] == said["repriced_usd"] == "0.750577500000"
    assert said["difference_usd"] == "0.000000000000"


def test_other_prices_reprice_without_touching_the_rows(ledger, tmp_path):
    ledger.attempt("k1", "0.000325", input_tokens=1000, output_tokens=10)
    report = report_of(ledger)
    dearer = load_prices({FLASH: {"input_usd_per_mtok": "3", "output_usd_per_mtok": "25"}})
    assert reprice(report, dearer).to_json()["repriced_usd"] == "0.003250000000"
    assert to_json(cost_report([str(ledger.folder)], now=NOW))["total_usd"] == "0.000325000000"


def test_as_of_takes_the_price_of_that_day(ledger, tmp_path):
    prices = tmp_path / "prices.toml"
    prices.write_text(
        '[[price]]\nfamily = "gemini"\nmodel = "gemini-2.5-flash"\nsource = "note"\n'
        'input_usd_per_mtok = "1"\noutput_usd_per_mtok = "1"\n'
        '[[price]]\nfamily = "gemini"\nmodel = "gemini-2.5-flash"\nsource = "note"\nfrom = 2026-12-01\n'
        'input_usd_per_mtok = "2"\noutput_usd_per_mtok = "2"\n'
    )
    ledger.attempt("k1", "0.001", input_tokens=900, output_tokens=100)
    report = report_of(ledger)
    assert reprice(report, load_prices(prices)).to_json()["repriced_usd"] == "0.001000000000"
    assert (
        reprice(report, load_prices(prices), as_of=date(2026, 12, 1)).to_json()["repriced_usd"]
        == "0.002000000000"
    )


def test_calls_that_had_no_price_are_priced_apart(ledger):
    ledger.attempt("k1", None, input_tokens=1000, output_tokens=10)
    ledger.attempt("k2", "0.5")  # billed, tokens not told
    ledger.attempt("k3", "0.25", model="gpt:unheard-of", input_tokens=1, output_tokens=1)
    said = reprice(report_of(ledger), load_prices()).to_json()
    assert (said["recorded_usd"], said["repriced_usd"]) == ("0.000000000000", "0.000000000000")
    flash = model(said, FLASH)
    assert (flash["newly_priced_calls"], flash["newly_priced_usd"]) == (1, "0.000325000000")
    assert (flash["tokens_untold_calls"], flash["tokens_untold_recorded_usd"]) == (1, "0.500000000000")
    assert model(said, "gpt:unheard-of")["unpriced_recorded_usd"] == "0.250000000000"


def test_what_if_applies_the_factor_seen_on_the_same_items(ledger):
    for item in range(10):
        shared = {"item_id": f"i{item}", "output_tokens": 100}
        ledger.both(f"a{item}", "0.00055", input_tokens=1000, **shared)  # 1000*0.30/1e6 + 100*2.50/1e6
        ledger.both(f"b{item}", "0.00036", model=MINI, input_tokens=2000, **shared)  # 0.15 and 0.60
    ledger.both("only", "0.00055", item_id="only", input_tokens=1000, output_tokens=100)
    report = report_of(ledger)
    found = reprice(report, load_prices(), what_if=MINI)
    said = found.to_json()
    flash = model(said, FLASH)
    assert (flash["input_token_factor"], flash["output_token_factor"], flash["factor_items"]) == (
        2.0,
        1.0,
        10,
    )
    assert flash["repriced_usd"] == "0.003960000000"  # 11 calls of 2000*0.15/1e6 + 100*0.60/1e6
    assert model(said, MINI)["repriced_usd"] == model(said, MINI)["recorded_usd"] == "0.003600000000"
    assert "Tokenisers differ" in said["caveat"]


def test_what_if_without_common_items_says_so(ledger):
    ledger.both("a", "0.00055", input_tokens=1000, output_tokens=100)
    flash = model(reprice(report_of(ledger), load_prices(), what_if=MINI).to_json(), FLASH)
    assert (flash["factor_observed"], flash["input_token_factor"]) == (False, 1.0)
    assert flash["repriced_usd"] == "0.000210000000"  # 1000*0.15/1e6 + 100*0.60/1e6


def test_what_if_of_an_unknown_model_is_refused(ledger):
    ledger.both("a", "0.00055", input_tokens=1000, output_tokens=100)
    with pytest.raises(InputError, match="gpt:gpt-4o-minni"):
        reprice(report_of(ledger), load_prices(), what_if="gpt:gpt-4o-minni")


def test_sandbox_calls_are_not_repriced_with_real_ones(ledger):
    ledger.run("s1", gateway="sandbox").attempt("k1", "9", run_id="s1", input_tokens=9, output_tokens=9)
    ledger.attempt("k2", "0.000325", input_tokens=1000, output_tokens=10)
    assert reprice(report_of(ledger), load_prices()).to_json()["recorded_usd"] == "0.000325000000"


# ---- bills ----


def reconciled(ledger, tmp_path, text, *, columns=None, **options):
    bill = tmp_path / "invoice.csv"
    bill.write_text(text, encoding="utf-8")
    return reconcile(report_of(ledger), read_bill(bill, columns), load_prices(), **options)


def test_a_bill_that_agrees_says_so(ledger, tmp_path):
    ledger.both("k1", "1.25").both("k2", "0.50", "2026-11-04T10:00", model=MINI)
    said = reconciled(
        ledger,
        tmp_path,
        "Date,Model,Cost ($)\n2026-11-03,gemini-2.5-flash,$1.25\n2026-11-04T00:00:00Z,GPT-4o-mini,0.50\n",
    )
    assert (said.verdict, said.exit_status, said.grain) == ("agrees", 0, "day")
    assert said.to_json()["drift_usd"] == "0.000000000000"


def test_a_drift_that_nothing_explains_fails(ledger, tmp_path):
    ledger.both("k1", "1.25")
    said = reconciled(ledger, tmp_path, "date,model,amount\n2026-11-03,gemini-2.5-flash,2.00\n")
    assert (said.verdict, said.exit_status) == ("drifts", 3)
    assert said.to_json()["lines"][0]["drift_usd"] == "0.750000000000"


def test_a_drift_within_the_exposure_of_in_doubt_calls_is_explained(ledger, tmp_path):
    ledger.both("k1", "1.25").attempt("k2", None, outcome="in_doubt", exposure_usd="0.80")
    said = reconciled(ledger, tmp_path, "date,model,amount\n2026-11-03,gemini-2.5-flash,2.00\n")
    assert (said.verdict, said.exit_status) == ("explained", 0)
    assert said.lines[0].why == ("in-doubt calls may have been billed",)


def test_unpriced_calls_and_tier_edges_explain_a_drift(ledger, tmp_path):
    ledger.both("k1", None, model="gpt:unheard-of", input_tokens=5, output_tokens=5)
    ledger.attempt("k2", "0.2501", model=PRO, input_tokens=200_000, output_tokens=10)  # on the lower side
    said = reconciled(
        ledger,
        tmp_path,
        "date,model,amount\n2026-11-03,unheard-of,0.30\n2026-11-03,gemini-2.5-pro,0.50015\n",
    )
    why = {line.model: line.why for line in said.lines}
    assert "without a known price" in why["gpt:unheard-of"][0]
    assert "near a tier's bound" in why[PRO][0]
    assert said.verdict == "explained"


def test_days_cut_in_another_zone_are_recognised(ledger, tmp_path):
    ledger.both("k1", "3", "2026-11-03T23:30").both("k2", "4", "2026-11-04T10:00")
    said = reconciled(
        ledger, tmp_path, "date,model,amount\n2026-11-03,gemini-2.5-flash,0\n2026-11-04,gemini-2.5-flash,7\n"
    )
    assert said.verdict == "explained"
    assert "another time zone" in said.lines[0].why[0]


def test_a_monthly_bill_without_models_is_compared_as_a_whole(ledger, tmp_path):
    ledger.both("k1", "3").both("k2", "4", "2026-11-20T10:00", model=MINI).both("k3", "9", "2026-12-01T10:00")
    said = reconciled(ledger, tmp_path, "invoice_month;total\n2026-11;7.00\n")
    assert [(line.when, line.model, line.drift_pico) for line in said.lines] == [("2026-11", "(all)", 0)]
    assert said.outside_pico == 9 * 10**12
    assert "before or after the bill's dates" in said.notes[0]


def test_input_and_output_lines_of_one_model_add_up(ledger, tmp_path):
    ledger.both("k1", "3")
    lines = (
        "date,sku,cost",
        "2026-11-03,gemini-2.5-flash input tokens,1",
        "2026-11-03,Gemini 2.5 Flash output,2",
    )
    assert reconciled(ledger, tmp_path, "\n".join(lines)).verdict == "agrees"


def test_an_unknown_name_is_told_and_can_be_declared(ledger, tmp_path):
    ledger.both("k1", "3")
    text = "when,what,money\n2026-11-03,SKU-77,3.00\n"
    columns = {"date": "when", "model": "what", "amount": "money"}
    strange = reconciled(ledger, tmp_path, text, columns=columns)
    assert strange.verdict == "drifts"
    assert "'SKU-77' matches no model" in strange.notes[0]
    assert reconciled(ledger, tmp_path, text, columns=columns, models={"SKU-77": FLASH}).verdict == "agrees"


def test_the_tolerance_is_the_reader_s_to_choose(ledger, tmp_path):
    ledger.both("k1", "100")
    text = "date,model,amount\n2026-11-03,gemini-2.5-flash,103\n"
    wide = Tolerance(share=Decimal("0.05"))
    assert reconciled(ledger, tmp_path, text, tolerance=wide).verdict == "agrees"
    assert reconciled(ledger, tmp_path, text, tolerance=Tolerance()).verdict == "drifts"


def test_amounts_are_read_as_bills_print_them(tmp_path):
    bill = tmp_path / "b.csv"
    bill.write_text('\ufeffDate,Cost (USD)\n2026-11-03,"$1,234.56"\n\n2026-11-04,(0.5)\n2026-11-05,1.5e-7\n')
    assert [charge.pico for charge in read_bill(bill).charges] == [1234560000000000, -500000000000, 150000]


def test_every_problem_of_a_bill_is_told_by_its_line(tmp_path):
    bill = tmp_path / "b.csv"
    bill.write_text('date,amount,currency\n3/11/2026,1,USD\n2026-11-03,"1,5",USD\n2026-11-03,1,EUR\n')
    with pytest.raises(InputError) as caught:
        read_bill(bill)
    assert [problem.split(" ")[0] for problem in caught.value.problems] == [
        "b.csv:2:",
        "b.csv:3:",
        "b.csv:4:",
    ]
    bill.write_text("when,what\n1,2\n")
    with pytest.raises(InputError, match="no column of amounts among when, what"):
        read_bill(bill)
