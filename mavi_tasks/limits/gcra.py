"""GCRA on whole picoseconds: at most `rate * window + one request` in any window, refunds exact."""

from typing import Final

PICO: Final = 10**12
MINUTE_PS: Final = 60 * PICO

CATCH_UP_S: Final = 0.03
"""How much lost time may be caught up in one go.

Timers wake about 1 ms late and a busy event loop 10-20 ms late; without this every late wake-up would lower
the rate for good. With it, 100 requests/s may come as 3 + 1 at once, well inside the smallest bursts servers
accept.
"""

SLOW_CATCH_UP_S: Final = 0.002
"""The same for requests over 30 ms apart: a late one costs little, and a server may accept no two at once."""

HEADROOM: Final = 0.995
"""Requests are sent at 99.5 % of a configured limit.

It makes "never more than the limit" strict for a whole minute even right after a catch-up
(0.995 * (60 s + 0.03 s) < 60 s), and lets a server's bucket recover from packets that arrived bunched.
"""


class TokenBucket:
    """A virtual bucket that fills with time and holds one request, plus what `catch_up_s` fills.

    In any window of w seconds the units taken less the units refunded are at most
    `per_minute / 60 * (w + catch_up_s) + largest`, where `largest` is the largest single request so far.
    Units are requests or tokens. All state is int, so a refund undoes exactly what was taken.
    """

    __slots__ = ("_capacity_ps", "_catch_up_ps", "_empty_ps", "_largest", "per_minute", "unit_ps")

    def __init__(self, per_minute: float, *, catch_up_s: float = CATCH_UP_S, largest: int = 1) -> None:
        self._catch_up_ps = round(catch_up_s * PICO)
        self._largest = largest
        # The instant at which the bucket was empty if it has filled ever since: never, so it starts full.
        self._empty_ps = -(10**30)
        self.set_rate(per_minute)

    def set_rate(self, per_minute: float, *, catch_up_s: float | None = None) -> None:
        """Go on at another rate; what is in the bucket keeps its time, not its units."""
        if catch_up_s is not None:
            self._catch_up_ps = round(catch_up_s * PICO)
        if not per_minute > 0:
            raise ValueError(f"a rate must be above 0 per minute, not {per_minute}")
        self.per_minute = per_minute
        self.unit_ps = -int(-MINUTE_PS // per_minute)  # rounded up: never faster than configured
        self._capacity_ps = self._largest * self.unit_ps + self._catch_up_ps

    def wait_s(self, units: int, now: float) -> float:
        """Seconds until `units` may be taken; 0.0 is now."""
        if units > self._largest:
            self._largest = units
            self._capacity_ps = units * self.unit_ps + self._catch_up_ps
        wait_ps = self._empty_ps + units * self.unit_ps - int(now * PICO)
        return wait_ps / PICO if wait_ps > 0 else 0.0

    def take(self, units: int, now: float) -> None:
        """Take `units` out; the caller has waited."""
        floor_ps = int(now * PICO) - self._capacity_ps
        empty_ps = self._empty_ps
        self._empty_ps = (empty_ps if empty_ps > floor_ps else floor_ps) + units * self.unit_ps

    def refund(self, units: int) -> None:
        """Put `units` back, or take more when negative: what was used differs from what was reserved."""
        self._empty_ps -= units * self.unit_ps

    def restart(self, from_s: float) -> None:
        """Hold one unit at `from_s`, no time to catch up: a pause was intended, not lost."""
        self._empty_ps = max(self._empty_ps, int(from_s * PICO) - self.unit_ps)


def catch_up_s(per_minute: float) -> float:
    """Seconds that requests at this rate may be late and still be caught up."""
    return CATCH_UP_S if 60 / per_minute <= CATCH_UP_S else SLOW_CATCH_UP_S
