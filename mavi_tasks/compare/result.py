"""What a comparison found, and its JSON. Dollars are text there, so that no digit is lost."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from decimal import Decimal

from mavi_tasks.common.skips import Skip
from mavi_tasks.compare.disputed import Disputed
from mavi_tasks.compare.few_labels import LabelNeed
from mavi_tasks.compare.field_labels import Labels
from mavi_tasks.compare.sheet import Sheet
from mavi_tasks.compare.statistics import Estimate


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
    """One model. Money and times are over all its rows; `accuracy` counts unanswered items as wrong."""

    model: str
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
    pareto: bool | None = None
    dominated_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models on the items both have. Differences are a minus b."""

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
    more_items: int | None = None
    more_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class FieldScore:
    """One field of the answers: how it was matched, how far the models agree, how often each is right."""

    rule: str
    labels: int
    alpha: Estimate | None
    accuracy: Mapping[str, Estimate]
    note: str


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
    """Everything a bake-off showed; `sheet` holds the answers themselves, for the pages."""

    models: tuple[ModelScore, ...]
    pairs: tuple[Pair, ...]
    alpha: Estimate | None
    fields: Mapping[str, FieldScore]
    quality: str
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

    @property
    def simulated(self) -> bool:
        """Whether any answer came from the sandbox."""
        return any(one.simulated for one in self.models)

    def to_json(self) -> dict[str, object]:
        """Return the object `mavi compare --json` prints."""
        out = as_json(self, leave_out=("sheet", "answers", "alpha", "labels", "label_need"))
        assert isinstance(out, dict)
        named = {"class_names": list(self.labels), "labels": as_json(self.label_need)}
        return {**out, **named, **flat("alpha", self.alpha), "simulated": self.simulated}


def as_json(value: object, leave_out: tuple[str, ...] = ()) -> object:
    """Return plain JSON; an Estimate named x becomes x, x_low and x_high in its owner."""
    if is_dataclass(value) and not isinstance(value, type):
        out: dict[str, object] = {}
        for one in fields(value):
            if one.name not in leave_out:
                out |= flat(one.name, getattr(value, one.name))
        return out
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return f"{value:f}" if isinstance(value, Decimal) else value


_ESTIMATES = {
    "accuracy", "accuracy_answered", "macro_f1", "majority_agreement", "agreement", "kappa", "difference",
    "f1_difference", "cost_difference_per_1000_usd", "latency_difference_s", "alpha", "flips",
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
