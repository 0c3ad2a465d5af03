"""What a dataset holds by model and by code, what waits, and which runs go on; journals included."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from mavi_tasks.common import skips
from mavi_tasks.common.money import exact_text
from mavi_tasks.common.money_columns import pico_sum
from mavi_tasks.schema import AttemptOutcome, ResultStatus
from mavi_tasks.storage import current_rows, damage, run_progress, tables
from mavi_tasks.storage.current_rows import JournalRows
from mavi_tasks.storage.run_progress import RunProgress
from mavi_tasks.storage.run_totals import UNKNOWN_MODEL, attempt_totals

_COLUMNS: Final = (*tables.ORDER_COLUMNS, "run_id", "error_code", "error_message", "cost_usd")
_RUN_COLUMNS: Final = (
    "run_id", "job", "gateway", "status", "stop_reason", "started_at", "finished_at", "answered", "unsent",
)  # fmt: skip


@dataclass(slots=True)
class ModelStatus:
    """One model: requests by their latest status, and money over all attempts, in pico-dollars.

    waiting: requests that the last run of each job has not sent; None = not known (runs of older versions).
    """

    model: str
    statuses: Counter[str] = field(default_factory=Counter)
    waiting: int | None = 0
    in_doubt: int = 0
    in_flight: int = 0
    cost_pico: int = 0
    exposure_pico: int = 0
    unpriced: int = 0  # answered, without a known price
    answers_pico: int = 0  # what the attempts that gave the rows of results cost; the rest is waste

    def to_json(self) -> dict[str, Any]:
        return {"model": self.model, **_figures(self)}


@dataclass(frozen=True, slots=True)
class CodeCount:
    """How many rows of one model have no answer for one reason; message: that of the first."""

    model: str
    status: str
    code: str
    rows: int
    message: str


def _total(name: str) -> property:
    """The sum of one count or amount over all models."""
    return property(lambda status: sum(getattr(model, name) for model in status.models))


@dataclass
class Status:
    """A dataset as it is now. broken: files that are not counted, or not as a whole."""

    dir: Path
    models: list[ModelStatus] = field(default_factory=list)
    codes: list[CodeCount] = field(default_factory=list)
    live: list[RunProgress] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    waiting: int | None = 0
    quarantined: int = 0
    broken: list[str] = field(default_factory=list)

    @property
    def statuses(self) -> Counter[str]:
        """Requests of all models, by their latest status."""
        return sum((model.statuses for model in self.models), Counter())

    in_doubt = _total("in_doubt")
    in_flight = _total("in_flight")
    cost_pico = _total("cost_pico")
    unpriced = _total("unpriced")
    exposure_pico = _total("exposure_pico")
    answers_pico = _total("answers_pico")

    @property
    def skips(self) -> list[skips.Skip]:
        """What was skipped: counts by model and code, and the way out."""
        skipped = (one for one in self.codes if one.status == ResultStatus.SKIPPED)
        return skips.table({(one.model, one.code): one.rows for one in skipped})

    @property
    def running(self) -> bool:
        """Some run goes on, as far as is known."""
        return any(run.state != "gone" for run in self.live)

    def to_json(self) -> dict[str, Any]:
        """What `mavi status --json` prints; dollars are text, so that no digit is lost."""
        return {
            **_figures(self),
            "models": [model.to_json() for model in self.models],
            "codes": [{name: getattr(one, name) for name in CodeCount.__slots__} for one in self.codes],
            "skips": self.skips,
            "live": [_live_json(run) for run in self.live],
            "runs": len(self.runs),
            "run_rows": self.runs,
            "quarantined": self.quarantined,
            "broken": self.broken,
        }


def of(root: Path, *, verify: bool = True) -> Status:
    """Read a dataset's state. Raises InputError when the folder is not a dataset.

    verify: read every file from end to end, and name the damaged ones.
    """
    live = run_progress.read(root)
    journal = current_rows.read_journal(root)
    rows = current_rows.all_rows(root, _COLUMNS, journal)
    latest = tables.latest_of(rows)
    models = _Models()
    _add_rows(models, rows, latest)
    _add_attempts(models, root, journal)
    run_rows = tables.open_table(root, "runs").to_table(columns=[*_RUN_COLUMNS, "cost_usd", "extra"])
    ended = sorted(run_rows.to_pylist(), key=lambda row: str(row["started_at"] or ""))
    known = {row["run_id"] for row in ended}
    written = _rows_of_runs(rows)
    live = [_with_rows(run, written) for run in live if run.run_id not in known]
    waiting = _add_waiting(models, ended, live, written)
    return Status(
        root,
        models=sorted(models.values(), key=lambda model: model.model),
        codes=_codes(latest),
        live=live,
        runs=[_run_json(row) for row in ended],
        waiting=waiting,
        quarantined=len(damage.quarantined(root)),
        broken=[str(one.path) for one in damage.verify(root)] if verify else [],
    )


class _Models(dict[str, ModelStatus]):
    """By name; a model that is new here has counted nothing yet."""

    def __missing__(self, name: str) -> ModelStatus:
        return self.setdefault(name, ModelStatus(name))


def _figures(found: ModelStatus | Status) -> dict[str, Any]:
    """What is counted of a dataset, and of each of its models."""
    return {
        **{name: found.statuses[name] for name in ResultStatus},
        "waiting": found.waiting,
        "in_doubt": found.in_doubt,
        "in_flight": found.in_flight,
        "cost_usd": None if found.unpriced else exact_text(found.cost_pico),
        "known_cost_usd": exact_text(found.cost_pico),
        "unpriced": found.unpriced,
        "exposure_usd": exact_text(found.exposure_pico),
        "results_usd": exact_text(found.answers_pico),
        "waste_usd": exact_text(found.cost_pico - found.answers_pico),
    }


# -- rows and attempts


def _add_rows(models: _Models, rows: pa.Table, latest: pa.Table) -> None:
    model = _words(rows, "model", UNKNOWN_MODEL)
    for name in pc.unique(model).to_pylist():
        models[name].answers_pico += pico_sum(rows.filter(pc.equal(model, name))["cost_usd"])
    for (name, status), count in _counts(latest, "model", "status").items():
        models[name or UNKNOWN_MODEL].statuses[status] += count


def _add_attempts(models: _Models, root: Path, journal: JournalRows) -> None:
    for name, totals in attempt_totals(tables.open_table(root, "attempts", without=journal.parts)).items():
        models[name].cost_pico += totals.cost_pico
        models[name].exposure_pico += totals.exposure_pico
        models[name].in_doubt += totals.in_doubt
        models[name].unpriced += totals.unpriced
    for attempt in journal.attempts:
        model = models[attempt.model]
        model.cost_pico += attempt.cost_pico or 0
        model.exposure_pico += attempt.exposure_pico or 0
        model.in_doubt += attempt.outcome == AttemptOutcome.IN_DOUBT
        model.unpriced += (
            attempt.outcome == AttemptOutcome.ANSWERED
            and attempt.cost_pico is None
            and attempt.exposure_pico is None
        )
    for intent in journal.in_flight:
        models[intent.model].in_flight += 1
        models[intent.model].exposure_pico += intent.exposure_pico or 0


def _codes(latest: pa.Table) -> list[CodeCount]:
    """By model, the most frequent first."""
    left = latest.filter(pc.not_equal(latest["status"].cast("string"), ResultStatus.ANSWERED))
    counted: dict[tuple[str, str, str], tuple[int, str]] = {}
    columns = [left[name].to_pylist() for name in ("model", "status", "error_code", "error_message")]
    for model, status, code, message in zip(*columns, strict=True):
        reason = (model or UNKNOWN_MODEL, status, code or "unknown")
        rows, first = counted.get(reason, (0, message or ""))
        counted[reason] = (rows + 1, first)
    found = [CodeCount(*reason, rows, message) for reason, (rows, message) in counted.items()]
    return sorted(found, key=lambda one: (one.model, -one.rows, one.code))


def _rows_of_runs(rows: pa.Table) -> Mapping[tuple[str, str], int]:
    """(run id, model) -> how many rows the run has written."""
    return _counts(rows, "run_id", "model")


def _counts(rows: pa.Table, *names: str) -> dict[tuple[Any, ...], int]:
    plain = pa.table({name: _words(rows, name) for name in names})
    counted = plain.group_by(list(names)).aggregate([([], "count_all")]).to_pylist()
    return {tuple(row[name] for name in names): row["count_all"] for row in counted}


def _words(rows: pa.Table, name: str, missing: str | None = None) -> Any:
    words = rows[name].cast("string")
    return pc.fill_null(words, missing) if missing is not None else words


# -- runs, and what waits


def _with_rows(run: RunProgress, written: Mapping[tuple[str, str], int]) -> RunProgress:
    """What the run has written since it last reported counts too."""
    models = (
        replace(
            model,
            done=max(model.done, model.before + model.elsewhere + written.get((run.run_id, model.model), 0)),
        )
        for model in run.models
    )
    return replace(run, models=tuple(models))


def _add_waiting(
    models: _Models,
    ended: Iterable[Mapping[str, Any]],
    live: Iterable[RunProgress],
    written: Mapping[tuple[str, str], int],
) -> int | None:
    """What the last run of each job has not sent, by model; returns all of it. `--only` runs do not count."""
    last: dict[str, tuple[Mapping[str, int] | None, int | None]] = {}
    for row in ended:
        facts = json.loads(row["extra"] or "{}")
        if facts.get("plan", {}).get("only") is None:
            by_model = _unsent(row, facts, written)
            last[row["job"]] = (by_model, sum(by_model.values()) if by_model is not None else row["unsent"])
    for run in live:
        if run.only is None and run.planned:
            by_model = {model.model: model.requests - model.done for model in run.models}
            last[run.job] = (by_model, sum(by_model.values()))
    for by_model, _ in last.values():
        for name, count in (by_model or {}).items():
            models[name].waiting = (models[name].waiting or 0) + count
    totals = [total for _, total in last.values()]
    if any(by_model is None and total != 0 for by_model, total in last.values()):
        for model in models.values():
            model.waiting = None
    return None if None in totals else sum(total or 0 for total in totals)


def _unsent(
    row: Mapping[str, Any], facts: Mapping[str, Any], written: Mapping[tuple[str, str], int]
) -> Mapping[str, int] | None:
    """By model; None for runs of versions that did not write it down."""
    if "unsent" in facts:
        unsent: Mapping[str, int] = facts["unsent"]
        return unsent
    to_do = facts.get("plan", {}).get("to_do")
    if to_do is None:
        return None
    return {model: max(0, count - written.get((row["run_id"], model), 0)) for model, count in to_do.items()}


def _run_json(row: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: row[name] for name in _RUN_COLUMNS}
    for name in ("started_at", "finished_at"):
        found[name] = found[name].isoformat() if found[name] is not None else None
    found["cost_usd"] = None if row["cost_usd"] is None else f"{row['cost_usd']:f}"
    return found


def _live_json(run: RunProgress) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "job": run.job,
        "state": run.state,
        "stage": "sending" if run.planned else "planning",
        "only": run.only,
        "started_at": _instant(run.started_us),
        "updated_at": _instant(run.updated_us),
        "requests": run.requests if run.planned else None,
        "done": run.done if run.planned else None,
        "rate_per_s": round(run.rate_per_s, 3),
        "done_at": _instant(run.done_at_us),
        "models": run.to_json()["models"],
    }


def _instant(us: int | None) -> str | None:
    return None if us is None else datetime.fromtimestamp(us / 1e6, UTC).isoformat()


def failures(root: Path) -> pa.Table:
    """The failed and the invalid rows, as FAILURE_COLUMNS.

    Raises InputError when the folder is not a dataset.
    """
    return current_rows.current_rows(root, FAILURE_COLUMNS, current_rows.FAILURES)


FAILURE_COLUMNS: Final = (
    "item_id", "media_uri", "model", "prompt_id", "status", "error_code", "error_message", "http_status",
    "run_id", "finished_at",
)  # fmt: skip
