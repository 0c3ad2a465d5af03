"""How fast something goes on at present."""

from collections import deque
from typing import Final

WINDOW_S: Final = 60.0


class Pace:
    """Counts a second over the last minute, from totals that are noted now and then."""

    def __init__(self) -> None:
        self._noted: deque[tuple[float, int]] = deque()

    def note(self, now_s: float, total: int) -> float:
        """Note a total; returns what was added per second since the start, or in the last minute."""
        self._noted.append((now_s, total))
        while len(self._noted) > 2 and now_s - self._noted[1][0] >= WINDOW_S:
            self._noted.popleft()
        began_s, before = self._noted[0]
        return (total - before) / (now_s - began_s) if now_s > began_s else 0.0
