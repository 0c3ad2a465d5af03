"""What a report says in sentences: projection, budget and outliers."""

from mavi_tasks.common.format import usd
from mavi_tasks.common.money import usd as dollars
from mavi_tasks.costs.cost_report import CostReport
from mavi_tasks.costs.projection import Burn


def outlook(report: CostReport) -> list[str]:
    """Projection, budget and anomalies, one sentence each."""
    lines = []
    found = report.projection
    if found is not None:
        low, middle, high = (usd(dollars(pico)) for pico in (found.low_pico, found.mid_pico, found.high_pico))
        lines.append(
            f"{found.month}: {usd(dollars(found.spent_pico))} so far, {middle} at its end "
            f"({found.level:.0%} interval {low} to {high})."
        )
    else:
        lines.append(report.projection_note)
    if report.burn is not None:
        lines.append(burn_text(report.burn))
    lines += [
        f"{one.day} {one.name or 'all'}: {usd(dollars(one.cost_pico))} is an outlier "
        f"(usual {usd(dollars(one.usual_pico))}, limit {usd(dollars(one.limit_pico))})."
        for one in report.anomalies[:5]
    ]
    return lines


def burn_text(burn: Burn) -> str:
    """One sentence on the monthly budget."""
    budget, left = usd(dollars(burn.budget_pico)), usd(dollars(abs(burn.left_pico)))
    state = f"{left} left" if burn.left_pico >= 0 else f"overrun by {left}"
    end = f"; at this pace it runs out on {burn.runs_out}" if burn.runs_out and burn.left_pico >= 0 else ""
    certain = burn.chance_over is None or burn.left_pico < 0
    chance = "" if certain else f" (chance of overrun {burn.chance_over:.0%})"
    return f"Budget {budget} a month: {state}{end}{chance}."
