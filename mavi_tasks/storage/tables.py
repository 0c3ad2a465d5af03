"""Reading a dataset's tables (results, attempts, runs, labels, reviews), and what the journal still holds."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from mavi_tasks.errors import InputError, StorageError
from mavi_tasks.labels import key_fields
from mavi_tasks.schema import TABLES, ResultStatus
from mavi_tasks.storage import parts, recency, segments
from mavi_tasks.storage.s3 import mirror_of

TABLE_NAMES: Final = (*TABLES, "labels")
OPTIONAL: Final = ("labels", "reviews")  # many datasets have none
QUESTION: Final = ("gateway", "item_id", "prompt_id", "model", "repeat")  # of which one row counts
VERSION: Final = "prompt_hash"
ORDER_COLUMNS: Final = (*QUESTION, VERSION, "status", "attempts", "finished_at")  # what `latest_of` looks at
LABEL_OF: Final = ("run_id", "request_key")  # the result that a row of labels belongs to
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


def latest(root: Path, columns: Sequence[str] | None = None, *, all_versions: bool = False) -> pa.Table:
    """Results, one row for each item, prompt and model: the one that counts now (recency.py)."""
    wanted = list(dict.fromkeys([*(columns or TABLES["results"].names), *ORDER_COLUMNS]))
    return latest_of(open_table(root, "results").to_table(columns=wanted), all_versions=all_versions)


def latest_of(table: pa.Table, *, all_versions: bool = False) -> pa.Table:
    """Of rows of results, those that count; the table has the columns ORDER_COLUMNS at least.

    all_versions: one row for each text of a prompt (`prompt_hash`), not only for the newest.
    """
    if table.num_rows == 0:
        return table
    text, _ = _numbers(table[VERSION])
    question = _together(table, (*QUESTION, VERSION) if all_versions else QUESTION)
    status, words = _numbers(table["status"])
    instant_us = pc.fill_null(table["finished_at"].cast(pa.int64()), 0).to_numpy()
    copied = pc.fill_null(pc.equal(table["attempts"], 0), False).to_numpy()
    counts = recency.current(question, text, status, copied, instant_us, words.to_pylist())
    return table if counts.all() else table.filter(pa.array(counts))


def counting(root: Path, table: str, *, all_versions: bool = False) -> pa.Table:
    """Of results or labels the rows that count, one for each item, prompt and model; of others, all rows."""
    if table == "results":
        return latest(root, all_versions=all_versions)
    if table == "labels":
        return _current_labels(root, all_versions=all_versions)
    return open_table(root, table).to_table()


def _current_labels(root: Path, *, all_versions: bool) -> pa.Table:
    """The rows of labels that belong to results that count (`latest`)."""
    labels = open_table(root, "labels").to_table()
    counted = latest(root, LABEL_OF, all_versions=all_versions)
    return labels.filter(pc.is_in(_joined(labels), value_set=_joined(counted)))


def _joined(table: pa.Table) -> pa.Array:
    """What names a result in labels: its run and its request, as one text."""
    columns = [table[name].cast("string") for name in LABEL_OF]
    return pc.binary_join_element_wise(*columns, "|", null_handling="replace")


def _together(table: pa.Table, names: Sequence[str]) -> npt.NDArray[np.int64]:
    """One number for each row: rows with the same values in all of these columns have the same."""
    made = np.zeros(table.num_rows, np.int64)
    for name in names:
        numbers, values = _numbers(table[name])
        made = made * len(values) + numbers
    return made


def _numbers(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """A column of texts as numbers, and the texts that they stand for; null is one, too."""
    encoded = column.cast("string").combine_chunks().dictionary_encode("encode")
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary


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
        return pa.schema(key_fields())
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
