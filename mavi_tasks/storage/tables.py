"""Reading a dataset's tables (results, attempts, runs, labels, reviews), and what the journal still holds."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from mavi_tasks.errors import InputError, StorageError
from mavi_tasks.schema import LABEL_KEYS, RESULTS, TABLES, ResultStatus
from mavi_tasks.storage import parts, segments
from mavi_tasks.storage.recency import RANK, plausible_us
from mavi_tasks.storage.s3 import mirror_of

TABLE_NAMES: Final = (*TABLES, "labels")
OPTIONAL: Final = ("labels", "reviews")  # many datasets have none
QUESTION: Final = ("item_id", "prompt_id", "model")
ORDER_COLUMNS: Final = ("request_key", "status", "finished_at", *QUESTION)  # what `latest_of` looks at
PARTITION: Final = pa.schema([("run_date", pa.date32())])


def open_table(
    root: Path, table: str, names: str = "*.parquet", *, without: Collection[str] = ()
) -> pads.Dataset:
    """One of results, attempts, runs, labels, reviews as a pyarrow dataset; also with `run_date` as a date.

    All columns are there. Labels have those that any of their parts has, null where a part lacks one; they
    are empty when no run had an answer schema. Broken parts are left out and named in a warning (parts.py).
    names, without: a glob on the files' names, and names to leave out.
    Raises InputError when the folder is no dataset, StorageError when labels contradict each other.
    """
    folder = root / table
    found = part_paths(root, table, names)
    if not folder.is_dir() and not (table in OPTIONAL and (root / "results").is_dir()):
        raise InputError(
            f"{root}: is not a dataset (it has no {table}/ folder); give the folder of a run's --out"
        )
    paths = parts.whole((path for path in found if path.name not in without), TABLES.get(table))
    columns = TABLES[table] if table in TABLES else _unified(paths)
    schema = columns.append(pa.field("run_date", pa.date32()))
    if not paths:
        return pads.dataset(schema.empty_table())
    return pads.dataset(
        [str(path) for path in paths],
        schema=schema,
        format=parts.FORMAT,
        partitioning=pads.partitioning(PARTITION, flavor="hive"),
        partition_base_dir=str(folder),
    )


def part_paths(root: Path, table: str, names: str = "*.parquet") -> list[Path]:
    """The files of a table, broken ones included; of a bucket's, once they are here."""
    mirror = mirror_of(root)
    if mirror is not None:
        mirror.refresh(table)
    paths = sorted((root / table).rglob(names))
    if mirror is not None:
        mirror.fetch_again([one.path for one in parts.broken(paths, TABLES.get(table))])
    return paths


def latest(root: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Results, one row per request: the one that counts (recency.py). Skipped rows give way to newer ones."""
    wanted = list(dict.fromkeys([*(columns or TABLES["results"].names), *ORDER_COLUMNS]))
    return latest_of(open_table(root, "results").to_table(columns=wanted))


def latest_of(table: pa.Table) -> pa.Table:
    """Of rows of results, those that count; the table has the columns ORDER_COLUMNS at least."""
    if table.num_rows == 0:
        return table
    status = pc.fill_null(table["status"].cast("string"), "")
    rank = sum(pc.equal(status, word).to_numpy().astype(np.int8) * number for word, number in RANK.items())
    instant_us = plausible_us(pc.fill_null(table["finished_at"].cast(pa.int64()), 0).to_numpy())
    order = np.lexsort((instant_us, rank))
    keys = table["request_key"].combine_chunks().dictionary_encode("encode")
    last = np.zeros(len(keys.dictionary), np.int64)
    last[keys.indices.to_numpy()[order]] = order  # of several for one key, the last stays
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    chosen = last[np.argsort(place[last])]  # the one that counts most last
    return table.take(pa.array(np.sort(_without_outdated(table, chosen))))


def _without_outdated(table: pa.Table, chosen: Any) -> Any:
    """Without rows of a question (item, prompt, model) that was skipped once, but the one that counts most.

    A row that is mended, or a media that is replaced, has another request key than its skipped row.
    """
    status = table["status"].cast("string").to_numpy()[chosen]
    skipped = status == ResultStatus.SKIPPED
    if not skipped.any():
        return chosen
    columns = [table[name].cast("string").combine_chunks().take(pa.array(chosen)) for name in QUESTION]
    joined = pc.binary_join_element_wise(*columns, "\0", null_handling="replace")
    questions = joined.to_numpy(zero_copy_only=False)
    once = np.isin(questions, questions[skipped])
    _, last = np.unique(questions[once][::-1], return_index=True)
    kept = np.flatnonzero(once)[once.sum() - 1 - last]
    return chosen[np.sort(np.concatenate([np.flatnonzero(~once), kept]))]


def first_answers(root: Path, run_id: str, count: int) -> list[dict[str, Any]]:
    """Some answers that a run has published, for a first look: item_id, model, answer and answer_json."""
    answered = (pc.field("run_id") == run_id) & (pc.field("status") == ResultStatus.ANSWERED)
    columns = ["item_id", "model", "answer", "answer_json"]
    found: list[dict[str, Any]] = []
    for batch in open_table(root, "results").to_batches(columns=columns, filter=answered, batch_readahead=0):
        found += batch.slice(0, count - len(found)).to_pylist()
        if len(found) >= count:
            break
    return found


def unpublished(root: Path) -> Iterator[tuple[Mapping[str, Any], segments.Row]]:
    """(header, result) of every result that is still in the journal, live segments included."""
    for path in segments.segments(root / "_journal"):
        with segments.reading(path) as reader:
            for record in reader or ():
                if reader is not None and isinstance(record, segments.Outcome) and record.result is not None:
                    yield reader.header, record.result


# -- the columns of labels


def _unified(paths: Sequence[Path]) -> pa.Schema:
    """Every column that any part has; the columns that all labels have when known is no part."""
    if not paths:
        return pa.schema([RESULTS.field(name) for name in LABEL_KEYS])
    fields: dict[str, pa.Field] = {}
    for path in paths:
        for field in _schema(path):
            known = fields.setdefault(field.name, field)
            if not _same(known, field):
                raise StorageError(
                    f"{path}: label column {field.name!r} is {field.type}, but {known.type} in other parts; "
                    "move the part away and publish its run again"
                )
            if pa.types.is_string(field.type):
                fields[field.name] = field  # the wider of string and enum
    return pa.schema(list(fields.values()))


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{path}: cannot be read as Parquet ({type(error).__name__})") from error


def _same(one: pa.Field, other: pa.Field) -> bool:
    return bool(_plain(one.type).equals(_plain(other.type)))


def _plain(type_: pa.DataType) -> pa.DataType:
    return type_.value_type if pa.types.is_dictionary(type_) else type_
