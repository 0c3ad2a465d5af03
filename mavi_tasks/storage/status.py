"""What a dataset holds, the journal of live and dead runs included."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mavi_tasks.common.money import exact_text
from mavi_tasks.common.money_columns import pico_sum
from mavi_tasks.schema import AttemptOutcome, ResultStatus
from mavi_tasks.storage import damage, publish, segments, tables
from mavi_tasks.storage.recency import RANK, plausible_us
from mavi_tasks.storage.run_totals import attempt_totals


@dataclass
class Status:
    """Requests by their latest status, and money over all attempts. Pico-dollars."""

    dir: Path
    statuses: Counter[str] = field(default_factory=Counter)
    in_doubt: int = 0
    in_flight: int = 0
    cost_pico: int = 0
    unpriced: int = 0  # answered attempts without a known price; cost_pico is what the others cost
    exposure_pico: int = 0
    answers_pico: int = (
        0  # what the attempts that gave the rows of results cost; the rest of cost_pico is waste
    )
    runs: list[dict[str, Any]] = field(default_factory=list)
    quarantined: int = 0
    broken: list[str] = field(default_factory=list)  # files that are not counted, or not as a whole

    def to_json(self) -> dict[str, Any]:
        return {
            **{name: self.statuses[name] for name in ResultStatus},
            "in_doubt": self.in_doubt,
            "in_flight": self.in_flight,
            "cost_usd": None if self.unpriced else exact_text(self.cost_pico),
            "known_cost_usd": exact_text(self.cost_pico),
            "unpriced": self.unpriced,
            "exposure_usd": exact_text(self.exposure_pico),
            "results_usd": exact_text(self.answers_pico),
            "waste_usd": exact_text(self.cost_pico - self.answers_pico),
            "runs": len(self.runs),
            "run_rows": self.runs,
            "quarantined": self.quarantined,
            "broken": self.broken,
        }


def of(root: Path) -> Status:
    """Read a dataset's state. Raises InputError when the folder is not a dataset."""
    found = Status(root, quarantined=len(damage.quarantined(root)))
    latest: dict[str, tuple[int, int, str]] = {}
    # The journal first: a segment that is published meanwhile was counted, and its part is left out.
    counted = _add_journal(root, found, latest)
    _add_results(root, found, latest, counted)
    _add_attempts(root, found, counted)
    found.statuses.update(status for *_, status in latest.values())
    found.runs = _runs(root)
    found.broken = [str(one.path) for one in damage.verify(root)]
    return found


def _add_results(
    root: Path, found: Status, latest: dict[str, tuple[int, int, str]], counted: Collection[str]
) -> None:
    columns = ["request_key", "status", "finished_at", "cost_usd"]
    for batch in tables.open_table(root, "results", without=counted).to_batches(columns=columns):
        found.answers_pico += pico_sum(batch["cost_usd"])
        times = plausible_us(pc.fill_null(batch["finished_at"].cast(pa.int64()), 0).to_numpy()).tolist()
        statuses = batch["status"].cast(pa.string()).to_pylist()
        for key, finished_at, status in zip(batch["request_key"].to_pylist(), times, statuses, strict=True):
            _keep_latest(latest, key, finished_at, status)


def _keep_latest(latest: dict[str, tuple[int, int, str]], key: str, finished_us: int, status: str) -> None:
    this = (RANK.get(status, 0), finished_us, status)
    before = latest.get(key)
    if before is None or this[:2] >= before[:2]:
        latest[key] = this


def _add_attempts(root: Path, found: Status, counted: Collection[str]) -> None:
    totals = attempt_totals(tables.open_table(root, "attempts", without=counted))
    found.cost_pico += totals.cost_pico
    found.exposure_pico += totals.exposure_pico
    found.in_doubt += totals.in_doubt
    found.unpriced += totals.unpriced


def _add_journal(root: Path, found: Status, latest: dict[str, tuple[int, int, str]]) -> set[str]:
    """What no part holds yet, of runs that go on or died; the names that its parts will have."""
    open_intents: dict[str, int] = {}
    counted = set()
    for path in segments.segments(root / "_journal"):
        with segments.reading(path) as reader:
            if reader is None:
                continue
            counted.add(publish.part_name(path))
            for intent in reader.carried:
                open_intents[intent.attempt_id] = intent.exposure_pico or 0
            for record in reader:
                if isinstance(record, segments.Outcome):
                    _add_outcome(found, record, latest, open_intents)
                elif record is not None:
                    open_intents[record.attempt.attempt_id] = record.attempt.exposure_pico or 0
    found.in_flight = len(open_intents)
    found.exposure_pico += sum(open_intents.values())
    return counted


def _add_outcome(
    found: Status,
    outcome: segments.Outcome,
    latest: dict[str, tuple[int, int, str]],
    open_intents: dict[str, int],
) -> None:
    attempt, result = outcome.attempt, outcome.result
    if attempt is not None:
        open_intents.pop(attempt.attempt_id, None)
        found.cost_pico += attempt.cost_pico or 0
        found.exposure_pico += attempt.exposure_pico or 0
        found.in_doubt += attempt.outcome == AttemptOutcome.IN_DOUBT
        found.unpriced += (
            attempt.outcome == AttemptOutcome.ANSWERED
            and attempt.cost_pico is None
            and attempt.exposure_pico is None
        )
    if result is not None:
        found.answers_pico += result.cost_pico or 0
        _keep_latest(latest, result.request_key, plausible_us(result.finished_at or 0), result.status)


def _runs(root: Path) -> list[dict[str, Any]]:
    columns = [
        "run_id",
        "job",
        "gateway",
        "status",
        "stop_reason",
        "started_at",
        "finished_at",
        "answered",
        "unsent",
    ]
    rows = tables.open_table(root, "runs").to_table(columns=[*columns, "cost_usd"]).to_pylist()
    for row in rows:
        row["cost_usd"] = None if row["cost_usd"] is None else f"{row['cost_usd']:f}"
        for name in ("started_at", "finished_at"):
            row[name] = row[name].isoformat() if row[name] is not None else None
    return sorted(rows, key=lambda row: row["started_at"] or "")
