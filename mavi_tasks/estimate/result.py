"""What a plan says: tokens, dollars and time as p10 / p50 / p90, of each model and in all."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Generic, Literal, TypeVar

Basis = Literal["formula", "observed", "unknown"]
Number = TypeVar("Number", int, float, Decimal)
CENT_FRACTIONS = Decimal("0.000001")  # an estimate needs no more digits than a millionth of a dollar


@dataclass(frozen=True, slots=True)
class Interval(Generic[Number]):
    """The truth is most likely between p10 and p90; p50 is the best single number."""

    p10: Number
    p50: Number
    p90: Number

    def to_json(self) -> dict[str, Any]:
        """Dollars as strings, so that no digit is lost; seconds with three decimals."""
        return {name: _plain(getattr(self, name)) for name in ("p10", "p50", "p90")}


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    return round(value, 3) if isinstance(value, float) else value


def dollars(p10: float, p50: float, p90: float) -> Interval[Decimal]:
    return Interval(*(Decimal(value).quantize(CENT_FRACTIONS) for value in (p10, p50, p90)))


@dataclass(frozen=True, slots=True)
class ModelEstimate:
    """One model's part. None = unknown: no formula for the tokens, or no price for the dollars."""

    model: str
    requests: int
    input_tokens: Interval[int] | None
    output_tokens: Interval[int]
    cost_usd: Interval[Decimal] | None
    wall_s: Interval[float]
    basis: Basis
    why: tuple[str, ...]  # where the numbers come from, for people
    tier_requests: tuple[tuple[str, int], ...] = ()  # price id -> requests, when the price has tiers
    frames: int | None = None
    frame_cost_usd: Decimal = Decimal(0)  # the part of p50 that grows with the number of frames

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "requests": self.requests,
            "input_tokens": _tokens(self.input_tokens),
            "output_tokens": _tokens(self.output_tokens),
            "cost_usd": self.cost_usd.to_json() if self.cost_usd else None,
            "wall_s": self.wall_s.to_json(),
            "basis": self.basis,
            "why": list(self.why),
            "tiers": dict(self.tier_requests),
        }


def _tokens(interval: Interval[int] | None) -> dict[str, Any] | None:
    return interval.to_json() if interval else None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A whole plan. `cost_usd` is None when a model's price or tokens are unknown; `unpriced` names it.

    `known_cost_usd` is then the part that is known.
    """

    requests: int
    models: tuple[ModelEstimate, ...]
    input_tokens: Interval[int] | None
    output_tokens: Interval[int]
    cost_usd: Interval[Decimal] | None
    known_cost_usd: Interval[Decimal]
    wall_s: Interval[float]
    unpriced: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "input_tokens": _tokens(self.input_tokens),
            "output_tokens": _tokens(self.output_tokens),
            "cost_usd": self.cost_usd.to_json() if self.cost_usd else None,
            "known_cost_usd": self.known_cost_usd.to_json(),
            "unpriced": list(self.unpriced),
            "wall_s": self.wall_s.to_json(),
            "models": [model.to_json() for model in self.models],
        }
