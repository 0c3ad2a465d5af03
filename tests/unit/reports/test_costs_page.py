"""The spend page: exact in the browser too, whatever is filtered; offline, safe, readable everywhere."""

import html
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from mavi_tasks.costs import cost_report
from mavi_tasks.costs.invoice_csv import read_bill
from mavi_tasks.costs.reconciliation import reconcile
from mavi_tasks.costs.repricing import reprice
from mavi_tasks.pricing.book import load_prices
from mavi_tasks.reports.html.costs_page import MOST_JOBS, costs_page, cube_of
from tests.support import pages
from tests.support.costs_data import FLASH, MINI, Ledger

needs_browser = pytest.mark.skipif(pages.browser_path() is None, reason="no Chromium on this system")

NASTY = "</script><img src=x onerror=alert(1)>"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def browser():
    with pages.launched() as made:
        yield made


def a_report(folder, **options):
    """Forty days of $1.25 and $0.000000000001 by two models, one day of $50, and sandbox calls."""
    ledger = Ledger(folder).run("r1", NASTY, budget_usd=Decimal(100)).run("r2", "cars", "https://gw.example")
    ledger.run("s1", gateway="sandbox").both("s", "77", run_id="s1", gateway="sandbox")
    for back in range(40):
        when = f"{date(2026, 11, 22) - timedelta(days=back)}T10:00"
        tokens = {"input_tokens": 1000, "output_tokens": 10}
        ledger.both(f"a{back}", "50" if back == 4 else "1.25", when, job=NASTY, **tokens)
        ledger.both(f"b{back}", "0.000000000001", when, model=MINI, run_id="r2", job="cars", **tokens)
    ledger.attempt("c", None, outcome="in_doubt", exposure_usd="0.5")
    ledger.attempt("d", None, model=MINI, input_tokens=9, output_tokens=9)
    return cost_report([ledger.write()], now=NOW, tz="Europe/Berlin", budget_usd=Decimal(90), **options)


TOTAL = "$98.750000000040"  # 39 * 1.25 + 50 + 40 pico-dollars


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spend")
    report = a_report(folder / "pets")
    bill = folder / "bill.csv"
    bill.write_text("date,model,amount\n2026-11-18,gemini-2.5-flash,51\n")
    text = costs_page(
        report,
        repriced=reprice(report, load_prices(), what_if=MINI),
        reconciled=reconcile(report, read_bill(bill), load_prices()),
    )
    path = folder / "costs.html"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_page_holds_the_exact_total_and_loads_nothing(page):
    text = page.read_text(encoding="utf-8")
    assert TOTAL in text
    assert "Europe/Berlin" in text
    assert NASTY not in text
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    assert "default-src 'none'" in html.unescape(text)


def test_the_cube_keeps_every_dollar_when_jobs_are_merged(tmp_path):
    ledger = Ledger(tmp_path / "many")
    for number in range(MOST_JOBS + 50):
        ledger.run(f"r{number}", f"job {number}")
        ledger.both(f"k{number}", f"{number}.000000000001", run_id=f"r{number}", job=f"job {number}")
    report = cost_report([ledger.write()], now=NOW)
    cube = cube_of(report)
    assert len(cube["names"]["job"]) == MOST_JOBS + 1
    assert "(50 other jobs)" in cube["names"]["job"]
    assert sum(map(int, cube["pico"]["cost_pico"])) == report.total.cost_pico == int(cube["total"])


def test_an_empty_ledger_makes_a_page(tmp_path):
    assert "No projection" in costs_page(cost_report([Ledger(tmp_path / "none").write()], now=NOW))


def test_a_sandbox_ledger_says_that_it_is_no_spend(tmp_path):
    ledger = Ledger(tmp_path / "s").run(gateway="sandbox").both("k1", "1", gateway="sandbox")
    text = costs_page(cost_report([ledger.write()], now=NOW))
    assert "Nothing here is real spend" in text
    assert "Sandbox calls only: not real spend" in text


def shown(seen, name="#selected"):
    return seen.page.text_content(name)


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_the_page_runs_clean_in_a_browser(page, browser, width, dark):
    with pages.opened(browser, page, width=width, dark=dark) as seen:
        seen.page.wait_for_selector("#selected")
        assert shown(seen) == shown(seen, "#ledger") == TOTAL
        assert "equals the ledger total" in shown(seen, "#selection")
        assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert (seen.errors, seen.requests, seen.violations()) == ([], [], [])
        pages.shot(seen, f"costs-{width}-{'dark' if dark else 'light'}")


