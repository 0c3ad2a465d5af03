"""Answers as typed data: read against the job's schema, repaired once, stored in columns of their own.

find.py      JSON out of whatever a model said
check.py     whether it fits the schema, in words
read.py      both together; the repair prompt; whether an answer was cut off
columns.py   the columns of labels/ and their rows
folder.py    labels/ as one table
"""

from mavi_tasks.labels.columns import LabelColumns, label_columns, label_rows, labels_schema
from mavi_tasks.labels.parse import Checked, looks_truncated, read_answer, repair_prompt
from mavi_tasks.labels.validate import schema_problem
from mavi_tasks.storage.tables import open_labels

__all__ = [
    "Checked",
    "LabelColumns",
    "label_columns",
    "label_rows",
    "labels_schema",
    "looks_truncated",
    "open_labels",
    "read_answer",
    "repair_prompt",
    "schema_problem",
]
