"""Answers as typed data: read against the job's schema, repaired once, stored in columns of their own.

extract_json.py       JSON out of a model's text
schema_checks.py      whether a schema is one, and bounded; before anything is sent
bounded_validator.py  jsonschema, with its work counted; patterns.py: with RE2 for its patterns
validate.py           whether a value fits the schema, and if not why
parse.py              both together; the repair prompt; whether an answer was cut off
kinds.py              what a column of labels/ can hold, by the schema of its field
columns.py            the columns of labels/ and their rows
"""

from mavi_tasks.labels.columns import (
    LabelColumns,
    key_fields,
    keys_of,
    label_columns,
    label_rows,
    labels_schema,
)
from mavi_tasks.labels.parse import Checked, looks_truncated, read_answer, read_at_once, repair_prompt
from mavi_tasks.labels.schema_checks import schema_problem

__all__ = [
    "Checked",
    "LabelColumns",
    "key_fields",
    "keys_of",
    "label_columns",
    "label_rows",
    "labels_schema",
    "looks_truncated",
    "read_answer",
    "read_at_once",
    "repair_prompt",
    "schema_problem",
]
