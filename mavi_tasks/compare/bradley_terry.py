"""Strengths out of wins between pairs (Bradley and Terry 1952), with or without a term for the longer answer.

    P(a is preferred to b) = 1 / (1 + exp(-(strength a - strength b + effect * longer)))

`longer` is 1 where a's answer is the longer one, -1 where b's is, 0 where they are about as long: three
strata, in which the strengths are compared at equal length. A tie is half a win for each. Fitted by Newton's
method with a slight ridge (1e-4), so that a contestant that never lost gets a finite strength.
"""

from collections.abc import Sequence

import numpy as np

from mavi_tasks.compare.statistics import Floats

RIDGE = 1e-4
ROUNDS = 50
STRATA = (-1.0, 0.0, 1.0)  # b longer, about as long, a longer


def design(pairs: Sequence[tuple[int, int]], contestants: int, *, by_length: bool) -> Floats:
    """Return one row per pair and stratum: +1 for a, -1 for b and, `by_length`, the stratum."""
    rows = np.zeros((len(pairs), len(STRATA), contestants + by_length))
    for at, (a, b) in enumerate(pairs):
        rows[at, :, a], rows[at, :, b] = 1.0, -1.0
        if by_length:
            rows[at, :, -1] = STRATA
    return rows.reshape(-1, contestants + by_length)


def fit(rows: Floats, wins: Floats, games: Floats) -> Floats:
    """Return the parameters [draws, k] of many data sets at once; strengths add up to 0.

    rows: [cells, k] from `design`; wins (of a, ties half) and games: [draws, cells].
    """
    parameters = np.zeros((len(wins), rows.shape[1]))
    penalty = RIDGE * np.eye(rows.shape[1])
    for _ in range(ROUNDS):
        expected = 1 / (1 + np.exp(-(parameters @ rows.T)))
        slope = (wins - games * expected) @ rows - RIDGE * parameters
        weight = games * expected * (1 - expected)
        bend = np.einsum("dc,ck,cl->dkl", weight, rows, rows) + penalty
        step = np.linalg.solve(bend, slope[..., None])[..., 0]
        parameters += np.clip(step, -2.0, 2.0)
        if np.abs(step).max(initial=0.0) < 1e-9:
            break
    return parameters


def separable(rows: Floats, games: Floats) -> bool:
    """Tell whether the effect of length can be told from the strengths: not if one is always the longer."""
    played = rows[games > 0]
    return len(played) > 0 and bool(np.linalg.matrix_rank(played) > np.linalg.matrix_rank(played[:, :-1]))


def win_shares(strengths: Floats) -> Floats:
    """Return how often each is preferred to the others on average: [draws, contestants] as strengths."""
    against = 1 / (1 + np.exp(-(strengths[:, :, None] - strengths[:, None, :])))
    size = strengths.shape[1]
    shares: Floats = (against.sum(2) - 0.5) / max(size - 1, 1)
    return shares
