"""What a worker reports of one model: its counts so far, or those of one shard."""

from dataclasses import dataclass, fields
from typing import Any, Final

from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.execution.stop_signal import StopSignal

# What a worker counts: not the plan, which the parent counts.
COUNTED: Final = tuple(
    one.name
    for one in fields(ModelCounters)
    if isinstance(one.default, int) and one.name not in ("requests", "invalid_before")
)


@dataclass(frozen=True, slots=True)
class CounterSnapshot:
    """Counts of one model. stopped: why this model is sent nothing more. run_stopped: (reason, message)."""

    model: str
    counts: dict[str, int]
    errors: dict[str, tuple[int, str]]
    skips: dict[str, int]
    stopped: str | None = None
    latencies: tuple[float, ...] = ()
    run_stopped: tuple[str, str] | None = None

    @classmethod
    def of(cls, counters: ModelCounters, stop: StopSignal, *, latencies: bool = True) -> "CounterSnapshot":
        return cls(
            counters.model,
            {name: getattr(counters, name) for name in COUNTED},
            dict(counters.errors),
            dict(counters.skips),
            counters.stopped,
            tuple(counters.latencies) if latencies else (),
            (stop.reason, stop.message or stop.reason) if stop.reason is not None else None,
        )

    def to_json(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "CounterSnapshot":
        stopped = values["run_stopped"]
        errors = {code: (times, text) for code, (times, text) in values["errors"].items()}
        return cls(**{**values, "errors": errors, "run_stopped": stopped and tuple(stopped)})

    def add_to(self, counters: ModelCounters, *, previous: "CounterSnapshot | None" = None) -> None:
        """Add these counts, less those of the same worker's previous snapshot."""
        for name in COUNTED:
            before = previous.counts[name] if previous is not None else 0
            setattr(counters, name, getattr(counters, name) + self.counts[name] - before)
        for code, (times, text) in self.errors.items():
            before = previous.errors.get(code, (0, ""))[0] if previous is not None else 0
            had, first = counters.errors.get(code, (0, text))
            counters.errors[code] = (had + times - before, first)
        for code, rows in self.skips.items():
            counters.skips[code] += rows - (previous.skips.get(code, 0) if previous is not None else 0)
        for latency_s in self.latencies:
            counters.latencies.add(latency_s)
        counters.stopped = counters.stopped or self.stopped
