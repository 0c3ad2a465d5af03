"""From running sums to intervals: errors common to all requests decide the width, chance adds little.

Each common error is a factor, drawn many times, the same for requests whose tokens rest on the same rule. An
interval is a quarter wider than the draws say, because a small sample of skewed costs understates its spread:
without it, 50 answers of 5,000 held the truth in three plans of four, not in four of five.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from math import log, sqrt
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from mavi_tasks.estimate.accumulator import FACTORS, Accumulator
from mavi_tasks.estimate.history import History, student
from mavi_tasks.estimate.result import Basis, Interval, dollars
from mavi_tasks.estimate.token_formulas import DATA, SIZE_SPREAD, TEXT_SPREAD
from mavi_tasks.limits import AdaptiveSettings

DRAWS: Final = 2000
P90: Final = 1.2816  # standard deviations
CAUTION: Final = 1.25
INPUT_CV: Final = 0.25  # of single requests around a formula; matters only for plans of a few requests
OUTPUT_CV: Final = 0.7
FITTED_FLOOR: Final = 0.003  # the relative error that more rows do not cure
FEW_FLOOR: Final = 0.05
ASSUMED_CONCURRENCY: Final = 16
USD_PER_PICO: Final = 1e-12

Draws = Any  # numpy array of DRAWS values


@dataclass(frozen=True, slots=True)
class RateLimits:
    """A job's limits of one model; None = not configured."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    concurrency: int | None = None


@dataclass(slots=True)
class SharedErrors:
    """Standard normal draws by name: the same name is the same error."""

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


def sums_of(model: str, accumulators: Sequence[Accumulator], shared: SharedErrors, overhead: float) -> Sums:
    """Add up one model's accumulators and their errors. `overhead`: billed in all over billed for results."""
    zero = np.zeros(DRAWS)
    inputs, outputs, cost = zero, zero, zero
    noise_tokens = noise_cost = 0.0
    known_input = known_cost = True
    for accumulator in accumulators:
        input_pico, output_pico = accumulator.costs()
        factor_in, cv_in = _input_error(accumulator, shared)
        factor_out, cv_out = _output_error(accumulator, shared)
        inputs = inputs + accumulator.inputs * factor_in
        outputs = outputs + accumulator.requests * accumulator.output_mean * factor_out
        known_input &= accumulator.token_model is not None or accumulator.formula is not None
        known_cost &= accumulator.tiers is not None
        cost = cost + _input_cost(input_pico, factor_in)
        cost = cost + _output_cost(output_pico, factor_in) * factor_out
        noise_cost += accumulator.input_pico_squared * cv_in**2 + accumulator.output_pico_squared * cv_out**2
        noise_tokens += (accumulator.inputs * cv_in) ** 2 / max(1, accumulator.requests)
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


def _input_error(accumulator: Accumulator, shared: SharedErrors) -> tuple[Draws, float]:
    """The shared factor on the input tokens, and the spread of single requests."""
    fitted = accumulator.token_model
    if fitted is not None and accumulator.inputs > 0:
        error = fitted.error(
            (accumulator.requests, accumulator.text, accumulator.units, accumulator.by_formula)
        )
        shift = fitted.shift(accumulator.bucket)
        error *= 1 - shift.belief  # what was seen of this size has corrected the token model
        own = accumulator.requests * shift.error / accumulator.inputs
        floor = FEW_FLOOR if accumulator.few_rows else FITTED_FLOOR
        sigma = error / accumulator.inputs * student(fitted.rows - 1) + floor / sqrt(fitted.rows / 20)
        cv = fitted.noise / max(1.0, accumulator.inputs / accumulator.requests)
        size = _factor(own, shared.draws(("size", id(fitted), accumulator.bucket)))
        return _factor(sigma, shared.draws(("token model", id(fitted)))) * size, cv
    return _factor(_formula_sigma(accumulator), shared.draws(_rule(accumulator))), INPUT_CV


def _rule(accumulator: Accumulator) -> object:
    return ("rule", accumulator.formula.models if accumulator.formula else None)


