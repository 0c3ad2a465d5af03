"""What a run leaves in Prefect's UI: tables, summaries, links. Figures only: no answers, no prompts."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from prefect.artifacts import (
    acreate_link_artifact,
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)

from mavi_tasks.compare import Comparison, Drift
from mavi_tasks.costs import CostReport
from mavi_tasks.costs import to_json as costs_json
from mavi_tasks.costs.sentences import burn_text
from mavi_tasks.execution.run import Run
from mavi_tasks.reports.html import drift_page
from mavi_tasks.reports.tables import markdown_code, markdown_rows, markdown_text

MOST_ROWS: Final = 1000  # Prefect's UI shows a table whole, and keeps every byte in its database
_UNKNOWN: Final = "unknown"  # never 0 for a cost that is not known
PROGRESS_EVERY_S: Final = 5.0

_MODELS: Final = (
    "model", "answered", "failed", "invalid", "skipped", "unsent", "already_answered", "input_tokens",
    "output_tokens", "cost_usd", "exposure_usd", "latency_p50_s", "latency_p95_s",
)  # fmt: skip
_MODELS_BRIEF: Final = ("model", "answered", "failed", "invalid", "skipped", "unsent", "cost_usd")
_COMPARED: Final = (
    "candidate", "n", "answered", "correct", "accuracy", "accuracy_low", "accuracy_high", "cost_usd",
    "cost_per_1000_usd", "cost_per_correct_usd", "latency_p50_s", "latency_p95_s", "pareto",
    "behind_points_high", "p_best",
)  # fmt: skip
_COMPARED_BRIEF: Final = (
    "candidate", "n", "accuracy", "accuracy_low", "accuracy_high", "behind_points_high", "cost_per_1000_usd",
)  # fmt: skip
_DRIFTED: Final = (
    "model", "items", "compared", "flipped", "lost", "gained", "accuracy_before", "accuracy_after",
    "cost_before_usd", "cost_after_usd",
)  # fmt: skip


def key(*parts: str) -> str:
    """An artifact's key: Prefect takes lower-case letters, digits and dashes; other names stay apart."""
    text = "-".join(parts)
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if re.sub(r"[ _.-]", "-", text.lower()) != plain:  # letters were lost: two names could become one
        plain = f"{plain}-{sha256(text.encode()).hexdigest()[:6]}".strip("-")
    return plain


async def show_plan(name: str, plan: Mapping[str, Any]) -> None:
    """What the run will send, and what that will most likely cost and take."""
    title = markdown_text(name)
    rows = [_planned(model) for model in plan["models"]]
    text = (
        f"# {title}: the plan\n\n{plan['to_send']:,} requests to send, {plan['already_answered']:,} answered "
        f"before, {plan['shared']:,} share an answer, {plan['skipped']:,} skipped.\n\n"
        f"{markdown_rows(rows)}{_skipped(plan)}"
    )
    notes = [plan["accuracy"], *plan["warnings"]]
    text += "".join(f"\n- {markdown_text(note)}" for note in notes if note)
    await acreate_markdown_artifact(text, key=key("mavi", name, "plan"), description=f"Plan of {title}")
    if plan["refused"]:
        names = ("item_id", "model", "code", "reason")
        refused = [{k: row[k] for k in names} for row in plan["refused"][:MOST_ROWS]]
        await acreate_table_artifact(
            refused,
            key=key("mavi", name, "skipped"),
            description="The first requests that are skipped, and why",
        )


def _skipped(figures: Mapping[str, Any]) -> str:
    """The table of what a plan or a run skipped, as markdown; empty without any."""
    return (
        f"\n{figures['skipped']:,} skipped:\n\n{markdown_rows(figures['skips'])}" if figures["skips"] else ""
    )


def _planned(model: Mapping[str, Any]) -> dict[str, Any]:
    cost, wall_s = model["cost_usd"], model["wall_s"]
    return {
        "model": model["model"],
        "requests": model["requests"],
        **{f"cost {p} $": "unknown" if cost is None else cost[p] for p in ("p10", "p50", "p90")},
        "time p50 s": wall_s["p50"],
        "basis": model["basis"],
    }


@asynccontextmanager
async def progress(run: Run) -> AsyncIterator[None]:
    """A progress bar in the UI while the block lasts, moved every few seconds."""
    found: Any = await acreate_progress_artifact(
        0.0,
        key=key("mavi", run.context.job.name, "progress"),
        description=f"Requests of {markdown_text(run.context.job.name)}",
    )
    task = asyncio.create_task(_move(run, found))
    try:
        yield
    finally:
        task.cancel()
    await aupdate_progress_artifact(found, _percent(run))


async def _move(run: Run, artifact: UUID) -> None:
    while True:
        await asyncio.sleep(PROGRESS_EVERY_S)
        await aupdate_progress_artifact(artifact, _percent(run))


def _percent(run: Run) -> float:
    requests = sum(counters.requests for counters in run.all_counters)
    done = requests - sum(counters.unsent for counters in run.all_counters)
    return 100.0 * done / requests if requests else 100.0


