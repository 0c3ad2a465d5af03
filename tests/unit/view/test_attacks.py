"""One test for each attack on the local app; docs/view.md lists them."""

import os
import re
import socket

import pytest

from mavi_tasks.view import access, media
from tests.support import made_dataset
from tests.support.gateways import REPOSITORY
from tests.support.pages import launched
from tests.support.view import served

PHOTO = REPOSITORY / "manifests" / "media" / "cat.jpg"
CLIP = REPOSITORY / "manifests" / "media" / "city.mp4"
SCRIPT = '<img src=x onerror="window.ran=1"><script>window.ran=1</script>\'"><svg onload=window.ran=1>'
HUGE = "x" * 5_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="module")
def root(folder, tmp_path_factory):
    """Items whose media point at everything that an attacker would like to read."""
    secret = folder / "secret.txt"
    secret.write_text("the secret")
    named = folder / "secret.jpg"
    named.write_text("the secret")
    link = folder / "link.jpg"
    link.symlink_to(secret)
    os.mkfifo(folder / "pipe.jpg")
    (folder / "a.jpg").write_bytes(PHOTO.read_bytes())
    (folder / "a.jpg.gz").write_bytes(b"not the photo")
    (folder / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg' onload='window.ran=1'/>")
    rows = [
        made_dataset.row("gemini:m", name, answer, media_uri=uri, **more)
        for name, answer, uri, more in [
            ("photo", "cat", str(folder / "a.jpg"), {}),
            ("clip", "a city", str(CLIP), {"media_kind": "video"}),
            ("text", "cat", str(secret), {}),
            ("named", "cat", str(named), {}),
            ("link", "cat", str(link), {}),
            ("pipe", "cat", str(folder / "pipe.jpg"), {}),
            ("folder", "cat", str(folder), {}),
            ("svg", "cat", str(folder / "drawing.svg"), {}),
            ("dots", "cat", f"{folder}/../{folder.name}/secret.txt", {}),
            ("url", "cat", f"file://{secret}", {}),
            ("remote", "cat", "https://media.example/a.jpg", {}),
            ("evil origin", "cat", "https://x.example; script-src */a.jpg", {}),
            ("huge", HUGE, None, {"prompt": HUGE}),
            (SCRIPT, SCRIPT, f"/tmp/{SCRIPT}.jpg", {"prompt_id": SCRIPT, "truth": SCRIPT, "prompt": SCRIPT}),
            ("failed", None, None, {"status": "failed", "error_code": "x", "error_message": SCRIPT}),
        ]
    ]
    return made_dataset.write(tmp_path_factory.mktemp("data"), rows)


@pytest.fixture(scope="module")
def app(root):
    with served(root) as running:
        yield running


# -- who may ask


@pytest.mark.parametrize("path", ["/", "/api/page", "/api/state", "/media?id=photo", "/static/app.js"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1",
             "127.0.0.1.evil.example:{port}", "localhost:{port}@evil.example", "10.0.0.1:{port}", ""],
)  # fmt: skip
def test_a_name_that_leads_here_is_not_served(app, path, host):
    """DNS rebinding: the browser believes that evil.example is this machine, and sends its name."""
    reply = app.ask(path, Host=host.format(port=app.port))
    assert reply.status in (400, 403)
    assert b"photo" not in reply.body


def test_two_hosts_are_refused(app):
    """What stands between might look at the other one."""
    with socket.create_connection(("127.0.0.1", app.port)) as sent:
        own = f"Host: 127.0.0.1:{app.port}\r\n"
        sent.sendall(f"GET / HTTP/1.1\r\n{own}Host: evil.example\r\nCookie: {app.cookie}\r\n\r\n".encode())
        assert re.match(rb"HTTP/1.[01] 40[03]", sent.recv(100))


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
def test_pages_of_other_sites_get_nothing(app, site):
    """Another site shows our pictures, or reads whether they are there."""
    assert app.ask("/media?id=photo", Sec_Fetch_Site=site).status == 403
    assert app.ask("/media?id=photo", Sec_Fetch_Site="same-origin").status == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:1", "https://127.0.0.1"]
)
def test_foreign_origins_are_refused(app, origin):
    assert app.ask("/api/page", Origin=origin).status == 403
    assert app.post("/api/review", {}, Origin=origin).status == 403


def test_without_the_cookie_nothing_is_shown(app):
    for path in (
        "/",
        "/api/page",
        "/api/item?id=photo",
        "/media?id=photo",
        "/thumb?id=photo",
        "/static/app.js",
    ):
        assert app.ask(path, cookie=False).status == 403
        assert app.ask(path, cookie=False, Cookie=f"mavi_view_{app.port}=guess").status == 403


def test_a_link_works_once_and_leaves_the_address(root):
    """Process lists and histories show links; the cookie is out of the reach of scripts and other sites."""
    with served(root, enter=False) as app:
        path = app.links[0].removeprefix(app.origin)
        assert app.ask("/open?token=guess", cookie=False).status == 403
        first = app.ask(path, cookie=False)
        assert (first.status, first.headers["location"]) == (303, "/")
        assert {"HttpOnly", "SameSite=Strict"} <= set(first.headers["set-cookie"].split("; "))
        assert app.ask(path, cookie=False).status == 403
        assert len(app.links) == 2
        assert app.ask(app.links[1].removeprefix(app.origin), cookie=False).status == 303


