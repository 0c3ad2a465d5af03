"""Media servers that drip, lie about lengths, send bombs or go round in circles; pipes in place of files."""

import gzip
import os
import socket
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mavi_tasks import manifest
from mavi_tasks.errors import MaviError
from mavi_tasks.job import load_job
from mavi_tasks.media import Delivery, MediaOptions, Refusal, identify
from tests.bench.hostile.case import Case
from tests.support.media_files import EVERYTHING, deliver, image_bytes

DEADLINE_S = 0.5
LATE_S = 2.0  # a busy machine needs more than the deadline itself
OPTIONS = MediaOptions(
    download=True,
    allow_http=True,
    allow_private=True,
    download_timeout_s=DEADLINE_S,
    max_download_bytes=2_000_000,
)
PHOTO = image_bytes("JPEG")
OK = b"HTTP/1.1 200 OK\r\n"
PARTIAL = b"HTTP/1.1 206 Partial\r\nContent-Length: %d\r\n\r\n" % len(PHOTO)
GOOD = OK + b"Content-Length: %d\r\n\r\n" % len(PHOTO) + PHOTO
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = OK + b"Content-Length: 1000000\r\n\r\n"
BIG_CHUNK = b"ffff\r\n" + PHOTO[:100] + b"\0" * (0xFFFF - 100) + b"\r\n"
Serve = Callable[[socket.socket], None]


def sends(data: bytes, *, pause_s: float = 0.0, piece: int = 1 << 16, before: bytes = b"") -> Serve:
    """A reply sent in pieces, with a pause after each."""

    def serve(client: socket.socket) -> None:
        client.sendall(before)
        for start in range(0, len(data), piece):
            client.sendall(data[start : start + piece])
            time.sleep(pause_s)

    return serve


def drips(data: bytes, *, before: bytes = b"") -> Serve:
    return sends(data, before=before, piece=1, pause_s=0.1)


def endless(piece: bytes, *, before: bytes = b"", pause_s: float = 0.0) -> Serve:
    """The same piece again and again, for a minute."""

    def serve(client: socket.socket) -> None:
        client.sendall(before)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            client.sendall(piece)
            time.sleep(pause_s)

    return serve


def redirects(target: Callable[[int], str], *, pause_s: float = 0.0) -> Serve:
    """Every request is sent on; `target` gets the number of the request."""
    count = iter(range(10**6))

    def serve(client: socket.socket) -> None:
        time.sleep(pause_s)
        location = target(next(count))
        client.sendall(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())

    return serve


