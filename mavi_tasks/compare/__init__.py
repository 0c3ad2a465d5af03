"""The statistics of a bake-off: which model to choose, and how sure that is.

    read (datasets -> sheet) -> answers (labels, by rules) -> score, agree, pairs, cascade, pareto -> verdict
    flips compares two runs instead of several models; escalate finds what a cascade's next step must ask

`compare` and `compare_runs` return frozen values; `to_json()` is what the command line prints.
"""

from mavi_tasks.compare.comparison import compare
from mavi_tasks.compare.drift import Drift, Run, compare_runs, share_of, shared_models
from mavi_tasks.compare.escalate import open_items, write_manifest
from mavi_tasks.compare.result import Comparison
from mavi_tasks.reports.terminal.compare import render_drift, render_terminal

__all__ = [
    "Comparison",
    "Drift",
    "Run",
    "compare",
    "compare_runs",
    "open_items",
    "render_drift",
    "render_terminal",
    "share_of",
    "shared_models",
    "write_manifest",
]