@pytest.mark.parametrize(
    "changed",
    [
        {"X_Mavi_View": None},
        {"Origin": None},
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-www-form-urlencoded"},
        {"Sec_Fetch_Site": "cross-site"},
    ],
    ids=str,
)
def test_a_form_of_another_site_cannot_write(app, changed):
    """Cross-site requests that need no preflight: none passes."""
    own = {"Content_Type": "application/json", "X_Mavi_View": "1", "Origin": app.origin, **changed}
    sent = {name: value for name, value in own.items() if value is not None}
    body = {"item": "photo", "prompt": "label", "action": "flag"}
    assert app.ask("/api/review", method="POST", body=body, **sent).status == 403
    assert app.get("/api/item", id="photo")["reviews"] == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_refused(app, method):
    reply = app.ask("/api/review", method=method)
    assert reply.status in (403, 405)
    assert not any(name.startswith("access-control") for name in reply.headers)


@pytest.mark.parametrize(
    "path", ["/", "/api/page", "/media?id=photo", "/nowhere", "/api/page?sort=x", "/open"]
)
def test_every_reply_forbids_what_no_page_needs(app, path):
    """Also replies to errors: nothing runs but our files, and no other page may frame or read them."""
    for cookie in (True, False):
        headers = app.ask(path, cookie=cookie).headers
        assert headers["content-security-policy"].startswith(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
            "connect-src 'self'; frame-ancestors 'none'"
        )
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"


# -- what the browser may name


@pytest.mark.parametrize(
    "path",
    ["/static/../access.py", "/static/..%2faccess.py", "/static/%2e%2e%2faccess.py", "/static//etc/passwd",
     "/static/%2fetc%2fpasswd", "/media?id=../../etc/passwd", "/media?id=%2fetc%2fpasswd",
     "/thumb?id=/etc/passwd", "/media/etc/passwd", "/..%2f..%2fetc%2fpasswd", "/media?path=/etc/passwd"],
)  # fmt: skip
def test_no_path_of_the_browser_is_opened(app, path):
    reply = app.ask(path)
    assert reply.status == 404
    assert b"root:" not in reply.body
    assert b"import" not in reply.body


@pytest.mark.parametrize("item", ["text", "named", "link", "pipe", "folder", "svg", "dots", "url"])
@pytest.mark.parametrize("path", ["/media", "/thumb"])
def test_only_what_is_a_picture_or_a_video_leaves_the_disk(app, item, path):
    """By its first bytes, whatever its name says, wherever a symbolic link leads. A pipe does not hang."""
    reply = app.ask(f"{path}?id={item}")
    assert reply.status in (404, 415)
    assert b"the secret" not in reply.body
    assert b"svg" not in reply.body


def test_a_remote_medium_is_not_fetched_by_the_server(app):
    """Else an address in a dataset could reach what only this machine can."""
    assert app.ask("/media?id=remote").status == 404
    assert app.ask("/thumb?id=remote").status == 404


def test_media_come_as_what_they_are(app):
    """Not by the name; and no neighbour with .gz is sent in their place."""
    reply = app.ask("/media?id=photo", Accept_Encoding="gzip")
    assert (reply.status, reply.headers["content-type"]) == (200, "image/jpeg")
    assert reply.body == PHOTO.read_bytes()


# -- ranges


@pytest.mark.parametrize(
    ("asked", "status", "start", "end"),
    [("bytes=0-9", 206, 0, 10), ("bytes=100-", 206, 100, None), ("bytes=-7", 206, -7, None),
     ("bytes=0-99999999", 206, 0, None), ("bytes=0-1,5-6", 200, 0, None), ("bytes=-", 200, 0, None),
     ("lines=1-2", 200, 0, None)],
)  # fmt: skip
def test_a_video_is_sent_in_parts(app, asked, status, start, end):
    reply, whole = app.ask("/media?id=clip", Range=asked), CLIP.read_bytes()
    assert (reply.status, reply.body) == (status, whole[start:end])
    assert reply.headers["accept-ranges"] == "bytes"
    if status == 206:
        first = start % len(whole)
        assert reply.headers["content-range"] == f"bytes {first}-{first + len(reply.body) - 1}/{len(whole)}"


@pytest.mark.parametrize("asked", ["bytes=999999999-", "bytes=9-2", "bytes=-0"])
def test_a_range_that_is_not_there_is_refused(app, asked):
    assert app.ask("/media?id=clip", Range=asked).status == 416


def test_a_part_of_a_file_that_has_changed_is_not_joined_to_the_old_one(app):
    reply = app.ask("/media?id=clip", Range="bytes=0-9", If_Range='"another"')
    assert (reply.status, len(reply.body)) == (200, CLIP.stat().st_size)


