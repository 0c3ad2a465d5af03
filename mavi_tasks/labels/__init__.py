"""Answers as typed data: read against the job's schema, repaired once, stored in columns of their own.

extract_json.py  JSON out of a model's text
validate.py      whether it fits the schema, and if not why
parse.py         both together; the repair prompt; whether an answer was cut off
columns.py       the columns of labels/ and their rows
"""

from mavi_tasks.labels.columns import LabelColumns, label_columns, label_rows, labels_schema
from mavi_tasks.labels.parse import Checked, looks_truncated, read_answer, repair_prompt
from mavi_tasks.labels.validate import schema_problem

__all__ = [
    "Checked",
    "LabelColumns",
    "label_columns",
    "label_rows",
    "labels_schema",
    "looks_truncated",
    "read_answer",
    "repair_prompt",
    "schema_problem",
]
