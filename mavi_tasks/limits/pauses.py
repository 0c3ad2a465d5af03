"""Whether pauses that a server asks for (Retry-After) depend on how fast requests are sent."""

from typing import Final

QUIET_S: Final = 60.0
"""Without a pause for so long, an earlier one says nothing about the next."""
MUCH_SLOWER: Final = 0.35
BELIEVED_FOR_S: Final = 300.0


class Pauses:
    """The Retry-After of one model. Pure. Each costs time, so the first is taken for a limit.

    When pauses go on although much less is sent, they do not depend on the rate: then they are obeyed for a
    while, and nothing else is done about them.
    """

    __slots__ = ("_at", "_first_per_s", "_scattered_until")

    def __init__(self) -> None:
        self._at = self._scattered_until = float("-inf")
        self._first_per_s = 0.0

    def scattered(self, now: float) -> bool:
        """Whether pauses are known not to depend on the rate."""
        return now < self._scattered_until

    def is_first(self, now: float) -> bool:
        """Whether there was none of late."""
        return now - self._at > QUIET_S

    def add(self, now: float, per_s: float) -> bool:
        """A pause was asked for while `per_s` were sent. True: pauses do not depend on the rate."""
        if self.is_first(now):
            self._first_per_s = per_s
        self._at = now
        if per_s >= MUCH_SLOWER * self._first_per_s:
            return False
        self._at, self._scattered_until = float("-inf"), now + BELIEVED_FOR_S
        return True
