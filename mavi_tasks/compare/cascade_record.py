"""A cascade that was run: which step answered each item, its certificate, and whether that still holds.

DIR/cascade.json      the cascade and its certificate
DIR/cascade.parquet   a row for each item: the step and the model that answered, why, what all steps cost
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mavi_tasks.compare import certificate, field_labels, match_rules, scoring
from mavi_tasks.compare.cascade_run import CascadePlan, CascadeRun
from mavi_tasks.compare.field_labels import Labels
from mavi_tasks.compare.pairwise import same_answer
from mavi_tasks.compare.sheet import ANSWERED, INVALID, UNKNOWN, Sheet
from mavi_tasks.compare.statistics import Bools
from mavi_tasks.errors import InputError
from mavi_tasks.schema import USD
from mavi_tasks.storage.filesystem import storage_errors

FILE: Final = "cascade.json"
TABLE: Final = "cascade.parquet"


def answers_of(sheet: Sheet, labels: Labels, models: Sequence[str]) -> certificate.Answers:
    """Return what a certificate is made of: the judged items that all these models were asked."""
    at = [sheet.models.index(name) for name in models]
    kept = sheet.asked[at].all(axis=0) & labels.judged
    cost = np.where(sheet.cost_pico[at] == UNKNOWN, 0, sheet.cost_pico[at]) / 1e12
    pairs = {(a, b): same_answer(labels, at[a], at[b]) for a in range(len(at)) for b in range(a + 1, len(at))}
    every = certificate.Answers(
        labels.scores[at], cost, sheet.answered[at], labels.confidence[at], sheet.clusters, pairs
    )
    return every.keep(kept)


def reasons(sheet: Sheet, plan: CascadePlan, fields: Mapping[str, str]) -> list[str | None]:
    """Return why each item goes to the last model; None where the first ones settle it."""
    labels = field_labels.read(sheet, match_rules.declared(fields))
    at = [sheet.models.index(name) for name in plan.first if name in sheet.models]
    out = np.full(len(sheet.units), None, object)
    if plan.below is not None and at:
        out[~(labels.confidence[at[0]] >= plan.below)] = "low confidence"
    if len(at) == 2:
        out[~same_answer(labels, at[0], at[1])] = "disagreement"
    unusable: Bools = np.logical_not(sheet.answered[at].all(axis=0))
    out[unusable] = "no answer"
    out[(sheet.status[at] == INVALID).any(axis=0)] = "invalid answer"
    return list(out)


def write(root: Path, plan: CascadePlan, prompts: str, sheet: Sheet, why: Sequence[str | None]) -> None:
    """Write the record and the table of items, each whole or not at all."""
    with storage_errors(root, "write to"):
        half = root / f"{TABLE}.new"
        pq.write_table(_table(plan, sheet, why), half)
        half.replace(root / TABLE)
        half = root / f"{FILE}.new"
        half.write_text(json.dumps({"plan": asdict(plan), "prompts": prompts}, indent=1), "utf-8")
        half.replace(root / FILE)


def _table(plan: CascadePlan, sheet: Sheet, why: Sequence[str | None]) -> pa.Table:
    place = {name: at for at, name in enumerate(sheet.models)}
    asked = [place[name] for name in (*plan.first, plan.last) if name in place]
    rows = []
    for unit, reason in enumerate(why):
        model = plan.first[0] if reason is None else plan.last
        at = place.get(model)
        there = at is not None and sheet.asked[at, unit]
        cost = [int(sheet.cost_pico[one, unit]) for one in asked if sheet.asked[one, unit]]
        rows.append(
            {
                "item_id": sheet.units[unit].item_id,
                "prompt_id": sheet.units[unit].prompt_id,
                "step": 1 if reason is None else 2,
                "model": model if there else None,
                "escalated_because": reason,
                "answered": bool(there and sheet.status[at, unit] == ANSWERED),
                "answer": sheet.answer[at, unit] if there else None,
                "answer_json": sheet.answer_json[at, unit] if there else None,
                "cost_usd": scoring.usd(sum(one for one in cost if one != UNKNOWN)),
                "truth": sheet.units[unit].truth,
            }
        )
    schema = pa.schema(
        [(name, pa.string()) for name in ("item_id", "prompt_id")]
        + [("step", pa.int64()), ("model", pa.string()), ("escalated_because", pa.string())]
        + [("answered", pa.bool_()), ("answer", pa.string()), ("answer_json", pa.string())]
        + [("cost_usd", USD), ("truth", pa.string())]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def read(root: Path, sheet: Sheet, labels: Labels) -> CascadeRun:
    """Return how the dataset's cascade did. Raises InputError on a damaged or missing file."""
    try:
        held = json.loads((root / FILE).read_text("utf-8"))
        plan = CascadePlan(**held["plan"] | {"first": tuple(held["plan"]["first"])})
        table = pq.read_table(root / TABLE).to_pylist()
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise InputError(f"{root / FILE}: cannot be read as a cascade ({type(error).__name__})") from error
    scores = _scores(table, sheet, labels)
    why = [row["escalated_because"] for row in table if row["escalated_because"]]
    total = sum((row["cost_usd"] for row in table), Decimal(0))
    return CascadeRun(
        plan=plan,
        items=len(table),
        escalated=len(why) / max(len(table), 1),
        reasons={one: why.count(one) for one in sorted(set(why))},
        cost_per_1000_usd=(total * 1000 / len(table)).quantize(scoring.PICO) if table else None,
        judged=len(scores),
        right=float(np.mean(scores)) if scores else None,
        void=tuple(_void(plan, str(held["prompts"]), sheet)),
    )


def _scores(table: Sequence[Mapping[str, Any]], sheet: Sheet, labels: Labels) -> list[float]:
    unit = {(one.item_id, one.prompt_id): at for at, one in enumerate(sheet.units)}
    place = {name: at for at, name in enumerate(sheet.models)}
    found = []
    for row in table:
        at = unit.get((row["item_id"], row["prompt_id"]))
        if at is not None and labels.judged[at]:
            found.append(float(labels.scores[place[row["model"]], at]) if row["model"] in place else 0.0)
    return found


def _void(plan: CascadePlan, prompts: str, sheet: Sheet) -> list[str]:
    """What is not as it was when the bound was proven."""
    proven = plan.certificate
    if not proven:
        return ["it has none"]
    out = [] if proven.get("prompts") == prompts else ["the prompts are others"]
    for name, before in proven.get("provider_models", {}).items():
        now = sheet.provider_models[sheet.models.index(name)] if name in sheet.models else ()
        if not set(now) <= set(before):
            now_by, then_by = ", ".join(now), ", ".join(before) or "a model without a name"
            out.append(f"{name} is answered by {now_by}, not by {then_by}")
    return out
