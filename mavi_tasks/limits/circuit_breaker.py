"""Closed, open, probing, down: when to stop sending to a model that only fails."""

from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "probing", "down"]


@dataclass(frozen=True, slots=True)
class CircuitSettings:
    """After `failures` in a row wait `cool_down_s` (doubling), send one probe; down after `probes` failed
    ones.

    `open_s` bounds the time from the first opening to the last failed probe, should probes hang until their
    timeout.
    """

    failures: int = 10
    cool_down_s: float = 5.0
    cool_down_cap_s: float = 60.0
    probes: int = 3
    open_s: float = 600.0


class Circuit:
    """One model's circuit. Pure: the caller brings the time and sends the probe."""

    __slots__ = (
        "_cool_down_s",
        "_failed_probes",
        "_opened_at",
        "_until",
        "failures_in_a_row",
        "settings",
        "state",
    )

    def __init__(self, settings: CircuitSettings | None = None) -> None:
        self.settings = settings or CircuitSettings()
        self.state: State = "closed"
        self.failures_in_a_row = 0
        self._reset()

    def _reset(self) -> None:
        self._cool_down_s = self.settings.cool_down_s
        self._failed_probes = 0
        self._opened_at = 0.0
        self._until = 0.0

    def wait_s(self, now: float) -> float:
        """Seconds until a request may go: 0.0 now, infinite while a probe is out or the model is down."""
        if self.state == "closed":
            return 0.0
        if self.state == "open":
            return max(0.0, self._until - now)
        return float("inf")

    def start_probe(self) -> None:
        """The one request that an open circuit lets through after its cool-down was sent."""
        self.state = "probing"

    def drop_probe(self) -> None:
        """The probe showed nothing (never sent, or throttled): another may go."""
        if self.state == "probing":
            self.state = "open"

    def succeed(self) -> None:
        """The model answered, be it with a refusal of this request: it is up."""
        self.failures_in_a_row = 0
        if self.state in ("open", "probing"):
            self.state = "closed"
            self._reset()

    def fail(self, now: float, *, probe: bool) -> None:
        """A request failed; replies to requests sent before the opening no longer count."""
        self.failures_in_a_row += 1
        if self.state == "closed":
            if self.failures_in_a_row >= self.settings.failures:
                self._opened_at = now
                self._open(now)
        elif self.state == "probing" and probe:
            self._failed_probes += 1
            self._cool_down_s = min(2 * self._cool_down_s, self.settings.cool_down_cap_s)
            self._open(now)
            if self._failed_probes >= self.settings.probes or now - self._opened_at >= self.settings.open_s:
                self.state = "down"

    def _open(self, now: float) -> None:
        self.state = "open"
        self._until = now + self._cool_down_s

    @property
    def why(self) -> str:
        """The state's reason, for people."""
        probes = (
            f", {self._failed_probes} of {self.settings.probes} probes failed" if self._failed_probes else ""
        )
        return f"{self.failures_in_a_row} failures in a row{probes}"
