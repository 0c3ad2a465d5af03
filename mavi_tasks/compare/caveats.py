"""What a reader must know before believing a figure: warnings, and how everything was computed."""

from collections.abc import Sequence

import numpy as np

from mavi_tasks.compare import few_labels
from mavi_tasks.compare.display_names import short
from mavi_tasks.compare.field_labels import Labels
from mavi_tasks.compare.result import Cascades, ModelScore
from mavi_tasks.compare.sheet import Sheet

FEW = 30  # items with an expected answer


def not_theirs(sheet: Sheet) -> str:
    """Where the sandbox's answers come from: made up, or from the pixels by a classifier of its own."""
    versions = [name for names in sheet.provider_models for name in names]
    if versions and all(name.startswith("local/") for name in versions):
        return f"come from the SANDBOX's small local classifier ({versions[0]})"
    return "are SIMULATED by the sandbox"


def warnings(
    sheet: Sheet, labels: Labels, models: Sequence[ModelScore], *, unlike: int, like_for_like: bool
) -> tuple[str, ...]:
    """Return what could mislead, the gravest first."""
    name = short(sheet.models)
    out = []
    if any(sheet.simulated):
        whom = [name[m] for m, fake in zip(sheet.models, sheet.simulated, strict=True) if fake]
        which = "All answers" if len(whom) == len(sheet.models) else f"The answers of {', '.join(whom)}"
        out.append(f"{which} {not_theirs(sheet)}: they show how this works, not how these models perform.")
    if labels.stands_in:
        out.append(f"Right means here: the same answer as {name[labels.stands_in]}. No truth was used.")
    if unlike:
        left = "were left out" if like_for_like else "are in; compare like for like to leave them out"
        out.append(f"{unlike:,} items were not shown to all models in the same way and {left}.")
    sizes = {one.n for one in models}
    if len(sizes) > 1:
        counts = f"{min(sizes):,} to {max(sizes):,}"
        out.append(f"The models did not get the same number of items ({counts}); pairs use common ones.")
    out += [
        f"{name[one.model]}: {one.cost_unknown:,} answers have no known price; its costs leave them out."
        for one in models
        if one.cost_unknown
    ]
    if labels.has_truth and not labels.stands_in:
        out += _coverage(sheet, labels)
    if labels.has_truth and (few := int(np.count_nonzero(labels.judged))) < FEW:
        out.append(f"Only {few} items have an expected answer, so the intervals are wide.")
    return tuple(out)


def _coverage(sheet: Sheet, labels: Labels) -> list[str]:
    """Which items the expected answers speak of, when not every item has one."""
    probability = few_labels.probabilities(sheet)
    judged, items = int(np.count_nonzero(labels.judged)), len(sheet.units)
    if probability is None:
        if judged == items:
            return []
        return [
            f"{judged:,} of {items:,} items have an expected answer, and nothing says how they were chosen: "
            "accuracy and its intervals speak of these items only, not of the rest. A drawn sample speaks of "
            "all (--label-sample)."
        ]
    out = []
    if unknown := int(np.count_nonzero(labels.judged & np.isnan(probability))):
        out.append(f"{unknown:,} labels without an inclusion_probability were left out.")
    if judged - unknown < items:
        out.append(f"Accuracy and differences are estimated from a sample of {judged - unknown:,} labels.")
    return out


def method(labels: Labels, cascades: Cascades | None, pairs: int, *, with_classes: bool) -> tuple[str, ...]:
    """Return how it was computed, one fact a line, only what applies here."""
    matched = ", ".join(f"{one.name}: {one.rule}" for one in labels.fields)
    out = [
        "Of several rows for the same model, item and prompt the one that finished last counts.",
        f"Answers were matched per field ({matched}). A whole answer is right when every expected field is.",
    ]
    if labels.has_truth:
        out += [
            "Accuracy counts failed, invalid and skipped items as wrong; “of answered” leaves them out.",
            "Intervals of shares are 95% Wilson intervals.",
            "Pairs use the items both models have: exact two-sided McNemar test, p-values corrected by "
            f"Holm over {pairs} pairs; 95% intervals of differences by 2,000 bootstrap draws of media.",
            "“More items” takes the difference seen for the true one: McNemar's sample size, power 80%.",
        ]
    if with_classes:
        out.append(
            "Macro F1 is the mean over the expected labels; its interval comes from the same bootstrap."
        )
    if labels.names:
        out += [
            "Agreement is Krippendorff's alpha (nominal; interval for numbers) with bootstrap intervals, and "
            "Cohen's kappa per pair with its large-sample interval.",
            "Majority agreement is with the majority of the other models; ties are left out.",
            "Reliability is a model's expected accuracy by Dawid and Skene's method, which knows no truth "
            "and takes the models' errors for independent; it needs three models.",
        ]
    if cascades:
        out.append(
            f"Cascades were replayed on {cascades.items:,} items: {cascades.tried:,} policies, thresholds "
            "learned on four fifths of the media and applied to the fifth left out."
        )
    out += [
        "Costs are exact sums of whole pico-dollars over the rows that count; “spent” adds other attempts.",
        "A model is on the front when no other is both as cheap and as good.",
    ]
    return tuple(out)
