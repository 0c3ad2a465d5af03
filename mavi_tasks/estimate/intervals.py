"""From running sums to bands: errors that all requests share decide the width, chance adds little.

Each shared error is a factor, drawn many times; requests whose tokens rest on the same rule share it. A band
is a quarter wider than the draws say, because a small sample of skewed costs understates its own spread:
without it, 50 answers of 5,000 held the truth in three plans of four, not in four of five.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from math import log, sqrt
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np

from mavi_tasks.estimate.accumulator import FACTORS, Accumulator
from mavi_tasks.estimate.history import History, student
from mavi_tasks.estimate.result import Basis, Interval, dollars
from mavi_tasks.estimate.token_formulas import DATA, SIZE_SPREAD, TEXT_SPREAD

DRAWS = 2000
P90 = 1.2816  # standard deviations
CAUTION = 1.25
INPUT_CV = 0.25  # of single requests around a formula; matters only for plans of a few requests
OUTPUT_CV = 0.7
LAW_FLOOR = 0.003  # the relative error that more rows do not cure
FEW_FLOOR = 0.05
ASSUMED_CONCURRENCY = 16
ASSUMED_CONCURRENCY_WITH_RATE = 512  # what dispatch goes up to when a rate is told
USD_PER_PICO = 1e-12

Draws = Any  # numpy array of DRAWS values


class Limits(Protocol):
    """A job's limits of one model; None = not told."""

    @property
    def requests_per_minute(self) -> float | None: ...
    @property
    def tokens_per_minute(self) -> float | None: ...
    @property
    def concurrency(self) -> int | None: ...


@dataclass(slots=True)
class Shared:
    """Standard normal draws by name: who asks for the same name gets the same error."""

    seed: int = 0
    _by_name: dict[object, Draws] = field(default_factory=dict)

    def draws(self, name: object) -> Draws:
        if name not in self._by_name:
            # Even quantiles in a random order: the medians come out exact, with few draws.
            order = np.random.default_rng((self.seed, len(self._by_name))).permutation(DRAWS)
            self._by_name[name] = _even_normals()[order]
        return self._by_name[name]


@lru_cache(maxsize=1)
def _even_normals() -> Draws:
    normal = NormalDist()
    return np.array([normal.inv_cdf((rank + 0.5) / DRAWS) for rank in range(DRAWS)])


@dataclass(frozen=True, slots=True)
class Sums:
    """Draws of one model's sums. Cost in dollars, None without price or formula."""

    inputs: Draws | None
    outputs: Draws
    cost: Draws | None


def sums_of(model: str, accounts: Sequence[Accumulator], shared: Shared, overhead: float) -> Sums:
    """Add up one model's accounts with their errors. `overhead`: billed in all over billed for results."""
    zero = np.zeros(DRAWS)
    inputs, outputs, cost = zero, zero, zero
    noise_tokens = noise_cost = 0.0
    known_input = known_cost = True
    for account in accounts:
        input_pico, output_pico = account.costs()
        factor_in, cv_in = _input_error(account, shared)
        factor_out, cv_out = _output_error(account, shared)
        inputs = inputs + account.inputs * factor_in
        outputs = outputs + account.requests * account.output_mean * factor_out
        known_input &= account.law is not None or account.formula is not None
        known_cost &= account.tiers is not None
        cost = cost + _input_cost(input_pico, factor_in)
        cost = cost + _output_cost(output_pico, factor_in) * factor_out
        noise_cost += account.input_pico_squared * cv_in**2 + account.output_pico_squared * cv_out**2
        noise_tokens += (account.inputs * cv_in) ** 2 / max(1, account.requests)
    chance = shared.draws(("chance", model))
    cost = (cost * overhead + sqrt(noise_cost) * chance) * USD_PER_PICO
    inputs = inputs + sqrt(noise_tokens) * chance
    return Sums(
        np.maximum(inputs, 0) if known_input else None,
        outputs,
        np.maximum(cost, 0) if known_cost and known_input else None,
    )


def _input_cost(pico: Sequence[float], factor: Draws) -> Draws:
    """What the inputs cost when all their tokens are off by this factor; proportional beyond the grid."""
    inside = np.clip(factor, FACTORS[0], FACTORS[-1])
    return np.interp(inside, FACTORS, pico) * factor / inside


def _output_cost(pico: Sequence[float], factor: Draws) -> Draws:
    """What the answers cost when the input tokens, which choose the tier, are off by this factor."""
    return np.interp(factor, FACTORS, pico)


