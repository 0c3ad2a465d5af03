"""How large the pages of a Parquet file become when they are unpacked: read from their headers alone.

A page of some hundred bytes may unpack to gigabytes, and one long text of a dictionary may stand in every
row. Arrow sets no bound to either, so sizes are looked at before it reads. The footer is read here, too:
pyarrow's own view of a damaged one ends the process. Both are Thrift's compact protocol:
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

MAX_FOOTER_BYTES: Final = 32_000_000

_CODECS: Final = (None, "snappy", "gzip", "lzo", "brotli", "lz4", "zstd", "lz4_raw")
_BYTE_ARRAY: Final = 6  # the type of texts and bytes
_DICTIONARY_PAGE: Final = 2
_DELTA_BYTE_ARRAY: Final = 7  # the encoding in which a text may begin as the one before it, at no cost
_HEADER_BYTES: Final = 1024  # enough for nearly every header; statistics may make one longer
_MOST_HEADER_BYTES: Final = 1 << 20
_MOST_NESTED: Final = 12  # structs and lists in a footer lie 6 deep


class PageProblem(ValueError):
    """Pages that cannot be read; `str()` reads after the file's name."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One column of one row group: its path in the schema, its bytes from `start` to `end` of the file."""

    path: tuple[str, ...]
    start: int
    end: int
    is_text: bool
    codec: str | None  # None = not packed


@dataclass(frozen=True, slots=True)
class _Page:
    """One page: its kind, where its body is, its size there and unpacked, its values and their encoding."""

    kind: int
    start: int
    packed_bytes: int
    bytes: int
    values: int
    encoding: int


@dataclass(frozen=True, slots=True)
class ChunkSize:
    """What one column of one row group becomes when it is unpacked.

    values: how many, null or not. bytes: of all pages. longest_bytes: the most that one value takes, or may
    take.
    """

    values: int
    bytes: int
    longest_bytes: int


def row_groups(file: BinaryIO) -> list[list[Chunk]]:
    """The column chunks of each row group, from the file's footer. Raises PageProblem."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 8))
    tail = file.read(8)
    footer_bytes = int.from_bytes(tail[:4], "little")
    if footer_bytes > min(MAX_FOOTER_BYTES, size):
        raise PageProblem(f"has a footer of {footer_bytes:,} bytes; at most {MAX_FOOTER_BYTES:,} are read")
    file.seek(size - 8 - footer_bytes)
    try:
        footer = _Thrift(file.read(footer_bytes)).struct()
        return [[_chunk(chunk[3]) for chunk in group[1]] for group in footer[4]]
    except (IndexError, KeyError, TypeError, ValueError) as problem:
        raise PageProblem("has a damaged footer") from problem


def _chunk(about: dict[int, Any]) -> Chunk:
    """A ColumnMetaData: 1 type, 3 path, 4 codec, 7 packed size, 9 and 11 where data and dictionary begin."""
    start = about[9]
    if 0 < about.get(11, 0) < start:
        start = about[11]
    path = tuple(part.decode() for part in about[3])
    return Chunk(path, start, start + about[7], about[1] == _BYTE_ARRAY, _CODECS[about[4]])


def chunk_size(file: BinaryIO, chunk: Chunk, most_page_bytes: int) -> ChunkSize:
    """The size of a column chunk, without unpacking its data.

    Raises PageProblem for a page that unpacks to more than `most_page_bytes`, and for damaged headers.
    """
    values = unpacked = longest = 0
    for page in _pages(file, chunk):
        if page.bytes > most_page_bytes:
            raise PageProblem(
                f"column {chunk.path[0]} has a page of {page.bytes:,} bytes when unpacked; at most "
                f"{most_page_bytes:,} are read: keep media in files, or write smaller pages"
            )
        unpacked += page.bytes
        if page.kind == _DICTIONARY_PAGE:
            longest = max(longest, _longest_text(file, page, chunk))
        else:
            values += page.values
            repeats = page.encoding == _DELTA_BYTE_ARRAY
            longest = max(longest, page.bytes if repeats else page.bytes // max(page.values, 1))
    return ChunkSize(values, unpacked, longest)


def _longest_text(file: BinaryIO, page: _Page, chunk: Chunk) -> int:
    """The bytes of the longest text in a dictionary; of the whole page when it cannot be unpacked here."""
    import pyarrow as pa

    if not chunk.is_text:
        return 0
    file.seek(page.start)
    data: Any = file.read(page.packed_bytes)
    if chunk.codec is not None:
        try:
            data = pa.decompress(data, page.bytes, chunk.codec)
        except (pa.ArrowException, ValueError, OSError):  # LZ4 has three forms
            return page.bytes
    view, at, longest = memoryview(data), 0, 0
    while at + 4 <= len(view):  # 4 bytes of length before each text
        size = int.from_bytes(view[at : at + 4], "little")
        longest, at = max(longest, size), at + 4 + size
    return min(longest, page.bytes)


def _pages(file: BinaryIO, chunk: Chunk) -> Iterator[_Page]:
    start = chunk.start
    while start < chunk.end:
        page = _page(file, start)
        yield page
        start = page.start + page.packed_bytes


def _page(file: BinaryIO, start: int) -> _Page:
    for most in (_HEADER_BYTES, _MOST_HEADER_BYTES):
        file.seek(start)
        thrift = _Thrift(file.read(most))
        try:
            header = thrift.struct()
            break
        except IndexError:  # the header goes on
            continue
    else:
        raise PageProblem(f"has a damaged page at byte {start:,}")
    # 1 kind, 2 size unpacked, 3 size; 5 data page, 7 dictionary page, 8 data page of version 2: in each the
    # number of values comes first.
    details = (header.get(field) for field in (5, 7, 8))
    about: dict[int, Any] = next((found for found in details if isinstance(found, dict)), {})
    numbers: list[Any] = [header.get(field) for field in (1, 2, 3)]
    numbers += [about.get(1, 0), about.get(4 if 8 in header else 2, 0)]
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise PageProblem(f"has a damaged page at byte {start:,}")
    kind, unpacked, packed, values, encoding = numbers
    return _Page(kind, start + thrift.position, packed, unpacked, values, encoding)


class _Thrift:
    """Reads one struct of Thrift's compact protocol: a dict by field number, of ints, bytes, lists, dicts."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Raises IndexError when the data ends before the struct, or is none."""
        if depth > _MOST_NESTED:
            raise IndexError
        found: dict[int, Any] = {}
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._zigzag()
            kind = head & 15
            found[field] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2, 3):  # true and false take a byte in lists alone
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind in (7, 8):
            return self._bytes(8 if kind == 7 else self._varint())
        if kind in (9, 10):
            return self._list(depth + 1)
        if kind == 12:
            return self.struct(depth + 1)
        raise IndexError  # neither header nor footer holds a map

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        if depth > _MOST_NESTED or count > len(self._data):
            raise IndexError
        return [self._value(head & 15, depth) for _ in range(count)]

    def _bytes(self, count: int) -> bytes:
        start = self.position
        self.position += count
        if self.position > len(self._data):
            raise IndexError
        return self._data[start : self.position]

    def _byte(self) -> int:
        self.position += 1
        return self._data[self.position - 1]

    def _varint(self) -> int:
        value = shift = 0
        while shift < 70:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
        raise IndexError

    def _zigzag(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