def _formula_sigma(accumulator: Accumulator) -> float:
    """The declared spread of text and media, weighted by their tokens, widened for guessed sizes."""
    formula = accumulator.formula
    if formula is None or accumulator.inputs <= 0:
        return log(TEXT_SPREAD) / P90
    declared = formula.video_spread if accumulator.kind == "video" else formula.image_spread
    media = log(declared) + (log(SIZE_SPREAD) if accumulator.guessed else 0.0)
    share = min(1.0, accumulator.by_formula / accumulator.inputs)
    return (
        (share * media + (1 - share) * log(TEXT_SPREAD)) / P90 / CAUTION
    )  # the declared spread is that of the result


def _output_error(accumulator: Accumulator, shared: SharedErrors) -> tuple[Draws, float]:
    seen = accumulator.output
    if seen is not None:
        sigma = seen.error + FITTED_FLOOR
        cv = seen.deviation / seen.mean if seen.mean > 0 else 0.0
        return _factor(sigma, shared.draws(("output", id(seen)))), cv
    low, middle, high = accumulator.output_interval
    draws = shared.draws("answers")  # a prompt that makes one model talk makes all of them talk
    side = np.where(draws > 0, log(max(1.0, high / middle)), log(max(1.0, middle / low)))
    return np.exp(draws * side / P90), OUTPUT_CV


def _factor(sigma: float, draws: Draws) -> Draws:
    return np.exp(sigma * CAUTION * draws)


# ---- time


def wall_of(
    model: str,
    accumulators: Sequence[Accumulator],
    sums: Sums,
    limits: RateLimits,
    observed: History,
    shared: SharedErrors,
) -> Draws:
    """Seconds that one model needs: by its requests, by its tokens, or by how many may be in flight."""
    requests = sum(accumulator.requests for accumulator in accumulators)
    busy = np.zeros(DRAWS)
    for accumulator in accumulators:
        busy = busy + accumulator.requests * _latency(model, accumulator, observed, shared)
    rate, tokens_rate = limits.requests_per_minute, limits.tokens_per_minute
    configured = rate is not None or tokens_rate is not None
    assumed = AdaptiveSettings().max_concurrency if configured else ASSUMED_CONCURRENCY
    in_flight = min(limits.concurrency or assumed, max(1, requests))
    seconds = busy / in_flight
    if rate:
        seconds = np.maximum(seconds, requests / rate * 60)
    if tokens_rate and sums.inputs is not None:
        seconds = np.maximum(seconds, (sums.inputs + sums.outputs) / tokens_rate * 60)
    # The last request is sent when the rest are done.
    return seconds + (busy / max(1, requests) if in_flight < requests or configured else 0.0)


def _latency(model: str, accumulator: Accumulator, observed: History, shared: SharedErrors) -> Draws:
    seen = observed.latency(model, accumulator.kind)
    if seen is not None:
        return seen.mean * _factor(seen.error + 0.05, shared.draws(("latency", id(seen))))
    prior: Mapping[str, float] = DATA["output"]["latency_s"]
    mean = prior[accumulator.kind] + accumulator.output_mean / DATA["output"]["output_tokens_per_s"]
    return mean * np.exp(log(DATA["output"]["latency_spread"]) / P90 * shared.draws(("speed", model)))


# ---- intervals


def _points(draws: Draws) -> tuple[float, float, float]:
    p10, p50, p90 = (float(point) for point in np.quantile(draws, (0.1, 0.5, 0.9)))
    return p10, p50, p90


def token_interval(draws: Draws) -> Interval[int]:
    return Interval(*(round(point) for point in _points(draws)))


def second_interval(draws: Draws) -> Interval[float]:
    return Interval(*_points(draws))


def dollar_interval(draws: Draws) -> Interval[Decimal]:
    return dollars(*_points(draws))


def total(parts: Iterable[Draws]) -> Draws:
    return sum(parts, np.zeros(DRAWS))


def longest(parts: Iterable[Draws]) -> Draws:
    """Models run in parallel: the slowest one decides."""
    return np.maximum.reduce([np.zeros(DRAWS), *parts])


def basis_of(accumulators: Sequence[Accumulator]) -> Basis:
    """What most of the tokens rest on."""
    if any(accumulator.token_model is None and accumulator.formula is None for accumulator in accumulators):
        return "unknown"
    observed = sum(accumulator.inputs for accumulator in accumulators if accumulator.token_model is not None)
    return "observed" if accumulators and 2 * observed >= sum(a.inputs for a in accumulators) else "formula"
