"""What a comparison says of a cascade's dataset: its quality and cost beside its certificate."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mavi_tasks.common.format import count, percent, usd
from mavi_tasks.compare import cascade_record, field_labels
from mavi_tasks.compare import sheet as read
from mavi_tasks.compare.cascade_run import CascadeRun
from mavi_tasks.compare.display_names import short
from mavi_tasks.compare.match_rules import Rule
from mavi_tasks.compare.result import Comparison, Recommendation


def apply_cascade(
    found: Comparison, dirs: Sequence[Path], matching: Mapping[str, Rule], reference: str | None
) -> Comparison:
    """Return the comparison with how its dataset's cascade did, if there is one.

    Its models cannot be compared: the last one was only asked what was left open. `matching` and `reference`
    as in the comparison.
    """
    if len(dirs) != 1 or not (dirs[0] / cascade_record.FILE).exists():
        return found
    sheet = read.sheet(dirs)  # a row for each model, whatever its prompts
    run = cascade_record.read(dirs[0], sheet, field_labels.read(sheet, matching, reference))
    verdict = Recommendation(headline(run), (certificate(run), *reasons(run)))
    return replace(found, cascade_run=run, choice=None, verdict=verdict)


def headline(run: CascadeRun) -> str:
    """What was seen of it."""
    name = short((*run.plan.first, run.plan.last))
    path = f"{' + '.join(name[one] for one in run.plan.first)}, then {name[run.plan.last]}"
    right = "" if run.right is None else f"{percent(run.right)} right on {count(run.judged)} judged items, "
    return f"Cascade of {path}: {right}{usd(run.cost_per_1000_usd)} per 1,000 items."


def certificate(run: CascadeRun) -> str:
    """The bound that was proven before, or why it does not hold."""
    if run.void:
        return f"Certificate void: {'; '.join(run.void)}. Certify it anew: mavi compare --cascade-out."
    proven, last = run.plan.certificate, short((*run.plan.first, run.plan.last))[run.plan.last]
    return (
        f"Certificate: at most {proven['behind_points_high']:.1f} points behind {last} alone (95%), "
        f"{percent(proven['escalated'], 0)} escalated, proven on {count(proven['items'])} items; "
        f"{last} alone cost {proven['last_cost_per_1000_usd']} dollars per 1,000 there."
    )


def reasons(run: CascadeRun) -> list[str]:
    """Why items were escalated."""
    if not run.items:
        return []
    each = ", ".join(f"{why} {count(times)}" for why, times in run.reasons.items())
    return [f"Escalated: {percent(run.escalated, 0)} of {count(run.items)} items ({each or 'none'})."]
