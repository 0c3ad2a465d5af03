"""The statistics of a bake-off: which model to choose, and how sure that is.

    sheet (datasets) -> field_labels, by match_rules -> scoring, agreement, pairwise, cascade, pareto
        -> recommendation
    drift compares two runs instead of several models; race_* and cascade_*, certificate: runs that save money

`compare` and `compare_runs` return frozen values; `to_json()` is what the command line prints.
"""

from mavi_tasks.compare.comparison import compare
from mavi_tasks.compare.drift import Drift, Run, compare_runs, parse_fraction, shared_models
from mavi_tasks.compare.result import Comparison

__all__ = [
    "Comparison",
    "Drift",
    "Run",
    "compare",
    "compare_runs",
    "parse_fraction",
    "shared_models",
]
