"""Manifests that are small on disk and huge in memory, that never end, or that name what they must not."""

import gzip
import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mavi_tasks import manifest
from mavi_tasks.errors import InputError
from mavi_tasks.manifest.resolve import BadReference, Base
from tests.bench.hostile.case import Case

MB = 1_000_000
MEDIA = b"https://h.example/a.jpg"
ROW = b'{"media_url": "https://h.example/a.jpg", "x": '


def reads(path: Path, wanted: str | None) -> str | None:
    """Read it to its end: held when the error says what is wanted (None: when it is read, or told)."""
    try:
        for _ in manifest.read(path):
            pass
    except InputError as problem:
        text = str(problem)
        if len(text) > 20_000:
            return f"an error of {len(text):,} characters"
        return None if wanted is None or wanted in text else f"said {text[:120]!r}, not {wanted!r}"
    return None if wanted is None else "was read as if nothing were wrong"


def text(name: str, parts: Iterable[bytes], wanted: str | None) -> Callable[[Path], str | None]:
    def attempt(folder: Path) -> str | None:
        path = folder / name
        if name.endswith(".gz"):
            with gzip.open(path, "wb", compresslevel=1) as file:
                file.writelines(parts)
        else:
            path.write_bytes(b"".join(parts))
        return reads(path, wanted)

    return attempt


