"""The whole comparison, stage by stage: read, label, score, agree, pair, cascade, judge."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa

from mavi_tasks.compare import (
    agreement,
    cascade,
    caveats,
    disputed,
    few_labels,
    field_labels,
    labelled,
    match_rules,
    pairwise,
    pareto,
    recommendation,
    scoring,
    statistics,
)
from mavi_tasks.compare import sheet as read
from mavi_tasks.compare.few_labels import LabelNeed
from mavi_tasks.compare.field_labels import Field, Labels
from mavi_tasks.compare.labelled import Labelled
from mavi_tasks.compare.result import Comparison, FieldScore, ModelScore
from mavi_tasks.compare.sheet import Sheet
from mavi_tasks.compare.statistics import MISSING, Estimate, Floats
from mavi_tasks.errors import InputError
from mavi_tasks.storage import tables


def compare(
    dirs: Sequence[Path],
    *,
    truth: Labelled | None = None,
    fields: Mapping[str, str] | None = None,
    like_for_like: bool = False,
    reference: str | None = None,
    baseline: str | None = None,
) -> Comparison:
    """Return the bake-off of all models in the datasets.

    `fields` declares how each answer field is matched (see rules.py); a field not named gets the rule that
    fits its values. `like_for_like` leaves out items the models saw differently. `reference` is a model whose
    answers stand in for the expected ones; `truth` are labels that replace those of the manifest; `baseline`
    is the model in use now, which the verdict compares to. Raises InputError when a folder is no dataset, or
    a named field or model is not in it.
    """
    matching = match_rules.declared(fields or {})
    sheet = read.sheet(dirs)
    if truth is not None:
        sheet = labelled.apply(sheet, truth)
    unlike = int(np.count_nonzero(~sheet.alike))
    if like_for_like:
        if unlike == len(sheet.units):
            raise InputError("no item was shown to all models in the same way; compare without like-for-like")
        sheet = sheet.keep(sheet.alike)
    if baseline is not None and baseline not in sheet.models:
        raise InputError(f"baseline {baseline!r}: not one of the models, {', '.join(sheet.models)}")
    labels = field_labels.read(sheet, matching, reference)
    options = CompareOptions(unlike, like_for_like, baseline, _spent(dirs))
    return _compared(sheet, labels, options)


@dataclass(frozen=True, slots=True)
class CompareOptions:
    unlike: int
    like_for_like: bool
    baseline: str | None
    spent_pico: Mapping[str, int]


def _compared(sheet: Sheet, labels: Labels, options: CompareOptions) -> Comparison:
    sampled = few_labels.probabilities(sheet) if labels.has_truth and not labels.stands_in else None
    whole = sampled is None  # figures over the labelled items alone would be biased in a sample
    classes = scoring.Classes(labels, sheet) if whole and scoring.Classes.fit(labels) else None
    f1 = classes.drawn_f1(len(sheet.models)) if classes else None
    quality = _quality(labels)
    models = _ranked(_scores(sheet, labels, classes, f1, options, sampled))
    found = pairwise.compare(sheet, labels, f1, sampled)
    alpha = _alpha(labels, sheet)
    cascades = cascade.simulate(sheet, labels) if whole else None
    return Comparison(
        models=models,
        pairs=found,
        alpha=alpha,
        fields={one.name: _field(one, sheet, by_truth=whole) for one in labels.fields},
        quality=quality,
        items=len(sheet.units),
        items_with_truth=int(np.count_nonzero(labels.judged)),
        unlike_items=options.unlike,
        cascades=cascades,
        verdict=recommendation.judge(models, found, alpha, cascades, quality, options.baseline),
        skips=tuple(scoring.skips(sheet)),
        warnings=caveats.warnings(
            sheet, labels, models, unlike=options.unlike, like_for_like=options.like_for_like
        ),
        method=caveats.method(labels, cascades, len(found), with_classes=classes is not None),
        confusion={name: classes.confusion(at) for at, name in enumerate(sheet.models)} if classes else {},
        labels=classes.names if classes else (),
        disputed=disputed.most(sheet, labels),
        sheet=sheet,
        answers=labels,
        label_need=_label_need(sheet, labels, models, sampled),
    )


def _label_need(
    sheet: Sheet, labels: Labels, models: Sequence[ModelScore], sampled: Floats | None
) -> LabelNeed | None:
    """How many labels there are and how many it takes; only the first when they are no sample."""
    if not labels.has_truth or labels.stands_in:
        return None
    if sampled is None:
        return LabelNeed(int(np.count_nonzero(labels.judged)), None, None)
    costs = {one.model: one.cost_per_1000_usd for one in models}
    return few_labels.needed(
        few_labels.pairs(labels, sheet.asked, sampled),
        int(np.count_nonzero(labels.judged & (sampled > 0))),
        [math.inf if (cost := costs[name]) is None else float(cost) for name in sheet.models],
    )


def _quality(labels: Labels) -> str:
    if labels.has_truth:
        return "agreement with the reference" if labels.stands_in else "accuracy"
    return "agreement" if labels.names else "cost"


def _scores(
    sheet: Sheet,
    labels: Labels,
    classes: scoring.Classes | None,
    f1: Sequence[Floats] | None,
    options: CompareOptions,
    sampled: Floats | None,
) -> list[ModelScore]:
    consensus = agreement.dawid_skene(labels.codes, len(labels.names))
    out = []
    for at, name in enumerate(sheet.models):
        among = sheet.asked[at] & labels.judged if labels.has_truth else sheet.asked[at]
        counts = scoring.statuses(sheet, at, among)
        pico, unknown = scoring.money(sheet, at)
        rows = int(sheet.asked[at].sum())
        correct = int(np.count_nonzero(labels.right[at] & among)) if labels.has_truth else None
        video_pico, hours = scoring.video_hours(sheet, at)
        inputs, times = np.unique(sheet.saw[at][sheet.asked[at]].astype(str), return_counts=True)
        out.append(
            ModelScore(
                model=name,
                n=int(among.sum()),
                answered=counts["answered"],
                failed=counts["failed"],
                invalid=counts["invalid"],
                skipped=counts["skipped"],
                truncated=int(np.count_nonzero(sheet.truncated[at])),
                correct=correct,
                accuracy=scoring.accuracy(labels, sheet, at)
                if sampled is None
                else few_labels.accuracy(labels, sheet.asked, sampled, at),
                accuracy_answered=scoring.accuracy(labels, sheet, at, answered_only=True)
                if sampled is None
                else None,
                macro_f1=scoring.with_spread(f1[at]) if f1 else None,
                majority_agreement=_with_others(labels, at),
                reliability=None if consensus is None else float(consensus.reliability[at]),
                input_tokens=scoring.counted(sheet.input_tokens[at]),
                output_tokens=scoring.counted(sheet.output_tokens[at]),
                cost_usd=None if pico is None else scoring.usd(pico),
                cost_unknown=unknown,
                cost_per_1000_usd=None if pico is None else scoring.per(pico, rows - unknown, 1000),
                cost_per_correct_usd=None
                if pico is None or correct is None
                else _per_correct(sheet, labels, at),
                cost_per_video_hour_usd=scoring.per(video_pico, round(hours, 9))
                if pico is not None
                else None,
                spent_usd=scoring.usd(options.spent_pico[name]) if name in options.spent_pico else None,
                latency_p50_s=scoring.quantile(sheet.latency_s[at], 0.5),
                latency_p95_s=scoring.quantile(sheet.latency_s[at], 0.95),
                saw=dict(zip(inputs.tolist(), times.tolist(), strict=True)),
                provider_models=sheet.provider_models[at],
                simulated=sheet.simulated[at],
                classes=classes.scores(at) if classes else (),
            )
        )
    return out


def _per_correct(sheet: Sheet, labels: Labels, at: int) -> Decimal | None:
    """Dollars per right answer, over the items that have an expected one and a known cost."""
    among = labels.judged & sheet.asked[at] & ((sheet.cost_pico[at] != read.UNKNOWN) | ~sheet.answered[at])
    cost = sheet.cost_pico[at][among]
    return scoring.per(
        sum(cost[cost != read.UNKNOWN].tolist()), int(np.count_nonzero(labels.right[at] & among))
    )


def _with_others(labels: Labels, at: int) -> Estimate | None:
    if len(labels.codes) < 2 or not labels.names:
        return None
    others = agreement.majority_of_others(labels.codes, len(labels.names), at)
    both = (others != MISSING) & (labels.codes[at] != MISSING)
    return statistics.wilson(int(np.count_nonzero((others == labels.codes[at]) & both)), int(both.sum()))


def _ranked(models: list[ModelScore]) -> tuple[ModelScore, ...]:
    """Mark the cost-quality front, and order by quality."""
    places = [(one.cost_per_1000_usd, _worth(one)) for one in models]
    beaten = pareto.dominators(places)
    marked = [
        replace(
            one,
            pareto=None if by is None else by == (),
            dominated_by=tuple(models[at].model for at in by or ()),
        )
        for one, by in zip(models, beaten, strict=True)
    ]
    return tuple(sorted(marked, key=lambda one: (-(_worth(one) or 0.0), one.model)))


def _worth(one: ModelScore) -> float | None:
    best = one.accuracy or one.majority_agreement
    return None if best is None else best.value


def _alpha(labels: Labels, sheet: Sheet) -> Estimate | None:
    """Agreement on the whole answer; on a single field that field's own."""
    counted = [one for one in labels.fields if one.rule.kind != "ignore" and not one.free_text]
    if len(counted) == 1:
        return _field_alpha(counted[0], sheet)
    if not 0 < len(labels.names) <= field_labels.MOST_LABELS:
        return None
    return statistics.nominal_alpha(labels.codes, len(labels.names), sheet.clusters)


