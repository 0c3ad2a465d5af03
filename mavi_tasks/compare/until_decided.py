"""What knowing more costs: who is likely the best, and how many more items would settle the choice.

Two questions to the same posterior, a Bayesian bootstrap over clusters (Rubin 1981) with the two added
clusters of margin.py for each candidate:

- now: the probability that a candidate is the best, and its expected regret (how far behind the best);
- later: for each draw of the posterior a future is drawn, cluster by cluster, and margin.py's rule is applied
  to it step by step; the number of items at which it first decides gives p10, p50 and p90.

A forecast is not a stopping rule: the bounds of margin.py hold at a number of items fixed before looking.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from mavi_tasks.compare import margin as rule
from mavi_tasks.compare.quantiles import t_quantile
from mavi_tasks.compare.result import Quantiles
from mavi_tasks.compare.statistics import Bools, Floats, Ints, by_cluster

DRAWS = 400
STEP = 1.06
MOST_TIMES = 100  # as many items as now: beyond, no number is given
_BLOCK_CELLS = 2_000_000


@dataclass(frozen=True, slots=True)
class Expected:
    """p10, p50 and p90 of a number still to come; None = more than can be said (not within 100 times now)."""

    p10: float | None
    p50: float | None
    p90: float | None

    def map(self, change: Callable[[float], float | Decimal]) -> Quantiles:
        """Return the quantiles of something that grows with the number."""
        return Quantiles(*(None if one is None else change(one) for one in (self.p10, self.p50, self.p90)))


@dataclass(frozen=True, slots=True)
class Posterior:
    """Draws of the truth: `shares` [draws, candidates], `spread` [draws, candidates, candidates].

    `spread` is the covariance of one cluster's sums; `seen` that of the clusters seen, added up; `items` and
    `clusters` are how many were seen.
    """

    shares: Floats
    spread: Floats
    seen: Floats
    sums: Floats
    items: int
    clusters: int

    @property
    def best(self) -> Floats:
        """Return each candidate's probability to be the best; equal ones split it."""
        top = self.shares >= self.shares.max(1, keepdims=True) - 1e-12
        chance: Floats = (top / top.sum(1, keepdims=True)).mean(0)
        return chance

    @property
    def regret(self) -> Floats:
        """Return how far each candidate is expected to be behind the best, as a share."""
        behind: Floats = (self.shares.max(1, keepdims=True) - self.shares).mean(0)
        return behind


def posterior(
    scores: Floats, judged: Bools, clusters: Ints, *, draws: int = DRAWS, seed: int = 0
) -> Posterior | None:
    """Return the posterior of the candidates' mean scores; None with fewer than 2 common clusters.

    scores [candidates, items] in [0, 1]; only items that are judged for all candidates count.
    """
    common = judged.all(0)
    columns = np.concatenate([scores[:, common], np.ones((1, int(common.sum())))]).T
    table = by_cluster(columns, np.unique(clusters[common], return_inverse=True)[1])
    sums, sizes = table[:, :-1], table[:, -1]
    if len(sums) < 2:
        return None
    items, count = float(sizes.sum()), len(sums)
    means = sums.sum(0) / items
    size = items / count
    added = np.repeat(np.eye(len(scores)), 2, axis=0) * np.sqrt(size / 2)
    added[1::2] *= -1
    rest = np.concatenate([sums - means * sizes[:, None], added])
    rows, columns_ = np.triu_indices(len(scores))
    products = rest[:, rows] * rest[:, columns_]
    drawn, spread = [], []
    for weights in _dirichlet(len(rest), draws, seed):
        drawn.append(means + weights @ rest * (len(rest) / count) / size)
        spread.append(weights @ products * (len(rest) / count))
    flat = np.concatenate(spread)
    square = np.empty((len(flat), len(scores), len(scores)))
    square[:, rows, columns_] = square[:, columns_, rows] = flat
    seen = (rest[:count].T @ rest[:count]).astype(float)
    return Posterior(np.concatenate(drawn), square, seen, sums.sum(0), int(items), count)


