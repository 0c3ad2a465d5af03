"""What the runs of a race have cost so far, those that were killed included."""

import json
from pathlib import Path

from mavi_tasks.storage import run_totals
from mavi_tasks.storage.tables import open_table


def spent_before_pico(root: Path, media: str) -> int:
    """Return the pico-dollars of every run whose row says that it is part of the race over these media.

    What is in doubt counts at its worst case. A run notes what it is part of before it sends anything.
    """
    rows = open_table(root, "runs").to_table(columns=["run_id", "extra"]).to_pylist()
    runs = [row["run_id"] for row in rows if _race(row["extra"]) == media]
    counters = [one for run_id in runs for one in run_totals.all_counters(root, run_id).values()]
    return sum(one.cost_pico + one.exposure_pico for one in counters)


def _race(extra: str | None) -> object:
    facts = json.loads(extra or "{}")
    return (facts.get("race") or {}).get("media")
