"""Which parts of a URL may be secrets, and a URL with those parts hidden.

Services spell signatures in more ways than a list can hold, so the list is of what is harmless: all other
values of a query are hidden, and those parts of a path that are signatures by their form. What is hidden
leaves a mark, made of its hash, so that different URLs stay different: `?w=3&s=hidden-3f0c0f2ea3a5b1d4`.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Final
from urllib.parse import unquote, unquote_plus

# What a service shows or how, never who may see it.
HARMLESS: Final = frozenset(
    (
        "id", "v", "version", "versionid", "generation", "list", "index", "page", "frame", "start", "end",
        "width", "height", "size", "fit", "crop", "dpr", "quality", "auto", "variant", "thumb",
        "format", "fm", "fmt", "ext", "type", "kind", "mime", "mime_type", "content_type", "content-type",
        "response-content-type", "name", "file", "filename", "download", "dl", "raw", "alt", "lang", "hl",
        "fps", "gid", "sheet",
    )
)  # fmt: skip
_NUMBERS: Final = frozenset(
    ("w", "h", "q", "t")
)  # harmless with a number; elsewhere `h` is a hash, `t` a token
_NUMBER: Final = re.compile(r"[\d.,:hms-]{1,12}").fullmatch
# A value that holds nothing of a URL, so that no other value hides in it.
_PLAIN: Final = re.compile(r"[\w .,+/~*()!'-]{0,64}").fullmatch
_FEW: Final = 3  # a hash would not hide so few characters
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z_.\-]{0,31}\d{0,2}").fullmatch
_CACHE_BUSTER: Final = re.compile(r"\d{1,13}").fullmatch

MARKED: Final = re.compile(r"hidden-[0-9a-f]{16}").search
_SIGNED: Final = (
    r"(?:[\w.-]*(?:token|signature|hmac|secret|password|passwd|jwt|session\w*|credential\w*|[_-]key|apikey)"
    r"|sign?|auth|pwd|hdne[at]s?|hdntl|policy)"
)
_SECRET_IN_PATH: Final = re.compile(
    "|".join(
        (
            r"(?<=/)s--[\w-]{6,}--(?=/)",  # Cloudinary
            rf"(?<=/)(?:[^/]*[~;,&!])?{_SIGNED}=[^/]*",  # Akamai, Vimeo, Bunny: exp=1~acl=/*~hmac=...
            r"(?<=;)[^/;]*=[^/]*",  # jsessionid and its like
            r"(?<=/)bot\d{5,}:[\w-]{20,}(?=/)",  # Telegram
            r"(?<=/)eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",  # a JSON Web Token
            r"(?<=/)[^/@]*:[^/@]*@[^/]*",  # the login of a URL in this URL
            r"(?<=/)[0-9a-f]{32}(?=/[0-9a-f]{8}/)",  # an MD5 and a time, or a time and an MD5
            r"(?<=/)(?:token|sig|sign|signature|auth|jwt|hmac)/[\w~-]{16,}(?=/|$)",
        )
    ),
    re.IGNORECASE,
)
_SECRET_AFTER_TIME: Final = re.compile(r"(?<=/)\d{10,14}/[0-9a-f]{32}(?=/)", re.IGNORECASE)
# What a path must hold before it is worth a second look: two searches, fast by their few first letters.
_ODD: Final = re.compile("=|;|:|@|%(?:25|3[afAF]|40)").search
_SEGMENT: Final = re.compile(
    "/(?:s--|eyJ|aHR0c|[0-9a-fA-F]{32}/|(?:[Tt]oken|[Ss]ig|[Ss]ign|[Ss]ignature|[Aa]uth|[Jj]wt|hmac)/)"
).search
_ESCAPED_QUERY: Final = re.compile(r"\?[^/]*=|://[^/]*@").search


def suspicious(url: str, start: int) -> bool:
    """Whether the path of a URL, which begins at `start` or behind it, may hold something to hide."""
    return _ODD(url, start) is not None or _SEGMENT(url, start) is not None


def has_port(authority: str) -> bool:
    """Whether a port, if there is one, is a number: it is none when a slash in a password ended the host."""
    port = authority.rpartition("@")[2].rpartition("]")[2].partition(":")[2]
    return not port or port.isdecimal()


def hidden(url: str) -> str:
    """The URL (or the end of one) without its login, and with a mark for each part that may be a secret."""
    start = url.find("://") + 3 if "://" in url else 0
    if "?" not in url and "#" not in url and not suspicious(url, start):
        return url
    return "".join(kept + (_mark(secret) if secret else "") for kept, secret in _parts(url))


def secrets_in(url: str) -> list[str]:
    """The parts of a URL that may be secrets, as they are written: its login, and what `hidden` hides."""
    found = [secret for _, secret in _parts(url) if secret]
    if login := _authority(url).rpartition("@")[0]:
        found += [login, *login.split(":", 1)]
    inner = [unquote_plus(secret) for secret in found]
    return found + [secret for text in inner if "://" in text for secret in secrets_in(text)]


def pairs_in(url: str) -> list[str]:
    """`name=value` for each hidden value of the query, and the login: what only an echo of the URL holds."""
    query = url.partition("#")[0].partition("?")[2]
    named = [pair for pair in query.split("&") if not _is_harmless(pair) and "=" in pair]
    login = _authority(url).rpartition("@")[0]
    return named + ([f"{login}@"] if login else [])


def _mark(secret: str) -> str:
    return "hidden-" + sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _authority(url: str) -> str:
    start = url.find("://")
    return re.split(r"[/?#]", url[start + 3 :], maxsplit=1)[0] if start >= 0 else ""


def _parts(url: str) -> Iterator[tuple[str, str]]:
    """The URL in order, as pairs of a text that is kept and a secret after it, either may be empty."""
    rest, hash_sign, fragment = url.partition("#")
    rest, mark, query = rest.partition("?")
    scheme, colon, rest = rest.partition("://") if "://" in rest else ("", "", rest)
    host, slash, path = rest.partition("/") if colon else ("", "", rest)
    yield scheme + colon, ""
    if not has_port(host):  # a password with a slash in it, which ends the host
        yield "", url.partition("://")[2]
        return
    yield host.rpartition("@")[2], ""
    yield from _parts_of_path(slash + path)
    if mark:
        yield from _parts_of_query("?", query)
    if hash_sign:
        yield from _parts_of_query("#", fragment)


def _parts_of_query(before: str, query: str) -> Iterator[tuple[str, str]]:
    for pair in query.split("&"):
        name, equals, value = pair.partition("=")
        if _is_harmless(pair):
            yield before + pair, ""
        elif equals and value and _WORD(name):
            yield f"{before}{name}=", value
        else:
            yield before, pair
        before = "&"


def _is_harmless(pair: str) -> bool:
    name, equals, value = pair.partition("=")
    value = unquote_plus(value)
    if not equals:
        return len(pair) <= _FEW or _CACHE_BUSTER(pair) is not None
    if not _WORD(name):
        return False
    if len(value) <= _FEW or MARKED(value):
        return True
    name = name.lower()
    return (name in HARMLESS and _PLAIN(value) is not None) or (
        name in _NUMBERS and _NUMBER(value) is not None
    )


def _parts_of_path(path: str) -> Iterator[tuple[str, str]]:
    if not suspicious(path, 0):
        yield path, ""
        return
    at = 0
    found = [*_SECRET_IN_PATH.finditer(path), *_SECRET_AFTER_TIME.finditer(path)]
    for one in sorted(found, key=lambda one: one.span()):
        if one.start() >= at:
            yield from _parts_of_segments(path[at : one.start()])
            yield "", one[0]
            at = one.end()
    yield from _parts_of_segments(path[at:])


def _parts_of_segments(path: str) -> Iterator[tuple[str, str]]:
    """Hide the segments that are URLs themselves, escaped or in base64, and hold a query or a login."""
    for number, segment in enumerate(path.split("/")):
        slash = "/" if number else ""
        yield (slash, segment) if _holds_url(segment) else (slash + segment, "")


def _holds_url(segment: str) -> bool:
    if segment.startswith("aHR0c"):
        whole = segment.partition(".")[0]
        try:
            text = base64.urlsafe_b64decode(whole + "=" * (-len(whole) % 4)).decode("utf-8", "replace")
        except binascii.Error:
            return True
        return bool(secrets_in(text))
    text = segment
    for _ in range(3):
        if "%" not in text:
            break
        text = unquote(text)
    return text != segment and _ESCAPED_QUERY(text) is not None
