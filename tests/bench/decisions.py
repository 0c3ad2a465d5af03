"""Is advice no surer than its evidence? Simulated bake-offs of known truth, judged by the rule of `compare`.

    python -m tests.bench.decisions [--trials 1000] [--seed 1] [--only choice]

The truth is made here, and the method does not see it: right or wrong of each model is a normal of the item,
of its cluster and of the model, cut at the model's accuracy (correlated .5 between models).

    choice      choices more than the margin behind the best; joint coverage of "at most ... behind"
    clusters    pair tests of equally good models at 5 %, by sign flips and, to compare, by McNemar's test
    intervals   95 % intervals of a difference, at 16 to 1,000 media
    forecast    how often p10 to p90 of "items that would settle it" hold the number that it takes
    size        8 candidates x 20,000 items: seconds and memory of the rule
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from mavi_tasks.compare import margin, until_decided
from mavi_tasks.compare.sign_flip import sign_flip_p
from mavi_tasks.compare.statistics import mcnemar

Scores = Any  # numpy [models, items]
MARGIN = 0.02
SHARED = 0.5  # of the variance, between models
CHOICES = {
    "spread": (0.80, 0.84, 0.88, 0.90),
    "near-equal": (0.88, 0.885, 0.89, 0.90),
    "high": (0.95, 0.97),
}


@dataclass(frozen=True)
class World:
    """What is true: accuracies, cheapest first, and how items of a cluster hang together."""

    accuracies: tuple[float, ...]
    items_of_cluster: int = 1
    within: float = 0.0  # share of the variance that a cluster's items have in common

    def draw(self, clusters: int, generator: np.random.Generator) -> tuple[Scores, Any]:
        models, size = len(self.accuracies), self.items_of_cluster
        latent = sum(
            np.sqrt(share) * generator.standard_normal(shape)
            for share, shape in (
                (SHARED * self.within, (1, clusters, 1)),
                (SHARED * (1 - self.within), (1, clusters, size)),
                ((1 - SHARED) * self.within, (models, clusters, 1)),
                ((1 - SHARED) * (1 - self.within), (models, clusters, size)),
            )
        )
        limits = np.array([NormalDist().inv_cdf(one) for one in self.accuracies])[:, None, None]
        scores = (latent < limits).astype(float).reshape(models, -1)
        return scores, np.repeat(np.arange(clusters), size)


def choice(trials: int, generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    for name, accuracies in CHOICES.items():
        world, best = World(accuracies), max(accuracies)
        true = best - np.array(accuracies)
        for items in (50, 100, 200, 500):
            wrong = decided = joint = 0
            for _ in range(trials):
                scores, clusters = world.draw(items, generator)
                found, _ = margin.bounds(scores, np.ones(scores.shape, bool), clusters)
                pick = margin.choose(found, range(len(true)), MARGIN)
                decided += pick.chosen is not None
                wrong += pick.chosen is not None and true[pick.chosen] > MARGIN + 1e-12
                joint += bool((found.behind >= true - 1e-12).all())
            yield {"accuracies": name, "items": items, "wrong": wrong / trials, "decided": decided / trials,
                   "joint_coverage": joint / trials}  # fmt: skip


def clusters(trials: int, generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    for size in (1, 4, 10):
        world = World((0.85, 0.85), size, 0.4 if size > 1 else 0.0)
        flips = naive = 0
        for _ in range(trials):
            scores, at = world.draw(60, generator)
            one = margin.difference(scores[0], scores[1], np.ones(len(at), bool), at)
            flips += sign_flip_p(one.sums) < 0.05
            a, b = scores.astype(bool)
            naive += mcnemar(int((a & ~b).sum()), int((b & ~a).sum())) < 0.05
        yield {"clusters": f"60 x {size}", "type_1": flips / trials, "type_1_mcnemar": naive / trials}


def intervals(trials: int, generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    for accuracies in ((0.88, 0.90), (0.80, 0.90), (0.95, 0.97)):
        for media, size in ((16, 1), (30, 1), (100, 1), (1000, 1), (16, 10), (30, 10)):
            world = World(accuracies, size, 0.3 if size > 1 else 0.0)
            true, held, width = accuracies[1] - accuracies[0], 0, 0.0
            for _ in range(trials):
                scores, at = world.draw(media, generator)
                one = margin.difference(scores[1], scores[0], np.ones(len(at), bool), at).interval()
                assert one is not None
                assert one.low is not None
                assert one.high is not None
                held += one.low <= true <= one.high
                width += one.high - one.low
            yield {"accuracies": f"{accuracies}", "media": f"{media} x {size}", "coverage": held / trials,
                   "mean_width": width / trials}  # fmt: skip


def forecast(trials: int, generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    """The truth of each trial is drawn anew; only the undecided count. Ties with an end count by chance."""
    for models, items in ((2, 100), (2, 200), (4, 100)):
        held = undecided = 0
        for trial in range(max(1, trials // 4)):
            middle = generator.uniform(0.75, 0.93)
            accuracies = tuple(np.clip(middle + generator.normal(0, 0.04, models), 0.4, 0.99))
            scores, at = World(accuracies).draw(items * until_decided.MOST_TIMES, generator)
            first = _first_decided(scores, at, items)
            if first == items:
                continue
            judged = np.ones((models, items), bool)
            seen = until_decided.posterior(scores[:, :items], judged, at[:items], seed=trial)
            assert seen is not None
            undecided += 1
            held += _holds(
                until_decided.items_until_decided(seen, MARGIN, seed=trial), first - items, generator
            )
        yield {"models": models, "items": items, "undecided": undecided, "p10_p90_holds": held / undecided}


def _holds(found: until_decided.Expected, real: float, generator: np.random.Generator) -> bool:
    low, high = (float("inf") if end is None else end for end in (found.p10, found.p90))
    if real in (low, high) and low != high:
        return bool(generator.random() < 0.5)
    return low <= real <= high


def _first_decided(scores: Scores, at: Any, items: int) -> float:
    """The first number of items, by hundredths, at which the rule decides."""
    count = items
    while count <= scores.shape[1]:
        found, _ = margin.bounds(scores[:, :count], np.ones((len(scores), count), bool), at[:count])
        if (found.behind <= MARGIN).any():
            return count
        count = max(count + 1, count + items // 100, items + int((count - items) * 1.03))
    return float("inf")


def size(trials: int, generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    scores, at = World((0.8, 0.82, 0.84, 0.86, 0.88, 0.89, 0.895, 0.9)).draw(20_000, generator)
    started = time.perf_counter()
    judged = np.ones(scores.shape, bool)
    _, pairs = margin.bounds(scores, judged, at)
    for one in pairs.values():
        sign_flip_p(one.sums)
    seen = until_decided.posterior(scores, judged, at)
    assert seen is not None
    until_decided.items_until_decided(seen)
    taken = time.perf_counter() - started
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    yield {"candidates": 8, "items": 20_000, "seconds": taken, "peak_mb": peak_mb}


PARTS: dict[str, Callable[[int, np.random.Generator], Iterator[dict[str, Any]]]] = {
    "choice": choice, "clusters": clusters, "intervals": intervals, "forecast": forecast, "size": size,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.decisions")
    parser.add_argument("--trials", type=int, default=1000, help="of each line; a quarter for the forecast")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=sorted(PARTS), action="append")
    arguments = parser.parse_args()
    for name in arguments.only or PARTS:
        for row in PARTS[name](arguments.trials, np.random.default_rng(arguments.seed)):
            print(json.dumps({"bench": name, **{k: _short(v) for k, v in row.items()}}), flush=True)
    return 0


def _short(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
