"""The statistics of a bake-off: which model to choose, and how sure that is.

    sheet (datasets) -> field_labels, by match_rules -> scoring, agreement, pairwise, cascade, pareto
        -> recommendation
    few_labels estimates all items from the labels of a sample, which sample draws
    drift compares two runs instead of several models; escalate finds the items of a cascade's next step

`compare` and `compare_runs` return frozen values; `to_json()` is what the command line prints.
"""

from mavi_tasks.compare.comparison import compare
from mavi_tasks.compare.drift import Drift, Run, compare_runs, parse_fraction, shared_models
from mavi_tasks.compare.escalate import open_items, write_manifest
from mavi_tasks.compare.labelled import read_csv
from mavi_tasks.compare.result import Comparison
from mavi_tasks.compare.sample import AIMS, sample_of, write_csv

__all__ = [
    "AIMS",
    "Comparison",
    "Drift",
    "Run",
    "compare",
    "compare_runs",
    "open_items",
    "parse_fraction",
    "read_csv",
    "sample_of",
    "shared_models",
    "write_csv",
    "write_manifest",
]
