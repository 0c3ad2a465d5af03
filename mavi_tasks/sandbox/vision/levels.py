"""The image resolution that each model gets: the only difference between the models.

One classifier answers for all models, so nothing here is true of the real models. A cheap model gets a
quarter of the resolution, an expensive one averages several views, others get one view.

| level | models whose name contains | views of a picture | frames of a video |
|---|---|---|---|
| lite | lite, mini, nano, micro | the whole at 56 px, enlarged again to 224 | 2 |
| plain | none of these | the whole at 224 px | 4 |
| pro | pro, premier, max, plus, 4o, o1, o3 | the whole and its middle, both also mirrored | 8 |
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Level:
    """The views of one level. `crops`: the fractions of width and height that are used, from the centre."""

    name: str
    side_px: int
    crops: tuple[float, ...]
    mirrored: bool
    frames: int


LITE = Level("lite", 56, (1.0,), mirrored=False, frames=2)
PLAIN = Level("plain", 224, (1.0,), mirrored=False, frames=4)
PRO = Level("pro", 224, (1.0, 0.8), mirrored=True, frames=8)

_LEVELS = (
    (LITE, frozenset({"lite", "mini", "nano", "micro"})),
    (PRO, frozenset({"pro", "premier", "max", "plus", "4o", "o1", "o3"})),
)


def level_of(model: str) -> Level:
    """The level of a wire name such as nova:us.amazon.nova-lite-v1:0; the first matching line applies."""
    parts = set(re.split(r"[^a-z0-9]+", model.lower()))
    return next((level for level, markers in _LEVELS if parts & markers), PLAIN)
