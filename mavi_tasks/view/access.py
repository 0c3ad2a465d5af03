"""Who may ask this server, and what its replies allow a browser to do.

Every page that the browser shows can send requests to loopback, and a name of its own can be made to lead
here (DNS rebinding). So each request must name a host of ours, come from a page of ours or from none, and
carry the cookie that a link of the terminal gave. The link's token works once, because command lines and
histories show it to others; a new one is made in its place.
"""

import asyncio
import hmac
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web

CSRF_HEADER: Final = "X-Mavi-View"  # another site's page cannot set it without a preflight, which is refused
WRONG_PASSWORD_S: Final = 1.0  # one guess at a time, and so long for each
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def policy(media_origins: Iterable[str] = ()) -> str:
    """The Content-Security-Policy. media_origins: where pictures and videos may come from beside here."""
    media = " ".join(["'self'", *sorted(media_origins)])
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src {media}; media-src {media}; "
        "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )


@dataclass(slots=True)
class Access:
    """The secrets of one server. announce: gets each new token, when the last one was used.

    hosts: lower-case names without port that requests may name. any_address: so may every IP address, which
    no foreign name can stand for. password: None = tokens are the only way in.
    """

    port: int
    hosts: frozenset[str] = frozenset({"127.0.0.1", "localhost", "[::1]"})
    any_address: bool = False
    password: str | None = None
    announce: Callable[[str], None] = lambda token: None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    _guessing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def cookie(self) -> str:
        """Cookies are the same for all ports of a host, so the port is in the name."""
        return f"mavi_view_{self.port}"

    def redeem(self, token: str) -> bool:
        """Whether this is the token; from then on there is another one."""
        if not _same(token, self.token):
            return False
        self.token = secrets.token_urlsafe(32)
        self.announce(self.token)
        return True

    async def unlock(self, password: str) -> bool:
        """Whether this is the password; a wrong one costs a second, one after the other."""
        async with self._guessing:
            if self.password is not None and _same(password, self.password):
                return True
            await asyncio.sleep(WRONG_PASSWORD_S)
            return False

    def known(self, request: web.Request) -> bool:
        """Whether the request carries the session's cookie."""
        return _same(request.cookies.get(self.cookie, ""), self.session)

    def let_in(self, reply: web.Response) -> web.Response:
        """The reply, with the session's cookie."""
        reply.set_cookie(self.cookie, self.session, httponly=True, samesite="Strict", path="/")
        return reply

    def problem(self, request: web.Request) -> str | None:
        """Why this request is refused before anybody looks at its cookie; None when it is not."""
        hosts = request.headers.getall("Host", [])
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return "this host is not served here: open the link that mavi view printed"
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return "requests from other sites are refused"
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"http://{hosts[0]}":
            return "requests from other origins are refused"
        if request.method not in ("GET", "HEAD", "POST"):
            return "only GET and POST are known here"
        if request.method == "POST":
            return _problem_of_post(request, origin)
        return None

    def _is_ours(self, text: str) -> bool:
        try:
            split = urlsplit(f"//{text}")
            port = split.port or 80
        except ValueError:
            return False
        host = text.rpartition(":")[0] if split.port is not None else text
        if port != self.port or split.username is not None or split.path:
            return False
        return host.lower() in self.hosts or (self.any_address and _is_address(host.strip("[]")))


def _problem_of_post(request: web.Request, origin: str | None) -> str | None:
    if origin is None or CSRF_HEADER not in request.headers:
        return f"a POST needs an Origin and the header {CSRF_HEADER}"
    if request.content_type != "application/json":
        return "a POST must be application/json"
    return None


def guard(
    access: Access, media_origins: Callable[[], Iterable[str]], *, open_paths: Iterable[str]
) -> tuple[Any, Any]:
    """The middleware that every request passes, and the signal by which every reply gets its headers.

    open_paths: what needs no cookie.
    """
    free = frozenset(open_paths)

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        problem = access.problem(request)
        if problem is None and request.path not in free and not access.known(request):
            problem = "open the link that mavi view printed on the terminal; each works once"
        if problem is not None:
            return web.Response(status=403, text=problem + "\n")
        return await handler(request)

    async def with_headers(request: web.Request, reply: web.StreamResponse) -> None:
        """On every reply, errors included, before its first byte."""
        reply.headers.update(HEADERS)
        reply.headers["Content-Security-Policy"] = policy(media_origins())
        reply.headers.setdefault("Cache-Control", "no-store")
        reply.headers.pop("Server", None)

    return checked, with_headers


def _same(given: str, own: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), own.encode())


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
