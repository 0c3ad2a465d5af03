"""The journal's segments: their lines, and reading them back as typed records (journal.py writes them)."""

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Final
from zlib import crc32

import orjson

from mavi_tasks.common.money import pico_name
from mavi_tasks.errors import StorageError
from mavi_tasks.schema import ATTEMPTS, RESULTS

FORMAT_VERSION: Final = 1
MANY_STARTS: Final = 20  # of records that are looked for in damaged bytes
_SEGMENT: Final = re.compile(r"[^.]+\.\d{5,}\.(jsonl|sealed)")
_START: Final = re.compile(rb'[0-9a-f]{8} \{"')


@dataclass(frozen=True, slots=True)
class Columns:
    """Which values a journal line's lists hold, in order; everything constant stands in the header."""

    results: tuple[str, ...]
    attempts: tuple[str, ...]
    intents: tuple[str, ...]


HEADER_COLUMNS: Final = ("run_id", "job", "gateway")  # the same for a whole segment
COLUMNS: Final = Columns(
    results=tuple(n for n in RESULTS.names if n not in (*HEADER_COLUMNS, "schema_version")),
    attempts=tuple(n for n in ATTEMPTS.names if n not in ("run_id", "schema_version")),
    intents=("attempt_id", "request_key", "model", "started_at", "exposure_usd"),
)


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
    return record if isinstance(record, dict) and "t" in record else None


def salvaged(raw: bytes) -> tuple[list[dict[str, Any]], bool]:
    """The whole records in damaged bytes, where a newline went missing, and whether that is all there is.

    A record begins with 8 digits and `{"`, which no text inside a record can hold: its quotes are escaped.
    """
    starts = [found.start() for found in _START.finditer(raw)][:MANY_STARTS]
    records, read_to = [], 0
    gaps = 0
    for start in starts:
        if start < read_to:
            continue
        for end in dict.fromkeys([*(at - 1 for at in starts if at > start), len(raw), len(raw) - 1]):
            record = parse(raw[start:end])
            if record is not None:
                gaps += start - read_to
                records.append(record)
                read_to = end
                break
    gaps += len(raw) - read_to
    return records, bool(records) and gaps <= len(records)


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

    def __call__(self, raw: bytes) -> list[Intent | Outcome | None]:
        """What one line without its newline holds: one record, as a rule; None is damage or no record."""
        record = parse(raw)
        if record is not None:
            return [self.decoded(record)]
        records, is_all = salvaged(raw)
        return [*map(self.decoded, records), *([] if is_all else [None])]

    def decoded(self, record: Mapping[str, Any]) -> Intent | Outcome | None:
        """A record of this segment; None when it is of another kind, or its values fit no columns."""
        kind, values = record.get("t"), record.get("a")
        if kind == "i" and values is not None:
            return Intent(self.intent(values)) if len(values) == len(self.intent.names) else None
        if kind != "o":
            return None
        result = record["r"]
        if (values is not None and len(values) != len(self.attempt.names)) or (
            result is not None and len(result) != len(self.result.names)
        ):
            return None
        return Outcome(
            self.attempt(values) if values is not None else None,
            self.result(result) if result is not None else None,
        )


class Reader:
    """One segment, read as a stream; memory stays flat. Iterating gives records, None for each damage.

    A torn last line of a segment that was not sealed ends it silently: it was never acknowledged. Zeros are a
    damage: no line has them, and they stand where a disk has lost what was written.
    """

    def __init__(self, file: BinaryIO, header: Mapping[str, Any], *, sealed: bool, header_lost: bool) -> None:
        """header_lost: the header was made up, see `reading`; that is a damage, too."""
        self.header = header
        self.decode = Decoder(header)
        self._file, self._sealed, self._header_lost = file, sealed, header_lost

    @property
    def carried(self) -> list[Row]:
        """The sends that were in flight when this segment was begun."""
        return [self.decode.intent(values) for values in self.header["carried"]]

    def __iter__(self) -> Iterator[Intent | Outcome | None]:
        if self._header_lost:
            yield None
        count, lost, ended = 0, 0, not (self._sealed and self.header.get("ends"))
        for raw in self._file:
            record = parse(raw.removesuffix(b"\n"))
            records, is_all = ([record], True) if record is not None else salvaged(raw)
            for record in records:
                kind = record["t"]
                if kind == "e":
                    ended = count + lost >= record["n"]
                elif kind != "h":  # the header's copy
                    count += 1
                    yield self.decode.decoded(record)
            if not is_all and (self._sealed or raw.endswith(b"\n") or b"\0" in raw):
                lost += 1
                yield None
        if not ended and not lost:  # cut off
            yield None


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Reader | None]:
    """Open a segment; None when it is gone (another process published it) or of a newer version.

    A header that cannot be read is taken from its copy in the next line, else from another segment of the
    run; else the columns of this version are supposed, and job and gateway are not known.
    Raises StorageError when the file is there and cannot be opened.
    """
    try:
        if not S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            raise StorageError(f"{path}: is not a file; move it away")
        file = path.open("rb")
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
    with file:
        lines = [file.readline() for _ in range(3)]
        header, alone = _header_in(lines[0])
        start = len(lines[0]) if alone else 0
        for number in (1, 2):  # a damaged byte may read as a newline, so that the copy is in the third line
            if header is None:
                header, _ = _header_in(lines[number])
                start = sum(map(len, lines[:number]))
        if header is not None and header["v"] != FORMAT_VERSION:
            yield None
            return
        file.seek(start if header is not None else 0)
        found = header or _other_header(path, os.fstat(file.fileno()).st_mtime)
        yield Reader(file, found, sealed=path.suffix == ".sealed", header_lost=header is None)


def _header_in(raw: bytes) -> tuple[dict[str, Any] | None, bool]:
    """The header that a line holds, and whether it holds nothing else."""
    record = parse(raw.removesuffix(b"\n"))
    records = [record] if record is not None else salvaged(raw)[0]
    headers = [one for one in records if one.get("t") == "h"]
    return (headers[0] if headers else None), bool(headers) and len(headers) == len(records)


def _other_header(path: Path, written_s: float) -> dict[str, Any]:
    """A header for a segment that has lost its own."""
    run_id = writer_of(path).rpartition("-")[0]
    for other in segments(path.parent):
        if other != path and other.name.startswith(f"{run_id}-"):
            with contextlib.suppress(FileNotFoundError), other.open("rb") as file:
                header, _ = _header_in(file.readline())
                if header is not None and header["v"] == FORMAT_VERSION:
                    return {**header, "carried": [], "ends": False}
    return made_up_header(run_id, written_s)


def made_up_header(run_id: str, written_s: float) -> dict[str, Any]:
    """What can be said of a segment by its name and the time of its file."""
    return {
        "run_id": run_id,
        "job": None,
        "gateway": None,
        "answer_schema": None,
        "run": {"run_id": run_id, "started_at": int(written_s * 1e6)},
        "date": time.strftime("%Y-%m-%d", time.gmtime(written_s)),
        "carried": [],
        "results": COLUMNS.results,
        "attempts": COLUMNS.attempts,
        "intents": COLUMNS.intents,
    }
