"""The configuration of a sandbox: keys, latency, limits, faults, media."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .answers import Answerer
from .deterministic import first_match, fraction
from .unknowns import Unknowns


@dataclass(frozen=True, slots=True)
class Limit:
    """What one model accepts before it replies 429; None = no limit. All keys use the same limit."""

    requests_per_s: float | None = None
    burst: int = 1
    tokens_per_min: int | None = None
    concurrency: int | None = None
    retry_after: Literal["seconds", "date"] | None = None


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One fault: applies with `probability` to models that match the glob, at most `times` times."""

    kind: str
    probability: float = 1.0
    model: str = "*"
    times: int | None = None


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """All settings of a sandbox; the defaults give a healthy service with realistic latency.

    latency_s: None = 30 to 150 ms by model; one number for all models; or a mapping of model globs.
    api_key: a key accepted in addition to all keys that start with `sk-`.
    default_*: the assumed size of media at URLs that the sandbox does not serve, so cannot measure. Such a
    URL may state its own: /4000x3000/ pixels, /90s/ seconds.
    unknowns: which of the gateways that the contract allows this one is.
    mark: the prefix of every prose answer, so that nobody mistakes it for a model's answer.
    """

    api_key: str | None = None
    latency_s: float | Mapping[str, float] | None = None
    limits: Mapping[str, Limit] = field(default_factory=dict)
    faults: Mapping[str, float] | Sequence[FaultRule] = ()
    script: Sequence[str] = ()
    seed: int = 0
    hang_s: float = 60.0
    huge_body_bytes: int = 64 * 2**20
    max_body_bytes: int = 64 * 2**20
    media_root: Path | str | None = None
    retired: Sequence[str] = ()
    default_image_px: tuple[int, int] = (1024, 1024)
    default_video_px: tuple[int, int] = (1280, 720)
    default_video_s: float = 60.0
    mark: str = "[simulated] "
    answerer: Answerer | None = None
    unknowns: Unknowns = field(default_factory=Unknowns)

    def latency_of(self, model: str, salt: str) -> float:
        """Seconds that one completion of this model takes; differs by model and by request."""
        if isinstance(self.latency_s, Mapping):
            return first_match(self.latency_s, model) or 0.0
        if self.latency_s is not None:
            return self.latency_s
        base_s = 0.030 + 0.120 * fraction(model)
        return base_s * (0.8 + 0.8 * fraction(model, salt) ** 3)
