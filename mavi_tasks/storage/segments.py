"""The journal's segments: their lines, and reading them back as typed records (journal.py writes them)."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Final
from zlib import crc32

import orjson

from mavi_tasks.common.money import pico_name
from mavi_tasks.errors import StorageError

FORMAT_VERSION: Final = 1
_SEGMENT: Final = re.compile(r"[^.]+\.\d{5,}\.(jsonl|sealed)")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which values a journal line's lists hold, in order; everything constant stands in the header."""

    results: tuple[str, ...]
    attempts: tuple[str, ...]
    intents: tuple[str, ...]


def line(record: Mapping[str, Any]) -> bytes:
    text = orjson.dumps(record)
    return b"%08x %b\n" % (crc32(text), text)


def parse(raw: bytes) -> dict[str, Any] | None:
    """One line without its newline, or None when it is damaged."""
    try:
        if raw[8:9] != b" " or int(raw[:8], 16) != crc32(raw[9:]):
            return None
        record = orjson.loads(raw[9:])
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def writer_of(path: Path) -> str:
    """`<writer>.<seq>.jsonl` -> `<writer>`."""
    return path.name.rsplit(".", 2)[0]


def segments(folder: Path) -> list[Path]:
    """Every segment that may hold records, oldest first within a writer; foreign files are left alone."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(folder / name for name in names if _SEGMENT.fullmatch(name))


class Row(list[Any]):
    """One row in the order of its segment; each value also by its column's name: `row.request_key`.

    Money is whole pico-dollars: the column `cost_usd` is `row.cost_pico`. A list, because that is made in
    half the time of a named tuple, and a publisher makes three for each request.
    """

    __slots__ = ()
    names: ClassVar[tuple[str, ...]] = ()

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def by_name(self) -> dict[str, Any]:
        return dict(zip(self.names, self, strict=True))


@lru_cache(maxsize=64)
def row_class(columns: tuple[str, ...]) -> type[Row]:
    """The class of rows with these columns."""
    names = tuple(map(pico_name, columns))
    values = {name: property(itemgetter(position)) for position, name in enumerate(names)}
    return type("Row", (Row,), {"__slots__": (), "names": names, **values})


@dataclass(slots=True)
class Intent:
    """A request is about to be sent."""

    attempt: Row


@dataclass(slots=True)
class Outcome:
    """What came of a send (None: nothing was sent), and the request's result when that is final."""

    attempt: Row | None
    result: Row | None


class Decoder:
    """The lines of one segment, from its header."""

    def __init__(self, header: Mapping[str, Any]) -> None:
        self.intent, self.attempt, self.result = (
            row_class(tuple(header[name])) for name in ("intents", "attempts", "results")
        )

    def __call__(self, raw: bytes) -> Intent | Outcome | None:
        """One line without its newline; None when it is damaged or not a record."""
        record = parse(raw)
        if record is None:
            return None
        kind = record.get("t")
        if kind == "o":
            attempt, result = record["a"], record["r"]
            return Outcome(
                self.attempt(attempt) if attempt is not None else None,
                self.result(result) if result is not None else None,
            )
        return Intent(self.intent(record["a"])) if kind == "i" else None


class Reader:
    """One segment, read as a stream; memory stays flat. Iterating gives records, None for a damaged line.

    A torn last line ends it silently: it was never acknowledged.
    """

    def __init__(self, file: BinaryIO, header: Mapping[str, Any]) -> None:
        self.header = header
        self.decode = Decoder(header)
        self._file = file

    @property
    def carried(self) -> list[Row]:
        """The sends that were in flight when this segment was begun."""
        return [self.decode.intent(values) for values in self.header["carried"]]

    def __iter__(self) -> Iterator[Intent | Outcome | None]:
        for raw in self._file:
            if not raw.endswith(b"\n"):
                return
            yield self.decode(raw[:-1])


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Reader | None]:
    """Open a segment; None when it is gone (another process published it) or its header cannot be read.

    Raises StorageError when the file is there and cannot be opened.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
    with file:
        header = parse_header(file.readline().removesuffix(b"\n"))
        yield Reader(file, header) if header is not None else None


def parse_header(raw: bytes) -> dict[str, Any] | None:
    """A segment's first line without its newline; None when it is damaged or of another version."""
    header = parse(raw)
    known = header is not None and header.get("t") == "h" and header.get("v") == FORMAT_VERSION
    return header if known else None
