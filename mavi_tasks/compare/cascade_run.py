"""A cascade and how it did, as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True)
class CascadePlan:
    """first: one or two models that answer every item; last: who answers what they leave open.

    below: the first model's confidence under which an item is left open; None = it does not count.
    certificate: what was proven, of which provider_models and prompts; empty = nothing.
    """

    first: tuple[str, ...]
    last: str
    below: float | None
    certificate: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CascadeRun:
    """How a cascade did: shares are of its items. void: why its certificate does not hold, None = it does."""

    plan: CascadePlan
    items: int
    escalated: float
    reasons: Mapping[str, int]
    cost_per_1000_usd: Decimal | None
    judged: int
    right: float | None
    void: tuple[str, ...]