def times(piece: bytes, count: int) -> Iterable[bytes]:
    """Many pieces of 1 MB at most, never together in memory."""
    at_once = max(1, MB // len(piece))
    return (piece * min(at_once, count - start) for start in range(0, count, at_once))


def joined(*parts: bytes | Iterable[bytes]) -> Iterable[bytes]:
    for part in parts:
        yield from (part,) if isinstance(part, bytes) else part


LONG = "has more than 32,000,000 bytes"
TEXTS: dict[str, tuple[str, Iterable[bytes], str | None]] = {
    "a line of 300 MB, packed": (
        "m.csv.gz",
        joined(b"media_url,x\n", MEDIA, b",", times(b"a", 300 * MB)),
        LONG,
    ),
    "a header of 100 million columns": ("m.csv.gz", times(b"a,", 100 * MB), LONG),
    "a header of 1 million columns": ("m.csv", joined(b"media_url", times(b",a", MB)), "1,000,001 columns"),
    "a column's name of 5 MB": ("m.csv", joined(b"media_url,", times(b"n", 5 * MB)), "whose name is longer"),
    "a row of 30 million cells": (
        "m.csv.gz",
        joined(b"media_url,x\n", times(b",", 30 * MB)),
        "30000001 columns",
    ),
    "a quote that never closes": ("m.csv.gz", joined(b'media_url,x\na,"', times(b"a\n", 100 * MB)), LONG),
    "a row over a million lines": ("m.csv.gz", joined(b"media_url,x\n", times(b'"\n",', 60 * MB)), LONG),
    "a line of carriage returns": ("m.csv.gz", joined(b"media_url\n", times(b"\r", 50 * MB)), None),
    "empty lines": ("m.csv.gz", joined(b"media_url\n", times(b"\n", 20 * MB)), None),
    "a wide character in 30 MB": (
        "m.csv.gz",
        joined("media_url,x\na,\U0001f600".encode(), times(b"a", 30 * MB)),
        None,
    ),
    "a byte that is not UTF-8 after 200 MB": (
        "m.csv.gz",
        joined(b"media_url\n", times(MEDIA + b"\n", 2 * MB), b"\xff\n"),
        "byte 0xff is not UTF-8",
    ),
    "a bad byte in a line without end": ("m.txt.gz", joined(b"\xff", times(b"a", 300 * MB)), "byte 0xff"),
    "a NUL after a million rows": (
        "m.csv.gz",
        joined(b"media_url\n", times(MEDIA + b"\n", MB), b"\0"),
        "holds a NUL byte",
    ),
    "nothing but NULs": ("m.csv.gz", times(b"\0", 300 * MB), "NUL"),
    "nothing but NULs, as JSON": ("m.jsonl.gz", times(b"\0", 300 * MB), LONG),
    "a reference of 300 MB": ("m.txt.gz", times(b"a", 300 * MB), LONG),
    "a tab line of 300 MB": ("m.tsv.gz", joined(b"media_url\tx\na\t", times(b"a", 300 * MB)), LONG),
    "a JSON line of 300 MB": ("m.jsonl.gz", joined(ROW, b'"', times(b"a", 300 * MB)), LONG),
    "10 million empty lists": (
        "m.jsonl.gz",
        joined(ROW, b"[", times(b"[],", 10 * MB), b"1]}"),
        "1,000,000 values",
    ),
    "10 million empty objects": (
        "m.jsonl.gz",
        joined(ROW, b"[", times(b"{},", 10 * MB), b"1]}"),
        "1,000,000 values",
    ),
    "15 million numbers": (
        "m.jsonl.gz",
        joined(ROW, b"[", times(b"1,", 15 * MB), b"1]}"),
        "1,000,000 values",
    ),
    "JSON 150 levels deep": ("m.jsonl", [ROW, b"[" * 150, b"]" * 150, b"}"], "100 levels deep"),
    "JSON 900 levels deep, a key twice": (
        "m.jsonl",
        [ROW, b'{"a":1,"a":' * 900, b"1", b"}" * 901],
        "100 levels deep",
    ),
    "JSON 5 million levels deep": ("m.jsonl", [b"{", b'"a":[' * 5 * MB], "1,000,000 values"),
    "a JSON key of 5 MB": (
        "m.jsonl",
        [b'{"media_url": "a", "', b"k" * 5 * MB, b'": 1}'],
        "whose name is longer",
    ),
    "100,000 keys": (
        "m.jsonl",
        [b"{" + b",".join(b'"k%d":1' % n for n in range(100_000)) + b"}"],
        "100,000 columns",
    ),
    "3,000 rows with 1,000 keys of their own": (
        "m.jsonl",
        (b"{" + b",".join(b'"k%d_%d":1' % (row, n) for n in range(1000)) + b"}\n" for row in range(3000)),
        "and 2,980 more problems",
    ),
    "a number of 100,000 digits": ("m.jsonl", [ROW, b"9" * 100_000, b"}"], "is not valid JSON"),
    "1e999999999 in JSON": ("m.jsonl", [ROW, b"1e999999999}"], "is not valid JSON"),
    "a huge number beside a key twice": (
        "m.jsonl",
        [ROW, b'{"a":1,"a":', b"9" * 300, b"}}"],
        "duplicate key 'a'",
    ),
    "half a surrogate": ("m.jsonl", [ROW, b'"\\ud800"}'], "is not valid JSON"),
    "100,000 media in one row": (
        "m.jsonl",
        [b'{"media_url": [', b'"a",' * 100_000, b'"a"]}'],
        "more than 1,000 media",
    ),
    "10 million media in one cell": (
        "m.tsv",
        [b"media_url\n[", b'"a",' * 7 * MB, b'"a"]'],
        "more than 1,000 media",
    ),
    "a media column of 5,000 digits": ("m.csv", [b"media_url,media_url_", b"1" * 900, b"\na,b\n"], None),
    "lists in lists as media": ("m.tsv", [b"media_url\n", b"[" * 100_000, b"\n"], None),
    "a BOM in UTF-16": ("m.csv", ["media_url\na\n".encode("utf-16")], "is UTF-16"),
    "a BOM in UTF-32": ("m.jsonl", ["{}".encode("utf-32")], "is UTF-16"),
    "a BOM twice": ("m.csv", [b"\xef\xbb\xbf" * 2, b"media_url\n", MEDIA, b"\n"], None),
    "half a gzip": ("m.csv", [], "is empty"),
    "a name of a file that is none": ("m.csv", [b"media_url\n../../../../etc/\n"], "is a folder, not a file"),
    "a device as media": ("m.csv", [b"media_url\n/dev/zero\n"], "is not a regular file"),
}


def members(count: int) -> Callable[[Path], str | None]:
    """A gzip file of many empty members."""

    def attempt(folder: Path) -> str | None:
        (folder / "m.csv.gz").write_bytes(gzip.compress(b"") * count)
        return reads(folder / "m.csv.gz", "is empty")

    return attempt


# ---- Parquet ----

PLAIN = {"compression": "brotli", "write_statistics": False, "store_schema": False}


def repeated(value: str, count: int) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), [value])


def in_one_row(values: Any) -> Any:
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)


def table(make: Callable[[], Any], wanted: str | None, **options: Any) -> Callable[[Path], str | None]:
    """A Parquet file with the column x. Made in a process of its own: only the reading is measured."""

    def attempt(folder: Path) -> str | None:
        path = folder / "m.parquet"
        if (pid := os.fork()) == 0:
            column = make()
            media = [MEDIA.decode()] * len(column)
            pq.write_table(pa.table({"media_url": media, "x": column}), path, **PLAIN | options)
            os._exit(0)
        os.waitpid(pid, 0)
        return reads(path, wanted)

    return attempt


