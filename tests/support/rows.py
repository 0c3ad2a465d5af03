"""Rows for tests of storage, by column name, in the column order of the journal."""

from hashlib import sha256

from mavi_tasks.common.money import pico_name
from mavi_tasks.storage.journal import Journal
from mavi_tasks.storage.segments import COLUMNS

HEADER = {
    "run_id": "run",
    "job": "pets",
    "gateway": "mavi",
    "answer_schema": None,
    "run": {"run_id": "run", "job": "pets", "gateway": "mavi", "started_at": 1_700_000_000_000_000},
}


def key(number):
    return sha256(str(number).encode()).hexdigest()


def result(number, **values):
    row = {"request_key": key(number), "item_id": f"item{number}", "prompt_id": "p", "model": "gemini:m"}
    row |= {
        "status": "answered",
        "cost_pico": 12_345,
        "finished_at": 1_700_000_000_000_000 + number,
        **values,
    }
    return [row.get(pico_name(name)) for name in COLUMNS.results]


def attempt(number, **values):
    row = {"attempt_id": f"a{number}", "request_key": key(number), "model": "gemini:m", "outcome": "answered"}
    row |= {"cost_pico": 12_345, "started_at": 1_700_000_000_000_000, **values}
    return [row.get(pico_name(name)) for name in COLUMNS.attempts]


def intent(number, exposure_pico=99):
    return [f"a{number}", key(number), "gemini:m", 1_700_000_000_000_000, exposure_pico]


def open_journal(root, writer="run-w0", run_id="run", answer_schema=None, **options):
    header = {**HEADER, "run_id": run_id, "run": {**HEADER["run"], "run_id": run_id}}
    header["answer_schema"] = answer_schema
    return Journal(root / "_journal", writer, header, COLUMNS, **options)
