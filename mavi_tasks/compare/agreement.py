"""Agreement without an expected answer: the majority, distance from it, each model's likely reliability."""

from dataclasses import dataclass

import numpy as np

from mavi_tasks.compare.statistics import MISSING, Bools, Floats, Ints, label_counts

MOST_LABELS = 100  # Dawid and Skene need a table of labels x labels per model


@dataclass(frozen=True, slots=True)
class Consensus:
    """Estimated truth: `posterior` [items, labels], and each model's expected accuracy."""

    posterior: Floats
    reliability: Floats


def majority_of_others(codes: Ints, size: int, model: int) -> Ints:
    """Return each item's most frequent label among the other models, so that none votes for itself.

    One other is enough; MISSING on a tie, or when no other answered.
    """
    counts = label_counts(np.delete(codes, model, axis=0), size)
    if counts.shape[1] == 0:
        return np.full(len(counts), MISSING, np.int64)
    best = counts.argmax(1)
    top = counts.max(1)
    clear = ((counts == top[:, None]).sum(1) == 1) & (counts.sum(1) >= 1)
    return np.where(clear, best, MISSING)


def disagreement(codes: Ints, size: int) -> Floats:
    """Return, per item, the share of answering models that are not with the most frequent label."""
    counts = label_counts(codes, size)
    total = counts.sum(1)
    top = counts.max(1, initial=0.0)
    return np.where(total > 1, 1 - top / np.maximum(total, 1), 0.0)


def dawid_skene(codes: Ints, size: int, rounds: int = 200, tolerance: float = 1e-7) -> Consensus | None:
    """Return the consensus by expectation maximisation (Dawid and Skene 1979).

    Each model has a table of its answers per true label; tables and labels are found together, starting from
    the votes. Counts are smoothed by 0.01, so that a label never seen does not become impossible. None of
    fewer than 3 models (they cannot be told apart), fewer than 2 labels, or too many.
    """
    models, items = codes.shape
    if models < 3 or not 2 <= size <= MOST_LABELS or items == 0:
        return None
    votes = label_counts(codes, size)
    rated = votes.sum(1) > 0
    posterior = np.where(rated[:, None], votes / np.maximum(votes.sum(1, keepdims=True), 1), 1 / size)
    given = [_one_hot(row, size) for row in codes]
    known = codes != MISSING
    seen = -np.inf
    for _ in range(rounds):
        prior = (posterior[rated].sum(0) + 0.01) / (rated.sum() + 0.01 * size)
        tables = np.stack(
            [_rows(posterior[k].T @ one[k] + 0.01) for one, k in zip(given, known, strict=True)]
        )
        evidence = np.log(prior) + sum(_said(table, row) for table, row in zip(tables, codes, strict=True))
        top = evidence.max(1, keepdims=True)
        scaled = np.exp(evidence - top)
        total = scaled.sum(1, keepdims=True)
        posterior = scaled / total
        likelihood = float((np.log(total) + top).sum())
        if likelihood - seen < tolerance * items:
            break
        seen = likelihood
    reliability = np.einsum("c,mcc->m", prior, tables)
    return Consensus(posterior, reliability)


def _one_hot(row: Ints, size: int) -> Floats:
    out = np.zeros((len(row), size))
    known = row != MISSING
    out[np.flatnonzero(known), row[known]] = 1.0
    return out


def _rows(counts: Floats) -> Floats:
    shares: Floats = counts / counts.sum(1, keepdims=True)
    return shares


def _said(table: Floats, row: Ints) -> Floats:
    """The log chance of each true label to bring the model's answer; 0 where it gave none."""
    known: Bools = row != MISSING
    out = np.zeros((len(row), len(table)))
    out[known] = np.log(table)[:, row[known]].T
    return out
