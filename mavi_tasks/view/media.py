"""Media by item: local files as they are, small pictures of them, links to what lies elsewhere.

The browser names an item, never a path. What a local file is, is told by its first bytes, and only pictures
and videos leave this machine's disk, whatever an item, a name or a symbolic link says. The file is opened
once: what was looked at is what is sent.
"""

import asyncio
import contextlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
from aiohttp import web

from mavi_tasks.common import regular_file
from mavi_tasks.errors import MaviError
from mavi_tasks.media import sniff
from mavi_tasks.reports.html import thumbnails
from mavi_tasks.storage.s3 import Bucket

CHUNK_BYTES: Final = 1 << 18
THUMB_PX: Final = 320
LARGE_PX: Final = 1600  # of pictures that browsers do not show as they are
THUMBS_BYTES: Final = 64 << 20  # kept in memory
SHOWN: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp", "image/bmp", "image/avif"})
MOST_ORIGINS: Final = 50
# No character that could end a source in a Content-Security-Policy.
_ORIGIN: Final = re.compile(
    r"https?://(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?"
).fullmatch
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})").fullmatch


def place(uri: str | None) -> str | None:
    """Where a media lies: local, s3, or remote (http); None where it cannot be shown from."""
    if not uri or uri.startswith("data:"):
        return None
    scheme = uri.partition("://")[0].lower() if "://" in uri else "file"
    return {"file": "local", "s3": "s3", "http": "remote", "https": "remote"}.get(scheme)


def origin_of(uri: str) -> str | None:
    """Scheme, host and port of a URL, as browsers write them; None for what is none."""
    try:
        split = urlsplit(uri)
        port, host = split.port, split.hostname or ""
    except ValueError:
        return None
    host = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}.get(split.scheme)
    found = f"{split.scheme}://{host}" + (f":{port}" if port not in (None, usual) else "")
    return found if _ORIGIN(found) else None


def origins_in(uris: pa.StringArray) -> list[str]:
    """The origins of remote media, the most frequent first; at most MOST_ORIGINS."""
    found = map(origin_of, _starts(uris, r"^(?P<start>https?://[^/?#]+)"))
    return list(dict.fromkeys(one for one in found if one is not None))[:MOST_ORIGINS]


def bucket_origins(uris: pa.StringArray) -> frozenset[str]:
    """Where presigned links to media on S3 lead; nowhere for buckets that no link can be made to."""
    found = set()
    for start in _starts(uris, r"^(?P<start>s3://[A-Za-z0-9._-]+)/"):
        with contextlib.suppress(MaviError):
            found.add(origin_of(presigned(f"{start}/x")))
    return frozenset(one for one in found if one is not None)


def _starts(uris: pa.StringArray, pattern: str) -> list[str]:
    """What a pattern finds at the start of texts, the most frequent first."""
    found = pc.extract_regex(uris, pattern)
    counted = pc.value_counts(found.filter(found.is_valid()).field("start")).to_pylist()
    return [one["values"] for one in sorted(counted, key=lambda one: -one["counts"])][: 4 * MOST_ORIGINS]


@lru_cache(64)
def _bucket(name: str) -> Bucket:
    return Bucket(f"s3://{name}")


def presigned(uri: str) -> str:
    """An https link to an object that works for a while. Raises StorageError."""
    name, _, key = uri.removeprefix("s3://").partition("/")
    return _bucket(name).presigned(key)


class Thumbnails:
    """Small pictures of local media; the newest ones stay in memory."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[str, int], bytes | None] = OrderedDict()
        self._size = 0
        self._guard = threading.Lock()
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="mavi-thumbs")

    async def of(self, uri: str, width_px: int) -> bytes | None:
        """A WebP; None when there is none to be made."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._get, uri, width_px)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _get(self, uri: str, width_px: int) -> bytes | None:
        with self._guard:
            if (uri, width_px) in self._made:
                self._made.move_to_end((uri, width_px))
                return self._made[uri, width_px]
        path = thumbnails.local(uri)
        picture = thumbnails.thumbnail(path, width_px) if path is not None and _media_type(path) else None
        with self._guard:
            self._made[uri, width_px] = picture
            self._size += len(picture or b"")
            while self._size > THUMBS_BYTES:
                self._size -= len(self._made.popitem(last=False)[1] or b"")
        return picture


def _media_type(path: Path) -> str | None:
    try:
        with regular_file.open_binary(path) as file:
            return sniff.mime_of(file.read(sniff.HEAD_BYTES))
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a file, from `start` up to and not including `end`."""

    start: int
    end: int
    whole: bool


def span_of(header: str | None, size: int) -> Span | None:
    """The bytes that a Range header asks for; None when the file has none of them.

    A header that is not one simple range is ignored, as RFC 9110 allows.
    """
    found = _RANGE(header) if header is not None else None
    if found is None or (not found[1] and not found[2]):
        return Span(0, size, True)
    if not found[1]:
        start, end = max(0, size - int(found[2])), size
    else:
        start, end = int(found[1]), min(size, int(found[2]) + 1) if found[2] else size
    return Span(start, end, False) if start < end else None


async def send_file(request: web.Request, uri: str) -> web.StreamResponse:
    """A local picture or video, or the part of it that is asked for."""
    path = thumbnails.local(uri)
    if path is None:
        return web.Response(status=404, text="the file is not there any more\n")
    try:
        file = await asyncio.to_thread(regular_file.open_binary, path)
    except OSError as error:
        return web.Response(status=404, text=f"cannot be read: {error.strerror}\n")
    with file:
        mime = sniff.mime_of(file.read(sniff.HEAD_BYTES))
        if mime is None:
            return web.Response(status=415, text="is neither a picture nor a video by its content\n")
        return await _sent(request, file, mime)


async def _sent(request: web.Request, file: BinaryIO, mime: str) -> web.StreamResponse:
    info = os.fstat(file.fileno())
    tag = f'"{info.st_size:x}-{info.st_mtime_ns:x}"'
    headers: Mapping[str, str] = {
        "ETag": tag, "Accept-Ranges": "bytes", "Content-Type": mime, "Cache-Control": "private, no-cache",
    }  # fmt: skip
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    asked = request.headers.get("Range") if request.headers.get("If-Range", tag) == tag else None
    span = span_of(asked, info.st_size)
    if span is None:
        return web.Response(status=416, headers={"Content-Range": f"bytes */{info.st_size}"})
    reply = web.StreamResponse(status=200 if span.whole else 206, headers=headers)
    reply.content_length = span.end - span.start
    if not span.whole:
        reply.headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{info.st_size}"
    await reply.prepare(request)
    if request.method != "HEAD":
        file.seek(span.start)
        left = span.end - span.start
        while left > 0 and (chunk := await asyncio.to_thread(file.read, min(left, CHUNK_BYTES))):
            await reply.write(chunk)
            left -= len(chunk)
    return reply
