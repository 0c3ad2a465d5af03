"""Which of several rows counts: by what they say first, by their clocks second.

A request that has an answer is not sent again, so its answered row is the last one whatever the clocks say;
an invalid answer comes before it and after a failure. A time that lies ahead of now was made by a wrong
clock: it counts as older than every time that can be right, so that it does not hide what came later.
"""

import time
from collections.abc import Mapping
from typing import Any, Final

from mavi_tasks.schema import ResultStatus

RANK: Final[Mapping[str, int]] = {ResultStatus.ANSWERED: 2, ResultStatus.INVALID: 1}  # any other: 0
AHEAD_US: Final = 3_600_000_000  # clocks of machines may differ by so much
_BEFORE_ALL: Final = 1 << 62


def plausible_us(instant_us: Any, now_us: int | None = None) -> Any:
    """Instants to sort by (an int or an array of int64): those ahead of now come before all others.

    now_us: None is this machine's clock.
    """
    limit_us = (time.time_ns() // 1000 if now_us is None else now_us) + AHEAD_US
    return instant_us - (instant_us > limit_us) * _BEFORE_ALL
