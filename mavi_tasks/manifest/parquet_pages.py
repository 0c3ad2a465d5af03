"""How large the pages of a Parquet file become when they are unpacked: read from their headers alone.

A page of some hundred bytes may unpack to gigabytes, and one long text of a dictionary may stand in every row.
Arrow sets no bound to either, so the sizes are looked at before it reads. The headers are Thrift's compact
protocol: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

DICTIONARY_PAGE: Final = 2
DELTA_BYTE_ARRAY: Final = 7  # the encoding in which a text may begin as the one before it, at no cost

_HEADER_BYTES: Final = 1024  # enough for nearly every header; statistics may make one longer
_MOST_HEADER_BYTES: Final = 1 << 20
_MOST_NESTED: Final = 8  # structs in a header lie 3 deep


class PageProblem(ValueError):
    """Pages that cannot be read; `str()` reads after the file's name."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its kind, its size when unpacked, how many values it says it holds, and their encoding."""

    kind: int
    bytes: int
    values: int
    encoding: int

    @property
    def longest_repeated(self) -> int:
        """The most bytes that one value may have without standing in the page as often as it is used."""
        return self.bytes if self.kind == DICTIONARY_PAGE or self.encoding == DELTA_BYTE_ARRAY else 0


def pages(file: BinaryIO, column: Any) -> Iterator[Page]:
    """The pages of one column chunk (pyarrow's metadata of it). Raises PageProblem."""
    start = column.data_page_offset
    if column.has_dictionary_page and 0 < column.dictionary_page_offset < start:
        start = column.dictionary_page_offset
    end = start + column.total_compressed_size
    while start < end:
        page, header_bytes, body_bytes = _page(file, start)
        yield page
        start += header_bytes + body_bytes


def _page(file: BinaryIO, start: int) -> tuple[Page, int, int]:
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
    kind, unpacked, packed = (header.get(field) for field in (1, 2, 3))
    # 5: data page, 7: dictionary page, 8: data page of version 2; the values come first in each.
    about = next((header[field] for field in (5, 7, 8) if isinstance(header.get(field), dict)), {})
    values, encoding = about.get(1, 0), about.get(4 if 8 in header else 2, 0)
    numbers = (kind, unpacked, packed, values, encoding)
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise PageProblem(f"has a damaged page at byte {start:,}")
    return Page(kind, unpacked, values, encoding), thrift.position, packed


class _Thrift:
    """Reads one struct of Thrift's compact protocol: {field: int, or struct as a dict}; the rest is skipped."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > _MOST_NESTED:
            raise IndexError
        found: dict[int, Any] = {}
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._zigzag()
            found[field] = self._value(head & 15, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):  # true and false have no bytes of their own
            return None
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind in (7, 8):
            size = 8 if kind == 7 else self._varint()
            self.position += size
            return None
        if kind == 12:
            return self.struct(depth + 1)
        raise IndexError  # no header holds a list, a set or a map

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
