"""What a comparison found, and its JSON. Dollars are text there, so that no digit is lost."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from decimal import Decimal

from mavi_tasks.common.skips import Skip
from mavi_tasks.compare.calibration import Calibration
from mavi_tasks.compare.cascade_run import CascadeRun
from mavi_tasks.compare.disputed import Disputed
from mavi_tasks.compare.few_labels import LabelNeed
from mavi_tasks.compare.field_labels import Labels
from mavi_tasks.compare.field_pairs import FieldPair
from mavi_tasks.compare.origin import Origin
from mavi_tasks.compare.preference import Preference
from mavi_tasks.compare.race_record import RaceRecord
from mavi_tasks.compare.sheet import Sheet
from mavi_tasks.compare.statistics import Estimate
from mavi_tasks.compare.text_agreement import TextAgreement


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One label of one model; None where undefined. `support` counts items with that truth."""

    label: str
    support: int
    precision: float | None
    recall: float | None
    f1: float


@dataclass(frozen=True, slots=True)
class ModelScore:
    """One candidate: a model, with one prompt where prompts compete (else prompt_id is None).

    Money and times are over all its rows; `accuracy` counts unanswered items as wrong. behind_points_high:
    how far it may be behind the best; p_best and expected_behind_points: its chance to be the best, and how
    far behind it is expected to be. stability: how often two answers to the same question are equal, with the
    variance of its scores within an item; None without repeats.
    """

    candidate: str
    model: str
    prompt_id: str | None
    n: int
    answered: int
    failed: int
    invalid: int
    skipped: int
    truncated: int
    correct: int | None
    accuracy: Estimate | None
    accuracy_answered: Estimate | None
    macro_f1: Estimate | None
    majority_agreement: Estimate | None
    reliability: float | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None
    cost_unknown: int
    cost_per_1000_usd: Decimal | None
    cost_per_correct_usd: Decimal | None
    cost_per_video_hour_usd: Decimal | None
    spent_usd: Decimal | None
    latency_p50_s: float | None
    latency_p95_s: float | None
    saw: Mapping[str, int]
    provider_models: tuple[str, ...]
    simulated: bool
    classes: tuple[ClassScore, ...]
    stability: Estimate | None = None
    within_item_variance: float | None = None
    behind_points_high: float | None = None
    p_best: float | None = None
    expected_behind_points: float | None = None
    pareto: bool | None = None
    dominated_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Quantiles:
    """p10, p50 and p90 of a number; None = more than can be said."""

    p10: float | Decimal | None
    p50: float | Decimal | None
    p90: float | Decimal | None


@dataclass(frozen=True, slots=True)
class More:
    """What would settle the choice, as it looks from here.

    items: to add. waiting: answered items without an expected answer, which need no further request; the
    dollars leave them out. labels: to give, where the candidates differ. `differing`: without any expected
    answer, the items on which they do.
    """

    items: Quantiles | None
    waiting: int
    cost_usd: Quantiles | None
    labels: Quantiles
    differing: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The cheapest candidate that is at most the margin behind the best, if the figures carry it.

    Undecided: candidate, model and prompt_id are None, and `undecided` are those in question, the cheapest
    first. behind_points_high: of the choice, else of the first in question, at 95 %; `rival` is whom it may
    be behind. by_truth False: no expected answers, so bounded by what is answered differently.
    """

    candidate: str | None
    model: str | None
    prompt_id: str | None
    decided: bool
    margin_points: float
    behind_points_high: float | None
    undecided: tuple[str, ...]
    rival: str | None
    by_truth: bool
    more: More | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two candidates on the items both have. Differences are a minus b.

    `decided`: one is better (Holm-corrected p < 0.05). a_behind_points_high: how far a may be behind b, and
    likewise b; they hold for all pairs together. verdict: a | b (is better), equal (neither may be behind by
    more than the margin), open.
    """

    a: str
    b: str
    n: int
    both: int | None
    a_only: int | None
    b_only: int | None
    neither: int | None
    agreement: Estimate | None
    kappa: Estimate | None
    difference: Estimate | None
    f1_difference: Estimate | None
    cost_difference_per_1000_usd: Estimate | None
    latency_difference_s: Estimate | None
    p_value: float | None
    p_holm: float | None = None
    decided: bool | None = None
    a_behind_points_high: float | None = None
    b_behind_points_high: float | None = None
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class FieldScore:
    """One field of the answers: how it was matched, how far the models agree, how often each is right."""

    rule: str
    labels: int
    alpha: Estimate | None
    accuracy: Mapping[str, Estimate]
    note: str
    pairs: tuple[FieldPair, ...] = ()  # of several fields with expected answers


