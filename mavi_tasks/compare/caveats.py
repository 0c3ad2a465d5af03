"""What a reader must know before believing a figure: warnings, and how everything was computed."""

from collections.abc import Sequence

import numpy as np

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
        out.append(
            f"Right means here: the same answer as {labels.stands_in}, which is left out itself. "
            "No truth was used."
        )
    if unlike:
        left = "were left out" if like_for_like else "are in; compare like for like to leave them out"
        out.append(f"{unlike:,} items were not shown to all models in the same way and {left}.")
    clusters = len(set(sheet.clusters.tolist()))
    if clusters < len(sheet.units) and clusters < FEW:
        out.append(f"The items are of {clusters:,} media or clusters only, which count, not the items.")
    sizes = {one.n for one in models}
    if len(sizes) > 1:
        counts = f"{min(sizes):,} to {max(sizes):,}"
        out.append(f"The models did not get the same number of items ({counts}); pairs use common ones.")
    out += [
        f"{name[one.candidate]}: {one.cost_unknown:,} answers have no known price; its costs leave them out."
        for one in models
        if one.cost_unknown
    ]
    if labels.has_truth and (few := int(np.count_nonzero(labels.judged))) < FEW:
        out.append(f"Only {few} items have an expected answer, so the intervals are wide.")
    if not labels.has_truth and len(sheet.units) < FEW:
        out.append(f"Only {len(sheet.units)} items: what is seen of so few may well be chance.")
    return tuple(out)


def method(
    sheet: Sheet,
    labels: Labels,
    cascades: Cascades | None,
    pairs: int,
    margin_points: float,
    *,
    with_classes: bool,
) -> tuple[str, ...]:
    """Return how it was computed, one fact a line, only what applies here."""
    matched = ", ".join(f"{one.name}: {one.rule}" for one in labels.fields)
    out = [
        "Of several rows for the same model, item and prompt the one that finished last counts.",
        f"Answers were matched per field ({matched}). A whole answer is right when every expected field is.",
    ]
    clusters = len(set(sheet.clusters.tolist()))
    if len({one.prompt_id for one in sheet.candidates}) > 1:
        out.append("A candidate is a model with one of the prompts; candidates meet on the same items.")
    if any(unit.repeat > 1 for unit in sheet.units):
        out.append("Stability is the share of pairs of answers to the same question that are equal.")
    out.append(
        f"The {len(sheet.units):,} items are of {clusters:,} clusters (the job's cluster column, else the "
        "media): what is drawn at random are clusters, and intervals count them."
    )
    k = len(sheet.models)
    if labels.has_truth:
        out += [
            "Accuracy counts failed, invalid and skipped items as wrong; “of answered” leaves them out.",
            "Intervals of shares are 95% Wilson intervals; where clusters hold several items, with the "
            "effective number of items (from the variance of cluster sums) and Student's t.",
            "Differences of a pair are taken on the items both have; their standard error is that of cluster "
            "sums, with two clusters added whose sums are +w and −w (w: the root of the mean items in a "
            "cluster).",
            f"“At most … behind the best”: of {k} candidates all {k * (k - 1)} one-sided bounds hold together "
            "with 95% (Bonferroni, Student's t); a candidate's figure is its largest bound against those that "
            "may be the best.",
            f"The choice is the cheapest candidate at most {margin_points:g} points behind the best. The "
            "margin is to be fixed before looking.",
            "p-values are of the exact two-sided sign-flip test on cluster sums, corrected by Holm over "
            f"{pairs} pairs; with one item in each cluster it is McNemar's exact test.",
            "The chance to be the best, the points behind on average and the items that would settle the "
            "choice are of a Bayesian bootstrap over clusters (400 draws). They are a forecast, not a rule to "
            "stop by: compare again once, when that many items are there.",
        ]
    elif labels.names:
        out.append(
            "Without expected answers the share of items that two answer differently bounds how far one is "
            "behind the other, whatever is right; its error is that of cluster sums, as for differences."
        )
    drawn = "2,000 bootstrap draws of clusters (of more than 1,000: of 1,000 random groups of them)"
    if with_classes:
        out.append(
            f"Macro F1 is the mean over the expected labels; its interval is of {drawn}, widened for few "
            "clusters (Hesterberg 2015)."
        )
    if labels.names:
        out += [
            "Agreement is Krippendorff's alpha (nominal; interval for numbers) with intervals of "
            f"{drawn}. Cohen's kappa per pair has its large-sample interval, which takes items for "
            "independent.",
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
        "Not worth its price is a candidate when one that costs no more is surely (95%) not behind it.",
    ]
    return tuple(out)
