"""The page shell: safe, self-contained, readable everywhere."""

import html
import re
from pathlib import Path

import pytest
from markupsafe import Markup

from mavi_tasks.reports.html import svg_charts
from mavi_tasks.reports.html.page import Section, pack, render
from tests.support import pages

needs_browser = pytest.mark.skipif(pages.browser_path() is None, reason="no Chromium on this system")

NASTY = "</script><img src=x onerror=alert(1)>"
SHOW = "mavi.data.then((d) => { document.querySelector('#out').textContent = d.said; });"


@pytest.fixture(scope="module")
def browser():
    with pages.launched() as made:
        yield made


def a_page(tmp_path: Path) -> Path:
    days = [f"11-{day:02}" for day in range(1, 31)]
    rise = [day * 1.7 for day in range(30)]
    body = Markup("").join(
        [
            svg_charts.line(
                "Spend by day",
                days,
                [svg_charts.Series("a", rise, 1), svg_charts.Series("b", [5.0] * 30, 2)],
                svg_charts.Axis("USD"),
            ),
            svg_charts.stacked_bars(
                "Spend",
                days,
                [svg_charts.Series("a", rise, 1), svg_charts.Series("b", [5.0] * 30, 2)],
                svg_charts.Axis("USD"),
            ),
            svg_charts.scatter(
                "Cost and quality",
                [
                    svg_charts.Point("one", 0.01, 0.8, 0.75, 0.85, 1),
                    svg_charts.Point("two", 3, 0.9, 0.85, 0.95, 2),
                ],
                svg_charts.Axis("USD per 1,000", log=True),
                svg_charts.Axis("Accuracy"),
                [(0.01, 0.8), (3, 0.9)],
            ),
            svg_charts.heat_map(
                "Pairs",
                ["a"],
                ["a", "b"],
                [[None, svg_charts.Cell("0.031", 0.9, "tip", (("pair", "a|b"),))]],
                corner="row − column",
            ),
            Markup('<p id="out"></p>'),
        ]
    )
    path = tmp_path / "page.html"
    sections = [Section("charts", "Charts", body)]
    path.write_text(
        render(f"Report {NASTY}", sections, {"said": NASTY}, [SHOW], notices=["loud"]), encoding="utf-8"
    )
    return path


def test_same_data_give_the_same_page():
    assert pack({"a": 1}) == pack({"a": 1})


def test_a_script_that_closes_itself_is_refused():
    with pytest.raises(ValueError, match="closing script tag"):
        render("t", [], {}, ["'</script>'"])


def test_title_is_escaped_and_nothing_is_loaded_from_elsewhere(tmp_path):
    text = a_page(tmp_path).read_text(encoding="utf-8")
    assert NASTY not in text
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    assert "default-src 'none'" in html.unescape(text)


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_page_runs_clean_in_a_browser(tmp_path, browser, width, dark):
    with pages.opened(browser, a_page(tmp_path), width=width, dark=dark) as seen:
        seen.page.wait_for_function("document.querySelector('#out').textContent !== ''")
        assert seen.page.text_content("#out") == NASTY
        assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert (seen.errors, seen.requests, seen.violations()) == ([], [], [])
        pages.shot(seen, f"shell-{width}-{'dark' if dark else 'light'}")
