"""The recommendation in words: the choice or what is undecided, how sure, and what knowing more costs."""

import math
from collections.abc import Sequence
from decimal import Decimal

from mavi_tasks.common.format import count, p_value, percent, points, usd
from mavi_tasks.compare.display_names import listed, short
from mavi_tasks.compare.result import Cascades, Choice, ModelScore, More, Pair, Recommendation
from mavi_tasks.compare.statistics import Estimate

WORTH_SAYING = 0.01  # failures above this share are mentioned
FEW = 30  # items below which agreement is not put in words


def judge(
    models: Sequence[ModelScore],
    pairs: Sequence[Pair],
    choice: Choice | None,
    alpha: Estimate | None,
    cascades: Cascades | None,
    quality: str,
    baseline: str | None = None,
) -> Recommendation:
    """Return the verdict: a name only when the choice is decided; with nothing to compare, by cost alone."""
    sentences = _Sentences(models, pairs, quality)
    if len(models) == 1:
        return Recommendation(sentences.alone(), tuple(sentences.troubles()))
    if choice is None:
        return Recommendation(sentences.cheapest(), tuple(sentences.troubles()))
    if not choice.by_truth:
        said = [*sentences.next_labels(choice), *sentences.agreement(alpha), *sentences.odd_one_out()]
        return Recommendation(sentences.without_truth(choice), (*said, *sentences.troubles()))
    said = [
        *sentences.what_to_do(choice),
        *sentences.runner_up(choice),
        *sentences.dominated(),
        *_cascade(cascades),
    ]
    if baseline:
        said = [*sentences.against(baseline, choice), *said]
    return Recommendation(sentences.choice(choice), (*said, *sentences.troubles()))