@needs_browser
def test_filters_keep_every_digit(page, browser):
    with pages.opened(browser, page) as seen:
        seen.page.wait_for_selector("#selected")
        seen.page.get_by_label("Model", exact=True).select_option(label=MINI)
        assert shown(seen) == "$0.000000000040"
        assert f"of {TOTAL} in the ledger" in shown(seen, "#selection")
        seen.page.get_by_label("From", exact=True).fill("2026-11-18")
        seen.page.get_by_label("To", exact=True).fill("2026-11-19")
        assert shown(seen) == "$0.000000000002"
        seen.page.get_by_label("Model", exact=True).select_option("")
        assert shown(seen) == "$51.250000000002"  # 50 + 1.25 + 2 pico-dollars
        seen.page.get_by_label("Job", exact=True).select_option(label=NASTY)
        assert shown(seen) == "$51.250000000000"
        seen.page.get_by_role("button", name="Reset").click()
        assert shown(seen) == TOTAL


@needs_browser
def test_the_table_adds_up_to_the_ledger_however_it_is_cut(page, browser):
    with pages.opened(browser, page) as seen:
        seen.page.wait_for_selector("#selected")
        seen.page.get_by_role("button", name="All digits").click()
        for grain in ("day", "week", "month"):
            seen.page.get_by_label("Period", exact=True).select_option(grain)
            for rows in ("model", "period", "job", "gateway"):
                seen.page.get_by_label("Table by", exact=True).select_option(rows)
                cells = seen.page.eval_on_selector_all(
                    "#breakdown tbody tr", "(rows) => rows.map((row) => row.cells[1].textContent)"
                )
                amounts = [Decimal(cell.replace("$", "").replace(",", "")) for cell in cells]
                assert (grain, rows, sum(amounts)) == (grain, rows, Decimal(TOTAL[1:]))
                assert seen.page.text_content("#breakdown tfoot tr td") == TOTAL
        assert seen.errors == []


@needs_browser
def test_every_stack_draws_bars_that_tell_exact_dollars(page, browser):
    with pages.opened(browser, page) as seen:
        seen.page.wait_for_selector("#selected")
        for stack in ("model", "job", "gateway", "bought"):
            seen.page.get_by_label("Stack by", exact=True).select_option(stack)
            tips = seen.page.eval_on_selector_all(
                "#trend svg.wide title", "(all) => all.map((tip) => tip.textContent)"
            )
            assert any("2026-11-18" in tip and "$50.00000000000" in tip for tip in tips)


@needs_browser
def test_a_view_stands_in_the_address_and_comes_back(page, browser):
    with pages.opened(browser, page) as seen:
        seen.page.wait_for_selector("#selected")
        seen.page.get_by_label("Job", exact=True).select_option(label="cars")
        address = seen.page.evaluate("location.hash")
    assert address == "#explore?job=cars"
    with pages.opened(browser, page, fragment=address) as again:
        again.page.wait_for_selector("#selected")
        assert shown(again) == "$0.000000000040"


@needs_browser
def test_filters_and_sorting_work_from_the_keyboard(page, browser):
    with pages.opened(browser, page) as seen:
        seen.page.wait_for_selector("#selected")
        seen.page.get_by_label("Model", exact=True).focus()
        seen.page.keyboard.press("ArrowDown")  # the first model
        assert shown(seen) == "$98.750000000000"
        seen.page.get_by_label("Model", exact=True).select_option("")
        seen.page.locator("#breakdown thead button").first.focus()
        seen.page.keyboard.press("Enter")
        first = seen.page.text_content("#breakdown tbody tr th")
        assert (first, seen.page.get_attribute("#breakdown thead th", "aria-sort")) == (FLASH, "ascending")


@needs_browser
def test_the_table_downloads_as_csv_with_exact_amounts(page, browser):
    with pages.opened(browser, page) as seen:
        seen.page.wait_for_selector("#selected")
        with seen.page.expect_download() as waiting:
            seen.page.get_by_role("button", name="Download this table as CSV").click()
        text = Path(waiting.value.path()).read_text()
    assert text.splitlines()[0].startswith("model,cost_usd,useful_usd")
    assert f'"{MINI}",0.000000000040,' in text


@needs_browser
def test_the_page_prints_without_its_controls(page, browser):
    with pages.opened(browser, page) as seen:
        seen.page.wait_for_selector("#selected")
        seen.page.emulate_media(media="print")
        assert not seen.page.locator("#filters").is_visible()
        assert seen.page.locator("#breakdown").is_visible()
        assert len(seen.page.pdf()) > 10_000


@needs_browser
def test_the_figures_are_there_without_scripts(page, browser):
    context = browser.new_context(java_script_enabled=False)
    try:
        plain = context.new_page()
        plain.goto(page.resolve().as_uri())
        assert plain.text_content("#ledger") == TOTAL
        assert plain.locator("#trend svg.wide").count() == 1
        assert plain.locator("#models tbody tr").count() == 6  # two models and their sum, twice
    finally:
        context.close()
