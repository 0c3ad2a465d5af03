"""Remote media read here: downloads that stay within their limits, bucket objects, presigned URLs.

A download connects only to an address that was checked: each name, also of each redirect, is resolved once,
addresses in private, loopback and link-local networks are left out (unless allowed; addresses.py), and the
connection goes to the address that passed. A name that changes its address meanwhile gains nothing (DNS
rebinding). One deadline, `media.download_timeout_s`, ends the whole of it: looking up names, connecting, TLS,
every header and byte, and all redirects.
Not covered: proxies of the environment are not used; a read of a bucket object ends by the store's own
timeouts; an address that is public but routed inside (carrier or cloud services) is not seen.
"""

import base64
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from ssl import SSLContext
from typing import Any, Final, Protocol
from urllib.parse import unquote

import httpcore
import httpx

from mavi_tasks.media.addresses import is_public_address
from mavi_tasks.media.local_files import RefusedError, size_text
from mavi_tasks.media.options import MediaOptions
from mavi_tasks.media.sniff import HEAD_BYTES, described, kind_of, mime_of
from mavi_tasks.media.types import Kind, Media
from mavi_tasks.media.urls import stored

_CONNECT_TIMEOUT_S: Final = 10.0
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
_MAX_REDIRECTS: Final = 3
_CHUNK_BYTES: Final = 1 << 18
_EXTRAS: Final = {"s3": "pip install 'mavi-tasks[s3]'", "gs": "pip install gcsfs", "gcs": "pip install gcsfs"}

Clock = Callable[[], float]
Allowed = Callable[[str], bool]


def fetched(
    media: Media,
    path: Path,
    options: MediaOptions,
    clock: Clock = time.monotonic,
    allowed: Allowed = is_public_address,
) -> Path:
    """The content of a remote media, in `path`. Raises RefusedError, whose text holds no signature.

    allowed: which addresses may be visited while `options.allow_private` is off.
    """
    sink = _Sink(path, media, options.max_download_bytes, clock, clock() + options.download_timeout_s)
    with sink:
        if media.place == "s3":
            _copy_object(media, sink)
        else:
            _download(media, sink, options, (lambda _: True) if options.allow_private else allowed)
    return path


def presigned_url(ref: str, options: MediaOptions) -> str:
    """A URL that lets anyone read a bucket object for `options.sign_ttl_s`. Raises RefusedError."""
    files = _filesystem(ref)
    try:
        return str(files.sign(ref, expiration=options.sign_ttl_s))
    except Exception as error:  # every store has errors of its own
        raise RefusedError(
            "sign_failed",
            f"no presigned URL for {stored(ref)}: {type(error).__name__}; check the credentials",
        ) from error


class _Sink:
    """Takes the bytes of one media into a file, within its limits of size, time and kind."""

    def __init__(self, path: Path, media: Media, max_bytes: int, clock: Clock, deadline_s: float) -> None:
        self._media, self._max_bytes, self._clock, self._deadline_s = media, max_bytes, clock, deadline_s
        self._file = path.open("wb")
        self._count = 0
        self._head = b""

    def __enter__(self) -> "_Sink":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def left_s(self) -> float:
        """Seconds until the deadline. Raises RefusedError when it has passed."""
        left = self._deadline_s - self._clock()
        if left <= 0:
            raise self.refused("download_failed", "took longer than media.download_timeout_s")
        return left

    def expect(self, length: int | None) -> None:
        """Refuse early when the stated length is too large."""
        if length is not None and length > self._max_bytes:
            limit = size_text(self._max_bytes)
            raise self.refused(
                "media_too_large", f"has {size_text(length)}, media.max_download_bytes is {limit}"
            )

    def take(self, chunks: Iterable[bytes]) -> None:
        for chunk in chunks:
            self.left_s()
            self._count += len(chunk)
            if self._count > self._max_bytes:
                raise self.refused("media_too_large", f"has more than {size_text(self._max_bytes)}")
            self._look(chunk)
            self._file.write(chunk)
        if self._count == 0:
            raise self.refused("media_empty", "is empty (0 bytes)")
        self._check_kind()

    def refused(self, code: str, text: str) -> RefusedError:
        return RefusedError(code, f"{self._media.uri} {text}")

    def _look(self, chunk: bytes) -> None:
        """Check the kind as soon as the first bytes are there, before the rest of a wrong file is fetched."""
        if len(self._head) < HEAD_BYTES:
            self._head += chunk[: HEAD_BYTES - len(self._head)]
            if len(self._head) >= HEAD_BYTES:
                self._check_kind()

    def _check_kind(self) -> None:
        mime = mime_of(self._head)
        kind: Kind | None = kind_of(mime) if mime else None
        if kind != self._media.kind:
            what = mime or described(self._head)
            raise self.refused("media_kind_unknown", f"holds {what}, but was taken for {self._media.kind}")


def _download(media: Media, sink: _Sink, options: MediaOptions, allowed: Allowed) -> None:
    try:
        url = origin = httpx.URL(media.source)
    except httpx.InvalidURL as error:
        raise sink.refused("media_bad_url", "is not a URL that can be fetched") from error
    for _ in range(_MAX_REDIRECTS + 1):
        _check_scheme(url, sink, options)
        with _answer(url, origin, sink, allowed) as answer:
            target = _redirect(answer, url)
            if target is None:
                _take_body(answer, sink)
                return
        url = target
    raise sink.refused("download_failed", f"redirects more than {_MAX_REDIRECTS} times")


def _take_body(answer: httpcore.Response, sink: _Sink) -> None:
    if answer.status != 200:
        raise sink.refused("download_failed", f"answered HTTP {answer.status}")
    length = _header(answer, b"content-length")
    sink.expect(int(length) if length and length.isdigit() else None)
    if _header(answer, b"content-encoding") not in (None, "identity"):
        # No compression was requested; unpacking it would open the door to archive bombs.
        raise sink.refused("download_failed", "is compressed, although that was not requested")
    sink.take(answer.iter_stream())


