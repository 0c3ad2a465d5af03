"""How many labels a sample saves against labels drawn at random, and whether its intervals cover.

    python -m tests.bench.labels_needed [--trials 1000] [--seed 1] [--items 2000] [--labels 100]

Made-up models answer made-up items: right or wrong correlates .5 between models, and two that are both wrong
say the same in a third of all cases. In each trial a sample is drawn, its truth looked up, and the estimate
compared to the truth of all items.

    fewer      error^2 of labels drawn at random / error^2 of the sample, at the same number of labels
    coverage   share of the 95 % intervals of differences that hold the difference over all items
    accuracy   the same for the accuracies, and their coverage
"""

import argparse
import json
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from mavi_tasks.compare import few_labels, sample
from mavi_tasks.compare.field_labels import Labels
from mavi_tasks.compare.sheet import Unit

CLASSES = 4
CORRELATION = 0.5
SAME_MISTAKE = 1 / 3


@dataclass(frozen=True)
class World:
    """Answers [models, items] of models with these accuracies, and the truth of each item."""

    codes: np.ndarray
    truth: np.ndarray

    @property
    def right(self):
        return self.codes == self.truth


def world(accuracies, items, generator):
    """One library of items: a common normal variable makes an item hard for all models."""
    common = generator.standard_normal(items)
    truth = generator.integers(0, CLASSES, items)
    usual = (truth + 1 + generator.integers(0, CLASSES - 1, items)) % CLASSES
    usual = np.where(usual == truth, (truth + 1) % CLASSES, usual)
    rows = []
    for accuracy in accuracies:
        own = generator.standard_normal(items)
        skill = np.sqrt(CORRELATION) * common + np.sqrt(1 - CORRELATION) * own
        other = (truth + 1 + generator.integers(0, CLASSES - 1, items)) % CLASSES
        mistake = np.where(generator.random(items) < SAME_MISTAKE, usual, other)
        rows.append(np.where(skill < NormalDist().inv_cdf(accuracy), truth, mistake))
    return World(np.array(rows), truth)


def labelled(found, chosen):
    """The labels as a comparison has them once the sample's truth is known."""
    judged = np.zeros(len(found.truth), bool)
    judged[chosen] = True
    right = found.right & judged
    return Labels(
        fields=(),
        names=tuple(map(str, range(CLASSES))),
        codes=found.codes,
        judged=judged,
        right=right,
        score=right.astype(float),
        confidence=np.full(found.codes.shape, np.nan),
        stands_in=None,
    )


@dataclass
class Tally:
    """Squared errors of a sample and of labels drawn at random, and how often the interval held the truth."""

    sampled: float = 0.0
    random: float = 0.0
    covered: int = 0
    intervals: int = 0

    def add(self, error, plain, low, high, true):
        self.sampled += error**2
        self.random += plain**2
        self.covered += low - 1e-12 <= true <= high + 1e-12
        self.intervals += 1

    @property
    def fewer(self):
        return self.random / self.sampled if self.sampled else float("inf")

    @property
    def coverage(self):
        return self.covered / max(self.intervals, 1)


def trial(found, units, size, aim, seed, generator, differences, accuracies):
    models, items = found.codes.shape
    chosen = sample.draw(units, found.codes, size, aim=aim, seed=seed)
    probability = np.full(items, np.nan)
    for one in chosen:
        probability[one.unit] = one.inclusion_probability
    labels = labelled(found, [one.unit for one in chosen])
    asked = np.ones((models, items), bool)
    plain = generator.choice(items, size, replace=False)
    for (a, b), one in few_labels.pairs(labels, asked, probability).items():
        true = float(found.right[a].mean() - found.right[b].mean())
        there = one.difference.interval()
        random = float((found.right[a][plain] * 1.0 - found.right[b][plain]).mean())
        differences.add(one.difference.value - true, random - true, there.low, there.high, true)
    for model in range(models):
        if (held := few_labels.accuracy(labels, asked, probability, model)) is not None:
            true = float(found.right[model].mean())
            accuracies.add(
                held.value - true, found.right[model][plain].mean() - true, held.low, held.high, true
            )
    return chosen


CASES = {
    "two .88/.90": (0.88, 0.90),
    "three near .95": (0.945, 0.95, 0.955),
    "five .80-.92": (0.80, 0.84, 0.88, 0.90, 0.92),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.labels_needed")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--labels", type=int, default=100)
    arguments = parser.parse_args()
    units = [Unit(str(at), "p", None, None, None, None, None) for at in range(arguments.items)]
    print(f"{'models':<16} {'aim':<12} {'fewer':>7} {'coverage':>9} {'accuracy fewer':>15} {'coverage':>9}")
    out = {}
    for name, accuracies in CASES.items():
        for aim in sample.AIMS:
            generator = np.random.default_rng([arguments.seed, len(accuracies)])
            pairs, single = Tally(), Tally()
            for number in range(arguments.trials):
                found = world(accuracies, arguments.items, generator)
                seed = arguments.seed * 1_000_003 + number
                trial(found, units, arguments.labels, aim, seed, generator, pairs, single)
            print(
                f"{name:<16} {aim:<12} {pairs.fewer:>6.1f}x {pairs.coverage:>9.3f} "
                f"{single.fewer:>14.1f}x {single.coverage:>9.3f}",
                flush=True,
            )
            out[f"{name} {aim}"] = [round(pairs.fewer, 2), round(pairs.coverage, 4)]
    print(json.dumps({"bench": "labels_needed", "trials": arguments.trials, "seed": arguments.seed, **out}))
    fewer, coverage = out["two .88/.90 differences"]
    return 0 if fewer >= 5 and 0.93 <= coverage <= 0.97 else 1


if __name__ == "__main__":
    raise SystemExit(main())
