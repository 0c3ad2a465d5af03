"""The routes of the local app."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final

import orjson
from aiohttp import web

from mavi_tasks.errors import InputError, MaviError, StorageError
from mavi_tasks.reports.html import page as report_page
from mavi_tasks.storage import status
from mavi_tasks.storage.reviews import Conflict
from mavi_tasks.view import media, payloads
from mavi_tasks.view.access import Access, guard
from mavi_tasks.view.filters import Query
from mavi_tasks.view.following import Datasets, Snapshot

STATIC: Final = {
    "app.css": "text/css",
    **{
        f"{name}.js": "text/javascript"
        for name in ("app", "grid", "item", "answers", "medium", "review", "runs", "login")
    },
}
SHARED: Final = {"style.css": "text/css", "page.js": "text/javascript"}  # of the report pages
MOST_BODY: Final = 2 << 20
OPEN_PATHS: Final = ("/open", "/login", "/favicon.ico")
STALE_S: Final = 30.0


@dataclass(slots=True)
class App:
    """One server's state. allowed: origins from which this user lets the page load media."""

    datasets: Datasets
    access: Access
    allowed: set[str] = field(default_factory=set)
    thumbnails: media.Thumbnails = field(default_factory=media.Thumbnails)
    _static: dict[str, tuple[bytes, str]] = field(default_factory=dict)

    def build(self) -> web.Application:
        """The application, without anything started."""
        self._static = dict(_static_files())
        check, headers = guard(self.access, self._media_origins, open_paths=self._open_paths())
        made = web.Application(middlewares=[check, _errors], client_max_size=MOST_BODY)
        made.on_response_prepare.append(headers)
        get, post = made.router.add_get, made.router.add_post
        get("/", self._home)
        get("/open", self._open)
        get("/favicon.ico", _no_icon)
        get("/login", self._login_page)
        post("/login", self._login)
        get("/static/{name}", self._file)
        get("/api/state", self._state)
        get("/api/facets", self._facets)
        get("/api/page", self._page)
        get("/api/item", self._item)
        get("/api/text", self._text)
        get("/api/runs", self._runs)
        get("/media", self._media)
        get("/thumb", self._thumb)
        post("/api/review", self._review)
        post("/api/allow", self._allow)
        made.on_startup.append(self._start)
        made.on_cleanup.append(self._stop)
        return made

    async def _start(self, app: web.Application) -> None:
        app[FOLLOWER] = asyncio.create_task(self.datasets.follow())

    async def _stop(self, app: web.Application) -> None:
        app[FOLLOWER].cancel()
        await asyncio.gather(app[FOLLOWER], return_exceptions=True)
        self.thumbnails.close()

    def _open_paths(self) -> list[str]:
        """What needs no cookie: the way in, and the style of its page."""
        return [*OPEN_PATHS, "/static/style.css", "/static/app.css", "/static/login.js"]

    def _media_origins(self) -> Iterable[str]:
        snapshot = self.datasets.snapshot
        return self.allowed | (snapshot.bucket_origins if snapshot is not None else frozenset())

    # -- the way in

    async def _open(self, request: web.Request) -> web.Response:
        """The link of the terminal: its token becomes a cookie, and leaves the address."""
        if not self.access.known(request) and not self.access.redeem(request.query.get("token", "")):
            if self.access.password is not None:
                raise web.HTTPFound("/login")
            return web.Response(status=403, text="this link was used: take the newest of the terminal\n")
        return self.access.let_in(web.Response(status=303, headers={"Location": "/"}))

    async def _login_page(self, request: web.Request) -> web.Response:
        return _html("login.html")

    async def _login(self, request: web.Request) -> web.Response:
        given = (await _body(request)).get("password")
        if not isinstance(given, str) or not await self.access.unlock(given):
            return _json({"error": "wrong password"}, 403)
        return self.access.let_in(_json({"ok": True}))

    async def _home(self, request: web.Request) -> web.Response:
        return _html("index.html")

    async def _file(self, request: web.Request) -> web.Response:
        found = self._static.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        return web.Response(body=found[0], content_type=found[1], charset="utf-8")

    # -- reading

    async def _state(self, request: web.Request) -> web.Response:
        return _json(await asyncio.to_thread(payloads.state, self.datasets))

    async def _facets(self, request: web.Request) -> web.Response:
        return _json(await asyncio.to_thread(payloads.facets, self._snapshot(), sorted(self.allowed)))

    async def _page(self, request: web.Request) -> web.Response:
        query = Query.of(request.query)
        return _json(await asyncio.to_thread(payloads.page, self._snapshot(), query))

    async def _item(self, request: web.Request) -> web.Response:
        query, snapshot = Query.of(request.query), self._snapshot()
        number = _item_number(snapshot, request)
        return _json(await asyncio.to_thread(payloads.item, snapshot, number, query))

    async def _text(self, request: web.Request) -> web.Response:
        """One whole text of a row, as plain text: an answer may be larger than a page can show."""
        snapshot, column = self._snapshot(), request.query.get("column", "")
        rows = snapshot.index.rows_of(_item_number(snapshot, request))
        row = request.query.get("row", "")
        if column not in payloads.TEXTS or not row.isdigit() or len(row) > 12 or int(row) not in rows:
            raise web.HTTPNotFound
        found = await asyncio.to_thread(snapshot.index.sources.rows, [int(row)], [column])
        text = (found[int(row)][column] or "").encode("utf-8", "replace")
        return web.Response(body=text, content_type="text/plain", charset="utf-8")

    async def _runs(self, request: web.Request) -> web.Response:
        roots = self.datasets.roots
        found = [await asyncio.to_thread(status.of, root, verify=False) for root in roots]
        return _json({"datasets": [{"dir": str(one.dir), **one.to_json()} for one in found]})

    # -- media

    async def _media(self, request: web.Request) -> web.StreamResponse:
        uri = self._uri(request)
        if media.place(uri) == "s3":
            link = await asyncio.to_thread(media.presigned, uri)
            return web.Response(status=302, headers={"Location": link})
        if media.place(uri) != "local":
            raise web.HTTPNotFound
        return await media.send_file(request, uri)

    async def _thumb(self, request: web.Request) -> web.Response:
        uri = self._uri(request)
        if media.place(uri) != "local":
            raise web.HTTPNotFound
        width_px = media.LARGE_PX if "large" in request.query else media.THUMB_PX
        picture = await self.thumbnails.of(uri, width_px)
        if picture is None:
            raise web.HTTPNotFound
        return web.Response(
            body=picture, content_type="image/webp", headers={"Cache-Control": "private, max-age=300"}
        )

    # -- writing

    async def _review(self, request: web.Request) -> web.Response:
        given, snapshot = await _body(request), self._snapshot()
        number = snapshot.index.item_number(str(given.get("item")))
        if number is None:
            raise web.HTTPNotFound
        return await asyncio.to_thread(self._reviewed, snapshot, number, given)

    def _reviewed(self, snapshot: Snapshot, number: int, given: dict[str, Any]) -> web.Response:
        index = snapshot.index
        rows = [row for row in index.rows_of(number) if index.current[row]]
        rows = [row for row in rows if index.words["prompt_id"].text(row) == given.get("prompt")]
        if given.get("action") == "take":
            rows = [row for row in rows if index.words["model"].text(row) == given.get("model")]
        if not rows:
            raise InputError("no row of this item has this prompt and model")
        root = snapshot.root_of(rows[-1])
        row = index.sources.rows(rows[-1:], payloads.READ)[rows[-1]]
        book, form = snapshot.books[root], snapshot.form(root)
        try:
            made = book.act(given, row, form, snapshot.schemas[root])
        except Conflict as conflict:
            return _json({"error": str(conflict), "by": conflict.newest.reviewer}, 409)
        return _json({"review_id": made.review_id})

    async def _allow(self, request: web.Request) -> web.Response:
        """Let the page load media from an origin that the datasets name, until the server ends."""
        given = await _body(request)
        origin = given.get("origin")
        if origin not in self._snapshot().origins:
            raise InputError("origin must be one where the media of these datasets are")
        (self.allowed.add if given.get("allow") else self.allowed.discard)(origin)
        return _json({"allowed": sorted(self.allowed)})

    def _snapshot(self) -> Snapshot:
        if self.datasets.snapshot is None:
            raise web.HTTPServiceUnavailable(text=self.datasets.problem or "still reading\n")
        return self.datasets.snapshot

    def _uri(self, request: web.Request) -> str:
        snapshot = self._snapshot()
        uri: str | None = snapshot.index.media_uri[_item_number(snapshot, request)].as_py()
        if uri is None:
            raise web.HTTPNotFound
        return uri