PLAIN_TEXT = {"use_dictionary": False}
DELTA = {"use_dictionary": False, "column_encoding": {"x": "DELTA_BYTE_ARRAY", "media_url": "PLAIN"}}
TABLES: dict[str, Callable[[Path], str | None]] = {
    "a page of 130 MB": table(lambda: ["a" * 130 * MB], "has a page of 130,000,0", **PLAIN_TEXT),
    "a text of 50 MB in every row": table(
        lambda: repeated("a" * 50 * MB, 1000),
        "has more than 32,000,000 bytes",
        dictionary_pagesize_limit=1 << 30,
    ),
    "a text of 1 MB in 2,000 rows": table(lambda: repeated("a" * MB, 2000), None),
    "a text of 1 MB that each row repeats": table(lambda: ["a" * MB] * 200, None, **DELTA),
    "30 million nulls in one row": table(
        lambda: in_one_row(pa.nulls(30 * MB, pa.int8())), "30,000,000 values of up to"
    ),
    "19 million nulls in one row": table(lambda: in_one_row(pa.nulls(19 * MB, pa.int8())), None),
    "a list of one text of 1 MB": table(
        lambda: in_one_row(repeated("a" * MB, 10_000)), "write smaller row groups"
    ),
    "bytes, which no prompt shows": table(lambda: [b"a" * 130 * MB], None, **PLAIN_TEXT),
    "a date in the year 0": table(lambda: pa.array([-719_800], pa.date32()), "cannot be read"),
    "a date 5 million years away": table(lambda: pa.array([2**31 - 1], pa.date32()), "cannot be read"),
    "a time 100,000 years away": table(lambda: pa.array([2**62], pa.timestamp("us")), "cannot be read"),
    "an unknown time zone": table(
        lambda: pa.array([1], pa.timestamp("s", "Foo/Bar")), "cannot be read", store_schema=True
    ),
    "a length of time without end": table(
        lambda: pa.array([2**62], pa.duration("s")), "cannot be read", store_schema=True
    ),
    "odd times in a list": table(lambda: pa.array([[2**62]], pa.list_(pa.timestamp("us"))), "cannot be read"),
    "structs in structs": table(lambda: pa.array([nested(60)]), None),
}


def nested(depth: int) -> Any:
    return {"a": nested(depth - 1)} if depth else 1


def many_columns(folder: Path) -> str | None:
    columns = {f"c{number}": [1] for number in range(12_000)}
    pq.write_table(pa.table({"media_url": ["a"], **columns}), folder / "m.parquet", **PLAIN)
    return reads(folder / "m.parquet", "has 12,001 columns")


def damaged(flip: int) -> Callable[[Path], str | None]:
    """Every byte of a small Parquet file, one after the other."""

    def attempt(folder: Path) -> str | None:
        made = io.BytesIO()
        pq.write_table(pa.table({"media_url": ["https://h/a"] * 3, "x": [["a"], [], None]}), made, **PLAIN)
        for position in range(len(made.getvalue())):
            data = bytearray(made.getvalue())
            data[position] ^= flip
            (folder / "m.parquet").write_bytes(data)
            if problem := reads(folder / "m.parquet", None):
                return f"byte {position}: {problem}"
        return None

    return attempt


# ---- a remote manifest and the files of this machine ----

REMOTES = ("https://h.example/lists/", "s3://bucket/lists/")
LOCAL = (
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "file:/etc/passwd",
    "file://localhost/etc/passwd",
    "file:etc",
    "\tfile:///etc/passwd",
    "fi\tle:///etc/passwd",
    "\x01file:///etc/passwd",
    " file:///etc/passwd",
    "/etc/passwd",
    "//etc/passwd",
    "../../../../etc/passwd",
    "~/.ssh/id_rsa",
    "~root/x",
    "C:\\x",
    "\\\\host\\x",
)


def stays_remote(ref: str) -> Callable[[Path], str | None]:
    def attempt(folder: Path) -> str | None:
        for base in REMOTES:
            try:
                found = Base(base, remote=True).absolute(ref)
            except BadReference:
                continue
            if not found.startswith(("https://", "http://", "s3://")):
                return f"{base}: {ref!r} is {found!r}"
        return None

    return attempt


CASES = [
    *(Case(name, text(*parts), longest_s=30, most_mb=700) for name, parts in TEXTS.items()),
    *(Case(f"Parquet: {name}", attempt, longest_s=30, most_mb=900) for name, attempt in TABLES.items()),
    *(
        Case(f"Parquet: bytes flipped by {flip:#x}", damaged(flip), most_mb=500)
        for flip in (0x01, 0x10, 0x80, 0xFF)
    ),
    Case("Parquet: 12,000 columns", many_columns, most_mb=700),
    Case("gzip: 100,000 empty members", members(100_000), most_mb=400),
    *(Case(f"remote: {ref!r}", stays_remote(ref), longest_s=10, most_mb=400) for ref in LOCAL),
]
