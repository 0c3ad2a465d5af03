"""Answers as typed data: read against the job's schema, repaired once.

find.py    JSON out of whatever a model said
check.py   whether it fits the schema, in words
read.py    both together; the repair prompt; whether an answer was cut off
"""

from mavi_tasks.labels.check import schema_problem
from mavi_tasks.labels.read import Checked, looks_truncated, read_answer, repair_prompt

__all__ = ["Checked", "looks_truncated", "read_answer", "repair_prompt", "schema_problem"]