FOLLOWER: Final = web.AppKey("follower", asyncio.Task[None])
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors of ours as JSON; whatever else fails says nothing of the inside."""
    try:
        return await handler(request)
    except InputError as error:
        return _json({"error": str(error)}, 400)
    except StorageError as error:
        return _json({"error": str(error)}, 503)
    except MaviError as error:
        return _json({"error": str(error)}, 500)


def _item_number(snapshot: Snapshot, request: web.Request) -> int:
    number = snapshot.index.item_number(request.query.get("id", ""))
    if number is None:
        raise web.HTTPNotFound(text="no item of this id\n")
    return number


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        given = json.loads(await request.text())
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise InputError("the body must be a JSON object")
    return given


def _json(value: Any, status_code: int = 200) -> web.Response:
    try:
        body = orjson.dumps(value)
    except orjson.JSONEncodeError:  # half a surrogate, or a number beyond 64 bits
        body = json.dumps(value).encode()
    return web.Response(body=body, status=status_code, content_type="application/json")


async def _no_icon(request: web.Request) -> web.Response:
    """Browsers ask for one; there is none."""
    return web.Response(status=204)


def _html(name: str) -> web.Response:
    body = (resources.files("mavi_tasks.view") / "static" / name).read_bytes()
    return web.Response(body=body, content_type="text/html", charset="utf-8")


def _static_files() -> Iterable[tuple[str, tuple[bytes, str]]]:
    """Name -> content and type: only these names are served, whatever a path says."""
    folder = resources.files("mavi_tasks.view") / "static"
    for name, kind in STATIC.items():
        yield name, ((folder / name).read_bytes(), kind)
    for name, kind in SHARED.items():
        yield name, (report_page.asset(name).encode(), kind)
