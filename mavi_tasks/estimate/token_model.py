"""What past answers say about tokens: a small linear model of each AI model, for each kind of media.

A request's input tokens are taken to be

    constant + per_text * text tokens + per_unit * units + per_formula * tokens of the media by formula

with units = images, seconds of video, or frames. Which of the terms are kept is decided by the Bayesian
information criterion; none is negative; gross outliers are left out. What it misses is corrected by
the size of the media, so that it holds for a plan with other sizes than the sample's. The covariance (robust
to a spread that grows with size) gives the error of a sum over a whole plan.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Kind = Literal["text", "image", "video", "frames"]
TERMS = 4  # constant, text, units, formula
ENOUGH_ROWS = 20  # for a token model of its own
FEW_ROWS = 5  # for one factor on the formula
_OUTLIER = 8.0  # robust standard deviations
_SHIFT_ROWS = 3.0
_NOISE_FLOOR = 0.002  # of the mean: below it, a better fit is chance

Array = Any


@dataclass(frozen=True, slots=True)
class Shape:
    """What the token model sees of one request. `text` and `formula` in tokens."""

    text: float
    units: float
    formula: float
    bucket: int = 0


@dataclass(frozen=True, slots=True)
class Shift:
    """How far the token model is off for media of one size: tokens to add, and their standard error.

    `belief`: 0 = nothing of this size was seen, the token model alone counts; near 1 = what was seen decides.
    """

    tokens: float
    error: float
    belief: float


NO_SHIFT = Shift(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class TokenModel:
    """The fitted model. `covariance` belongs to the four terms; `noise` is the residual spread in tokens."""

    terms: tuple[float, float, float, float]
    covariance: Array
    noise: float
    rows: int
    mean: float  # observed tokens of a request
    shifts: Mapping[int, Shift] = field(default_factory=dict)  # by size bucket

    def tokens(self, text: float, units: float, formula: float) -> float:
        """Tokens of one request, before the shift of its size."""
        constant, per_text, per_unit, per_formula = self.terms
        return constant + per_text * text + per_unit * units + per_formula * formula

    def shift(self, bucket: int) -> Shift:
        return self.shifts.get(bucket, NO_SHIFT)

    def error(self, sums: Sequence[float]) -> float:
        """Standard error, in tokens, of a sum over requests whose (1, text, units, formula) sum to these."""
        vector = np.asarray(sums, float)
        return float(np.sqrt(max(0.0, vector @ self.covariance @ vector)))


def fit(shapes: Sequence[Shape], tokens: Sequence[float]) -> TokenModel | None:
    """The token model that explains these observed tokens best, None below FEW_ROWS rows."""
    if len(tokens) < FEW_ROWS:
        return None
    full = np.array([(1.0, shape.text, shape.units, shape.formula) for shape in shapes])
    buckets = np.array([shape.bucket for shape in shapes])
    seen = np.asarray(tokens, float)
    candidates = _CANDIDATES if len(seen) >= ENOUGH_ROWS else _CANDIDATES_OF_FEW
    chosen = _best(full, seen, candidates)
    kept = _without_outliers(full, seen, chosen)
    if kept.all() or kept.sum() < FEW_ROWS:
        return _fitted(full, seen, buckets, chosen)
    full, seen = full[kept], seen[kept]
    return _fitted(full, seen, buckets[kept], _best(full, seen, candidates))


# Each candidate: terms that stand as they are (text by its formula), and terms that are fitted.
# In the order of preference: of two that fit alike the first wins, and it carries over best to other media.
_Candidate = tuple[tuple[int, ...], tuple[int, ...]]
_CANDIDATES_OF_FEW: tuple[_Candidate, ...] = (((1,), (3,)), ((1,), (2,)), ((), (1,)))
_CANDIDATES: tuple[_Candidate, ...] = (
    *_CANDIDATES_OF_FEW,
    ((1,), (3, 0)),
    ((1,), (2, 0)),
    ((1,), (0,)),
    ((), (0, 1)),
    ((), (3, 1)),
    ((), (2, 1)),
    ((), (3, 0, 1)),
    ((), (2, 0, 1)),
    ((), (0,)),
)


@dataclass(frozen=True, slots=True)
class _Chosen:
    fitted: tuple[int, ...]
    terms: Array  # all four


def _best(full: Array, seen: Array, candidates: Sequence[_Candidate]) -> _Chosen:
    best: tuple[float, _Chosen] | None = None
    for fixed, fitted in candidates:
        terms = _solved(full, seen, fixed, fitted)
        if terms is None:
            continue
        score = _score(seen, full @ terms, len(fitted))
        if best is None or score < best[0] - 1e-6:
            best = score, _Chosen(fitted, terms)
    if best is not None:
        return best[1]
    return _Chosen((0,), np.array([seen.mean(), 0.0, 0.0, 0.0]))


def _solved(full: Array, seen: Array, fixed: tuple[int, ...], fitted: tuple[int, ...]) -> Array | None:
    """All four terms by least squares, None when the data cannot tell them apart or one is negative."""
    terms = np.zeros(TERMS)
    terms[list(fixed)] = 1.0
    columns = full[:, fitted]
    if np.linalg.matrix_rank(columns / np.maximum(np.abs(columns).max(axis=0), 1e-12), tol=1e-6) < len(
        fitted
    ):
        return None
    solution = np.linalg.lstsq(columns, seen - full @ terms, rcond=None)[0]
    if (solution < 0).any():
        return None
    terms[list(fitted)] = solution
    return terms


def _score(seen: Array, predicted: Array, parameters: int) -> float:
    rows = len(seen)
    floor = (_NOISE_FLOOR * max(1.0, float(seen.mean()))) ** 2
    variance = max(float(np.mean((seen - predicted) ** 2)), floor)
    return rows * float(np.log(variance)) + parameters * float(np.log(rows))


def _without_outliers(full: Array, seen: Array, chosen: _Chosen) -> Array:
    """Rows that are not grossly off, as a fraction of the prediction: large media vary more in tokens."""
    predicted = full @ chosen.terms
    rest = np.abs(seen - predicted) / np.maximum(1.0, predicted + 0.1 * float(seen.mean()))
    return rest <= _OUTLIER * 1.4826 * float(np.median(rest)) + 0.5


def _fitted(full: Array, seen: Array, buckets: Array, chosen: _Chosen) -> TokenModel:
    rows, parameters = len(seen), len(chosen.fitted)
    rest = seen - full @ chosen.terms
    noise = float(np.sqrt(np.sum(rest**2) / max(1, rows - parameters)))
    constant, per_text, per_unit, per_formula = (float(term) for term in chosen.terms)
    return TokenModel(
        (constant, per_text, per_unit, per_formula),
        _covariance(full[:, chosen.fitted], rest, chosen.fitted),
        noise,
        rows,
        float(seen.mean()),
        {int(bucket): _shift(rest[buckets == bucket], noise) for bucket in np.unique(buckets)},
    )


def _covariance(columns: Array, rest: Array, fitted: tuple[int, ...]) -> Array:
    """Of the fitted terms, from each row's own residual (HC3): the spread need not be the same for all."""
    bread = np.linalg.pinv(columns.T @ columns)
    leverage = np.einsum("ij,jk,ik->i", columns, bread, columns)
    weighed = columns * (rest / np.maximum(1e-3, 1 - leverage))[:, None]
    covariance = np.zeros((TERMS, TERMS))
    covariance[np.ix_(fitted, fitted)] = bread @ (weighed.T @ weighed) @ bread
    return covariance


def _shift(rest: Array, noise: float) -> Shift:
    """The mean residual of one size, the less believed the fewer rows it has."""
    rows = len(rest)
    belief = rows / (rows + _SHIFT_ROWS)
    deviation = float(rest.std(ddof=1)) if rows > 2 else noise
    return Shift(belief * float(rest.mean()), belief * deviation / float(np.sqrt(rows)), belief)
