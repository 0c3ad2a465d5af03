"""What fits in memory of every result: numbers, codes of its answer's fields, no long texts.

Arrays have one value for each row of all datasets, superseded rows included; `current` says which count.
Items are numbered in the order in which they first appear.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mavi_tasks.schema import ResultStatus
from mavi_tasks.storage import tables
from mavi_tasks.view import sources
from mavi_tasks.view.columns import CodedTexts, coded_texts
from mavi_tasks.view.sources import Part, Sources
from mavi_tasks.view.values import FREE_TEXT, FieldValues, is_free

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

WORDS: Final = ("prompt_id", "model", "status", "run_id", "error_code", "media_kind", "gateway", "truth")
_READ: Final = (*WORDS, "media_uri", "cost_usd", "latency_s", "answer", "answer_json")
MISSING: Final = -1


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is kept of one part."""

    stamp: sources.Stamp
    words: Mapping[str, pa.DictionaryArray]
    media_uri: pa.DictionaryArray
    cost_usd: Floats
    latency_s: Floats
    values: Mapping[str, pa.DictionaryArray]
    free: frozenset[str]


@dataclass(frozen=True)
class Index:
    """Some datasets as they were at one moment. item: the item's number. NaN = not known.

    by_item: rows in the order of their items; those of item i are by_item[starts[i]:starts[i + 1]].
    """

    roots: tuple[Path, ...]
    sources: Sources
    item_ids: pa.StringArray
    item: Ints
    current: Bools
    words: Mapping[str, CodedTexts]
    fields: Mapping[str, CodedTexts]
    media_uri: pa.StringArray
    cost_usd: Floats
    latency_s: Floats
    by_item: Ints
    starts: Ints
    chunks: Mapping[Path, Chunk] = field(repr=False)

    @property
    def rows(self) -> int:
        return len(self.item)

    @property
    def items(self) -> int:
        return len(self.item_ids)

    def item_number(self, item_id: str) -> int | None:
        """The number of an item; None when there is none of this id."""
        found = pc.index(self.item_ids, pa.scalar(item_id, self.item_ids.type)).as_py()
        return found if found >= 0 else None

    def rows_of(self, item: int) -> list[int]:
        """All rows of an item, superseded ones included."""
        found: list[int] = self.by_item[self.starts[item] : self.starts[item + 1]].tolist()
        return found

    @cached_property
    def answered(self) -> Bools:
        return self.words["status"].equal(ResultStatus.ANSWERED)

    @cached_property
    def unit(self) -> npt.NDArray[np.int64]:
        """A number for each item and prompt: what the answers of one unit answer is the same question."""
        prompts = self.words["prompt_id"]
        return self.item.astype(np.int64) * (len(prompts.values) + 1) + prompts.codes + 1

    @property
    def parts(self) -> dict[Path, Part]:
        return {source.path: source for source in self.sources.all if isinstance(source, Part)}


def build(
    roots: Sequence[Path], before: Index | None = None, progress: Callable[[int, int], None] = lambda *_: None
) -> Index:
    """Read datasets; what `before` has read and has not changed is taken over.

    progress: told how many rows of how many are read. Raises InputError when a folder is no dataset,
    StorageError when it cannot be read.
    """
    found = sources.read(roots, before.parts if before is not None else {})
    item_ids, item, current = _questions(found)
    order = np.argsort(item, kind="stable").astype(np.int32)
    starts = np.searchsorted(item[order], np.arange(len(item_ids) + 1)).astype(np.int32)
    chunks = _chunks(found, before.chunks if before is not None else {}, progress)
    uris = _joined([chunk.media_uri for chunk in chunks])
    names = dict.fromkeys(name for chunk in chunks for name in chunk.values)
    free = {name for chunk in chunks for name in chunk.free}
    return Index(
        roots=tuple(roots),
        sources=found,
        item_ids=item_ids,
        item=item,
        current=current,
        words={name: coded_texts([chunk.words[name] for chunk in chunks]) for name in WORDS},
        fields={name: _field(chunks, name, is_free=name in free) for name in names},
        media_uri=_of_items(uris, order, starts),
        cost_usd=_concatenated([chunk.cost_usd for chunk in chunks]),
        latency_s=_concatenated([chunk.latency_s for chunk in chunks]),
        by_item=order,
        starts=starts,
        chunks={
            source.path: chunk
            for source, chunk in zip(found.all, chunks, strict=True)
            if isinstance(source, Part)
        },
    )


