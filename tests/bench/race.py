"""How often a race of models ends right, at which cost; how often a cascade breaks its bound.

    python -m tests.bench.race [--trials 1000] [--seed 1] [--media 4000]

Truth is made here: each medium has a difficulty that all models share, so that right and wrong answers are
correlated as models' answers are (.5 between two models). The race sees the media it has paid for, no others.
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np

from mavi_tasks.compare import certificate
from mavi_tasks.compare import race_decisions as race

CORRELATION = 0.5
MARGIN = 0.03
MEDIA = 4000


@dataclass(frozen=True)
class Case:
    """Models, the cheapest first: how often each is right, and its dollars an item.

    clear: the gaps are twice the margin or more, so a race must end.
    """

    name: str
    right: tuple[float, ...]
    cost: tuple[float, ...]
    clear: bool


CASES = (
    Case("two, the dear one better", (0.80, 0.90), (1, 30), clear=True),
    Case("two, the cheap one better", (0.90, 0.80), (1, 30), clear=True),
    Case("cheapest best of three", (0.90, 0.84, 0.78), (1, 10, 30), clear=True),
    Case("dearest best of three", (0.78, 0.84, 0.90), (1, 10, 30), clear=True),
    Case("middle best of four", (0.72, 0.90, 0.84, 0.78), (1, 10, 30, 100), clear=True),
    Case("eight", (0.7, 0.74, 0.78, 0.8, 0.82, 0.84, 0.86, 0.9), (1, 2, 4, 8, 16, 30, 60, 100), clear=False),
    Case("near equal", (0.80, 0.82, 0.83, 0.84), (1, 5, 20, 100), clear=False),
    Case("at the margin", (0.80, 0.83, 0.86), (1, 5, 20), clear=False),
    Case("just beyond the margin", (0.80, 0.835, 0.87), (1, 5, 20), clear=False),
)  # fmt: skip


def drawn(rng, right, media, questions=1):
    """Right (1) or wrong (0), [models, media * questions]; correlated between models and within a medium."""
    from statistics import NormalDist

    limits = np.array([NormalDist().inv_cdf(share) for share in right])
    shared = np.repeat(rng.normal(size=media), questions)
    within = rng.normal(size=(len(right), media * questions))
    rho = 0.72  # of the latent normals: .5 between right and wrong answers at these shares
    return (np.sqrt(rho) * shared + np.sqrt(1 - rho) * within < limits[:, None]).astype(float)


def run(scores, clusters, costs, total, allowed=MARGIN):
    """One race over all looks: who is left, and what it cost as a share of asking every model everything."""
    left, spent, before = tuple(range(len(scores))), 0.0, 0
    for size in race.look_sizes(total):
        spent += sum(costs[model] for model in left) * (size - before)
        level = race.level_of_look(before, size, total)
        seen = clusters < size
        found = race.look(
            scores[:, seen], np.ones((len(scores), int(seen.sum())), bool), clusters[seen], costs, left,
            allowed=allowed, level=level,
        )  # fmt: skip
        left, before = found.left, size
        if len(left) == 1:
            break
    return left, spent / (sum(costs) * total)


def race_lines(trials, seed, questions, media):
    for case in CASES:
        rng = np.random.default_rng(seed)
        clusters = np.repeat(np.arange(media), questions)
        decided = wrong = right = 0
        shares = []
        for _ in range(trials):
            scores = drawn(rng, case.right, media, questions)
            left, share = run(scores, clusters, case.cost, media)
            shares.append(share)
            behind = max(case.right) - case.right[left[0]]
            if len(left) == 1:
                decided += 1
                wrong += behind > MARGIN + 1e-9
                right += behind <= MARGIN + 1e-9
            else:  # every model that the best is not among
                wrong += max(case.right[one] for one in left) < max(case.right) - MARGIN - 1e-9
        yield case, decided / trials, right / trials, wrong / trials, float(np.mean(shares))


def cascade_world(rng, items):
    """Answers of two cheap models and a dear one: right, confidence, and which wrong answer they give."""
    right = drawn(rng, (0.80, 0.84, 0.90), items)
    wrong = rng.integers(1, 4, right.shape)  # of three wrong labels; 0 is the right one
    labels = np.where(right > 0, 0, wrong)
    sure = np.clip(0.6 + 0.25 * right + rng.normal(0, 0.15, right.shape), 0, 1)
    usable = rng.random(right.shape) > 0.01
    costs = np.array([1.0, 3.0, 50.0])[:, None] * np.ones(right.shape)
    same = {(a, b): labels[a] == labels[b] for a, b in ((0, 1), (0, 2), (1, 2))}
    return certificate.Answers(right * usable, costs, usable, sure, np.arange(items), same)


def cascade_lines(trials, seed, allowed=0.02):
    """Violations: a certified cascade that is more than the margin behind, on 200,000 items not seen."""
    rng = np.random.default_rng(seed)
    truth = cascade_world(rng, 200_000)
    for items in (200, 500, 1000, 3000):
        shipped = violated = 0
        shares, costs = [], []
        for _ in range(trials):
            found = certificate.certify(
                cascade_world(rng, items), 2, allowed, seed=int(rng.integers(1 << 30))
            )
            if found is None:
                continue
            shipped += 1
            up = certificate.escalated(truth, found.first, found.below)
            gap = truth.scores[2].mean() - np.where(up, truth.scores[2], truth.scores[found.first[0]]).mean()
            violated += gap > allowed
            shares.append(up.mean())
            costs.append(((truth.costs[list(found.first)].sum(0) + up * 50.0) / 50.0).mean())
        share, cost = (float(np.mean(values or [1])) for values in (shares, costs))
        yield items, shipped / trials, violated / trials, share, cost


def look_seconds(models=8, items=20_000, seed=1):
    rng = np.random.default_rng(seed)
    scores = drawn(rng, np.linspace(0.8, 0.9, models), items)
    judged, clusters = np.ones(scores.shape, bool), np.arange(items)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        race.look(
            scores, judged, clusters, list(range(1, models + 1)), range(models), allowed=MARGIN, level=0.01
        )
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--media", type=int, default=MEDIA, help="of fewer, a race needs a larger share")
    args = parser.parse_args()
    missed = []
    for questions in (1, 4):
        size = f"{args.media:,} media x {questions}, margin {MARGIN:.0%}"
        print(f"race: {size}, {args.trials:,} trials, seed {args.seed}")
        print(f"{'':28}{'decided':>9}{'right':>8}{'wrong':>8}{'cost':>8}  of asking all")
        for case, decided, right, wrong, share in race_lines(args.trials, args.seed, questions, args.media):
            print(f"{case.name:28}{decided:9.1%}{right:8.1%}{wrong:8.1%}{share:8.0%}", flush=True)
            if wrong > 0.05 or (case.clear and (right < 0.95 or share > 0.5)):
                missed.append(case.name)
    print(f"cascade: margin 2%, {args.trials:,} trials, seed {args.seed}")
    print(f"{'items':>28}{'certified':>11}{'violated':>10}{'escalated':>11}{'cost':>7}  of the last alone")
    for items, shipped, violated, share, cost in cascade_lines(args.trials, args.seed):
        print(f"{items:28,}{shipped:11.1%}{violated:10.1%}{share:11.0%}{cost:7.0%}", flush=True)
        if violated > 0.05:
            missed.append(f"cascade of {items} items")
    print(f"one look, 8 models x 20,000 items: {look_seconds(seed=args.seed):.3f} s")
    print("missed: " + "; ".join(missed) if missed else "all within what is promised")
    return bool(missed)


if __name__ == "__main__":
    raise SystemExit(main())
