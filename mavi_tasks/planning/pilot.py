"""A pilot: a stratified sample of the items, really sent, before the rest is paid for.

The unit is one item with one prompt, sent to every model. Its answers are kept: the rest of the run does not
send them again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

import pyarrow.compute as pc
import pyarrow.dataset as pads

from mavi_tasks.estimate.stratified_sample import (
    Pilot,
    Projection,
    pilot_projection,
    pilot_sample,
    stratum_of,
)
from mavi_tasks.planning import spool
from mavi_tasks.planning.context import RunContext
from mavi_tasks.planning.request import Request
from mavi_tasks.planning.spool import Plan
from mavi_tasks.storage.answered_index import row_fingerprint
from mavi_tasks.storage.tables import open_table

SEED = 0
LOOKED_AT = 8  # items whose answers are shown side by side

Unit = tuple[str, str]  # item_id, prompt_id


@dataclass(frozen=True, slots=True)
class PilotResult:
    """What a pilot showed. `answers`: unit -> model -> its answer, for a first look."""

    projection: Projection
    answers: dict[Unit, dict[str, str]]
    units: int
    of: int


def choose(plan: Plan, size: int) -> Pilot[Unit]:
    """Choose `size` units of a plan, by kind, size and prompt; in one pass over its spool."""
    sample = pilot_sample(
        _units(plan),
        size,
        SEED,
        stratum=lambda request: stratum_of(request.media_items, request.prompt_id),
        weight=lambda request: float(max(1, request.tokens)),
    )
    chosen = tuple((request.item_id, request.prompt_id) for request in sample.chosen)
    return Pilot(chosen, sample.strata, sample.counts)


def _units(plan: Plan) -> Iterator[Request]:
    """Each (item, prompt) once, whichever models still have to answer it."""
    seen: set[int] = set()
    for target in plan.targets:
        for request in spool.read(plan.shards[target.model]):
            fingerprint = row_fingerprint(request.item_id, request.prompt_id)
            if fingerprint not in seen:
                seen.add(fingerprint)
                yield request


def measure(context: RunContext, sample: Pilot[Unit]) -> PilotResult:
    """What the pilot cost, and what that says about the whole. Its rows must be published."""
    costs: dict[Unit, Decimal] = dict.fromkeys(sample.chosen, Decimal(0))
    answers: dict[Unit, dict[str, str]] = {unit: {} for unit in sample.chosen}
    columns = ["item_id", "prompt_id", "model", "cost_usd", "answer", "status", "error_message"]
    mine = pads.field("run_id") == context.run_id
    for row in open_table(context.dataset.root, "results").to_table(columns=columns, filter=mine).to_pylist():
        unit = (row["item_id"], row["prompt_id"])
        if unit in costs:
            costs[unit] += row["cost_usd"] or 0
            answers[unit][row["model"]] = row["answer"] or f"({row['status']}: {row['error_message']})"
    waste = _billed(context) - sum(costs.values())
    factor = 1 + waste / total if (total := sum(costs.values())) else Decimal(1)
    by_stratum = sample.costs(costs[unit] * factor for unit in sample.chosen)
    return PilotResult(
        pilot_projection(by_stratum, sample.counts),
        dict(list(answers.items())[:LOOKED_AT]),
        len(sample.chosen),
        sum(sample.counts.values()),
    )


def _billed(context: RunContext) -> Decimal:
    """All that this run's attempts cost so far, those that gave no row included."""
    mine = pads.field("run_id") == context.run_id
    attempts = open_table(context.dataset.root, "attempts").to_table(columns=["cost_usd"], filter=mine)
    return pc.sum(attempts["cost_usd"]).as_py() or Decimal(0)