def _questions(found: Sources) -> tuple[pa.StringArray, Ints, Bools]:
    """The items' ids, each row's item, and which rows count."""
    columns = list(dict.fromkeys([*tables.ORDER_COLUMNS, "item_id"]))
    batches = [batch for source in found.all for batch in source.batches(columns)]
    if not batches:
        return pa.array([], pa.string()), np.zeros(0, np.int32), np.zeros(0, np.bool_)
    table = pa.concat_tables(batches).append_column("_row", pa.array(np.arange(sum(map(len, batches)))))
    del batches
    current = np.zeros(table.num_rows, np.bool_)
    current[tables.latest_of(table)["_row"].to_numpy()] = True
    ids = pc.fill_null(table["item_id"].cast("string"), "").combine_chunks().dictionary_encode()
    return ids.dictionary, ids.indices.to_numpy(), current


def _chunks(found: Sources, known: Mapping[Path, Chunk], progress: Callable[[int, int], None]) -> list[Chunk]:
    total, done, chunks = sum(source.rows for source in found.all), 0, list[Chunk]()
    free: set[str] = set()
    for source in found.all:
        chunk = known.get(source.path) if isinstance(source, Part) else None
        if chunk is None or chunk.stamp != source.stamp:
            chunk = _read(source, free)
        free |= chunk.free
        done += source.rows
        progress(done, total)
        chunks.append(chunk)
    return chunks


def _read(source: sources.Source, free: set[str]) -> Chunk:
    """The source's rows as arrays, one row group in memory at a time. free: fields that hold free text."""
    words: dict[str, list[pa.Array]] = {name: [] for name in (*WORDS, "media_uri")}
    costs, latencies, values = [], [], []
    for batch in source.batches(_READ):
        for name, arrays in words.items():
            arrays.append(batch[name].cast("string").combine_chunks().dictionary_encode())
        costs.append(_floats(batch["cost_usd"]))  # to sort by; sums are made elsewhere
        latencies.append(_floats(batch["latency_s"]))
        values.append(_field_values(batch, free))
        free |= {
            name for name, one in values[-1].items() if is_free(name, len(one.dictionary), batch.num_rows)
        }
    names = dict.fromkeys(name for one in values for name in one)
    lengths = [len(one) for one in costs]
    return Chunk(
        stamp=source.stamp,
        words={name: _joined(words[name]) for name in WORDS},
        media_uri=_joined(words["media_uri"]),
        cost_usd=_concatenated(costs),
        latency_s=_concatenated(latencies),
        values={
            name: _joined([one.get(name, _nothing(size)) for one, size in zip(values, lengths, strict=True)])
            for name in names
        },
        free=frozenset(free),
    )


def _field_values(batch: pa.Table, free: Set[str]) -> dict[str, pa.DictionaryArray]:
    """Answers repeat a lot, so each is read once."""
    given = pc.equal(batch["status"].cast("string"), ResultStatus.ANSWERED)
    texts = pc.if_else(given, batch["answer"], None), pc.if_else(given, batch["answer_json"], None)
    gathered = FieldValues(free)
    for answer, answer_json in zip(*(text.to_pylist() for text in texts), strict=True):
        gathered.add(answer, answer_json)
    return gathered.arrays()


def _values(chunk: Chunk, name: str) -> pa.DictionaryArray:
    return chunk.values.get(name) or _nothing(len(chunk.cost_usd))


def _field(chunks: Sequence[Chunk], name: str, *, is_free: bool) -> CodedTexts:
    """Of free text only where there is some: what was read before it was known is forgotten."""
    words = coded_texts([_values(chunk, name) for chunk in chunks])
    if not is_free:
        return words
    return CodedTexts(np.where(words.codes == MISSING, MISSING, 0).astype(np.int32), pa.array([FREE_TEXT]))


def _nothing(rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.nulls(rows, pa.int32()), pa.array([], pa.string()))


def _joined(arrays: Sequence[pa.DictionaryArray]) -> pa.DictionaryArray:
    if not arrays:
        return _nothing(0)
    joined: Any = pa.chunked_array(arrays).unify_dictionaries().combine_chunks()
    return joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined


def _floats(column: pa.ChunkedArray) -> Floats:
    found: Floats = column.cast(pa.float64()).to_numpy().astype(np.float32)
    return found


def _concatenated(arrays: Sequence[Floats]) -> Floats:
    return np.concatenate(arrays) if arrays else np.zeros(0, np.float32)


def _of_items(uris: pa.DictionaryArray, order: Ints, starts: Ints) -> pa.StringArray:
    """Each item's media: that of its last row."""
    last = order[starts[1:] - 1] if len(order) else order
    return uris.take(pa.array(last)).cast("string")
