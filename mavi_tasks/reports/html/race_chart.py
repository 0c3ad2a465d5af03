"""The picture of a race: a bar for each model, as long as it was in the race, and why it ended."""

from collections.abc import Mapping

from markupsafe import Markup

from mavi_tasks.compare.display_names import short
from mavi_tasks.compare.race_record import RaceRecord
from mavi_tasks.reports.html.svg_scales import coordinate

WIDTH, LEFT, ROW, TOP = 720, 10, 38, 24


def race_chart(record: RaceRecord, colour: Mapping[str, int]) -> Markup:
    """Return the figure; its text says the same as the bars. colour: 1 to 8, by model."""
    name, end = short(record.models), max(record.done, 1)
    out = {drop.model: (look.media, drop) for look, drop in record.drops()}
    rows, span = [], WIDTH - 2 * LEFT
    for at, model in enumerate(record.models):
        media, drop = out.get(model, (end, None))
        why = "in the race" if record.choice != model else "chosen"
        if drop is not None:
            why = f"out after {media:,} media: {drop.sentence.format(by=name[drop.by])}"
        y, long = TOP + at * ROW, coordinate(span * media / end)
        rows.append(
            Markup(
                '<text x="{}" y="{}">{}</text>'
                '<rect class="fill k{}" x="{}" y="{}" width="{}" height="8" rx="4"/>'
            ).format(LEFT, y, f"{name[model]}: {why}", colour.get(model, 8), LEFT, y + 6, long)
        )
    for look in record.looks:
        x = coordinate(LEFT + span * look.media / end)
        rows.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                x, x, TOP - 10, TOP + ROW * len(record.models) - 16
            )
        )
    height = TOP + ROW * len(record.models) + 4
    label = f"{len(record.looks)} looks, the last after {record.done:,} of {record.media:,} media"
    return Markup(
        '<figure><svg class="race" viewBox="0 0 {} {}" width="100%" role="img" aria-label="{}">{}</svg>'
        "<figcaption>{}</figcaption></figure>"
    ).format(WIDTH, height, label, Markup("").join(rows), f"Vertical lines: {label}.")
