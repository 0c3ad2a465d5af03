"""`labels/` as one table, though its parts may have been written with different answer schemas."""

from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from mavi_tasks.errors import StorageError

PARTITION = pads.partitioning(pa.schema([("run_date", pa.date32())]), flavor="hive")


def open_labels(directory: Path) -> pads.Dataset:
    """The labels of a dataset folder, with every column that any part has; null where a part lacks one.

    `directory` is the dataset's folder. Without labels the dataset is empty and has no columns.
    Raises StorageError for a part that cannot be read, or whose column has another type than elsewhere.
    """
    root = directory / "labels"
    paths = sorted(path for path in root.rglob("*.parquet")) if root.is_dir() else []
    if not paths:
        return pads.dataset(pa.table({}))
    schema = _unified(paths)
    return pads.dataset(
        [str(path) for path in paths],
        schema=schema.append(pa.field("run_date", pa.date32())),
        format="parquet",
        partitioning=PARTITION,
        partition_base_dir=str(root),
    )


def _unified(paths: list[Path]) -> pa.Schema:
    fields: dict[str, pa.Field] = {}
    for path in paths:
        for field in _schema(path):
            there = fields.setdefault(field.name, field)
            if not _same(there, field):
                raise StorageError(
                    f"{path}: label column {field.name!r} is {field.type}, but {there.type} in other parts; "
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
