"""A cascade of models: cheap ones answer every item, the last one what they leave open.

Each step is an ordinary run (local.py) of a selection, so nothing is paid twice, and a cascade that was
stopped goes on when it is run again.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mavi_tasks.common.money import exact_text, pico, usd
from mavi_tasks.compare import cascade_record, race_scores
from mavi_tasks.compare import sheet as read
from mavi_tasks.compare.cascade_run import CascadePlan
from mavi_tasks.errors import InputError
from mavi_tasks.execution import local
from mavi_tasks.execution.local import SILENT, RunCallbacks
from mavi_tasks.execution.race_items import Unit, read_items
from mavi_tasks.execution.run_report import RunReport
from mavi_tasks.job import Job
from mavi_tasks.job.endpoint import resolve_endpoint
from mavi_tasks.planning.selection import Selection

COUNTS = ("requests", "answered", "failed", "invalid", "skipped", "unsent", "already_answered")


@dataclass(frozen=True, slots=True)
class CascadeReport:
    """How a cascade ended. runs: one for each step; escalated: items that the last model was asked."""

    runs: tuple[RunReport, ...]
    items: int
    escalated: int
    output: str

    @property
    def finished(self) -> bool:
        """Both steps were completed, and the table of items is written."""
        return len(self.runs) == 2 and all(run.status == "finished" for run in self.runs)

    @property
    def exit_status(self) -> int:
        """The last step's when all went well: what the first left open is not lost."""
        return self.runs[-1].exit_status

    def to_json(self) -> dict[str, Any]:
        """What `mavi run --json` prints of a cascade; dollars are text."""
        return {
            "run_ids": [run.run_id for run in self.runs],
            "status": self.runs[-1].status,
            "stop_reason": self.runs[-1].stop_reason,
            **{name: sum(run.total(name) for run in self.runs) for name in COUNTS},
            "cost_usd": exact_text(sum(run.cost_pico for run in self.runs)),
            "exposure_usd": exact_text(sum(run.exposure_pico for run in self.runs)),
            "wall_s": round(sum(run.wall_s for run in self.runs), 3),
            "cascade": {"items": self.items, "escalated": self.escalated},
            "output": self.output,
        }


def cascade(
    job: Job, env: Mapping[str, str], callbacks: RunCallbacks = SILENT, *, pay_again: bool = False
) -> CascadeReport:
    """Run a job's cascade; blocks as `local.execute` does. Raises InputError before anything is sent."""
    assert job.cascade is not None
    names = {spec.model for spec in job.models}
    plan = CascadePlan(tuple(job.cascade.first), job.cascade.last, job.cascade.below, job.cascade.certificate)
    if unknown := [name for name in (*plan.first, plan.last) if name not in names]:
        raise InputError(
            f"{job.source or job.name}: cascade: {unknown[0]!r} is not one of the job's models, "
            f"{', '.join(sorted(names))}"
        )
    if "://" in job.output:
        raise InputError(f"{job.source or job.name}: output {job.output!r}: a cascade needs a local folder")
    items = read_items(job, 0, needs_truth=False)
    units = items.between(0, len(items.order))
    first = _step(job, env, callbacks, 1, dict.fromkeys(plan.first, units), None, pay_again)
    if first.status != "finished" or first.total("unsent"):
        return CascadeReport((first,), len(units), 0, job.output)
    root, gateway = Path(job.output), resolve_endpoint(job.gateway, env, sends=False).identity

    def sheet(models: Collection[str]) -> read.Sheet:
        return read.from_table(race_scores.rows(root, models, units, gateway), where=job.output)

    seen = sheet(plan.first)
    why = cascade_record.reasons(seen, plan, job.cascade.match)
    open_ = {(one.item_id, one.prompt_id) for one, reason in zip(seen.units, why, strict=True) if reason}
    last = _step(job, env, callbacks, 2, {plan.last: open_}, first, pay_again)
    whole = sheet((*plan.first, plan.last))
    by_unit = {(one.item_id, one.prompt_id): reason for one, reason in zip(seen.units, why, strict=True)}
    ordered = [by_unit.get((one.item_id, one.prompt_id)) for one in whole.units]
    cascade_record.write(root, plan, prompts_mark(job), whole, ordered)
    return CascadeReport((first, last), len(seen.units), len(open_), job.output)


def _step(
    job: Job,
    env: Mapping[str, str],
    callbacks: RunCallbacks,
    number: int,
    asked: Mapping[str, set[Unit]],
    before: RunReport | None,
    pay_again: bool,
) -> RunReport:
    budget = job.budget_usd
    if budget is not None and before is not None:
        # at least a pico-dollar: then nothing is sent, and the run says why
        budget = usd(max(pico(budget) - before.cost_pico - before.exposure_pico, 1))
    every = {spec.model: asked.get(spec.model, set()) for spec in job.models}
    selection = Selection(f"cascade: step {number}", every, {})
    plain = job.model_copy(update={"cascade": None, "race": None, "budget_usd": budget})
    facts = {"cascade": {"step": number}}
    return local.execute(plain, env, callbacks, pay_again=pay_again, only=selection, part_of=facts)


def prompts_mark(job: Job) -> str:
    """The same for jobs that ask the same: prompts, system message, answer schema."""
    asked = json.dumps([job.prompts, job.system, job.answer_schema], sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()[:16]
