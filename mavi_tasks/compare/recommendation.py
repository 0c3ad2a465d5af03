"""The recommendation: what to choose, how sure that is, and what would settle the rest."""

from collections.abc import Sequence
from decimal import Decimal

from mavi_tasks.common.format import count, p_value, percent, points, usd
from mavi_tasks.compare.display_names import listed, short
from mavi_tasks.compare.result import Cascades, ModelScore, Pair, Recommendation
from mavi_tasks.compare.statistics import Estimate

WORTH_SAYING = 0.01  # failures above this share are mentioned


def judge(
    models: Sequence[ModelScore],
    pairs: Sequence[Pair],
    alpha: Estimate | None,
    cascades: Cascades | None,
    quality: str,
    baseline: str | None = None,
) -> Recommendation:
    """Return the verdict; with expected answers by accuracy, without by agreement, else by cost alone."""
    sentences = _Sentences(models, pairs, quality)
    if len(models) == 1:
        return Recommendation(sentences.alone(), tuple(sentences.troubles()))
    if quality in ("accuracy", "agreement with the reference"):
        points = [
            *sentences.runner_up(),
            *sentences.dominated(),
            *sentences.open_questions(),
            *_cascade(cascades),
        ]
        if baseline:
            points = [*sentences.against(baseline), *points]
        return Recommendation(sentences.choice(), (*points, *sentences.troubles()))
    if quality == "agreement":
        return Recommendation(
            sentences.closest(alpha),
            (*sentences.dominated(), *sentences.odd_one_out(), *sentences.troubles()),
        )
    return Recommendation(sentences.cheapest(), tuple(sentences.troubles()))


class _Sentences:
    def __init__(self, models: Sequence[ModelScore], pairs: Sequence[Pair], quality: str) -> None:
        self.models = models
        self.pairs = {frozenset((pair.a, pair.b)): pair for pair in pairs}
        self.name = short(one.model for one in models)
        self.quality = quality
        self.ranked = sorted(models, key=lambda one: (-_quality(one), _cost(one)))

    def pair(self, a: ModelScore, b: ModelScore) -> Pair | None:
        return self.pairs.get(frozenset((a.model, b.model)))

    def tied(self) -> list[ModelScore]:
        """The most accurate model and all that cannot be told from it."""
        top = self.ranked[0]
        return [one for one in self.ranked if one is top or not self._settled(top, one)]

    def _settled(self, a: ModelScore, b: ModelScore) -> bool:
        pair = self.pair(a, b)
        return bool(pair and pair.decided)

    def choice(self) -> str:
        tied = self.tied()
        pick = min(tied, key=_cost)
        name = self.name
        if len(tied) == 1:
            return (
                f"Choose {name[pick.model]}: {self.figures(pick)}. Every other model is surely less accurate."
            )
        others = [name[one.model] for one in tied if one is not pick]
        if len(others) > 3:
            others = [f"{len(others)} others"]
        if pick.cost_per_1000_usd is None:
            return f"{listed(name[one.model] for one in tied)} cannot be told apart; {self.figures(tied[0])}."
        tail = f"the cheapest that cannot be told from {listed(others)}"
        return f"Choose {name[pick.model]}: {self.figures(pick)}, {tail}."

    def figures(self, one: ModelScore) -> str:
        share = one.accuracy
        held = (
            ""
            if share is None
            else f"{percent(share.value)} right ({percent(share.low)} to {percent(share.high)})"
        )
        return (
            held
            if one.cost_per_1000_usd is None
            else f"{held} at {usd(one.cost_per_1000_usd)} per 1,000 items"
        )

    def runner_up(self) -> list[str]:
        """What the best figure costs more, or what a cheaper model would give away."""
        tied, out = self.tied(), []
        pick, top = min(tied, key=_cost), self.ranked[0]
        if pick is not top:
            out.append(f"{self._against(top, pick)}.")
        if cheaper := [one for one in self.ranked if one not in tied and _cost(one) < _cost(pick)]:
            out.append(f"For less money: {self._against(cheaper[0], pick)}.")
        return out

    def _against(self, one: ModelScore, other: ModelScore) -> str:
        gap = _quality(one) - _quality(other)
        sentence = f"{self.name[one.model]} scores {points(gap)} points against {self.name[other.model]}"
        if one.cost_per_1000_usd is not None and other.cost_per_1000_usd:
            sentence += f" at {_times(one.cost_per_1000_usd / other.cost_per_1000_usd)} the cost"
        pair = self.pair(one, other)
        if pair is None or pair.p_holm is None:
            return sentence
        sure = "this is sure" if pair.decided else "this may be chance"
        return f"{sentence}; {sure} (p = {p_value(pair.p_holm)})".replace("p = <", "p <")

    def against(self, baseline: str) -> list[str]:
        base = next((one for one in self.models if one.model == baseline), None)
        pick = min(self.tied(), key=_cost)
        if base is None or base is pick:
            return []
        return [f"From what you use now: {self._against(pick, base)}."]

    def dominated(self) -> list[str]:
        beaten = [one for one in self.ranked if one.dominated_by]
        if not beaten:
            return []
        names, one = listed(self.name[m.model] for m in beaten), len(beaten) == 1
        if self.quality == "agreement":
            return [f"{names} {'agrees' if one else 'agree'} no better with the others than a cheaper model."]
        verb, whom = ("is", "it") if one else ("are", "them")
        return [f"{names} {verb} no more accurate than a cheaper model, so nothing speaks for {whom}."]

    def open_questions(self) -> list[str]:
        """What would decide the closest contest that matters: among the models that lead."""
        tied = self.tied()
        open_pairs = [p for one in tied[1:] if (p := self.pair(tied[0], one)) and p.more_items]
        if not open_pairs:
            return []
        pick = min(tied, key=_cost)
        against_pick = [pair for pair in open_pairs if pick.model in (pair.a, pair.b)]
        near = min(against_pick or open_pairs, key=lambda pair: pair.more_items or 0)
        more = near.more_items or 0
        money = "" if near.more_usd is None else f", {usd(near.more_usd)}"
        if more > 100 * max(near.n, 1):
            return [f"{self.name[near.a]} and {self.name[near.b]} are equal for any practical purpose."]
        return [
            f"Undecided: {self.name[near.a]} or {self.name[near.b]}. If the difference seen is real, about "
            f"{count(more)} more items{money} would show it."
        ]

    def troubles(self) -> list[str]:
        """Models that fail, answer off schema or are cut short on more than 1 % of the items."""
        out = []
        for one in self.ranked:
            rows = max(one.answered + one.failed + one.invalid + one.skipped, 1)
            shares = [
                (one.failed, "failed"), (one.invalid, "gave invalid answers"),
                (one.skipped, "was skipped"), (one.truncated, "was cut short"),
            ]  # fmt: skip
            failures = [f"{what} on {percent(n / rows)}" for n, what in shares if n / rows > WORTH_SAYING]
            if failures:
                out.append(f"{self.name[one.model]} {listed(failures)} of the items.")
        return out

    def closest(self, alpha: Estimate | None) -> str:
        best = self.ranked[0]
        share = best.majority_agreement
        agreed = "" if share is None else f" ({percent(share.value)} with the majority of the others)"
        return (
            f"No expected answers were given, so this is agreement, not accuracy. {strength(alpha)} "
            f"{self.name[best.model]} agrees best{agreed}."
        )

    def odd_one_out(self) -> list[str]:
        last = self.ranked[-1]
        share = last.majority_agreement
        if share is None or len(self.models) < 3:
            return []
        return [
            f"{self.name[last.model]} stands apart most: {percent(share.value)} with the others' majority."
        ]

    def cheapest(self) -> str:
        known = [one for one in self.models if one.cost_per_1000_usd is not None]
        start = "The answers are free text without expected ones, so only cost and speed can be compared."
        if not known:
            return start
        least = min(known, key=_cost)
        return (
            f"{start} {self.name[least.model]} is cheapest: {usd(least.cost_per_1000_usd)} per 1,000 items."
        )

    def alone(self) -> str:
        one = self.models[0]
        cost = "" if one.cost_per_1000_usd is None else f", {usd(one.cost_per_1000_usd)} per 1,000 items"
        figures = self.figures(one) if one.accuracy else f"{count(one.answered)} answers{cost}"
        return f"{self.name[one.model]}: {figures}. Run another model to compare it with."