def _input_error(account: Accumulator, shared: Shared) -> tuple[Draws, float]:
    """The shared factor on the input tokens, and the spread of single requests."""
    law = account.law
    if law is not None and account.inputs > 0:
        error = law.error((account.requests, account.text, account.units, account.by_formula))
        shift = law.shift(account.bucket)
        error *= 1 - shift.belief  # what was seen of this size has corrected the law
        own = account.requests * shift.error / account.inputs
        floor = FEW_FLOOR if account.law_is_short else LAW_FLOOR
        sigma = error / account.inputs * student(law.rows - 1) + floor / sqrt(law.rows / 20)
        cv = law.noise / max(1.0, account.inputs / account.requests)
        size = _factor(own, shared.draws(("size", id(law), account.bucket)))
        return _factor(sigma, shared.draws(("law", id(law)))) * size, cv
    return _factor(_formula_sigma(account), shared.draws(_rule(account))), INPUT_CV


def _rule(account: Accumulator) -> object:
    return ("rule", account.formula.models if account.formula else None)


def _formula_sigma(account: Accumulator) -> float:
    """The declared spread of text and media, weighted by their tokens, widened for guessed sizes."""
    formula = account.formula
    if formula is None or account.inputs <= 0:
        return log(TEXT_SPREAD) / P90
    declared = formula.video_spread if account.kind == "video" else formula.image_spread
    media = log(declared) + (log(SIZE_SPREAD) if account.guessed else 0.0)
    share = min(1.0, account.by_formula / account.inputs)
    return (share * media + (1 - share) * log(TEXT_SPREAD)) / P90 / CAUTION  # declared as it shall show


def _output_error(account: Accumulator, shared: Shared) -> tuple[Draws, float]:
    seen = account.output
    if seen is not None:
        sigma = seen.error + LAW_FLOOR
        cv = seen.deviation / seen.mean if seen.mean > 0 else 0.0
        return _factor(sigma, shared.draws(("output", id(seen)))), cv
    low, middle, high = account.output_band
    draws = shared.draws("answers")  # a prompt that makes one model talk makes all of them talk
    side = np.where(draws > 0, log(max(1.0, high / middle)), log(max(1.0, middle / low)))
    return np.exp(draws * side / P90), OUTPUT_CV


def _factor(sigma: float, draws: Draws) -> Draws:
    return np.exp(sigma * CAUTION * draws)


# ---- time


def wall_of(
    model: str, accounts: Sequence[Accumulator], sums: Sums, limits: Limits, observed: History, shared: Shared
) -> Draws:
    """Seconds that one model needs: by its requests, by its tokens, or by how many may be in flight."""
    requests = sum(account.requests for account in accounts)
    busy = np.zeros(DRAWS)
    for account in accounts:
        busy = busy + account.requests * _latency(model, account, observed, shared)
    rate, tokens_rate = limits.requests_per_minute, limits.tokens_per_minute
    told = rate is not None or tokens_rate is not None
    assumed = ASSUMED_CONCURRENCY_WITH_RATE if told else ASSUMED_CONCURRENCY
    in_flight = min(limits.concurrency or assumed, max(1, requests))
    seconds = busy / in_flight
    if rate:
        seconds = np.maximum(seconds, requests / rate * 60)
    if tokens_rate and sums.inputs is not None:
        seconds = np.maximum(seconds, (sums.inputs + sums.outputs) / tokens_rate * 60)
    # The last request is sent when the rest are done.
    return seconds + (busy / max(1, requests) if in_flight < requests or told else 0.0)


def _latency(model: str, account: Accumulator, observed: History, shared: Shared) -> Draws:
    seen = observed.latency(model, account.kind)
    if seen is not None:
        return seen.mean * _factor(seen.error + 0.05, shared.draws(("latency", id(seen))))
    prior: Mapping[str, float] = DATA["output"]["latency_s"]
    mean = prior[account.kind] + account.output_mean / DATA["output"]["output_tokens_per_s"]
    return mean * np.exp(log(DATA["output"]["latency_spread"]) / P90 * shared.draws(("speed", model)))


# ---- bands


def _points(draws: Draws) -> tuple[float, float, float]:
    p10, p50, p90 = (float(point) for point in np.quantile(draws, (0.1, 0.5, 0.9)))
    return p10, p50, p90


def token_band(draws: Draws) -> Interval[int]:
    return Interval(*(round(point) for point in _points(draws)))


def second_band(draws: Draws) -> Interval[float]:
    return Interval(*_points(draws))


def dollar_band(draws: Draws) -> Interval[Decimal]:
    return dollars(*_points(draws))


def total(parts: Iterable[Draws]) -> Draws:
    return sum(parts, np.zeros(DRAWS))


def longest(parts: Iterable[Draws]) -> Draws:
    """Models are asked side by side: the slowest one decides."""
    return np.maximum.reduce([np.zeros(DRAWS), *parts])


def basis_of(accounts: Sequence[Accumulator]) -> Basis:
    """What most of the tokens rest on."""
    if any(account.law is None and account.formula is None for account in accounts):
        return "unknown"
    observed = sum(account.inputs for account in accounts if account.law is not None)
    return "observed" if accounts and 2 * observed >= sum(a.inputs for a in accounts) else "formula"
