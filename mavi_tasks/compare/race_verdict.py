"""What a comparison says of a dataset that a race has made: the race's own decision, in words."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mavi_tasks.compare.display_names import listed, short
from mavi_tasks.compare.race_record import RaceRecord, read_record
from mavi_tasks.compare.result import Choice, Comparison, Recommendation


def apply_race(found: Comparison, dirs: Sequence[Path]) -> Comparison:
    """Return the comparison with the choice of its dataset's race, if there is one.

    Bounds that hold after a fixed number of items do not hold when one stopped because of what was seen; the
    race's do. Raises InputError when the race's file is damaged.
    """
    record = read_record(dirs[0]) if len(dirs) == 1 else None
    if record is None or not record.looks:
        return found
    points = [
        "The choice is the race's: its looks share the 5% that may go wrong. The figures below are of "
        "unequal numbers of items, since models left at different looks.",
        *found.verdict.points[1:],
    ]
    return replace(
        found,
        race=record,
        choice=_choice(record, found.choice),
        verdict=Recommendation(conclusion(record), tuple(points)),
    )


def conclusion(record: RaceRecord) -> str:
    """The race in a sentence or two, true to what is known by now."""
    name = short(record.models)
    if not record.looks:
        return "Undecided: no look was completed."
    look = record.looks[-1]
    truth = "" if record.reference is None else f" Right means: as {record.reference} answers."
    if record.choice is not None:
        behind = look.behind_points[record.choice]
        surely = f"at most {behind:.1f} points behind the best" if behind >= 0.05 else "not behind any other"
        return f"Choose {name[record.choice]}: {surely} (95%), after {look.media:,} media.{truth}"
    each = listed(f"{name[one]} (at most {look.behind_points[one]:.1f})" for one in look.left)
    return f"Undecided after {look.media:,} media. Points that each may be behind the best: {each}.{truth}"


def _choice(record: RaceRecord, before: Choice | None) -> Choice:
    look, chosen = record.looks[-1], record.choice
    return Choice(
        candidate=chosen,
        model=chosen,
        prompt_id=None,
        decided=chosen is not None,
        margin_points=float(record.rules["margin"]),
        behind_points_high=look.behind_points[record.left[0]],
        undecided=() if chosen is not None else record.left,
        rival=None,
        by_truth=True,
        more=None if chosen is not None or before is None else before.more,
    )
