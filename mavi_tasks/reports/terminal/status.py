"""What `mavi status` shows: runs that go on, requests by model and by code, the spend, and the runs."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.text import Text

from mavi_tasks.common.format import UNKNOWN, clock, count, duration, ledger_usd, spent
from mavi_tasks.common.money import usd
from mavi_tasks.reports.tables import Table, skipped, to_rich
from mavi_tasks.schema import ResultStatus
from mavi_tasks.storage.run_progress import RunProgress
from mavi_tasks.storage.status import CodeCount, ModelStatus, Status

COUNTS: Final = (*ResultStatus, "waiting", "in_doubt", "in_flight")
CODES_LISTED: Final = 20
FAILURES_LISTED: Final = 50
RUNS_LISTED: Final = 10
MESSAGE_CHARS: Final = 160
_FAILURE_COLUMNS: Final = ("item_id", "media_uri", "model", "status", "error_code", "error_message")
_RUN_COLUMNS: Final = ("run_id", "job", "gateway", "status", "answered", "unsent", "cost_usd")


def show(status: Status, console: Console) -> None:
    """All of it, once."""
    console.print(view(status))


def view(status: Status, now_s: float | None = None) -> RenderableType:
    """All of it, for a console or a live display. now_s: since the epoch; None = this machine's clock."""
    at_s = time.time() if now_s is None else now_s
    parts: list[RenderableType] = [line for run in status.live for line in _live(run, at_s)]
    parts += [to_rich(_models(status)), *_money(status)]
    codes = [one for one in status.codes if one.status != ResultStatus.SKIPPED]
    if codes:
        parts.append(to_rich(_codes(codes)))
    if len(codes) > CODES_LISTED:
        parts.append(Text(f"and {len(codes) - CODES_LISTED:,} more reasons: --json has all"))
    if status.skips:
        parts.append(to_rich(skipped(status.skips)))
    if status.runs:
        parts.append(to_rich(_runs(status)))
    return Group(*parts, *(Text(line, "yellow") for line in _advice(status)))


def show_failures(rows: Sequence[Mapping[str, Any]], total: int, console: Console) -> None:
    """The first of the rows without an answer that fits."""
    names = tuple(name.removesuffix("_id").removesuffix("_uri") for name in _FAILURE_COLUMNS)
    cells = (tuple(_short(row[name]) for name in _FAILURE_COLUMNS) for row in rows[:FAILURES_LISTED])
    console.print(to_rich(Table(names, (), tuple(cells))))
    if total > FAILURES_LISTED:
        console.print(Text(f"and {total - FAILURES_LISTED:,} more: --to FILE.csv writes all of them"))


def _live(run: RunProgress, now_s: float) -> list[Text]:
    """A line for the run, and one for each of several models."""
    name = f"{run.job} (run {run.run_id})"
    if run.state == "gone":
        done = f" after {_done(run)}" if run.planned else " while it read its manifest"
        return [Text(f"{name}: process gone{done}; nothing is lost: run the same command again", "red")]
    if run.state == "silent":
        since = duration(now_s - run.updated_us / 1e6)
        return [Text(f"{name}: {_done(run)}, no news for {since}; its process is there", "yellow")]
    if not run.planned:
        return [Text(f"{name}: reading its manifest for {duration(now_s - run.started_us / 1e6)}", "green")]
    until = "" if run.done_at_us is None else f", done {clock(_local(run.done_at_us), _local(now_s * 1e6))}"
    only = f", only {run.only}" if run.only is not None else ""
    lines = [Text(f"{name}: {_done(run)}, {_rate(run.rate_per_s)}{until}{only}", "green")]
    if len(run.models) > 1 or any(model.pausing for model in run.models):
        for model in run.models:
            pausing = f", {model.pausing}" if model.pausing else ""
            of = f"{model.done:,} of {model.requests:,}"
            lines.append(Text(f"  {model.model}: {of}, {_rate(model.rate_per_s)}{pausing}"))
    return lines


def _done(run: RunProgress) -> str:
    return f"{run.done:,} of {run.requests:,}"


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}/s" if per_s >= 10 else f"{per_s:.1f}/s"


def _local(us: float) -> datetime:
    return datetime.fromtimestamp(us / 1e6).astimezone()


def _models(status: Status) -> Table:
    rows = [_model(model) for model in status.models]
    if len(rows) != 1:
        rows.append(("all", *_counts(status), _spent(status)))
    names = (*(name.replace("_", " ") for name in COUNTS), "cost")
    return Table(("model",), names, tuple(rows))


def _model(model: ModelStatus) -> tuple[str, ...]:
    return (model.model, *_counts(model), _spent(model))


def _counts(found: ModelStatus | Status) -> tuple[str, ...]:
    numbers = {name: found.statuses[name] for name in ResultStatus}
    rest = {name: getattr(found, name) for name in ("waiting", "in_doubt", "in_flight")}
    return tuple(count(one) for one in (numbers | rest).values())


def _money(status: Status) -> list[Text]:
    lines = [Text(f"spent {_spent(status)}")]
    if status.unpriced:
        lines.append(Text(f"{status.unpriced:,} calls have no known price"))
    waste = status.cost_pico - status.answers_pico
    if waste:
        lines.append(Text(f"of it {_dollars(waste)} on attempts that gave no row"))
    if status.exposure_pico:
        lines.append(Text(f"exposure: at most {_dollars(status.exposure_pico)} more, on calls in doubt"))
    return lines


def _spent(found: ModelStatus | Status) -> str:
    return spent(usd(found.cost_pico), found.unpriced, ledger_usd)


def _codes(codes: Sequence[CodeCount]) -> Table:
    rows = tuple(
        (one.model, one.status, one.code, _short(one.message), f"{one.rows:,}")
        for one in codes[:CODES_LISTED]
    )
    return Table(("model", "status", "code", "the first message"), ("rows",), rows, "Without an answer")


def _runs(status: Status) -> Table:
    rows = tuple(tuple(_short(run[name]) for name in _RUN_COLUMNS) for run in status.runs[-RUNS_LISTED:])
    earlier = len(status.runs) - RUNS_LISTED
    title = f"Runs (and {earlier:,} before)" if earlier > 0 else "Runs"
    return Table(tuple(name.replace("_", " ") for name in _RUN_COLUMNS), (), rows, title)


def _advice(status: Status) -> list[str]:
    lines = []
    if status.quarantined:
        lines.append(f"{status.quarantined} damaged journal segments are in {status.dir}/_quarantine")
    crashed = status.runs[-1] if status.runs and status.runs[-1]["status"] == "crashed" else None
    if crashed is not None and not status.live:
        lines.append(f"run {crashed['run_id']}: process gone; nothing is lost: run the same command again")
    if status.statuses[ResultStatus.FAILED] or status.statuses[ResultStatus.INVALID]:
        lines.append(
            "mavi status DIR --failed --to FILE.csv lists what failed; "
            "mavi run JOB --only failed asks it again"
        )
    return lines


def _short(value: object) -> str:
    text = UNKNOWN if value is None else " ".join(str(value).split())
    return text if len(text) <= MESSAGE_CHARS else f"{text[: MESSAGE_CHARS - 1]}…"


def _dollars(pico: int) -> str:
    return ledger_usd(usd(pico))
