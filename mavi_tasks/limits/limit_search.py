"""A limit searched from below: cut when it is too much, grown back, rested, then probed beyond."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class AdaptiveSettings:
    """Where the search starts and how far it goes."""

    start_concurrency: int = 8
    start_rate_per_s: float = 40.0
    """Until the first reply shows the round trip."""
    max_concurrency: int = 512
    grow_rate_every_s: float = 2.0
    """A rate a little too high shows only once the server's burst is used up, so each level is held."""
    grow_rate_every_requests: int = 10


@dataclass(frozen=True, slots=True)
class Steps:
    """How a `LimitSearch` moves. `margin` and `step` are fractions of the value, or units when `whole`."""

    margin: float
    """Rest this far below the level that was throttled."""
    step: float
    """First step beyond; each further one is half as large again, up to a quarter of the value."""
    whole: bool
    rest_s: float = 15.0
    """Before the first step beyond; doubles with each such step that is throttled."""
    rest_cap_s: float = 240.0


RATE: Final = Steps(margin=0.03, step=0.02, whole=False)
CONCURRENCY: Final = Steps(margin=1, step=1, whole=True)
FAR: Final = 1.5
PROVEN: Final = 1.08  # so far beyond the ceiling no server's burst hides what is too much


class LimitSearch:
    """A limit under search. `value` None: not limited yet; `most` None: no upper bound."""

    __slots__ = ("_probing", "_rest_s", "_rest_until", "_step", "ceiling", "least", "most", "steps", "value")

    def __init__(self, steps: Steps, value: float | None, most: float | None, *, least: float = 1) -> None:
        self.steps = steps
        self.value = value
        self.most = most
        self.least = least
        self.ceiling: float | None = None
        """The least value known to be too much."""
        self._probing = False
        self._step = steps.step
        self._rest_s = steps.rest_s
        self._rest_until = 0.0

    def set(self, value: float) -> None:
        """Take `value`, within the bounds."""
        value = max(self.least, int(value) if self.steps.whole else value)
        self.value = value if self.most is None else min(value, self.most)

    def cut(self, value: float, *, ceiling: float, now: float) -> None:
        """Fall to `value`: `ceiling` was too much."""
        if self._probing:
            # Below the old ceiling all was well for the whole rest; a burst hid that the step was too much.
            ceiling = min(ceiling, self.ceiling or ceiling)
            self._rest_s = min(2 * self._rest_s, self.steps.rest_cap_s)
        self._probing = False
        self._step = self.steps.step
        self._rest_until = now + self._rest_s
        self.refine(value, ceiling=ceiling)

    def refine(self, value: float, *, ceiling: float) -> None:
        """Correct the last cut, now that more is known."""
        self.set(value)
        self.ceiling = ceiling

    def rest_until(self, until: float) -> None:
        """No step beyond the ceiling before `until`, whatever the steps showed."""
        self._rest_until = max(self._rest_until, until)

    def grow(self, now: float) -> None:
        """One step up: half-way to just below the ceiling, or beyond it after the rest."""
        if self.value is None or (self.most is not None and self.value >= self.most):
            return
        target = self._target()
        if target is None:
            self.set(self.value + max(self._unit(self.steps.step), 0.25 * self.value))
        elif self.value < target:
            least = 1 if self.steps.whole else 0.01 * self.value
            # Half-way; by factors when it is far.
            self.set(min(target, max(self.value + least, min((self.value + target) / 2, FAR * self.value))))
        elif now >= self._rest_until:
            self._probe()

    def _probe(self) -> None:
        assert self.value is not None
        if self.ceiling is not None and self.value > PROVEN * self.ceiling:
            self.ceiling = self.value
        self._probing = True
        self.set(self.value + max(self._unit(self._step), 1 if self.steps.whole else 0))
        self._step = 1.5 * self._step

    def _target(self) -> float | None:
        if self.ceiling is None:
            return None
        target = self.ceiling - self._unit(self.steps.margin, of=self.ceiling)
        return max(self.least, int(target) if self.steps.whole else target)

    def _unit(self, amount: float, of: float | None = None) -> float:
        base = self.value if of is None else of
        assert base is not None
        return min(amount, max(1.0, 0.25 * base)) if self.steps.whole else min(amount, 0.25) * base
