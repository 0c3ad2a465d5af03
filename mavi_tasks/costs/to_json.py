"""The report as plain JSON."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from mavi_tasks.common.money import exact_text
from mavi_tasks.costs import projection
from mavi_tasks.costs.cell import SpendCell
from mavi_tasks.costs.cost_report import CostReport, Group
from mavi_tasks.costs.unit_costs import Unit


def to_json(report: CostReport) -> dict[str, Any]:
    """One object; dollars are texts with twelve decimals, quotients and rates are rounded."""
    return {
        "total_usd": _cost(report.total),
        "useful_usd": exact_text(report.total.useful_pico),
        "invalid_usd": exact_text(report.total.invalid_pico),
        "retried_usd": exact_text(report.total.retried_pico),
        "exposure_usd": exact_text(report.total.exposure_pico),
        "groups": [group_json(report.by, group) for group in report.groups],
        "currency": "USD",
        "sandbox": report.is_sandbox,
        "sandbox_usd": exact_text(report.sandbox.cost_pico),
        "sandbox_groups": []
        if report.is_sandbox
        else [group_json(report.by, g) for g in report.sandbox_groups],
        "tz": report.tz,
        "since": report.since and report.since.isoformat(),
        "until": report.until and report.until.isoformat(),
        "made_at": report.made_at.isoformat(),
        "datasets": list(report.paths),
        **counts_json(report.total),
        "units": [_unit_json(unit) for unit in report.units],
        "jobs": [group_json(("job",), group) for group in report.jobs],
        "unpriced": [
            {"model": g.keys[0], "calls": g.spend.unpriced_calls, "tokens": g.spend.unpriced_tokens}
            for g in report.unpriced
        ],
        "projection": _projection_json(report.projection),
        "projection_note": report.projection_note or projection.METHOD,
        "budget": _burn_json(report.burn),
        "run_budgets": [
            {
                "run_id": run.run_id,
                "job": run.job,
                "status": run.status,
                "budget_usd": exact_text(run.budget_pico),
                "cost_usd": exact_text(run.spent_pico),
            }
            for run in report.run_budgets
        ],
        "anomalies": [
            {
                "day": one.day.isoformat(),
                "scope": one.scope,
                "name": one.name,
                "cost_usd": exact_text(one.cost_pico),
                "usual_usd": exact_text(one.usual_pico),
                "limit_usd": exact_text(one.limit_pico),
            }
            for one in report.anomalies
        ],
        "anomaly_rule": report.anomaly_rule,
        "notes": list(report.notes),
    }


def group_json(by: Sequence[str], group: Group) -> dict[str, Any]:
    """One group: its dimensions by name, its dollars, its counts."""
    cell = group.spend
    return {
        **dict(zip(by, group.keys, strict=True)),
        "cost_usd": _cost(cell),
        "useful_usd": exact_text(cell.useful_pico),
        "invalid_usd": exact_text(cell.invalid_pico),
        "retried_usd": exact_text(cell.retried_pico),
        "exposure_usd": exact_text(cell.exposure_pico),
        **counts_json(cell),
    }


def counts_json(cell: SpendCell) -> dict[str, Any]:
    """The counts of a cell. Cached and reasoning tokens are null where no reply has them."""
    return {
        "calls": cell.calls,
        "answered_calls": cell.answered_calls,
        "throttled_calls": cell.throttled_calls,
        "rejected_calls": cell.rejected_calls,
        "failed_calls": cell.failed_calls,
        "in_doubt_calls": cell.in_doubt_calls,
        "unpriced_calls": cell.unpriced_calls,
        "error_rate": _rounded(cell.fraction(cell.error_calls)),
        "throttled_rate": _rounded(cell.fraction(cell.throttled_calls)),
        "requests": cell.requests,
        "answered": cell.answered,
        "invalid": cell.invalid,
        "failed": cell.failed,
        "skipped": cell.skipped,
        "input_tokens": cell.input_tokens,
        "output_tokens": cell.output_tokens,
        "cached_tokens": cell.cached_tokens if cell.cached_known else None,
        "reasoning_tokens": cell.reasoning_tokens if cell.reasoning_known else None,
        "video_hours": round(cell.video_ms / 3_600_000, 6),
    }


def _cost(cell: SpendCell) -> str | None:
    """The known cost; None when nothing of it is known. `unpriced_calls` says what is missing."""
    return None if cell.is_cost_unknown else exact_text(cell.cost_pico)


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 6)


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:f}"


def _unit_json(unit: Unit) -> dict[str, Any]:
    return {
        "model": unit.model,
        "items": unit.items,
        "answered": unit.spend.answered,
        "cost_usd": _cost(unit.spend),
        "per_1000_items_usd": _text(unit.per_1000_items_usd),
        "per_answered_usd": _text(unit.per_answered_usd),
        "per_video_hour_usd": _text(unit.per_video_hour_usd),
        "per_million_tokens_usd": _text(unit.per_mtok_usd),
        "lower_bound": unit.lower_bound,
    }


def _projection_json(found: projection.Projection | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "month": found.month,
        "today": found.today.isoformat(),
        "spent_usd": exact_text(found.spent_pico),
        "low_usd": exact_text(found.low_pico),
        "median_usd": exact_text(found.mid_pico),
        "high_usd": exact_text(found.high_pico),
        "level": found.level,
        "history_days": found.history_days,
    }


def _burn_json(burn: projection.Burn | None) -> dict[str, Any] | None:
    if burn is None:
        return None
    return {
        "budget_usd": exact_text(burn.budget_pico),
        "spent_usd": exact_text(burn.spent_pico),
        "left_usd": exact_text(burn.left_pico),
        "runs_out": burn.runs_out and burn.runs_out.isoformat(),
        "chance_over": burn.chance_over,
    }