@contextmanager
def _answer(url: httpx.URL, origin: httpx.URL, sink: _Sink, allowed: Allowed) -> Iterator[Any]:
    """One reply, its body not yet read; every error of the connection becomes a RefusedError."""
    target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    try:
        with (
            httpcore.ConnectionPool(ssl_context=_tls(), network_backend=_Guarded(allowed, sink)) as pool,
            pool.stream("GET", target, headers=_headers(url, origin)) as answer,
        ):
            yield answer
    except (httpcore.TimeoutException, TimeoutError) as error:
        raise sink.refused("download_failed", "did not answer in time") from error
    except (
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.UnsupportedProtocol,
        OSError,
        UnicodeError,
    ) as error:
        raise sink.refused("download_failed", f"could not be fetched: {type(error).__name__}") from error


class _Guarded(httpcore.NetworkBackend):
    """Connects by address, only to addresses that may be visited, and within the deadline of the download."""

    def __init__(self, allowed: Allowed, sink: _Sink) -> None:
        self._allowed, self._sink = allowed, sink
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        found = _resolved(host, port, self._sink.left_s())
        allowed = [address for address in found if self._allowed(address)]
        if not allowed:
            raise self._sink.refused(
                "download_private", f"points to {host}, in a private network: set media.allow_private: true"
            )
        return _Timed(self._first(allowed, port, local_address, socket_options), self._sink)

    def _first(self, addresses: list[str], port: int, *how: Any) -> httpcore.NetworkStream:
        for address in addresses[:-1]:
            try:
                return self._connected(address, port, *how)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return self._connected(addresses[-1], port, *how)

    def _connected(self, address: str, port: int, *how: Any) -> httpcore.NetworkStream:
        timeout_s = min(self._sink.left_s(), _CONNECT_TIMEOUT_S)
        return self._inner.connect_tcp(address, port, timeout_s, *how)


class _Timed(httpcore.NetworkStream):
    """A connection whose every read and write ends at the deadline of the download.

    A timeout for each read alone would let a server that sends a byte a second go on for ever.
    """

    def __init__(self, inner: httpcore.NetworkStream, sink: _Sink) -> None:
        self._inner, self._sink = inner, sink

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._sink.left_s())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._sink.left_s())

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left_s = self._sink.left_s()
        return _Timed(self._inner.start_tls(ssl_context, server_hostname, left_s), self._sink)

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _resolved(host: str, port: int, timeout_s: float) -> list[str]:
    """Addresses of a name, in the system's order, without zone suffixes. Raises OSError, TimeoutError.

    In a thread, because the system's resolver cannot be given a time limit.
    """
    found: list[Any] = []

    def resolve() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.append(error)

    thread = threading.Thread(target=resolve, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not found:
        raise TimeoutError
    if isinstance(found[0], Exception):
        raise found[0]
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found[0]))


def _check_scheme(url: httpx.URL, sink: _Sink, options: MediaOptions) -> None:
    if url.scheme == "https" or (url.scheme == "http" and options.allow_http):
        return
    if url.scheme == "http":
        raise sink.refused("download_insecure", "uses plain http: set media.allow_http: true")
    raise sink.refused("download_failed", f"redirects to {url.scheme}://, which is not supported")


def _redirect(answer: httpcore.Response, url: httpx.URL) -> httpx.URL | None:
    location = _header(answer, b"location") if answer.status in _REDIRECTS else None
    if location is None:
        return None
    try:
        return url.join(location)
    except httpx.InvalidURL:
        return httpx.URL("invalid://")


def _headers(url: httpx.URL, origin: httpx.URL) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"User-Agent", b"mavi"),
        (b"Accept", b"image/*, video/*, */*;q=0.5"),
        (b"Accept-Encoding", b"identity"),
    ]
    if origin.userinfo and (url.scheme, url.host, url.port) == (origin.scheme, origin.host, origin.port):
        login = unquote(origin.userinfo.decode("ascii")).encode()
        headers.append((b"Authorization", b"Basic " + base64.b64encode(login)))
    return headers


def _header(answer: httpcore.Response, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in answer.headers if key.lower() == name), None)


@lru_cache(maxsize=1)
def _tls() -> SSLContext:
    return httpx.create_ssl_context()


def _copy_object(media: Media, sink: _Sink) -> None:
    files = _filesystem(media.source)
    try:
        with files.open(media.source, "rb") as source:
            sink.expect(getattr(source, "size", None))
            sink.take(iter(lambda: source.read(_CHUNK_BYTES), b""))
    except RefusedError:
        raise
    except FileNotFoundError as error:
        raise sink.refused("media_missing", "does not exist") from error
    except Exception as error:  # every store has errors of its own
        raise sink.refused("media_missing", f"cannot be read: {type(error).__name__}") from error


class _Files(Protocol):
    """The part of fsspec's file systems that is used here."""

    def sign(self, path: str, expiration: int = ..., **kwargs: Any) -> str: ...
    def open(self, path: str, mode: str = ...) -> Any: ...


def _filesystem(ref: str) -> _Files:
    import fsspec

    scheme = ref.partition(":")[0]
    try:
        files: _Files = fsspec.filesystem(scheme)
    except ImportError as error:
        raise RefusedError("s3_needs_extra", f"{scheme}:// needs: {_EXTRAS.get(scheme, scheme)}") from error
    except Exception as error:  # every store has errors of its own
        raise RefusedError("sign_failed", f"{scheme}:// cannot be used: {type(error).__name__}") from error
    return files
