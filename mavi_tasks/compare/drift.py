"""Two runs of the same models: which labels flipped after a new prompt or model version, and what it cost."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa

from mavi_tasks.compare import field_labels, match_rules, pairwise, scoring, statistics
from mavi_tasks.compare import sheet as read
from mavi_tasks.compare.caveats import not_theirs
from mavi_tasks.compare.field_labels import Labels
from mavi_tasks.compare.pairwise import same_answer
from mavi_tasks.compare.result import Pair, as_json, flat
from mavi_tasks.compare.sheet import Sheet, Unit
from mavi_tasks.compare.statistics import MISSING, Bools, Estimate
from mavi_tasks.errors import InputError
from mavi_tasks.storage import tables

BEFORE, AFTER = "before", "after"
ALARM = 0.05  # of checks where nothing exceeds the allowed share


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a dataset, where a dataset holds several."""

    root: Path
    run_id: str


@dataclass(frozen=True, slots=True)
class Flip:
    """One item whose label changed."""

    item_id: str
    prompt_id: str
    media_uri: str | None
    before: str
    after: str
    truth: str | None


@dataclass(frozen=True, slots=True)
class ModelDrift:
    """One model in both runs. `compared` are items answered both times; `change` is after minus before."""

    model: str
    model_before: str
    items: int
    compared: int
    flipped: int
    flips: Estimate | None
    flips_at_least: float
    lost: int
    gained: int
    accuracy_before: float | None
    accuracy_after: float | None
    change: Pair
    cost_before_usd: Decimal | None
    cost_after_usd: Decimal | None
    latency_p50_before_s: float | None
    latency_p50_after_s: float | None
    versions_before: tuple[str, ...]
    versions_after: tuple[str, ...]
    moves: Mapping[str, int]
    flipped_items: tuple[Flip, ...]


@dataclass(frozen=True, slots=True)
class Drift:
    """Two runs compared, one entry per model that is in both."""

    before: str
    after: str
    models: tuple[ModelDrift, ...]
    warnings: tuple[str, ...]
    sheets: Mapping[str, tuple[Sheet, Labels]]

    @property
    def flips(self) -> Estimate | None:
        """The share of flipped labels over all models."""
        return statistics.wilson(sum(m.flipped for m in self.models), sum(m.compared for m in self.models))

    def exceeds(self, share: float) -> bool:
        """Tell whether surely more than `share` of some model's labels flipped: the check of a schedule.

        By the lower bound of the flip rate, so that a rate of just `share` raises an alarm in at most 5 % of
        checks, however many models there are.
        """
        return any(one.flips_at_least > share for one in self.models)

    def to_json(self) -> dict[str, object]:
        """Return the object `mavi compare A B --json` prints."""
        out = as_json(self, leave_out=("sheets",))
        assert isinstance(out, dict)
        return {**out, **flat("flips", self.flips)}