class _Sentences:
    def __init__(self, models: Sequence[ModelScore], pairs: Sequence[Pair], quality: str) -> None:
        self.models = models
        self.by_name = {one.candidate: one for one in models}
        self.pairs = {frozenset((pair.a, pair.b)): pair for pair in pairs}
        self.name = short(one.candidate for one in models)
        self.quality = quality
        self.ranked = sorted(models, key=lambda one: (-_quality(one), _cost(one)))

    def pair(self, a: ModelScore, b: ModelScore) -> Pair | None:
        return self.pairs.get(frozenset((a.candidate, b.candidate)))

    def choice(self, choice: Choice) -> str:
        if choice.candidate is not None:
            pick = self.by_name[choice.candidate]
            return f"Choose {self.name[pick.candidate]}: {_behind(choice)}{self._at_cost(pick)}."
        if not choice.undecided:
            return "Undecided: these figures bound no candidate."
        name = self.name[choice.undecided[0]]
        rival = f" {self.name[choice.rival]}" if choice.rival else " the best"
        behind = choice.behind_points_high
        may = "may be far" if behind is None or behind >= 100 else f"may be up to {_points(behind)}"
        return f"Undecided: {name} {may} behind{rival} (95%), more than the margin of {_margin(choice)}."

    def _at_cost(self, one: ModelScore) -> str:
        return "" if one.cost_per_1000_usd is None else f", at {usd(one.cost_per_1000_usd)} per 1,000 items"

    def what_to_do(self, choice: Choice) -> list[str]:
        """How sure a choice is; or who is in question, and what settles it."""
        if choice.candidate is not None:
            pick = self.by_name[choice.candidate]
            return [f"{self.name[pick.candidate]} is {self.figures(pick)}{_chance(pick)}."]
        names = [self.name[one] for one in choice.undecided]
        if len(names) < 2:
            out = []
        else:
            shown = names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} others"]
            out = [f"In question are {listed(shown)}; the others are out."]
            if len(names) == len(self.models):
                out = [f"Still in question: {listed(shown)}."]
        return [*out, *_settling(choice.more)]

    def figures(self, one: ModelScore) -> str:
        share = one.accuracy
        held = "" if share is None else f"{percent(share.value)} right"
        if share is not None and share.low is not None:
            held += f" ({percent(share.low)} to {percent(share.high)})"
        return held + self._at_cost(one).replace(", at", " at")

    def runner_up(self, choice: Choice) -> list[str]:
        """What the best figure costs more than the choice, or what the cheapest would give away."""
        if choice.candidate is None:
            return []
        pick, top, out = self.by_name[choice.candidate], self.ranked[0], []
        if pick is not top:
            out.append(f"{self._against(top, pick)}.")
        cheaper = [one for one in self.ranked if _cost(one) < _cost(pick)]
        if cheaper:
            out.append(f"For less money: {self._against(cheaper[0], pick)}.")
        return out

    def _against(self, one: ModelScore, other: ModelScore) -> str:
        gap = _quality(one) - _quality(other)
        sentence = (
            f"{self.name[one.candidate]} scores {points(gap)} points against {self.name[other.candidate]}"
        )
        if one.cost_per_1000_usd is not None and other.cost_per_1000_usd:
            sentence += f" at {_times(one.cost_per_1000_usd / other.cost_per_1000_usd)} the cost"
        pair = self.pair(one, other)
        if pair is None or pair.p_holm is None:
            return sentence
        sure = "significant" if pair.decided else "not significant"
        return f"{sentence}; {sure} (p = {p_value(pair.p_holm)})".replace("p = <", "p <")

    def against(self, baseline: str, choice: Choice) -> list[str]:
        base = self.by_name.get(baseline)
        pick = self.by_name[choice.candidate] if choice.candidate else None
        if base is None or pick is None or base is pick:
            return []
        return [f"From what you use now: {self._against(pick, base)}."]

    def dominated(self) -> list[str]:
        beaten = [one for one in self.ranked if one.dominated_by]
        if not beaten:
            return []
        names, one = listed(self.name[m.candidate] for m in beaten), len(beaten) == 1
        verb, whom = ("is", "it") if one else ("are", "them")
        return [f"{names} {verb} no more accurate than a cheaper one (95%): nothing speaks for {whom}."]

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
                out.append(f"{self.name[one.candidate]} {listed(failures)} of the items.")
        return out

    def without_truth(self, choice: Choice) -> str:
        """No winner out of agreement: a choice only where it cannot matter what is right."""
        if choice.candidate is not None:
            pick = self.by_name[choice.candidate]
            return (
                f"Choose {self.name[pick.candidate]}: whatever the right answers are, it is {_behind(choice)}"
                f"{self._at_cost(pick)}, because it answers as the others do."
            )
        pair = self.pairs.get(frozenset((self.models[0].candidate, self.models[-1].candidate)))
        if len(self.models) == 2 and pair is not None and pair.agreement is not None:
            cheap, dear = sorted(self.models, key=_cost)
            alike = f"{self.name[dear.candidate]} and {self.name[cheap.candidate]} answer alike on"
            ratio = _part(cheap, dear)
            costs = f"; {self.name[cheap.candidate]} costs {ratio}" if ratio else ""
            agreed = f"{percent(pair.agreement.value)} of {count(pair.n)} items"
            return f"Undecided without expected answers: {alike} {agreed}{costs}."
        return "Undecided: without expected answers nobody knows which of the differing answers are right."

    def next_labels(self, choice: Choice) -> list[str]:
        """What to label, where labels can tell the candidates apart."""
        more = choice.more
        if more is None or more.differing is None:
            return []
        if not more.differing:
            return [
                "Their answers do not differ, but the items are too few to say that they never do by more "
                "than "
                f"{_margin(choice)}: run more items, or take the cheaper one."
            ]
        needed, all_ = int(more.labels.p50 or 0), more.differing
        which = (
            f"the {count(all_)} items where they differ"
            if needed > 0.8 * all_
            else f"about {about(needed)} of the {count(all_)} items where they differ, drawn at random,"
        )
        return [f"To decide, label {which} and compare again; the other items cannot tell them apart."]

    def agreement(self, alpha: Estimate | None) -> list[str]:
        items = max((one.answered for one in self.models), default=0)
        if items < FEW:
            return [f"{count(items)} items are too few to say how well the models agree."]
        return [strength(alpha)]

    def odd_one_out(self) -> list[str]:
        """Who stands apart, when that is no accident: its interval lies below all others'."""
        held = [(one, one.majority_agreement) for one in self.models if one.majority_agreement]
        if len(held) < 3:
            return []
        last, share = min(held, key=lambda both: both[1].value)
        others = [one.low for who, one in held if who is not last]
        if share.high is None or any(low is None or low <= share.high for low in others):
            return []
        name = self.name[last.candidate]
        return [f"{name} stands apart: {percent(share.value)} with the majority of the others."]

    def cheapest(self) -> str:
        known = [one for one in self.models if one.cost_per_1000_usd is not None]
        start = "The answers are free text without expected ones, so only cost and speed can be compared."
        if not any(one.answered for one in self.models):
            start = "No candidate gave an answer that counts, so there is nothing to compare."
        if not known:
            return start
        least = min(known, key=_cost)
        return f"{start} {self.name[least.candidate]} is cheapest: {usd(least.cost_per_1000_usd)} per 1,000 "
        "items."

    def alone(self) -> str:
        one = self.models[0]
        cost = "" if one.cost_per_1000_usd is None else f", {usd(one.cost_per_1000_usd)} per 1,000 items"
        figures = self.figures(one) if one.accuracy else f"{count(one.answered)} answers{cost}"
        return f"{self.name[one.candidate]}: {figures}. Run another model to compare it with."