def packed(encoding: str, body: bytes) -> Serve:
    return sends(
        body, before=OK + f"Content-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    )


def claims(*lengths: str) -> Serve:
    """The photo, with these for its length."""
    return sends(
        PHOTO, before=OK + "".join(f"Content-Length: {one}\r\n" for one in lengths).encode() + b"\r\n"
    )


def silent(client: socket.socket) -> None:
    time.sleep(60)


def answered(serve: Serve) -> tuple[Delivery | Refusal, float]:
    """What a download from such a server ends in, and the seconds it took."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = server.accept()
                    threading.Thread(target=reply, args=(client,), daemon=True).start()

        def reply(client: socket.socket) -> None:
            with client, suppress(OSError):
                client.recv(1 << 16)
                serve(client)

        threading.Thread(target=accept, daemon=True).start()
        began = time.monotonic()
        media = identify(f"http://127.0.0.1:{server.getsockname()[1]}/a.jpg")
        outcome = deliver([media], EVERYTHING, options=OPTIONS, force_inline=True)
        return outcome, time.monotonic() - began


def refused(name: str, serve: Serve) -> Case:
    """The download ends in a refusal, near its deadline."""

    def attempt(_: Path) -> str | None:
        outcome, took_s = answered(serve)
        if took_s > DEADLINE_S + LATE_S:
            return f"took {took_s:.1f} s with a deadline of {DEADLINE_S} s"
        return None if isinstance(outcome, Refusal) else "it was taken for an image"

    return Case(name, attempt, most_mb=300)


def taken(name: str, serve: Serve) -> Case:
    """A slow but whole reply is taken."""

    def attempt(_: Path) -> str | None:
        outcome, _took_s = answered(serve)
        return outcome.reason if isinstance(outcome, Refusal) else None

    return Case(name, attempt)


SLOW = {
    "nothing at all": silent,
    "the status line, a byte at a time": drips(OK * 9),
    "one header, a byte at a time": drips(b"X: " + b"a" * 999, before=OK),
    "headers, one at a time": endless(b"X-A: b\r\n", before=OK, pause_s=0.1),
    "continues, one at a time": endless(b"HTTP/1.1 100 Continue\r\n\r\n", pause_s=0.1),
    "early hints, one at a time": endless(b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n", pause_s=0.1),
    "the body, a byte at a time": drips(PHOTO, before=LONG),
    "the body until the end of the connection": drips(PHOTO, before=OK + b"\r\n"),
    "chunks of a byte": endless(b"1\r\n\xff\r\n", before=CHUNKED, pause_s=0.1),
    "the size of a chunk, a digit at a time": endless(b"0", before=CHUNKED, pause_s=0.1),
    "an extension of a chunk without end": endless(b"a", before=CHUNKED + b"1;", pause_s=0.1),
    "trailers, one at a time": endless(b"X: y\r\n", before=CHUNKED + b"0\r\n", pause_s=0.1),
    "everything but the last byte": lambda client: (client.sendall(GOOD[:-1]), silent(client)),
    "redirects, each within the deadline": redirects(lambda n: f"/{n}.jpg", pause_s=0.3),
    "a redirect, a byte at a time": drips(b"Location: /b.jpg\r\n" * 9, before=b"HTTP/1.1 302 Found\r\n"),
}
LARGE = {
    "headers without end": endless(b"X-A: " + b"b" * 1000 + b"\r\n", before=OK),
    "one header without end": endless(b"b" * 4096, before=OK + b"X: "),
    "continues without end": endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "a body without end": endless(PHOTO + b"\0" * 60_000, before=OK + b"\r\n"),
    "chunks without end": endless(BIG_CHUNK, before=CHUNKED),
    "a chunk of 2^60 bytes": endless(PHOTO + b"\0" * 60_000, before=CHUNKED + b"1000000000000000\r\n"),
    "a length of 10^12": claims("1000000000000"),
    "a length of 5,000 digits": claims("9" * 5000),
}
WRONG = {
    "a length that is too long": claims("99999"),
    "a length that is too short": claims("10"),
    "a negative length": claims("-1"),
    "two lengths": claims("10", "20"),
    "a length that is no number": claims("many"),
    "chunks cut short": sends(b"ff\r\n" + PHOTO[:99], before=CHUNKED),
    "a chunk size that is no number": sends(b"zz\r\n" + PHOTO, before=CHUNKED),
    "an empty body": sends(b"", before=OK + b"Content-Length: 0\r\n\r\n"),
    "no reply": lambda client: None,
    "not HTTP": sends(b"220 mail.example ESMTP\r\n"),
    "a status that is no number": sends(b"HTTP/1.1 abc OK\r\n\r\n" + PHOTO),
    "part of an image": sends(PHOTO, before=PARTIAL),
}
ROUND = {
    "to itself": redirects(lambda n: "/a.jpg"),
    "without end": redirects(lambda n: f"/{n}.jpg"),
    "that grow": redirects(lambda n: "/" + "a" * (n + 1) * 10_000),
    "to a file": redirects(lambda n: "file:///etc/passwd"),
    "to another scheme": redirects(lambda n: "gopher://127.0.0.1:25/_MAIL"),
    "to what is no host": redirects(lambda n: "http://[bad"),
    "to a data URL": redirects(lambda n: "data:image/jpeg;base64,/9j/"),
    "without a host": redirects(lambda n: "http://"),
    "to port 0": redirects(lambda n: "http://127.0.0.1:0/"),
    "to port 99999": redirects(lambda n: "http://127.0.0.1:99999/"),
    "to a name that is too long": redirects(lambda n: f"http://{'a' * 300}.example/"),
    "to a name with a line end": redirects(lambda n: "http://127.0.0.1/%0d%0aX:y"),
}
ZEROS = gzip.compress(b"\0" * 20_000_000)
PACKED = {
    "gzip": packed("gzip", ZEROS),
    "gzip, gzip": packed("gzip, gzip", gzip.compress(ZEROS)),
    "gzip, gzip, gzip": packed("gzip, gzip, gzip", gzip.compress(gzip.compress(ZEROS))),
    "deflate": packed("deflate", zlib.compress(b"\0" * 20_000_000)),
    "br": packed("br", b"\x8b\x02\x80" * 100),
    "an encoding that nobody knows": packed("snappy", PHOTO),
    "in the transfer": sends(ZEROS, before=OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
}


def piped(suffix: str, read: Callable[[Path], Any]) -> Case:
    """A named pipe where a file should be: refused at once."""

    def attempt(folder: Path) -> str | None:
        path = folder / f"a{suffix}"
        os.mkfifo(path)
        try:
            found = read(path)
        except MaviError:
            return None
        return None if isinstance(found, Refusal) else "it was read"

    return Case(f"a pipe named a{suffix}", attempt, longest_s=10)


CASES = [
    *(
        refused(f"{kind} {name}", serve)
        for kind, servers in (
            ("slow:", SLOW),
            ("large:", LARGE),
            ("wrong:", WRONG),
            ("redirects", ROUND),
            ("packed:", PACKED),
        )
        for name, serve in servers.items()
    ),
    taken("a good reply", sends(GOOD)),
    taken("a good reply in pieces", sends(GOOD, piece=200, pause_s=0.01)),
    *(
        piped(suffix, lambda path: list(manifest.read(str(path))))
        for suffix in (".csv", ".tsv", ".jsonl", ".txt", ".parquet", ".csv.gz")
    ),
    *(piped(suffix, lambda path: identify(str(path))) for suffix in (".jpg", ".png", ".mp4", ".heic")),
    piped(".yaml", load_job),
]
