"""Arrow columns to numpy: numbers of texts, days of instants, hashes of texts, exact sums."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from hashlib import blake2b
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mavi_tasks.errors import InputError
from mavi_tasks.schema import INSTANT

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

DAY_US = 86_400_000_000
EPOCH_DAY = date(1970, 1, 1).toordinal()
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # odd and far from a power of two: spreads bits when multiplied
FOLD = np.uint64(29)
EXACT_FLOAT = 2**53  # float64 adds whole numbers exactly up to here
LONG_TEXT = 256  # bytes; longer texts are keyed one by one
UNKNOWN = "(unknown)"


@dataclass(slots=True)
class StringDictionary:
    """Numbers for strings, the same in every batch; a null becomes `(unknown)`."""

    strings: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, text: str | None) -> int:
        """The number of a text, a new one when it was not seen before."""
        known = UNKNOWN if text is None else text
        if known not in self.numbers:
            self.numbers[known] = len(self.strings)
            self.strings.append(known)
        return self.numbers[known]


@dataclass(frozen=True, slots=True)
class DictionaryColumn:
    """A column as small numbers local to its batch; `globals[local]` is the one in the StringDictionary."""

    local: Ints
    globals: list[int]


def dictionary_column(column: Any, dictionary: StringDictionary) -> DictionaryColumn:
    """A text column as numbers, by the batch's own dictionary: no text is compared row by row."""
    if not pa.types.is_dictionary(column.type):
        column = pc.dictionary_encode(column)
    entries = [dictionary.number(text) for text in column.dictionary.to_pylist()]
    indices = column.indices
    if indices.null_count:
        indices = pc.fill_null(indices, len(entries))
        entries.append(dictionary.number(None))
    return DictionaryColumn(np.asarray(indices, dtype=np.int64), entries or [dictionary.number(None)])


def int_column(column: Any) -> tuple[Ints, Mask]:
    """An integer column as (values, known): a null is 0 and not known."""
    known = np.asarray(column.is_valid())
    filled = pc.fill_null(column, 0) if column.null_count else column
    return np.asarray(filled, dtype=np.int64), known


def instants(finished: Any, started: Any) -> Ints:
    """Microseconds since 1970 of when an attempt ended, or began when its end is not known."""
    when = pc.coalesce(finished, started) if finished.null_count else finished
    if when.type != INSTANT:
        when = when.cast(INSTANT)
    return np.asarray(pc.fill_null(when.cast(pa.int64()), 0), dtype=np.int64)


def keys(column: Any) -> Keys:
    """64 bits per text, the same for equal texts; texts that differ collide once in 10**19 pairs or so.

    Used to count distinct requests and items, never to add money up.
    """
    if column.type != pa.string():
        column = column.cast(pa.string())
    if not len(column):
        return np.zeros(0, dtype=np.uint64)
    column = pc.fill_null(column, "") if column.null_count else column
    offsets = np.frombuffer(column.buffers()[1], dtype="<i4")[column.offset : column.offset + len(column) + 1]
    lengths = np.diff(offsets).astype(np.int64)
    blob = column.buffers()[2]
    raw = np.frombuffer(blob, dtype=np.uint8) if blob is not None else np.zeros(0, dtype=np.uint8)
    found = _mixed(_grid(raw[offsets[0] : offsets[-1]], lengths), lengths)
    for place in np.flatnonzero(lengths > LONG_TEXT):
        digest = blake2b(str(column[int(place)]).encode(), digest_size=8).digest()
        found[place] = int.from_bytes(digest, "little")
    return found


def _grid(raw: npt.NDArray[np.uint8], lengths: Ints) -> Keys:
    """One row of 8-byte chunks per text, zero-filled to the same width; long texts are left out (zeros)."""
    width = -(-min(max(int(lengths.max()), 1), LONG_TEXT) // 8) * 8
    if int(lengths.min()) == int(lengths.max()) == width:
        return np.ascontiguousarray(raw.reshape(len(lengths), width)).view("<u8")
    grid = np.zeros((len(lengths), width), dtype=np.uint8)
    short = lengths <= LONG_TEXT
    inside = np.arange(width) < np.where(short, lengths, 0)[:, None]
    grid[inside] = raw if short.all() else raw[np.repeat(short, lengths)]
    return grid.view("<u8")


def _mixed(chunks: Keys, lengths: Ints) -> Keys:
    """A text is mixed from its own chunks only, so that its neighbours in the batch do not matter."""
    mixed = stir(lengths.astype(np.uint64) + GOLDEN)
    shortest = int(lengths.min())
    for column in range(chunks.shape[1]):
        further = stir(mixed ^ chunks[:, column])
        mixed = further if shortest > 8 * column else np.where(lengths > 8 * column, further, mixed)
    return mixed


def stir(key: Keys) -> Keys:
    """Spread every bit of a key over all of it; different keys stay different."""
    spread: Keys = (key ^ (key >> FOLD)) * GOLDEN
    return spread ^ (spread >> FOLD)


def exact_sums(cell: Ints, cells: int, amounts: Ints) -> list[int]:
    """The sum of `amounts` in each cell, exact whatever their size.

    numpy adds weights up as float64, which is exact below 2**53: larger amounts are added in two halves.
    """
    peak = max(int(amounts.max(initial=0)), -int(amounts.min(initial=0)))
    if peak == 0:
        return [0] * cells
    if peak * len(amounts) < EXACT_FLOAT:
        sums: list[int] = np.bincount(cell, weights=amounts, minlength=cells).astype(np.int64).tolist()
        return sums
    low = exact_sums(cell, cells, amounts & 0xFFFF)
    high = exact_sums(cell, cells, amounts >> 16)
    return [(upper << 16) + lower for upper, lower in zip(high, low, strict=True)]


def zone_of(name: str) -> tzinfo:
    """The time zone of an IANA name; InputError when there is none such."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(
            f"time zone '{name}' is not known; wanted an IANA name such as Europe/Berlin"
        ) from error


def midnight_us(day: int, zone: tzinfo) -> int:
    """The first instant of a day (its ordinal) in a zone, as microseconds since 1970."""
    local = datetime.combine(date.fromordinal(day), datetime.min.time(), zone)
    return (local - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def day_cutter(name: str) -> Callable[[Ints], Ints]:
    """A function from instants to day ordinals in the zone; the changes of the clock are honoured."""
    if name == "UTC":
        return lambda us: us // DAY_US + EPOCH_DAY
    zone = zone_of(name)
    known: dict[int, int] = {}

    def cut(us: Ints) -> Ints:
        if not len(us):
            return us
        first = int(us.min()) // DAY_US + EPOCH_DAY - 1
        last = int(us.max()) // DAY_US + EPOCH_DAY + 2
        for day in range(first, last + 1):
            if day not in known:
                known[day] = midnight_us(day, zone)
        starts = np.array([known[day] for day in range(first, last + 1)], dtype=np.int64)
        return first + np.searchsorted(starts, us, side="right").astype(np.int64) - 1

    return cut