@dataclass(frozen=True, slots=True)
class Policy:
    """A cascade replayed from answers already paid for: what it would have got right, and cost."""

    name: str
    kind: str
    steps: tuple[tuple[str, ...], ...]
    thresholds: tuple[float, ...]
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    cost_per_1000_usd: Decimal
    escalated: tuple[float, ...]
    pareto: bool = False


@dataclass(frozen=True, slots=True)
class Cascades:
    """The best policies of all tried, and what picking one on 4/5 of the items gave on the fifth left out."""

    tried: int
    policies: tuple[Policy, ...]
    items: int
    checked_accuracy: float | None
    checked_cost_per_1000_usd: Decimal | None
    best_single: str
    best_single_accuracy: float
    best_single_cost_per_1000_usd: Decimal


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The recommendation: one sentence, then what else matters."""

    headline: str
    points: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything a bake-off showed; `sheet` holds the answers themselves, for the pages.

    margin_points: how far behind the best a choice may be. reference: whose answers stand in for expected
    ones. items: different ones, however often each was asked.
    """

    models: tuple[ModelScore, ...]
    pairs: tuple[Pair, ...]
    choice: Choice | None
    alpha: Estimate | None
    fields: Mapping[str, FieldScore]
    quality: str
    margin_points: float
    reference: str | None
    datasets: tuple[str, ...]
    origin: Origin
    items: int
    items_with_truth: int
    unlike_items: int
    cascades: Cascades | None
    verdict: Recommendation
    skips: tuple[Skip, ...]  # of all rows, also of items without an expected answer
    warnings: tuple[str, ...]
    method: tuple[str, ...]
    confusion: Mapping[str, tuple[tuple[int, ...], ...]]
    labels: tuple[str, ...]
    disputed: tuple[Disputed, ...]
    sheet: Sheet
    answers: Labels
    label_need: LabelNeed | None = None  # None without expected answers
    calibration: Mapping[str, Calibration] = field(default_factory=dict)  # by model, if it gives a confidence
    text_agreement: TextAgreement | None = None
    preference: Preference | None = None
    cascade_run: CascadeRun | None = None  # the dataset was made by a cascade
    race: RaceRecord | None = None  # the dataset was made by a race, and the choice is its own

    @property
    def simulated(self) -> bool:
        """Whether any answer came from the sandbox."""
        return any(one.simulated for one in self.models)

    def to_json(self) -> dict[str, object]:
        """Return the object `mavi compare --json` prints."""
        out = as_json(self, leave_out=("sheet", "answers", "alpha", "labels", "label_need"))
        assert isinstance(out, dict)
        out |= {"class_names": list(self.labels), "labels": as_json(self.label_need)}
        if len({one.prompt_id for one in self.models}) > 1:
            out["candidates"] = out["models"]
        return {**out, **flat("alpha", self.alpha), "simulated": self.simulated}


def as_json(value: object, leave_out: tuple[str, ...] = ()) -> object:
    """Return plain JSON; an Estimate named x becomes x, x_low and x_high in its owner."""
    if is_dataclass(value) and not isinstance(value, type):
        out: dict[str, object] = {}
        for one in fields(value):
            if one.name not in leave_out:
                out |= flat(one.name, getattr(value, one.name))
        return out
    if isinstance(value, Mapping):
        return {
            key if isinstance(key, str) else json.dumps(key): as_json(item) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return f"{value:f}" if isinstance(value, Decimal) else value


_ESTIMATES = {
    "accuracy", "accuracy_answered", "macro_f1", "majority_agreement", "agreement", "kappa", "difference",
    "f1_difference", "cost_difference_per_1000_usd", "latency_difference_s", "alpha", "flips", "stability",
}  # fmt: skip


def flat(name: str, value: object) -> dict[str, object]:
    """Return one name's JSON entries: three for an estimate, one for anything else."""
    if isinstance(value, Estimate) or (value is None and name in _ESTIMATES):
        parts = (None, None, None) if value is None else (value.value, value.low, value.high)
        return dict(zip((name, f"{name}_low", f"{name}_high"), map(_dollars(name), parts), strict=True))
    return {name: as_json(value)}


def _dollars(name: str) -> Callable[[float | None], object]:
    if name.endswith("_usd"):
        return lambda number: None if number is None else f"{number:.12f}"
    return lambda number: number
