"""Two models on each field of the answers, with p-values corrected over all fields and pairs together."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

from mavi_tasks.compare import margin, statistics
from mavi_tasks.compare.field_labels import Labels
from mavi_tasks.compare.sheet import Sheet
from mavi_tasks.compare.sign_flip import sign_flip_p
from mavi_tasks.compare.statistics import MISSING, Estimate


@dataclass(frozen=True, slots=True)
class FieldPair:
    """The mean score of `a` minus that of `b` on one field, over the items both were asked."""

    a: str
    b: str
    difference: Estimate | None
    p_value: float
    p_holm: float


def compare(sheet: Sheet, labels: Labels) -> Mapping[str, tuple[FieldPair, ...]]:
    """Return the pairs of each field that has expected answers; empty when it is the only one.

    A single field's pairs are those of the whole answer.
    """
    judged = {one.name: one for one in labels.fields if (one.truth != MISSING).any()}
    if len(judged) < 2:
        return {}
    found = []
    for name, one in judged.items():
        for a, b in combinations(range(len(sheet.models)), 2):
            common = sheet.asked[a] & sheet.asked[b] & (one.truth != MISSING)
            score = one.score * sheet.answered
            held = margin.difference(score[a], score[b], common, sheet.clusters)
            pair = FieldPair(sheet.models[a], sheet.models[b], held.interval(), sign_flip_p(held.sums), 1.0)
            found.append((name, pair))
    corrected = statistics.holm([pair.p_value for _, pair in found])
    out: dict[str, list[FieldPair]] = {name: [] for name in judged}
    for (name, pair), p_holm in zip(found, corrected, strict=True):
        out[name].append(replace(pair, p_holm=p_holm))
    return {name: tuple(pairs) for name, pairs in out.items()}
