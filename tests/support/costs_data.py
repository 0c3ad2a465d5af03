"""Small ledgers for the tests of spend: rows as a run writes them, with dollars typed by hand."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa

from mavi_tasks.schema import TABLES
from mavi_tasks.storage.parts import write_part

FLASH = "gemini:gemini-2.5-flash"
MINI = "gpt:gpt-4o-mini"


def at(text: str) -> datetime:
    """2026-11-03T10:00 as an instant in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def dollars(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


class Ledger:
    """Rows of one dataset folder; `write()` publishes what was added since, one part per table and run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = {"attempts": [], "results": [], "runs": []}
        self.parts = 0

    def run(self, run_id="r1", job="pets", gateway="mavi", **more):
        row = {"run_id": run_id, "job": job, "gateway": gateway, "status": "finished", **more}
        self.rows["runs"].append(row)
        return self

    def attempt(self, key="k1", usd=None, when="2026-11-03T10:00", outcome="answered", **more):
        row = {
            "request_key": key,
            "attempt_id": f"{key}-{len(self.rows['attempts'])}",
            "run_id": "r1",
            "model": FLASH,
            "outcome": outcome,
            "cost_usd": dollars(usd),
            "started_at": at(when),
            "finished_at": at(when),
            **more,
        }
        row["exposure_usd"] = dollars(row.get("exposure_usd"))
        self.rows["attempts"].append(row)
        return self

    def result(self, key="k1", usd=None, when="2026-11-03T10:00", status="answered", **more):
        row = {
            "request_key": key,
            "item_id": key,
            "run_id": "r1",
            "job": "pets",
            "gateway": "mavi",
            "model": FLASH,
            "prompt_id": "label",
            "status": status,
            "cost_usd": dollars(usd),
            "started_at": at(when),
            "finished_at": at(when),
            **more,
        }
        self.rows["results"].append(row)
        return self

    def both(self, key="k1", usd=None, when="2026-11-03T10:00", **more):
        """A request answered at its first try."""
        shared = {name: more[name] for name in more if name in TABLES["attempts"].names}
        return self.attempt(key, usd, when, **shared).result(key, usd, when, **more)

    def write(self) -> str:
        """Two parts of each table, the second one backwards: the dictionaries of their columns differ."""
        for name, rows in self.rows.items():
            folder = self.folder / name / "run_date=2026-11-03"
            folder.mkdir(parents=True, exist_ok=True)
            middle = len(rows) // 2
            for number, few in enumerate((rows[:middle], rows[middle:][::-1])):
                if few:
                    table = pa.Table.from_pylist(few, schema=TABLES[name])
                    path = folder / f"part-{self.parts}-{number}.parquet"
                    write_part(path, table)
            rows.clear()
        self.parts += 1
        return str(self.folder)