def _behind(choice: Choice) -> str:
    if not choice.behind_points_high:
        return "no other is more accurate (95%)"
    return f"at most {_points(choice.behind_points_high)} behind the best (95%)"


def _margin(choice: Choice) -> str:
    return f"{choice.margin_points:g} {'point' if choice.margin_points == 1 else 'points'}"


def _points(value: float) -> str:
    shown = f"{value:.1f}" if value < 10 else f"{value:.0f}"
    return f"{shown} points"


def _chance(one: ModelScore) -> str:
    if one.p_best is None or one.expected_behind_points is None:
        return ""
    return (
        f"; the best with a probability of {percent(one.p_best, 0)}, "
        f"{one.expected_behind_points:.1f} points behind on average"
    )


def _settling(more: More | None) -> list[str]:
    """What it takes to decide, as it looks from here."""
    if more is None or more.items is None:
        return []
    if more.items.p50 is None:
        return ["Not even 100 times as many items would be likely to settle it at this margin."]
    items, labels = more.items, more.labels
    top = "more than can be said" if items.p90 is None else about(items.p90)
    span = f"p10–p90 {about(items.p10)} to {top}"
    money = more.cost_usd.p50 if more.cost_usd else None
    cost = f"{usd(money, 2)}; " if isinstance(money, Decimal) and money else ""
    if more.waiting and (items.p50 or 0) <= more.waiting:
        return [
            f"About {about(items.p50)} more expected answers ({span}) would settle it; "
            f"{count(more.waiting)} "
            "answered items have none yet. Only where the models differ is one needed: on about "
            f"{about(labels.p50)} of them."
        ]
    return [
        f"About {about(items.p50)} more items ({cost}{span}) would settle it. About {about(labels.p50)} "
        "of them "
        "need an expected answer: those where the models differ."
    ]


def about(value: float | Decimal | None) -> str:
    """Return a number to two digits, for what is only a forecast."""
    number = float(value or 0)
    return count(round(number, 1 - math.floor(math.log10(number))) if number >= 1 else number)


def _part(cheap: ModelScore, dear: ModelScore) -> str:
    """What one costs of the other: "1/42 of it", "half", "as much"."""
    if not cheap.cost_per_1000_usd or not dear.cost_per_1000_usd:
        return ""
    ratio = dear.cost_per_1000_usd / cheap.cost_per_1000_usd
    if ratio >= 2:
        return f"1/{ratio:.0f}"
    return "as much" if ratio < Decimal("1.005") else f"{percent(float(1 / ratio), 0)} of that"


def strength(alpha: Estimate | None) -> str:
    """Krippendorff's own reading of alpha."""
    if alpha is None:
        return "The models' agreement cannot be measured: they gave one and the same label, or too many."
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
