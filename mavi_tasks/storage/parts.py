"""Parts: the Parquet files of a dataset, each with a checksum of its content, and which of them are whole.

Parquet's own page checksums leave the footer and the page headers uncovered: of 1,200 flipped bits 10 in the
footer changed or dropped values without an error. So a part has 78 bytes more, where readers look at nothing:

    pages | "mavi-sha256 " and 64 hexadecimal digits | footer | its length | PAR1

The digest is that of all other bytes of the file, and the footer's metadata say that it is there. A part
without it, of an earlier version or from elsewhere, is read once as a whole instead.

A broken part is never deleted. Its readers leave it out and name it in a warning on the logger `mavi.damage`,
by which a command knows that it must not end with 0; where a smaller sum would mislead, it is an error.
"""

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path, PurePath
from stat import S_ISREG
from typing import BinaryIO, Final

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from mavi_tasks.errors import StorageError

damage_log = logging.getLogger("mavi.damage")

FORMAT: Final = pads.ParquetFileFormat(
    default_fragment_scan_options=pads.ParquetFragmentScanOptions(page_checksum_verification=True)
)
ROWS_PER_GROUP: Final = 10_000
_MARK: Final = b"mavi-sha256 "
_SEAL_BYTES: Final = len(_MARK) + 64
_IN_FOOTER: Final = "mavi.sha256"
_TAIL: Final = 8  # the footer's length and the magic
_MAGIC: Final = b"PAR1"
_CHUNK: Final = 1 << 20


class PartWriter:
    """Writes one part as a stream of row groups; `close` gives it its checksum."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.rows = path, 0
        self._writer = pq.ParquetWriter(
            path, schema, compression="zstd", store_decimal_as_integer=True, write_page_checksum=True
        )

    def write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows, row_group_size=ROWS_PER_GROUP)
        self.rows += rows.num_rows

    def close(self) -> None:
        self._writer.add_key_value_metadata({_IN_FOOTER: "before the footer"})
        self._writer.close()
        with self.path.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            start = _footer_start(file, size)
            assert start is not None
            digest = _digest(file, [(0, size)])
            file.seek(start)
            footer = file.read()
            file.seek(start)
            file.write(_MARK + digest + footer)


def write_part(path: Path, rows: pa.Table) -> None:
    """Write a part at once."""
    writer = PartWriter(path, rows.schema)
    writer.write(rows)
    writer.close()


@dataclass(frozen=True, slots=True)
class BrokenPart:
    """A part that must not be counted, and why."""

    path: Path
    problem: str


def whole(paths: Iterable[Path], schema: pa.Schema | None = None) -> list[Path]:
    """Those of these parts that can be trusted; the others are named in a warning.

    schema: the columns that a part without a checksum must be readable as; None for its own. A part that is
    gone by now is left out, too.
    """
    good = []
    for path, problem in _checked_parts(paths, schema):
        if problem is None:
            good.append(path)
        else:
            damage_log.warning("%s: %s; it is not counted: see mavi doctor DIR --verify", path, problem)
    return good


def broken(paths: Iterable[Path], schema: pa.Schema | None = None) -> list[BrokenPart]:
    """Those of these parts that cannot be trusted."""
    return [
        BrokenPart(path, problem) for path, problem in _checked_parts(paths, schema) if problem is not None
    ]


def _checked_parts(paths: Iterable[Path], schema: pa.Schema | None) -> Iterator[tuple[Path, str | None]]:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            yield path, problem_of(path, schema)


# A part never changes, so each is checked once by a process, unless somebody else has written to it.
_known: dict[Path, tuple[tuple[int, int, int], str | None]] = {}


def problem_of(path: Path, schema: pa.Schema | None = None) -> str | None:
    """What is wrong with a part; None when nothing is. Raises FileNotFoundError."""
    if not is_filed(path):
        return (
            f"is not a part of a dataset (its folder should be run_date=YYYY-MM-DD, not {path.parent.name})"
        )
    try:
        stat = path.stat()
        if not S_ISREG(stat.st_mode):  # opening a pipe would wait for ever
            return "is not a file"
        stamp = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
        known = _known.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        problem = _problem(path, stat.st_size, schema)
    except FileNotFoundError:
        raise
    except OSError as error:
        return f"cannot be read ({error.strerror or type(error).__name__})"
    _known[path] = (stamp, problem)
    return problem


def require_whole(paths: Iterable[Path], schema: pa.Schema | None = None) -> None:
    """For who must not miss a row: raises StorageError that names those of these parts that are broken."""
    found = broken(paths, schema)
    if found:
        problems = "\n".join(f"{one.path}: {one.problem}" for one in found)
        raise StorageError(f"{problems}\nsee mavi doctor DIR --verify for what is lost and what to do")


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Some columns of a part; raises StorageError when it is broken."""
    require_whole([path])
    return pq.read_table(path, columns=list(columns), partitioning=None)


def row_count(path: Path) -> int | None:
    """The rows that a part says it has; None when it cannot say."""
    try:
        if not path.is_file():
            return None
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):
        return None


def is_filed(path: PurePath) -> bool:
    """Whether a file lies where a reader can tell its day: in run_date=YYYY-MM-DD, if in any partition."""
    name, _, text = path.parent.name.partition("=")
    if name != "run_date":
        return True
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _problem(path: Path, size: int, schema: pa.Schema | None) -> str | None:
    with path.open("rb") as file:
        footer = _footer_start(file, size)
        if footer is None:
            return "is broken (cut off, or not Parquet)"
        start = max(0, footer - _SEAL_BYTES)
        file.seek(start)
        found = file.read(_SEAL_BYTES)
        if found.startswith(_MARK):
            same = found[len(_MARK) :] == _digest(file, [(0, start), (footer, size)])
            return None if same else "is broken (its bytes do not match its checksum)"
        if _IN_FOOTER.encode() in file.read():
            return "is broken (its checksum is damaged)"
    return _unreadable(path, schema)


def _footer_start(file: BinaryIO, size: int) -> int | None:
    """Where the footer begins; None when there is none."""
    if size < _TAIL + len(_MAGIC):
        return None
    file.seek(size - _TAIL)
    tail = file.read(_TAIL)
    start = size - _TAIL - int.from_bytes(tail[:4], "little")
    return start if tail[4:] == _MAGIC and start >= len(_MAGIC) else None


def _digest(file: BinaryIO, ranges: Iterable[tuple[int, int]]) -> bytes:
    digest = sha256()
    for start, end in ranges:
        file.seek(start)
        while start < end and (chunk := file.read(min(_CHUNK, end - start))):
            digest.update(chunk)
            start += len(chunk)
    return digest.hexdigest().encode()


def _unreadable(path: Path, schema: pa.Schema | None) -> str | None:
    """Read a part without a checksum from end to end: it must not fail later, in the middle of a sum."""
    try:
        for _ in pads.dataset([str(path)], schema=schema, format=FORMAT).to_batches():
            pass
    except (OSError, pa.ArrowException, ValueError) as error:
        return f"is broken (it cannot be read as Parquet: {str(error).splitlines()[0][:200]})"
    return None