async def show_models(name: str, report: Mapping[str, Any], summary: str) -> None:
    """How the run ended, model by model."""
    title = markdown_text(name)
    rows = [{column: model[column] for column in _MODELS} for model in report["models"]]
    for row in rows:
        row["cost_usd"] = row["cost_usd"] or _UNKNOWN
    await acreate_table_artifact(rows, key=key("mavi", name, "models"), description=f"Models of {title}")
    in_doubt = Decimal(report["exposure_usd"])
    doubt = f"At most ${_trimmed(in_doubt)} more for calls whose reply was lost.\n\n" if in_doubt else ""
    text = (
        f"# {title}: {report['status']}\n\n{_simulated(report['gateway'] == 'sandbox')}"
        f"{markdown_text(summary)} in {report['wall_s']:,.0f} s (run {report['run_id']}).\n\n{doubt}"
        f"{markdown_rows(_only(rows, _MODELS_BRIEF))}{_skipped(report)}\n"
        f"Parquet: {markdown_code(report['output'] + '/results')}\n"
    )
    await acreate_markdown_artifact(text, key=key("mavi", name), description=f"Run of {title}")


async def show_comparison(name: str, found: Comparison, page: Path) -> None:
    """Which model to choose, with a link to the whole report."""
    title = markdown_text(name)
    rows = [_row(model, _COMPARED) for model in _plain(found)["models"]]
    points = "".join(f"- {markdown_text(point)}\n" for point in found.verdict.points)
    text = (
        f"# {title}: bake-off\n\n{_simulated(found.simulated)}"
        f"{_headline(found)}\n\n{points}\n"
        f"{markdown_rows(_only(rows, _COMPARED_BRIEF))}\nThe whole report: {markdown_code(page)}\n"
    )
    await acreate_table_artifact(
        rows,
        key=key("mavi", name, "compared-models"),
        description=f"Models of {title}, compared",
    )
    await acreate_markdown_artifact(
        text, key=key("mavi", name, "compared"), description=f"Bake-off of {title}"
    )
    await _link(name, "compared-page", page)


def _headline(found: Comparison) -> str:
    """The recommendation; emphasised only when it names a choice."""
    text = markdown_text(found.verdict.headline)
    return f"**{text}**" if found.choice is not None and found.choice.decided else text


async def show_drift(name: str, found: Drift, page: Path) -> None:
    """What changed since the run before."""
    title = markdown_text(name)
    rows = [_row(model, _DRIFTED) for model in _plain(found)["models"]]
    changes = [change for model in found.models for change in drift_page.changes(model)]
    points = "".join(f"- {markdown_text(change)}\n" for change in changes)
    text = (
        f"# {title}: drift\n\nFrom {markdown_code(found.before)} to {markdown_code(found.after)}\n\n"
        f"**{markdown_text(drift_page.headline(found))}**\n\n{points}\n{markdown_rows(rows)}\n"
        f"The whole report: {markdown_code(page)}\n"
    )
    await acreate_markdown_artifact(text, key=key("mavi", name, "drift"), description=f"Drift of {title}")
    await _link(name, "drift-page", page)


async def show_costs(report: CostReport, page: Path) -> None:
    """Spend by the chosen dimensions, the newest last."""
    spend = costs_json(report)
    totals = ("total_usd", "useful_usd", "invalid_usd", "retried_usd", "exposure_usd")
    rows = [_flat(group, report.by) for group in spend["groups"]]
    brief = (*report.by, "cost_usd", "exposure_usd", "calls")
    notes = [*report.notes, *([burn_text(report.burn)] if report.burn else [])]
    text = (
        f"# Spend\n\n{markdown_rows(_only([spend], totals))}\n"
        + "".join(f"- {markdown_text(note)}\n" for note in notes)
        + f"\n{markdown_rows(_only(rows[-50:], brief))}\nThe whole page: {markdown_code(page)}\n"
    )
    await acreate_table_artifact(
        rows[-MOST_ROWS:],
        key="mavi-costs-table",
        description=f"Spend by {markdown_text(', '.join(report.by))}",
    )
    await acreate_markdown_artifact(text, key="mavi-costs", description="Spend")
    await _link("costs", "page", page)


def _flat(group: Mapping[str, Any], by: Sequence[str]) -> dict[str, Any]:
    kept = ("cost_usd", "useful_usd", "invalid_usd", "retried_usd", "exposure_usd", "calls")
    return {name: group[name] for name in (*by, *kept) if name in group} | {
        "cost_usd": group["cost_usd"] or _UNKNOWN
    }


async def _link(name: str, what: str, page: Path) -> None:
    await acreate_link_artifact(
        _url(page),
        link_text=markdown_text(page.name),
        key=key("mavi", name, what),
        description=markdown_code(page),
    )


def _url(page: Path) -> str:
    return Path(os.path.abspath(page)).as_uri()


def _plain(found: Comparison | Drift) -> Any:
    return found.to_json()


def _only(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """The columns that fit a summary; money without its last zeros."""
    return [
        {name: _money(row.get(name)) if name.endswith("_usd") else row.get(name) for name in names}
        for row in rows
    ]


def _money(dollars: Any) -> str:
    return _UNKNOWN if dollars in (None, _UNKNOWN) else _trimmed(Decimal(dollars))


def _trimmed(dollars: Decimal) -> str:
    return f"{dollars.normalize():f}"


def _row(model: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    return {column: _rounded(model[column]) for column in columns if column in model}


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def _simulated(simulated: bool) -> str:
    return "**Answered by the sandbox**, not by these models\n\n" if simulated else ""