# -- consent, and what a dataset may put into a header


def test_an_origin_is_loaded_from_only_when_the_user_allows_it(root):
    with served(root) as app:
        assert "media.example" not in app.ask("/").headers["content-security-policy"]
        assert app.post("/api/allow", {"origin": "https://evil.example", "allow": True}).status == 400
        assert app.post("/api/allow", {"origin": "https://media.example", "allow": True}).status == 200
        policy = app.ask("/").headers["content-security-policy"]
        assert "img-src 'self' https://media.example; media-src 'self' https://media.example;" in policy
        assert "script-src 'self';" in policy


@pytest.mark.parametrize(
    "uri", ["https://x.example; script-src */a", "https://a b/c", "https://x'/", "https://é.example/", "https:///a",
            "https://[::1/", "https://x.example:99999/", "https://*/", "javascript://x/"],
)  # fmt: skip
def test_no_address_adds_a_rule_to_the_policy(uri):
    assert media.origin_of(uri) is None


def test_only_known_origins_are_in_the_policy():
    assert media.origin_of("https://Media.example:443/a?b") == "https://media.example"
    assert access.policy(["https://a.example"]).count("https://a.example") == 2


# -- hostile texts


def test_huge_texts_are_cut_on_the_page_and_whole_behind_a_link(app):
    """5 MB of answer and 5 MB of prompt."""
    reply = app.ask("/api/item?id=huge")
    assert len(reply.body) < 200_000
    row = reply.json["rows"][0]
    assert row["answer"]["length"] == 5_000_000
    whole = app.ask(f"/api/text?id=huge&row={row['row']}&column=answer")
    assert (len(whole.body), whole.headers["content-type"]) == (5_000_000, "text/plain; charset=utf-8")
    assert len(app.ask("/api/page?q=huge").body) < 20_000


@pytest.mark.parametrize("row", ["-1", "999999", "x", "1e3", "", "9" * 400])
def test_rows_of_other_items_are_not_told(app, row):
    assert app.ask(f"/api/text?id=huge&row={row}&column=answer").status == 404


def test_broken_queries_are_refused_with_a_word(app):
    for query in ("sort=up", "page=-1", "page=1e9", "below=2", "below=nan", "below=x", "page=" + "9" * 50):
        reply = app.ask(f"/api/page?{query}")
        assert (reply.status, list(reply.json)) == (400, ["error"])
    assert app.ask("/api/page?q=%00%ff(*&field=nope&value=x&model=../..").status == 200


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{" * 100_000, b"\xff\xfe", b'{"action": "take"}'])
def test_broken_bodies_are_refused(app, body):
    assert app.post("/api/review", body).status in (400, 404)


def test_a_body_has_a_limit(app):
    assert app.post("/api/review", {"note": "x" * 3_000_000}).status == 413


def test_nothing_that_others_wrote_runs_in_the_page(app, root):
    """In ids, file names, answers, prompts, expected answers, errors and notes; a real browser, all pages."""
    number = app.get("/api/item", id=SCRIPT)
    note = {
        "item": SCRIPT,
        "prompt": SCRIPT,
        "action": "flag",
        "seen": None,
        "note": SCRIPT,
        "reviewer": SCRIPT,
    }
    assert app.post("/api/review", note).status == 200
    assert number["id"] == SCRIPT
    with launched() as browser:
        context = browser.new_context()
        name, _, value = app.cookie.partition("=")
        context.add_cookies([{"name": name, "value": value, "url": app.origin}])
        page, asked, refused = context.new_page(), [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda one: refused.append(one.text) if "Security Policy" in one.text else None)
        page.goto(app.origin)
        page.get_by_role("link", name=f"Item {SCRIPT}").click()
        page.locator("#reviews").wait_for()
        for summary in page.locator("summary").all():
            summary.click()
        assert page.get_by_text(SCRIPT).count() >= 5
        page.goto(f"{app.origin}/?id=failed")
        page.locator("td p", has_text=SCRIPT).wait_for()
        assert page.evaluate("window.ran") is None
        assert {url.split("/")[2] for url in asked} == {f"127.0.0.1:{app.port}"}
        assert refused == []
        context.close()


def test_a_page_cannot_be_framed_or_read_by_another(app, tmp_path):
    """A real browser, a page from elsewhere: the frame stays empty, the picture does not load."""
    page_file = tmp_path / "evil.html"
    page_file.write_text(
        f"<iframe src='{app.origin}/'></iframe><img src='{app.origin}/media?id=photo'>"
        f"<script>fetch('{app.origin}/api/page', {{credentials: 'include'}})"
        ".then(() => window.got = 'reply', () => window.got = 'refused')</script>"
    )
    with launched() as browser:
        context = browser.new_context()
        name, _, value = app.cookie.partition("=")
        context.add_cookies([{"name": name, "value": value, "url": app.origin}])
        page = context.new_page()
        page.goto(page_file.as_uri())
        page.wait_for_function("window.got")
        assert page.evaluate("window.got") == "refused"
        assert page.evaluate("document.images[0].naturalWidth") == 0
        context.close()
