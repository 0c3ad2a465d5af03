"""How closely each model looks: the one table that makes them differ.

One classifier answers for all of them, so nothing here says anything about the real models. A cheap model
sees a quarter of the resolution, an expensive one averages several views; between them lies one plain look.

| level | models whose name has the word | sees of a picture | frames of a video |
|---|---|---|---|
| lite | lite, mini, nano, micro | the whole at 56 px, enlarged again to 224 | 2 |
| plain | no such word | the whole at 224 px | 4 |
| pro | pro, premier, max, plus, 4o, o1, o3 | the whole and its middle, both also mirrored | 8 |
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Level:
    """One way to look. `middles`: the shares of width and height that are looked at, from the centre."""

    name: str
    side_px: int
    middles: tuple[float, ...]
    mirrored: bool
    frames: int


LITE = Level("lite", 56, (1.0,), mirrored=False, frames=2)
PLAIN = Level("plain", 224, (1.0,), mirrored=False, frames=4)
PRO = Level("pro", 224, (1.0, 0.8), mirrored=True, frames=8)

_WORDS = (
    (LITE, frozenset({"lite", "mini", "nano", "micro"})),
    (PRO, frozenset({"pro", "premier", "max", "plus", "4o", "o1", "o3"})),
)


def level_of(model: str) -> Level:
    """The level of a wire name such as nova:us.amazon.nova-lite-v1:0; the first line that fits counts."""
    words = set(re.split(r"[^a-z0-9]+", model.lower()))
    return next((level for level, names in _WORDS if words & names), PLAIN)
