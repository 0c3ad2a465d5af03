"""What a media reference is: a URL, a bucket object, a data URL or a path; and its form without secrets."""

import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, unquote_plus, urlencode, urlsplit, urlunsplit

from mavi_tasks.media import url_secrets
from mavi_tasks.media.sniff import SUFFIXES, mime_of_name, mime_said

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters at least: C:\ is a path

_SHOWN: Final = 100  # characters of a reference in a message

_MARKS: Final = re.compile("[?@#]").search

_NOT_PLAIN: Final = re.compile(r"[^!$-;=A-Z_a-z~]")  # anything that needs a second look

_SIGNATURE_PREFIXES: Final = ("x-amz-", "x-goog-", "x-oss-", "x-cos-", "x-tos-")
_SIGNATURES: Final = frozenset(
    (
        "signature",
        "sig",
        "expires",
        "policy",
        "key-pair-id",
        "awsaccesskeyid",
        "googleaccessid",
        "ossaccesskeyid",
        "security-token",
        "q-signature",
        "hdnea",
        "hdnts",
        "hdntl",
        "__token__",
        "exp",
    )
)
# Azure's other fields have names too short to tell from harmless ones, unless `sig` is there.
_AZURE: Final = frozenset(
    ("se", "sp", "sv", "sr", "st", "spr", "sip", "ss", "srt", "skoid", "sktid", "skt", "ske", "sks", "skv")
)
# Secrets that may also be the only difference between two media.
_TOKENS: Final = frozenset(
    (
        "token",
        "access_token",
        "auth",
        "auth_token",
        "authorization",
        "apikey",
        "api_key",
        "api-key",
        "password",
        "pwd",
        "secret",
        "jwt",
        "session",
        "sessionid",
    )
)
_TYPE_KEYS: Final = frozenset(("mime", "mime_type", "content_type", "content-type", "response-content-type"))
_NAME_KEYS: Final = frozenset(
    ("format", "fm", "ext", "file", "filename", "name", "response-content-disposition")
)
_YOUTUBE: Final = frozenset(("youtube.com", "www.youtube.com", "m.youtube.com", "youtu.be"))


@dataclass(frozen=True, slots=True)
class Remote:
    """A URL taken apart: the stored form, the identity, what is sent, and the MIME type it hints at."""

    uri: str
    identity: str
    source: str
    mime: str | None


def scheme_of(ref: str) -> str | None:
    """The scheme in lower case, or None for a path."""
    found = _SCHEME.match(ref)
    return found.group(1).lower() if found else None


def plain_mime(ref: str) -> str | None:
    """The MIME type by suffix of a simple URL without anything to hide, None for every other."""
    host = ref.find("//") + 2
    if _NOT_PLAIN.search(ref) or ref[host : host + 1] in "/:" or url_secrets.suspicious(ref, host):
        return None
    return mime_of_path(ref)


def remote(ref: str) -> Remote:
    """Take a URL apart. Raises ValueError for a URL that has no host or cannot be read.

    The identity decides request keys, so that it keeps every part but the known signatures, also those that
    the stored form hides. Only its hash is stored.
    """
    if url_secrets.MARKED(ref):
        raise ValueError("parts of it were hidden when it was stored; take the URL from its manifest")
    ref = quote(ref.strip(), safe="%/:=&?~#+!$,;'@()*[]")
    split = urlsplit(ref)
    if not split.hostname:
        raise ValueError("it has no host")
    if not url_secrets.has_port(split.netloc):
        raise ValueError("its port is not a number (in a password, write / ? # as %2F %3F %23)")
    host = split.netloc.rpartition("@")[2]
    pairs = parse_qsl(split.query, keep_blank_values=True)
    kept, tokens = _without_signature(pairs)
    # A query without signature stays as it was written: encoding it anew could change it.
    query = split.query if len(kept) == len(pairs) else urlencode(kept)
    bare = urlunsplit((split.scheme, host, split.path, query, split.fragment))
    mime = mime_of_path(split.path) or _mime_of_query(pairs) or _mime_of_host(split.hostname)
    return Remote(url_secrets.hidden(bare), bare + _token_mark(tokens, split.path), ref, mime)


def shown(ref: str) -> str:
    """A reference short enough for one line, without its query, user and password: any may be a secret."""
    if ref[:5].lower() == "data:":
        return ref[:30] + "..."
    text, scheme = ref, scheme_of(ref)
    if "://" in ref:
        text = url_secrets.hidden(re.split("[?#]", ref, maxsplit=1)[0])
    elif scheme is not None and re.search("[?#@]", ref):
        return f"{scheme}:..."
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def stored(ref: str) -> str:
    """A URL as it is stored: without user, password and signature, and with what may be a secret hidden.

    Other references are returned as they are.
    """
    if "://" not in ref or not (_MARKS(ref) or url_secrets.suspicious(ref, ref.find("://") + 3)):
        return ref
    try:
        return remote(ref).uri
    except ValueError:
        return url_secrets.hidden(ref)


def _without_signature(pairs: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], list[str]]:
    """The pairs that identify the media, and the values of the tokens among the others."""
    names = {name.lower() for name, _ in pairs}
    secret = _SIGNATURES | _TOKENS | (_AZURE if "sig" in names else frozenset())
    kept = [
        (name, value)
        for name, value in pairs
        if name.lower() not in secret and not name.lower().startswith(_SIGNATURE_PREFIXES)
    ]
    return kept, [value for name, value in pairs if name.lower() in _TOKENS]


def _token_mark(tokens: list[str], path: str) -> str:
    """A mark that keeps two media apart when only their tokens differ; empty when the path names a file.

    Without it `/download?token=A` and `/download?token=B` would be one media and share one answer.
    """
    if not tokens or mime_of_path(path):
        return ""
    return "#token-sha256:" + sha256("\n".join(tokens).encode()).hexdigest()[:16]


def mime_of_path(path: str) -> str | None:
    """What the suffix of a path's last part claims, or None."""
    tail = path[path.rfind("/") + 1 :]
    dot = tail.rfind(".")
    return SUFFIXES.get(tail[dot + 1 :].lower()) if dot >= 0 else None


def _mime_of_query(pairs: list[tuple[str, str]]) -> str | None:
    for name, value in pairs:
        key = name.lower()
        if key in _TYPE_KEYS and (mime := mime_said(value)):
            return mime
        if key in _NAME_KEYS:
            claim = unquote_plus(value).rpartition("filename=")[2].strip("\"' ;")
            if mime := mime_of_name(claim if "." in claim else "x." + claim):
                return mime
    return None


def _mime_of_host(host: str) -> str | None:
    return "video/mp4" if host.lower() in _YOUTUBE else None


def host_of(url: str) -> str:
    """The host of a URL, empty when there is none."""
    start = url.find("//") + 2
    end = url.find("/", start)
    netloc = url[start:] if end < 0 else url[start:end]
    return _host_of_netloc(netloc)


@lru_cache(maxsize=4096)
def _host_of_netloc(netloc: str) -> str:
    host = netloc.partition("?")[0].partition("#")[0].rpartition("@")[2]
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def path_of(ref: str) -> str:
    """The path of a file:// URL, or the reference itself."""
    return unquote(urlsplit(ref).path) if ref[:5].lower() == "file:" else ref
