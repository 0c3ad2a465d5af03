"""The cascade that a bake-off's answers certify."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from mavi_tasks.compare import certificate, field_labels, match_rules, scoring
from mavi_tasks.compare import sheet as read
from mavi_tasks.compare.cascade_record import answers_of
from mavi_tasks.compare.cascade_run import CascadePlan
from mavi_tasks.compare.sheet import Sheet
from mavi_tasks.errors import InputError


def certified(
    dirs: Sequence[Path], margin_points: float, fields: Mapping[str, str], reference: str | None
) -> CascadePlan:
    """Return the cheapest cascade that is proven to be at most the margin behind its last model.

    The last model is the one that is right most often; with a reference, which stands in for the expected
    answers, that one. Raises InputError when nothing can be proven, and says why.
    """
    sheet = read.sheet(dirs)
    labels = field_labels.read(sheet, match_rules.declared(fields), reference)
    if not labels.has_truth:
        raise InputError("a cascade needs expected answers, or --reference MODEL to stand in for them")
    names = [name for at, name in enumerate(sheet.models) if scoring.money(sheet, at)[1] == 0]
    if len(names) < 2:
        raise InputError("a cascade needs at least 2 models whose prices are known")
    answers = answers_of(sheet, labels, names)
    last = names.index(reference) if reference in names else int(answers.scores.mean(axis=1).argmax())
    found = certificate.certify(answers, last, margin_points / 100)
    if found is None:
        raise InputError(
            f"no cascade is proven to be at most {margin_points:g} points behind {names[last]} and cheaper, "
            f"by {answers.scores.shape[1]:,} items: give more items, or a larger --margin"
        )
    first = tuple(names[at] for at in found.first)
    proven = _proven(sheet, found, first, names[last], margin_points, reference)
    return CascadePlan(first, names[last], found.below, proven)


def _proven(
    sheet: Sheet,
    found: certificate.Certified,
    first: Sequence[str],
    last: str,
    margin_points: float,
    reference: str | None,
) -> dict[str, object]:
    return {
        "margin_points": margin_points,
        "behind_points_high": round(100 * found.behind_high, 3),
        "behind_points": round(100 * found.seen, 3),
        "escalated": round(found.escalated, 4),
        "items": found.items,
        "cost_per_1000_usd": _per_1000(found.cost),
        "last_cost_per_1000_usd": _per_1000(found.cost_last),
        "right_means": f"as {reference} answers" if reference else "the expected answers",
        "simulated": any(sheet.simulated),
        "provider_models": {
            name: list(sheet.provider_models[sheet.models.index(name)]) for name in (*first, last)
        },
    }


def _per_1000(cost: float) -> str:
    return f"{Decimal(str(cost * 1000)).quantize(Decimal('0.000001')).normalize():f}"
