"""The report as a file for other tools: CSV, Parquet or JSON of its groups, or FOCUS rows."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mavi_tasks.common.money import usd
from mavi_tasks.common.spreadsheet import text_cell
from mavi_tasks.costs.cost_report import CostReport
from mavi_tasks.costs.focus import focus_table
from mavi_tasks.costs.to_json import counts_json
from mavi_tasks.errors import InputError, StorageError

MONEY = ("cost_usd", "useful_usd", "invalid_usd", "retried_usd", "exposure_usd")
COUNT_KINDS = {"error_rate": pa.float64(), "throttled_rate": pa.float64(), "video_hours": pa.float64()}


def groups_table(report: CostReport) -> pa.Table:
    """The groups, one row each: its dimensions, exact dollars as decimals, counts and rates."""
    rows = []
    for group in report.groups:
        spend = group.spend
        amounts = (
            spend.cost_pico,
            spend.useful_pico,
            spend.invalid_pico,
            spend.retried_pico,
            spend.exposure_pico,
        )
        rows.append(
            {
                **dict(zip(report.by, group.keys, strict=True)),
                **dict(zip(MONEY, map(usd, amounts), strict=True)),
                **counts_json(spend),
            }
        )
    fields = [(name, pa.string()) for name in report.by]
    fields += [(name, pa.decimal128(38, 12)) for name in MONEY]
    fields += [(name, COUNT_KINDS.get(name, pa.int64())) for name in counts_json(report.total)]
    metadata = {"currency": "USD", "time_zone": report.tz, "sandbox": str(report.is_sandbox).lower()}
    return pa.Table.from_pylist(rows, schema=pa.schema(fields, metadata=metadata))


def export(report: CostReport, path: Path, *, focus: bool = False) -> int:
    """Write the groups (or FOCUS rows) to `path`, by its suffix: .csv, .parquet or .json; returns the rows.

    Amounts keep every digit in all of them. Raises InputError on another suffix.
    """
    write = WRITERS.get(path.suffix.lower())
    if write is None:
        raise InputError(f"{path}: suffix '{path.suffix}' must be one of {', '.join(WRITERS)}")
    table = focus_table(report) if focus else groups_table(report)
    try:
        write(table, path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error
    return int(table.num_rows)


def _csv(table: pa.Table, path: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.schema.names)
    writer.writerows([_cell(row[name]) for name in table.schema.names] for row in table.to_pylist())
    path.write_text(text.getvalue(), encoding="utf-8")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return text_cell(value)
    return _plain(value)


def _plain(value: Any) -> str:
    if hasattr(value, "isoformat"):
        return str(value.isoformat()).replace("+00:00", "Z")
    return str(value) if isinstance(value, int | float) else f"{value:f}"


def _json(table: pa.Table, path: Path) -> None:
    rows = [{name: _json_value(value) for name, value in row.items()} for row in table.to_pylist()]
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    path.write_text(json.dumps({**metadata, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def _json_value(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float) else _plain(value)


def _parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd", store_decimal_as_integer=True)


WRITERS: Mapping[str, Callable[[pa.Table, Path], None]] = {".csv": _csv, ".parquet": _parquet, ".json": _json}