def parse_fraction(text: str) -> float:
    """Return "5%" or "0.05" as 0.05. Raises InputError of anything that is no share."""
    bare = text.strip()
    try:
        value = float(bare.removesuffix("%")) / (100 if bare.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InputError(f"share {text!r}: give a percentage such as 5%, or a number from 0 to 1")
    return value


def shared_models(a: Path, b: Path) -> tuple[str, ...]:
    """Return the models both datasets have: any means two runs to compare, none a bake-off."""
    found = [
        set(read.strings_of(tables.open_table(one, "results").to_table(columns=["model"])["model"]))
        for one in (a, b)
    ]
    return tuple(sorted(found[0] & found[1]))


def compare_runs(a: Path | Run, b: Path | Run, *, fields: Mapping[str, str] | None = None) -> Drift:
    """Return what changed from run (or dataset) `a` to `b`, model by model, on the items both have.

    With one model on each side they are paired whatever their names, so that two versions can be compared.
    Items are paired by item_id and prompt_id. Raises InputError when no model, or no item, is in both.
    """
    matching = match_rules.declared(fields or {})
    tables = [_table(a), _table(b)]
    names = [sorted(set(read.strings_of(table["model"]))) for table in tables]
    both = [(name, name) for name in names[0] if name in names[1]]
    if not both and len(names[0]) == len(names[1]) == 1:
        both = [(names[0][0], names[1][0])]
    if not both:
        raise InputError(f"{_name(a)} and {_name(b)}: no model is in both; give two runs of the same model")
    made = {new: _sheet(tables, old, new, matching) for old, new in both}
    models = tuple(_drift(new, old, *made[new], ALARM / len(made)) for old, new in both)
    return Drift(_name(a), _name(b), models, _warnings(models, made), made)


def _table(source: Path | Run) -> pa.Table:
    if isinstance(source, Run):
        table = read.run_table(source.root, source.run_id)
    else:
        table = tables.latest(source, read.COLUMNS).select(read.COLUMNS)
    if table.num_rows == 0:
        raise InputError(f"{_name(source)}: has no results")
    return table


def _name(source: Path | Run) -> str:
    return f"{source.root} run {source.run_id}" if isinstance(source, Run) else str(source)


def _sheet(
    tables: Sequence[pa.Table], old: str, new: str, matching: Mapping[str, match_rules.Rule]
) -> tuple[Sheet, Labels]:
    """One sheet in which the two runs stand side by side, as if they were two models."""
    sides = []
    for table, model, side in zip(tables, (old, new), (BEFORE, AFTER), strict=True):
        mine = table.filter(pa.array([name == model for name in read.strings_of(table["model"])]))
        at = mine.schema.get_field_index("model")
        sides.append(mine.set_column(at, "model", pa.array([side] * mine.num_rows).dictionary_encode()))
    sheet = read.from_table(pa.concat_tables(sides, promote_options="permissive"), where=new)
    order = [sheet.models.index(BEFORE), sheet.models.index(AFTER)]
    common: Bools = sheet.asked[0] & sheet.asked[1]
    if not common.any():
        raise InputError(
            f"{new}: the two runs have no item in common (items are paired by item_id and prompt_id)"
        )
    sheet = sheet.pick(order).keep(common)
    return sheet, field_labels.read(sheet, matching)


def _drift(model: str, before: str, sheet: Sheet, labels: Labels, level: float) -> ModelDrift:
    both = (labels.codes != MISSING).all(0)
    flipped = both & ~same_answer(labels, 0, 1)
    totals = [scoring.money(sheet, side)[0] for side in (0, 1)]
    shares = [scoring.accuracy(labels, sheet, side) for side in (0, 1)]
    moves = Counter(
        f"{_label(labels, 0, at)} → {_label(labels, 1, at)}" for at in np.flatnonzero(flipped).tolist()
    )
    changed = pairwise.compare(sheet.pick((1, 0)), labels.pick((1, 0)), None)[0]
    return ModelDrift(
        model=model,
        model_before=before,
        items=len(sheet.units),
        compared=int(both.sum()),
        flipped=int(flipped.sum()),
        flips=statistics.proportion(flipped[both].astype(float), sheet.clusters[both]),
        flips_at_least=statistics.proportion_at_least(flipped[both], sheet.clusters[both], level),
        lost=_count(sheet.answered[0] & ~sheet.answered[1]),
        gained=_count(sheet.answered[1] & ~sheet.answered[0]),
        accuracy_before=shares[0].value if shares[0] else None,
        accuracy_after=shares[1].value if shares[1] else None,
        change=_renamed(changed),
        cost_before_usd=None if totals[0] is None else scoring.usd(totals[0]),
        cost_after_usd=None if totals[1] is None else scoring.usd(totals[1]),
        latency_p50_before_s=scoring.quantile(sheet.latency_s[0], 0.5),
        latency_p50_after_s=scoring.quantile(sheet.latency_s[1], 0.5),
        versions_before=sheet.provider_models[0],
        versions_after=sheet.provider_models[1],
        moves=dict(moves.most_common()),
        flipped_items=tuple(_flip(sheet.units[at], labels, at) for at in np.flatnonzero(flipped).tolist()),
    )


def _renamed(pair: Pair) -> Pair:
    return replace(pair, a=AFTER, b=BEFORE)


def _label(labels: Labels, side: int, at: int) -> str:
    code = labels.codes[side, at]
    return labels.names[code] if code != MISSING else "–"


def _flip(unit: Unit, labels: Labels, at: int) -> Flip:
    before, after = _label(labels, 0, at), _label(labels, 1, at)
    return Flip(unit.item_id, unit.prompt_id, unit.media_uri, before, after, unit.truth)


def _count(where: Bools) -> int:
    return int(np.count_nonzero(where))


def _warnings(models: Sequence[ModelDrift], made: Mapping[str, tuple[Sheet, Labels]]) -> tuple[str, ...]:
    out = []
    sandboxed = [sheet for sheet, _ in made.values() if any(sheet.simulated)]
    if sandboxed:
        whence = not_theirs(sandboxed[0])
        out.append(f"Answers {whence}: they show how this works, not how the model performs.")
    for one in models:
        if one.versions_before != one.versions_after:
            was, now = (
                ", ".join(one.versions_before) or "unknown",
                ", ".join(one.versions_after) or "unknown",
            )
            out.append(f"{one.model}: the provider answered as {was} before and as {now} after.")
        sheet = made[one.model][0]
        if (apart := int(np.count_nonzero(~sheet.alike))) and one.compared:
            out.append(
                f"{one.model}: {apart:,} of the items had another prompt, or were seen differently, in the "
                "two "
                "runs: what changed may come from that."
            )
        if one.model_before != one.model:
            out.append(f"{one.model_before} before and {one.model} after: these are two models.")
        if not one.compared:
            out.append(f"{one.model}: no item was answered with a label both times.")
    return tuple(out)
