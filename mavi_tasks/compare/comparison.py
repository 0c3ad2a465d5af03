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
    calibration,
    cascade,
    caveats,
    choice,
    disputed,
    few_labels,
    field_labels,
    field_pairs,
    match_rules,
    pairwise,
    preference,
    recommendation,
    scoring,
    statistics,
    text_agreement,
)
from mavi_tasks.compare import margin as margin_rule
from mavi_tasks.compare import sheet as read
from mavi_tasks.compare.cascade_verdict import apply_cascade
from mavi_tasks.compare.few_labels import LabelNeed
from mavi_tasks.compare.field_labels import Field, Labels
from mavi_tasks.compare.labelled import Labelled
from mavi_tasks.compare.prompt_versions import PromptVersions
from mavi_tasks.compare.race_verdict import apply_race
from mavi_tasks.compare.result import Comparison, FieldScore, ModelScore
from mavi_tasks.compare.sheet import Sheet
from mavi_tasks.compare.statistics import MISSING, Estimate, Floats
from mavi_tasks.compare.truth import NO_TRUTH, Truth
from mavi_tasks.errors import InputError
from mavi_tasks.storage import tables
from mavi_tasks.storage.tables import VERSION

MARGIN_POINTS = 100 * margin_rule.MARGIN


def compare(
    dirs: Sequence[Path],
    *,
    fields: Mapping[str, str] | None = None,
    like_for_like: bool = False,
    reference: str | None = None,
    baseline: str | None = None,
    margin: float = MARGIN_POINTS,
    by: str | None = None,
    truth: Truth | Labelled = NO_TRUTH,
    judged: Path | None = None,
) -> Comparison:
    """Return the bake-off of all models in the datasets, each with each of several prompts.

    `margin` is how many points the choice may be behind the best, fixed before looking. `fields` declares how
    each answer field is matched (see match_rules.py); a field not named gets the rule that fits its values.
    `like_for_like` leaves out items the models saw differently. `reference` is a model whose answers stand in
    for the expected ones (it is not compared itself); `baseline` is the model in use now, which the verdict
    compares to. `by` "prompt_hash" takes each text of a prompt for a model of its own. `truth` are expected
    answers beside those of the results, or a drawn sample of labels. `judged` is the dataset of a judge's job
    (judge_job.py).
    Raises InputError when a folder is no dataset, or a named field or model is not in it.
    """
    if not 0 < margin <= 100:
        raise InputError(f"margin {margin:g}: give points above 0 and at most 100, for example 2")
    matching = match_rules.declared(fields or {})
    if by not in (None, VERSION):
        raise InputError(f"by {by!r}: must be {VERSION}")
    versions = PromptVersions() if by is not None else None
    sheet = truth.on(read.sheet(dirs, versions, by_prompt=True))
    unlike = int(np.count_nonzero(~sheet.alike))
    if like_for_like:
        if unlike == len(sheet.units):
            raise InputError("no item was shown to all models in the same way; compare without like-for-like")
        sheet = sheet.keep(sheet.alike)
    baseline = _named(sheet, "baseline", baseline)
    reference = _named(sheet, "reference", reference)
    labels = field_labels.read(sheet, matching, reference)
    if reference is not None:
        others = [at for at, name in enumerate(sheet.models) if name != reference]
        if not others:
            raise InputError(f"reference {reference!r}: is the only candidate; nothing is left to compare")
        sheet, labels = sheet.pick(others), labels.pick(others)
    names = tuple(one.name or str(one) for one in dirs)
    notes = (versions.notes if versions is not None else ()) + truth.notes
    options = CompareOptions(unlike, like_for_like, baseline, margin, names, _spent(dirs), notes)
    found = apply_race(_compared(sheet, labels, options), dirs)
    found = apply_cascade(found, dirs, matching, reference)
    return found if judged is None else replace(found, preference=preference.read_judged(judged, sheet))


