"""What a run's own parts say of it: counts by model, when the workers that counted may be dead."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.common.money_columns import pico_sum
from mavi_tasks.schema import PAID, AttemptOutcome, ResultStatus
from mavi_tasks.storage.tables import open_table

UNKNOWN_MODEL: Final = "unknown"  # of rows whose model was lost
_UNUSABLE: Final = pa.array([ResultStatus.FAILED, ResultStatus.INVALID])


@dataclass(slots=True)
class AttemptTotals:
    """Money of attempts, in whole pico-dollars, and how many are in doubt."""

    cost_pico: int = 0
    exposure_pico: int = 0
    in_doubt: int = 0
    unpriced: int = 0  # answered, without a known price


def attempt_totals(attempts: pads.Dataset) -> dict[str, AttemptTotals]:
    """The sums over attempts that are published, by model."""
    found: dict[str, AttemptTotals] = {}
    for batch in attempts.to_batches(columns=["model", "outcome", "cost_usd", "exposure_usd"]):
        model = pc.fill_null(_strings(batch["model"]), UNKNOWN_MODEL)
        for name in pc.unique(model).to_pylist():
            rows, totals = batch.filter(pc.equal(model, name)), found.setdefault(name, AttemptTotals())
            totals.cost_pico += pico_sum(rows["cost_usd"])
            totals.exposure_pico += pico_sum(rows["exposure_usd"])
            totals.in_doubt += (
                pc.sum(pc.equal(_strings(rows["outcome"]), AttemptOutcome.IN_DOUBT)).as_py() or 0
            )
            totals.unpriced += _unpriced(rows)
    return found


def _unpriced(attempts: pa.RecordBatch) -> int:
    """How many were answered at a cost that has no known bound, because their model has no price."""
    answered = pc.equal(_strings(attempts["outcome"]), AttemptOutcome.ANSWERED)
    unknown = pc.and_(pc.is_null(attempts["cost_usd"]), pc.is_null(attempts["exposure_usd"]))
    return pc.sum(pc.and_(answered, unknown)).as_py() or 0


def all_counters(root: Path, run_id: str) -> dict[str, ModelCounters]:
    """By model: rows by status, attempts, tokens and money of everything that this run has published."""
    found: dict[str, ModelCounters] = {}
    _add_results(found, root, run_id)
    _add_attempts(found, root, run_id)
    return found


def spent_pico(root: Path, writer: str) -> int:
    """What one writer's published attempts have cost, in doubt included."""
    found = attempt_totals(open_table(root, "attempts", f"part-{writer}.*.parquet")).values()
    return sum(totals.cost_pico + totals.exposure_pico for totals in found)


def run_row_totals(root: Path, run_id: str) -> dict[str, int | None]:
    """What one run's parts hold, as values of its row: rows by status, and money in pico-dollars.

    Its cost is None, not known, when an answer has no price.
    """
    found = all_counters(root, run_id).values()
    names = (*ResultStatus, "cost_pico", "exposure_pico")
    totals: dict[str, int | None] = {name: sum(getattr(one, name) for one in found) for name in names}
    return totals | {"cost_pico": None} if any(one.unpriced for one in found) else totals


def _add_results(found: dict[str, ModelCounters], root: Path, run_id: str) -> None:
    columns = ["model", "status", "latency_s", "extra", "error_code", "error_message"]
    for batch in _mine(root, "results", run_id, columns):
        model = _strings(batch["model"])
        for name in pc.unique(model).to_pylist():
            _add_answers(_tally(found, name), batch.filter(pc.equal(model, name)))


def _add_answers(counters: ModelCounters, rows: pa.RecordBatch) -> None:
    status = _strings(rows["status"])
    for pair in pc.value_counts(status).to_pylist():
        name = pair["values"]
        setattr(counters, name, getattr(counters, name) + pair["counts"])
    skipped = rows.filter(pc.equal(status, ResultStatus.SKIPPED))
    counters.skips.update(code or "unknown" for code in _strings(skipped["error_code"]).to_pylist())
    paid = rows.filter(pc.is_in(status, value_set=pa.array(sorted(PAID))))
    for latency_s in paid["latency_s"].drop_null().to_pylist():
        counters.latencies.add(latency_s)
    counters.truncated += (
        pc.sum(pc.match_substring(rows["extra"].cast("string"), '"truncated":true')).as_py() or 0
    )
    bad = rows.filter(pc.is_in(status, value_set=_UNUSABLE))
    for code, text in zip(
        _strings(bad["error_code"]).to_pylist(), bad["error_message"].to_pylist(), strict=True
    ):
        times, first = counters.errors.get(code or "unknown", (0, text or ""))
        counters.errors[code or "unknown"] = (times + 1, first)


def _add_attempts(found: dict[str, ModelCounters], root: Path, run_id: str) -> None:
    columns = [
        "model", "outcome", "request_key", "input_tokens", "output_tokens", "cost_usd", "exposure_usd",
        "error_code",
    ]  # fmt: skip
    for batch in _mine(root, "attempts", run_id, columns):
        model = _strings(batch["model"])
        for name in pc.unique(model).to_pylist():
            rows, counters = batch.filter(pc.equal(model, name)), _tally(found, name)
            counters.calls += rows.num_rows
            counters.throttled += (
                pc.sum(pc.equal(_strings(rows["outcome"]), AttemptOutcome.THROTTLED)).as_py() or 0
            )
            counters.retried += rows.num_rows - pc.count_distinct(rows["request_key"]).as_py()
            counters.input_tokens += pc.sum(rows["input_tokens"]).as_py() or 0
            counters.output_tokens += pc.sum(rows["output_tokens"]).as_py() or 0
            counters.cost_pico += pico_sum(rows["cost_usd"])
            counters.exposure_pico += pico_sum(rows["exposure_usd"])
            counters.unpriced += _unpriced(rows)
            cut = rows.filter(pc.fill_null(pc.equal(_strings(rows["error_code"]), "cut_off"), False))
            counters.enlarged += cut.num_rows
            counters.cut_off_pico += pico_sum(cut["cost_usd"])


def _mine(root: Path, table: str, run_id: str, columns: list[str]) -> Any:
    mine = open_table(root, table, f"part-{run_id}-*.parquet")
    return mine.to_batches(columns=columns, filter=pads.field("run_id") == run_id)


def _tally(found: dict[str, ModelCounters], model: str) -> ModelCounters:
    return found.setdefault(model, ModelCounters(model))


def _strings(column: Any) -> Any:
    return column.cast("string")