def _dirichlet(size: int, draws: int, seed: int) -> Iterator[Floats]:
    """Yield weights [some draws, size] that add up to 1, `draws` rows in all."""
    generator = np.random.default_rng(seed)
    block = max(1, min(draws, _BLOCK_CELLS // size))
    for start in range(0, draws, block):
        made = generator.standard_exponential((min(block, draws - start), size))
        yield made / made.sum(1, keepdims=True)


def items_until_decided(
    found: Posterior,
    margin: float = rule.MARGIN,
    *,
    candidates: int | None = None,
    level: float = rule.LEVEL,
    seed: int = 0,
) -> Expected:
    """Return how many more items it takes until one candidate is at most `margin` behind the best.

    candidates: of how many the bounds hold together, when the posterior is of some of them only.
    """
    k = found.shares.shape[1]
    probability = 1 - level / max((candidates or k) * ((candidates or k) - 1), 2)
    more = _steps(found.clusters)
    reaches = np.array([t_quantile(probability, found.clusters + int(m) - 1) for m in more])
    firsts = []
    block = max(1, _BLOCK_CELLS // (len(more) * k * k))
    generator = np.random.default_rng(seed)
    for start in range(0, len(found.shares), block):
        chosen = slice(start, start + block)
        firsts.append(_first_decided(found, chosen, more, reaches, margin, generator))
    size = found.items / found.clusters
    return _quantiles(np.concatenate(firsts) * size)


def _steps(clusters: int) -> Floats:
    """Numbers of clusters to add: by hundredths of what there is, later by 6 % of what was added."""
    out, added = [], 0.0
    while added < (MOST_TIMES - 1) * clusters:
        added = max(added + 1, added + clusters / 100, added * STEP)
        out.append(float(int(added)))
    return np.array(out)


def _first_decided(
    found: Posterior,
    chosen: slice,
    more: Floats,
    reaches: Floats,
    margin: float,
    generator: np.random.Generator,
) -> Floats:
    """The clusters added when the rule first decides, per draw; infinite when it never does."""
    shares, spread = found.shares[chosen], found.spread[chosen]
    k, size = shares.shape[1], found.items / found.clusters
    root = np.linalg.cholesky(spread + 1e-12 * np.eye(k))
    noise = (
        generator.standard_normal((len(shares), len(more), k)) * np.sqrt(np.diff(more, prepend=0.0))[:, None]
    )
    new = more[:, None] * size * shares[:, None, :] + np.cumsum(noise @ root.transpose(0, 2, 1), axis=1)
    count = found.clusters + more
    items = count * size
    means = (found.sums + new) / items[:, None]
    held = found.seen + more[:, None, None] * spread[:, None]  # [draws, steps, k, k]
    own = np.diagonal(held, axis1=2, axis2=3)
    squares = own[..., :, None] + own[..., None, :] - 2 * held
    scale = (np.sqrt(count / (count - 1)) / items * reaches)[:, None, None]
    half = np.sqrt(np.maximum(squares, 0.0) + (2 * size)) * scale
    ahead = means[..., None, :] - means[..., :, None]  # [i, j]: j - i
    possible = ~np.any(ahead - half > 0, axis=3)
    high = np.where(possible[..., None, :], ahead + half, -np.inf)
    high[..., np.arange(k), np.arange(k)] = 0.0
    decided = np.any(high.max(3) <= margin, axis=2)
    first = np.where(decided.any(1), more[decided.argmax(1)], np.inf)
    return np.asarray(first, float)


def _quantiles(numbers: Floats) -> Expected:
    ordered = np.sort(numbers)
    at = [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.1, 0.5, 0.9)]
    return Expected(*(float(one) if np.isfinite(one) else None for one in at))
