"""What changed in a model's limits: told to a listener, the latest kept."""

from collections import deque
from collections.abc import Callable

from mavi_tasks.limits.events import LimitChange, What

GROWTH_EVERY_S = 5.0
"""Limits grow in many small steps; a log wants few lines."""


class Changes:
    """One model's `LimitChange`s."""

    __slots__ = ("_model", "_on_change", "_shown", "history")

    def __init__(self, model: str, on_change: Callable[[LimitChange], None] | None) -> None:
        self._model = model
        self._on_change = on_change
        self._shown: dict[What, tuple[float, float | None]] = {}
        self.history: deque[LimitChange] = deque(maxlen=256)

    def start(self, what: What, value: float | None) -> None:
        """The value everything later is compared with."""
        self._shown[what] = (float("-inf"), value)

    def move(self, what: What, new: float | None, now: float) -> None:
        """Tell a cut at once; growth of a tenth or more, now and then."""
        at, old = self._shown[what]
        if new == old:
            return
        cut = new is not None and (old is None or new < old)
        if not cut and old is not None and new is not None and (now - at < GROWTH_EVERY_S or new < 1.1 * old):
            return
        self._shown[what] = (now, new)
        self.tell(now, what, old, new, "throttled" if cut else "no 429 of late")

    def tell(
        self, now: float, what: What, old: float | str | None, new: float | str | None, why: str
    ) -> None:
        """Tell one change."""
        change = LimitChange(now, self._model, what, old, new, why)
        self.history.append(change)
        if self._on_change is not None:
            self._on_change(change)
