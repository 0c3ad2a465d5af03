"""What a dataset already knows: which request keys are answered, and for which row.

Read from the journal first and from the parts second, because a segment is deleted only after its part is
there. Held as sorted numpy arrays, 25 bytes a key (a set of strings took 8 times as much).
"""

from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mavi_tasks import dataset

Words = npt.NDArray[np.uint64]


class Known(IntEnum):
    """What is known of a request."""

    NOTHING = 0  # never asked, or it failed: send it
    ANSWERED = 1  # this row has its answer
    ANSWERED_FOR_ANOTHER = 2  # another row asked the very same thing: share the answer, pay nothing
    INVALID = 3  # paid for, and the answer did not fit the schema
    SKIPPED = 4  # refused, and told so before


_STATUS = {"answered": Known.ANSWERED, "invalid": Known.INVALID, "skipped": Known.SKIPPED}


class Answered:
    """An immutable index over a dataset, as it was when this was read."""

    def __init__(
        self, high: Words, low: Words, row: npt.NDArray[np.uint32], known: npt.NDArray[np.uint8]
    ) -> None:
        order = np.lexsort((known, low, high))  # the best that is known of a key comes first
        self._high, self._low, self._row, self._known = (a[order] for a in (high, low, row, known))

    def __len__(self) -> int:
        return len(self._high)

    @classmethod
    def read(cls, root: Path) -> "Answered":
        """Index a dataset folder; an absent one is empty."""
        blocks = [_block(rows) for rows in _chunks(_journal_rows(root))]
        if (root / "results").is_dir():
            blocks += list(_part_blocks(root))
        if not blocks:
            blocks = [_block([])]
        return cls(*(np.concatenate(columns) for columns in zip(*blocks, strict=True)))

    def look_up(self, keys: Sequence[str], rows: Sequence[int]) -> list[Known]:
        """What is known of each key, for the row (`row_mark`) that asks."""
        if len(self) == 0:
            return [Known.NOTHING] * len(keys)
        high, low = split_keys(keys)
        at = np.searchsorted(self._high, high)
        within = np.minimum(at, len(self) - 1)
        hit = (self._high[within] == high) & (self._low[within] == low)
        found = np.where(hit, self._known[within], 0)
        other = (found == Known.ANSWERED) & (self._row[within] != np.asarray(rows, np.uint32))
        return [Known(k) for k in np.where(other, np.uint8(Known.ANSWERED_FOR_ANOTHER), found).tolist()]


def row_mark(item_id: str, prompt_id: str) -> int:
    """Tells the rows of one request key apart: 32 bits of who asked."""
    return crc32(f"{item_id}\0{prompt_id}".encode())


def split_keys(keys: Sequence[str]) -> tuple[Words, Words]:
    """The first 128 bits of hexadecimal keys, as two words."""
    raw = np.frombuffer(bytes.fromhex("".join(key[:32] for key in keys)), ">u8").astype(np.uint64)
    return raw[0::2], raw[1::2]


def _block(rows: Sequence[tuple[str, str, str, str]]) -> tuple[Words, Words, Any, Any]:
    high, low = split_keys([key for key, *_ in rows])
    mark = np.array([row_mark(item, prompt) for _, item, prompt, _ in rows], np.uint32)
    return high, low, mark, np.array([_STATUS[status] for *_, status in rows], np.uint8)


def _chunks(
    rows: Iterable[tuple[str, str, str, str]], size: int = 50_000
) -> Iterator[list[tuple[str, str, str, str]]]:
    chunk: list[tuple[str, str, str, str]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _journal_rows(root: Path) -> Iterator[tuple[str, str, str, str]]:
    for header, record in dataset.unpublished(root):
        row = record.get("r") if record["t"] == "o" else None
        if row is not None:
            names = header["results"]
            key, item, prompt, status = (
                row[names.index(n)] for n in ("request_key", "item_id", "prompt_id", "status")
            )
            if status in _STATUS:
                yield key, item, prompt, status


def _part_blocks(root: Path) -> Iterator[tuple[Words, Words, Any, Any]]:
    columns = ["request_key", "item_id", "prompt_id", "status"]
    table = dataset.open_table(root, "results")
    for batch in table.to_batches(columns=columns, batch_size=50_000):
        status = batch["status"].cast("string")
        batch = batch.filter(pc.is_in(status, value_set=pa.array(list(_STATUS))))
        if batch.num_rows:
            yield _block(list(zip(*(batch[name].to_pylist() for name in columns), strict=True)))