def _named(sheet: Sheet, what: str, name: str | None) -> str | None:
    """The candidate of that name, or the only one of that model. Raises InputError."""
    if name is None or name in sheet.models:
        return name
    mine = [one.name for one in sheet.candidates if one.model == name]
    if len(mine) == 1:
        return mine[0]
    if mine:
        raise InputError(f"{what} {name!r}: has several prompts; name one of {', '.join(map(repr, mine))}")
    raise InputError(f"{what} {name!r}: not one of the models, {', '.join(sheet.models)}")


@dataclass(frozen=True, slots=True)
class CompareOptions:
    unlike: int
    like_for_like: bool
    baseline: str | None
    margin_points: float
    datasets: tuple[str, ...]
    spent_pico: Mapping[str, int]
    notes: tuple[str, ...] = ()  # said before the warnings


def _compared(sheet: Sheet, labels: Labels, options: CompareOptions) -> Comparison:
    sampled = few_labels.probabilities(sheet) if labels.has_truth and not labels.stands_in else None
    whole = sampled is None  # figures over the labelled items alone would be biased in a sample
    classes = scoring.Classes(labels, sheet) if whole and scoring.Classes.fit(labels) else None
    f1 = classes.drawn_f1(len(sheet.models)) if classes else None
    judged = choice.choose(sheet, labels, options.margin_points / 100, sampled)
    models = _ranked(_scores(sheet, labels, classes, f1, options, sampled), sheet, judged)
    found = pairwise.compare(sheet, labels, f1, sampled)
    if judged and judged.bounds is not None:
        found = pairwise.with_bounds(found, judged.bounds, options.margin_points / 100)
    chosen = judged.choice if judged else None
    alpha = _alpha(labels, sheet)
    cascades = cascade.simulate(sheet, labels) if whole else None
    quality = _quality(labels)
    return Comparison(
        models=models,
        pairs=found,
        choice=chosen,
        alpha=alpha,
        fields=_fields(sheet, labels, whole=whole),
        quality=quality,
        margin_points=options.margin_points,
        reference=labels.stands_in,
        datasets=options.datasets,
        origin=sheet.origin,
        items=len({(unit.item_id, unit.prompt_id) for unit in sheet.units}),
        items_with_truth=int(np.count_nonzero(labels.judged)),
        unlike_items=options.unlike,
        cascades=cascades,
        verdict=recommendation.judge(models, found, chosen, alpha, cascades, quality, options.baseline),
        skips=tuple(scoring.skips(sheet)),
        warnings=_warned(sheet, labels, models, options),
        method=caveats.method(
            sheet, labels, cascades, len(found), options.margin_points, with_classes=classes is not None
        ),
        confusion={name: classes.confusion(at) for at, name in enumerate(sheet.models)} if classes else {},
        labels=classes.names if classes else (),
        disputed=disputed.most(sheet, labels),
        sheet=sheet,
        answers=labels,
        label_need=_label_need(sheet, labels, sampled, judged),
        calibration=calibration.calibrate(sheet, labels) if whole else {},
        text_agreement=text_agreement.agree(sheet, labels),
    )


def _label_need(
    sheet: Sheet, labels: Labels, sampled: Floats | None, judged: choice.Judged | None
) -> LabelNeed | None:
    """How many labels there are and how many it takes; only the first when they are no sample."""
    if not labels.has_truth or labels.stands_in:
        return None
    if judged is not None and judged.label_need is not None:
        return judged.label_need
    counted = labels.judged if sampled is None else labels.judged & (sampled > 0)
    return LabelNeed(int(np.count_nonzero(counted)), None, None)


def _accuracy(labels: Labels, sheet: Sheet, at: int, sampled: Floats | None) -> Estimate | None:
    if sampled is None:
        return scoring.accuracy(labels, sheet, at)
    return few_labels.accuracy(labels, sheet.asked, sampled, at, clusters=sheet.clusters)