def strength(alpha: Estimate | None) -> str:
    """Krippendorff's own reading of alpha."""
    if alpha is None:
        return "The models' agreement cannot be measured here."
    degree = "strongly" if alpha.value >= 0.8 else "moderately" if alpha.value >= 0.667 else "weakly"
    return f"The models agree {degree} (alpha {alpha.value:.2f})."


def _cascade(cascades: Cascades | None) -> list[str]:
    """The cheapest cascade that loses nothing, and what picking it on other items gave."""
    if cascades is None:
        return []
    good = [one for one in cascades.policies if one.accuracy >= cascades.best_single_accuracy]
    if not good:
        return []
    pick = min(good, key=lambda one: one.cost_per_1000_usd)
    before = cascades.best_single_cost_per_1000_usd or Decimal(1)
    saving = 1 - pick.cost_per_1000_usd / before
    if saving <= Decimal("0.05"):
        return []
    checked = ""
    if cascades.checked_accuracy is not None:
        kept = percent(cascades.checked_accuracy)
        if cascades.checked_accuracy >= cascades.best_single_accuracy:
            checked = f" Picked on four fifths of the items, such a policy kept {kept} on the rest."
        else:
            checked = (
                f" But picked on four fifths of the items, it had {kept} on the rest: try more items first."
            )
    best = short(
        [*(name for p in cascades.policies for step in p.steps for name in step), cascades.best_single]
    )
    alone = f"{best[cascades.best_single]} alone at {percent(cascades.best_single_accuracy)}"
    figures = f"right on {percent(pick.accuracy)} at {usd(pick.cost_per_1000_usd)} per 1,000 items"
    return [f"A cascade ({pick.name}) is {figures}: {percent(float(saving), 0)} less than {alone}.{checked}"]


def _quality(one: ModelScore) -> float:
    if one.accuracy:
        return one.accuracy.value
    return one.majority_agreement.value if one.majority_agreement else 0.0


def _cost(one: ModelScore) -> Decimal:
    return Decimal("Infinity") if one.cost_per_1000_usd is None else one.cost_per_1000_usd


def _times(ratio: Decimal) -> str:
    return (
        f"{ratio:.0f} times"
        if ratio >= 10
        else f"{ratio:.1f} times"
        if ratio >= Decimal("1.05")
        else f"{percent(float(ratio), 0)} of"
    )
