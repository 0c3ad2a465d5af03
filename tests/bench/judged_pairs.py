"""Does a biased judge make a winner out of equals? Wins of equal contestants before judges of known bias.

    python -m tests.bench.judged_pairs [--trials 400] [--seed 1] [--items 100]

Each simulated judge sees both orders of every pair. Its preference is a coin weighed by how much better an
answer is, by its place (first) and by its length. Contestants are equal in quality; in the last case one
writes longer.

    plain        mean share of one order alone, as a naive judgement counts it
    share        mean share of the first contestant with both orders, a flip counted as a tie
    equal        the same at equal length
    covered      share of 95 % intervals (of `equal`) that hold 50 %
"""

import argparse
import json
from dataclasses import dataclass

import numpy as np

from mavi_tasks.compare import preference


@dataclass(frozen=True)
class Judge:
    """How far, in log odds, it leans to the better, the first and the longer answer."""

    better: float = 1.5
    first: float = 0.0
    longer: float = 0.0

    def prefers_first(self, quality, length, generator):
        lean = self.better * quality + self.first + self.longer * np.sign(np.round(length, 6))
        return bool(generator.random() < 1 / (1 + np.exp(-lean)))


CASES = {  # judge; how many times longer the first contestant's answers are, on average
    "fair": (Judge(), 1.0),
    "leans to the first": (Judge(first=1.0), 1.0),
    "leans to the longer": (Judge(longer=0.75), 1.0),
    "one writes longer": (Judge(first=0.5, longer=0.75), 1.3),
}
CONTESTANTS = ("a", "b", "c")


def trial(judge, longer, items, generator):
    """Return the verdicts of all pairs of three contestants, and the first order's wins of the first one."""
    verdicts, plain = [], []
    for item in range(items):
        quality = generator.normal(size=3)
        length = np.exp(generator.normal(0, 0.3, 3)) * 200
        length[0] *= longer
        for a in range(3):
            for b in range(a + 1, 3):
                margins = quality[a] - quality[b], np.log(length[a] / length[b])
                one = judge.prefers_first(*margins, generator)
                other = judge.prefers_first(-margins[0], -margins[1], generator)
                lengths = [round(length[a]), round(length[b])]
                words = ["2", "1"]
                found = preference.verdict(
                    CONTESTANTS[a], CONTESTANTS[b], str(item), words[one], words[other], lengths
                )
                verdicts.append(found)
                if a == 0:
                    plain.append(one)
    return verdicts, plain


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.judged_pairs")
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--items", type=int, default=100)
    arguments = parser.parse_args()
    print(f"{'judge':<20} {'plain':>7} {'share':>7} {'equal':>7} {'covered':>8} {'flips':>7}")
    out, good = {}, True
    for name, (judge, longer) in CASES.items():
        generator = np.random.default_rng(arguments.seed)
        plain, share, equal, covered, flips = [], [], [], [], []
        for _ in range(arguments.trials):
            verdicts, first = trial(judge, longer, arguments.items, generator)
            found = preference.of(verdicts, judge="simulated", simulated=True)
            held = found.share_equal_length["a"]
            plain.append(np.mean(first))
            share.append(found.share["a"].value)
            equal.append(held.value)
            covered.append(held.low <= 0.5 <= held.high)
            flips.append(found.flip_rate)
        row = [float(np.mean(one)) for one in (plain, share, equal, covered, flips)]
        print(f"{name:<20} " + " ".join(f"{value:>7.1%}" for value in row), flush=True)
        out[name] = [round(value, 4) for value in row]
        good &= 0.48 <= row[2] <= 0.52 and (longer != 1.0 or 0.48 <= row[1] <= 0.52)
    print(json.dumps({"bench": "judged_pairs", "trials": arguments.trials, "seed": arguments.seed, **out}))
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