def _warned(
    sheet: Sheet, labels: Labels, models: Sequence[ModelScore], options: CompareOptions
) -> tuple[str, ...]:
    """The caveats; that answers are simulated comes first, then what the reading of the data had to say."""
    found = caveats.warnings(
        sheet, labels, models, unlike=options.unlike, like_for_like=options.like_for_like
    )
    first = int(any(sheet.simulated))
    return found[:first] + options.notes + found[first:]


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
        stable, variance = scoring.stability(sheet, labels, at)
        inputs, times = np.unique(sheet.saw[at][sheet.asked[at]].astype(str), return_counts=True)
        out.append(
            ModelScore(
                candidate=name,
                model=sheet.candidates[at].model,
                prompt_id=sheet.candidates[at].prompt_id,
                n=int(among.sum()),
                answered=counts["answered"],
                failed=counts["failed"],
                invalid=counts["invalid"],
                skipped=counts["skipped"],
                truncated=int(np.count_nonzero(sheet.truncated[at])),
                correct=correct,
                accuracy=_accuracy(labels, sheet, at, sampled),
                accuracy_answered=scoring.accuracy(labels, sheet, at, answered_only=True)
                if sampled is None
                else None,
                macro_f1=scoring.with_spread(f1[at], int(sheet.clusters.max()) + 1) if f1 else None,
                majority_agreement=_with_others(labels, sheet, at),
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
                spent_usd=_spent_by(sheet, at, options),
                latency_p50_s=scoring.quantile(sheet.latency_s[at], 0.5),
                latency_p95_s=scoring.quantile(sheet.latency_s[at], 0.95),
                saw=dict(zip(inputs.tolist(), times.tolist(), strict=True)),
                provider_models=sheet.provider_models[at],
                simulated=sheet.simulated[at],
                classes=classes.scores(at) if classes else (),
                stability=stable,
                within_item_variance=variance,
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


def _spent_by(sheet: Sheet, at: int, options: CompareOptions) -> Decimal | None:
    """All that a model was billed; None for one with several prompts: attempts do not say which."""
    model = sheet.candidates[at].model
    alone = sum(one.model == model for one in sheet.candidates) == 1
    return scoring.usd(options.spent_pico[model]) if alone and model in options.spent_pico else None


def _with_others(labels: Labels, sheet: Sheet, at: int) -> Estimate | None:
    if len(labels.codes) < 2 or not labels.names:
        return None
    others = agreement.majority_of_others(labels.codes, len(labels.names), at)
    both = (others != MISSING) & (labels.codes[at] != MISSING)
    return statistics.proportion((others == labels.codes[at])[both].astype(float), sheet.clusters[both])


def _ranked(models: list[ModelScore], sheet: Sheet, judged: choice.Judged | None) -> tuple[ModelScore, ...]:
    """Add each candidate's standing, and order by accuracy; without any the cheapest comes first."""
    if judged:
        models = [_standing(one, at) for one, at in zip(models, judged.standings, strict=True)]
    if any(one.accuracy for one in models):
        return tuple(sorted(models, key=lambda one: (-(_worth(one) or 0.0), one.candidate)))
    return tuple(sorted(models, key=lambda one: (one.cost_per_1000_usd or math.inf, one.candidate)))


def _standing(one: ModelScore, at: choice.Standing) -> ModelScore:
    """The front: whom no candidate that costs no more is surely as good as."""
    return replace(
        one,
        behind_points_high=_points(at.behind_high),
        p_best=at.best_probability,
        expected_behind_points=_points(at.expected_behind),
        pareto=None if one.cost_per_1000_usd is None or _worth(one) is None else not at.dominated_by,
        dominated_by=at.dominated_by,
    )


def _points(share: float | None) -> float | None:
    return None if share is None else 100 * share


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


def _fields(sheet: Sheet, labels: Labels, *, whole: bool) -> dict[str, FieldScore]:
    pairs = field_pairs.compare(sheet, labels) if whole else {}
    return {
        one.name: replace(_field(one, sheet, by_truth=whole), pairs=pairs.get(one.name, ()))
        for one in labels.fields
    }


def _field(field: Field, sheet: Sheet, *, by_truth: bool) -> FieldScore:
    judged = (field.truth != MISSING) & by_truth
    shares = {
        name: statistics.proportion((field.score[at] * sheet.answered[at])[asked], sheet.clusters[asked])
        for at, name in enumerate(sheet.models)
        if (asked := judged & sheet.asked[at]).any()
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