def _field_alpha(field: Field, sheet: Sheet) -> Estimate | None:
    if field.free_text or field.rule.kind == "ignore" or len(sheet.models) < 2:
        return None
    if field.numbers is not None:
        return statistics.interval_alpha(field.numbers, sheet.clusters)
    if len(field.labels) > field_labels.MOST_LABELS:
        return None
    return statistics.nominal_alpha(field.codes, len(field.labels), sheet.clusters)


def _field(field: Field, sheet: Sheet, *, by_truth: bool) -> FieldScore:
    judged = (field.truth != MISSING) & by_truth
    shares = {
        name: statistics.wilson(
            int(np.count_nonzero(field.right[at] & judged & sheet.answered[at])),
            int(np.count_nonzero(judged & sheet.asked[at])),
        )
        for at, name in enumerate(sheet.models)
    }
    return FieldScore(
        rule=str(field.rule),
        labels=len(field.labels),
        alpha=_field_alpha(field, sheet),
        accuracy={name: share for name, share in shares.items() if share},
        note=field.note,
    )


def _spent(dirs: Sequence[Path]) -> dict[str, int]:
    """Pico-dollars billed per model over every attempt, retries and lost answers too."""
    parts = [
        tables.open_table(one, "attempts").to_table(columns=["model", "cost_usd"])
        for one in dirs
        if _has(one)
    ]
    if not parts:
        return {}
    attempts = pa.concat_tables(parts).unify_dictionaries()  # group_by refuses parts that differ in them
    sums = attempts.group_by("model").aggregate([("cost_usd", "sum")])
    names, totals = sums["model"].to_pylist(), sums["cost_usd_sum"].to_pylist()
    return {
        name: int(total.scaleb(12)) for name, total in zip(names, totals, strict=True) if total is not None
    }


def _has(root: Path) -> bool:
    return (root / "attempts").is_dir()
