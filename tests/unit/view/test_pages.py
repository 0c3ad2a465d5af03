"""The local app in a real browser: looked at, corrected and undone by keyboard."""

import json
import shutil

import pytest

from mavi_tasks.storage import reviews
from tests.support import made_dataset
from tests.support.gateways import REPOSITORY
from tests.support.pages import Opened, launched, shot
from tests.support.view import served

MEDIA = REPOSITORY / "manifests" / "media"
MODELS = ("gemini:gemini-2.5-flash", "gpt:gpt-4o-mini", "qwen:qwen3-vl-plus")
FILES = ("cat.jpg", "moose.jpg", "goldfish.jpg", "city.mp4", "windmill.jpg", "rocket.jpg")
LABELS = {"cat": "ccc", "moose": "mcm", "goldfish": "fff", "city": "tcf", "windmill": "wwc", "rocket": "rrr"}
WORDS = {"c": "cat", "m": "moose", "f": "fish", "t": "town", "w": "windmill", "r": "rocket"}


def rows():
    for name in FILES:
        item = name.partition(".")[0]
        for model, letter in zip(MODELS, LABELS[item], strict=True):
            answer = json.dumps({"label": WORDS[letter], "confidence": 0.9, "reason": "from 0:02 on"})
            yield made_dataset.row(
                model,
                item,
                answer,
                answer_json=answer,
                media_uri=str(MEDIA / name),
                media_kind="video" if name.endswith("mp4") else "image",
                cost_usd="0.0002",
            )


@pytest.fixture(scope="module")
def browser():
    with launched() as one:
        yield one


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return made_dataset.write(tmp_path_factory.mktemp("made") / "data", rows())


@pytest.fixture
def root(made, tmp_path):
    return shutil.copytree(made, tmp_path / "data")


@pytest.fixture
def app(root):
    with served(root) as running:
        yield running


@pytest.fixture
def open_page(app, browser):
    """Open an address in a profile that the link has let in."""
    contexts = []

    def opened(path="/", width=1280, dark=False):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        name, _, value = app.cookie.partition("=")
        context.add_cookies([{"name": name, "value": value, "url": app.origin}])
        page = context.new_page()
        seen = Opened(page)
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on("console", lambda one: seen.errors.append(one.text) if one.type == "error" else None)
        page.goto(app.origin + path)
        page.locator("li.item, table").first.wait_for()
        return seen

    yield opened
    for context in contexts:
        context.close()


def current(root):
    return {row["item_id"]: row for row in reviews.current(root).to_pylist()}


def until(page, expression):
    """Wait for it. The page's policy forbids the evaluation that wait_for_function does in it."""
    for _ in range(400):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise TimeoutError(expression)


def heading(page, item):
    page.get_by_role("heading", name=item, exact=True).wait_for()


def test_answers_are_corrected_by_keyboard_and_kept(app, open_page, root):
    """1-9 takes a model's answer and goes on, e edits, f flags, Backspace undoes; a reload shows it."""
    order = [item["id"] for item in app.get("/api/page")["items"]]
    page = open_page(f"/?id={order[0]}").page
    page.keyboard.press("2")
    heading(page, order[1])
    assert current(root)[order[0]]["chosen_model"] == MODELS[1]
    assert current(root)[order[0]]["verdict"] == "accepted"
    page.keyboard.press("f")
    heading(page, order[2])
    assert current(root)[order[1]]["verdict"] == "unsure"
    page.keyboard.press("Backspace")
    heading(page, order[1])
    assert order[1] not in current(root)
    page.keyboard.press("e")
    page.get_by_role("group", name="label").get_by_role("button", name="windmill").click()
    page.get_by_role("button", name="Save").click()
    heading(page, order[2])
    assert json.loads(current(root)[order[1]]["value_json"])["label"] == "windmill"
    page.goto(f"{app.origin}/?id={order[1]}")
    page.locator("#reviews", has_text="windmill").wait_for()
    page.keyboard.press("u")
    heading(page, order[2])


def test_an_undo_reaches_past_a_reload(app, open_page, root):
    order = [item["id"] for item in app.get("/api/page")["items"]]
    page = open_page(f"/?id={order[0]}").page
    page.keyboard.press("1")
    heading(page, order[1])
    page.reload()
    heading(page, order[1])
    page.keyboard.press("Backspace")
    heading(page, order[0])
    assert current(root) == {}
    assert reviews.history(root).num_rows == 2


