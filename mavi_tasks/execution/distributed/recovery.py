"""After a worker died: publish what it left, take back its money, and count from what is recorded."""

import asyncio
import os
from collections import Counter
from dataclasses import replace

from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.execution.distributed.coordination import WorkerConfig
from mavi_tasks.execution.distributed.counter_snapshot import COUNTED
from mavi_tasks.execution.run import Run
from mavi_tasks.storage import run_totals


async def reclaim_dead_workers(run: Run, config: WorkerConfig) -> None:
    """Publish what dead workers left, and give back what they had of the budget and did not spend."""
    dataset = run.context.dataset
    await asyncio.to_thread(dataset.publish)
    if not config.has_budget:
        return
    ledger = config.ledger(os.environ)
    for writer in await ledger.holders():
        if not (dataset.journal / f"{writer}.lock").exists():  # cleared when a dead writer is published
            spent = await asyncio.to_thread(run_totals.spent_pico, dataset.root, writer)
            await ledger.reclaim(writer, spent)
    await ledger.close()


def copy_counters(run: Run) -> dict[str, ModelCounters]:
    """The counts of now, by model; latencies are only ever added to."""
    return {
        counters.model: replace(counters, errors=dict(counters.errors), skips=Counter(counters.skips))
        for counters in run.all_counters
    }


def recount(run: Run, before: dict[str, ModelCounters]) -> None:
    """Take the counts from what is recorded: a worker that died, or ran a shard twice, could not report them.

    before: the counters from before the workers began.
    """
    assert run.dispatcher is not None
    root, run_id = run.context.dataset.root, run.context.run_id
    run.dispatcher.journal.roll()
    run.context.dataset.publish()
    recorded = run_totals.all_counters(root, run_id)
    for target in run.context.targets:
        counters = run.plan.all_counters[target.model]
        found = recorded.get(target.model, ModelCounters(target.model))
        # Skipped rows that earlier runs wrote are counted, but are not of this run.
        refused = Counter(one.code for one in run.plan.read_refused(target))
        earlier = before[target.model].skips - refused
        for name in COUNTED:
            if name != "already_answered":
                setattr(counters, name, getattr(found, name))
        counters.skipped += earlier.total()
        counters.skips = found.skips + earlier
        counters.errors, counters.latencies = found.errors, found.latencies
        room = counters.requests - (counters.finished - counters.already_answered)
        counters.already_answered = min(counters.already_answered, room)
