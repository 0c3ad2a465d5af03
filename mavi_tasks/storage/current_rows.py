"""Results as they are by now: what is published, and what journals of live and dead runs hold beside it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from mavi_tasks.common.money import pico_name
from mavi_tasks.schema import RESULTS, ResultStatus
from mavi_tasks.storage import publish, segments, tables
from mavi_tasks.storage.arrow import array_of

FAILURES: Final = (ResultStatus.FAILED, ResultStatus.INVALID)


@dataclass(slots=True)
class JournalRows:
    """What no part holds yet. parts: the names that its parts will have; in_flight: sends without an outcome.

    results: pairs of the segment's header and the row.
    """

    parts: set[str] = field(default_factory=set)
    results: list[tuple[dict[str, Any], segments.Row]] = field(default_factory=list)
    attempts: list[segments.Row] = field(default_factory=list)
    in_flight: list[segments.Row] = field(default_factory=list)


def read_journal(root: Path) -> JournalRows:
    """Read it before the parts: a segment that is published meanwhile was read, and its part is left out."""
    found, open_intents = JournalRows(), dict[str, segments.Row]()
    for path in segments.segments(root / "_journal"):
        with segments.reading(path) as reader:
            if reader is None:
                continue
            found.parts.add(publish.part_name(path))
            open_intents |= {intent.attempt_id: intent for intent in reader.carried}
            header = dict(reader.header)
            for record in reader:
                if isinstance(record, segments.Intent):
                    open_intents[record.attempt.attempt_id] = record.attempt
                elif record is not None:
                    if record.attempt is not None:
                        open_intents.pop(record.attempt.attempt_id, None)
                        found.attempts.append(record.attempt)
                    if record.result is not None:
                        found.results.append((header, record.result))
    found.in_flight = list(open_intents.values())
    return found


def all_rows(root: Path, columns: Sequence[str], journal: JournalRows) -> pa.Table:
    """Every row of results, published or not. Raises InputError when the folder is not a dataset."""
    parts = tables.open_table(root, "results", without=journal.parts).to_table(columns=list(columns))
    if not journal.results:
        return parts
    return pa.concat_tables([parts, journal_table(columns, journal.results)])


def current_rows(root: Path, columns: Sequence[str], statuses: Collection[str]) -> pa.Table:
    """The rows that count, one for each request, of those that have one of these statuses.

    Raises InputError when the folder is not a dataset.
    """
    wanted = list(dict.fromkeys([*columns, *tables.ORDER_COLUMNS]))
    latest = tables.latest_of(all_rows(root, wanted, read_journal(root)))
    chosen = pc.is_in(latest["status"].cast("string"), value_set=pa.array(list(statuses), pa.string()))
    return latest.filter(chosen).select(list(columns))


def journal_table(columns: Sequence[str], rows: Sequence[tuple[dict[str, Any], segments.Row]]) -> pa.Table:
    """Rows of a journal (`JournalRows.results`) as a table of results."""
    schema = pa.schema([RESULTS.field(name) for name in columns])
    values = {name: [_value(header, row, name) for header, row in rows] for name in columns}
    arrays = [array_of(one.type, tuple(values[one.name])) for one in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _value(header: dict[str, Any], row: segments.Row, name: str) -> Any:
    return header[name] if name in segments.HEADER_COLUMNS else getattr(row, pico_name(name), None)