def test_a_second_tab_is_told_what_the_first_one_chose(open_page, root):
    """The later of two gets 409, nothing is overwritten, and the page shows the other's choice."""
    one, other = open_page("/?id=moose"), open_page("/?id=moose")
    one.page.keyboard.press("1")
    one.page.get_by_text("moose: ").wait_for(state="attached")
    other.page.keyboard.press("2")
    other.page.get_by_text("has reviewed it").wait_for()
    other.page.locator("#reviews", has_text="gemini-2.5-flash").wait_for()
    assert current(root)["moose"]["chosen_model"] == MODELS[0]
    assert any("409" in text for text in other.errors)
    other.page.keyboard.press("2")
    other.page.get_by_text("moose: ").wait_for(state="attached")
    assert current(root)["moose"]["chosen_model"] == MODELS[1]


def test_a_note_is_kept_with_the_review(open_page, root):
    page = open_page("/?id=cat").page
    page.keyboard.press("m")
    page.keyboard.type("blurred 1 2 f")
    page.keyboard.press("Escape")
    page.keyboard.press("x")
    page.get_by_text("cat: no answer is right").wait_for()
    assert (current(root)["cat"]["note"], current(root)["cat"]["verdict"]) == ("blurred 1 2 f", "rejected")


def test_filters_are_in_the_address_and_survive_a_reload(open_page):
    page = open_page().page
    page.get_by_role("button", name="Models differ").click()
    page.get_by_text("3 of 6 items").wait_for()
    page.get_by_label("Order").select_option("spread")
    page.locator("li.item").first.get_by_text("city").wait_for()
    assert "differ=1" in page.url
    page.reload()
    page.get_by_text("3 of 6 items").wait_for()
    assert page.get_by_label("Order").input_value() == "spread"
    page.keyboard.press("/")
    page.keyboard.type("wind")
    page.get_by_text("1 of 6 items").wait_for()
    page.go_back()
    page.get_by_text("3 of 6 items").wait_for()
    assert page.get_by_label("Order").input_value() == ""


def test_a_video_is_stepped_through_and_a_time_of_an_answer_is_jumped_to(open_page):
    seen = open_page("/?id=city")
    page, replies = seen.page, []
    page.on("response", lambda one: replies.append(one.status) if "/media?" in one.url else None)
    page.reload()
    until(page, "(document.querySelector('video') || {}).readyState >= 1")
    page.get_by_role("button", name="▶ 2 s").first.click()
    until(page, "document.querySelector('video').currentTime >= 2")
    assert page.url.endswith("#t=2")
    page.keyboard.press("k")
    until(page, "document.querySelector('video').paused")
    at = page.evaluate("document.querySelector('video').currentTime")
    page.get_by_role("button", name="frame ▸").click()
    assert page.evaluate("document.querySelector('video').currentTime") == pytest.approx(
        at + 1 / 30, abs=0.02
    )
    page.get_by_label("Speed").select_option("0.5")
    assert page.evaluate("document.querySelector('video').playbackRate") == 0.5
    assert 206 in replies


def test_what_differs_is_marked(open_page):
    page = open_page("/?id=moose").page
    assert page.locator("tr.differs th").all_inner_texts()[0].startswith("label")
    assert page.locator("td.odd").all_inner_texts() == ["cat"]
    assert page.get_by_text("$0.0002").count() == 3


def test_new_rows_appear_while_a_run_goes_on(app, open_page, root):
    page = open_page().page
    more = [made_dataset.row(MODELS[0], "later", "cat", media_uri=str(MEDIA / "pan.jpg"))]
    made_dataset.write(root, more, part="later")
    page.get_by_role("link", name="Item later").wait_for()
    page.get_by_text("7 of 7 items").wait_for()


@pytest.mark.parametrize("width", [390, 1280, 1920])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_pages_are_usable_by_everybody(open_page, width, dark):
    """axe finds nothing serious, nothing is wider than the screen, nothing complains."""
    for name, path in (("grid", "/?sort=spread"), ("item", "/?id=moose"), ("video", "/?id=city")):
        seen = open_page(path, width, dark)
        if name == "item":
            seen.page.keyboard.press("e")
            seen.page.locator("form.edit").wait_for()
        assert seen.violations() == []
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
        assert seen.errors == []
        shot(seen, f"view-{name}-{width}-{'dark' if dark else 'light'}")
