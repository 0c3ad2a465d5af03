"""What a run returns to Python: its answers as tables, its cost and its report."""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mavi_tasks.common.format import all_digits, ledger_usd, spent
from mavi_tasks.common.money import usd
from mavi_tasks.execution.run_report import RunReport
from mavi_tasks.job import Job

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

ROWS_SHOWN: Final = 12
ANSWER_CHARS: Final = 300


@dataclass(frozen=True)
class RunResult:
    """A run that has ended. Its tables hold the whole dataset, one row for each item, prompt and model.

    report: counts, dollars and latencies by model; `report.to_json()` is what `mavi run --json` prints.
    job: the job that ran.
    """

    report: RunReport
    job: Job

    @property
    def status(self) -> str:
        """finished, stopped (see `report.message`) or interrupted."""
        return self.report.status

    @property
    def output(self) -> str:
        """The dataset: a folder or an s3:// URL."""
        return self.report.output

    @property
    def cost_usd(self) -> Decimal | None:
        """What this run has spent, exact, earlier runs left aside; None when an answer has no known price."""
        return None if self.report.unpriced else usd(self.report.cost_pico)

    @cached_property
    def arrow(self) -> "pa.Table":
        """A row per item, prompt and model: the columns of results/, then one for each label.

        Money is decimal128; null means not known. A label with the name of a column is `label_<name>`.
        """
        from mavi_tasks.labels import keys_of
        from mavi_tasks.storage.tables import latest

        results = latest(self._folder)
        labels = self._labels_of(results)
        shared = (*keys_of(labels.schema), "run_date")
        for name in labels.column_names:
            if name not in shared:
                column = f"label_{name}" if name in results.column_names else name
                results = results.append_column(column, labels[name])
        return results

    @property
    def df(self) -> "pd.DataFrame":
        """`arrow` as a DataFrame; every column keeps its Arrow type, so money stays exact."""
        return frame(self.arrow)

    @property
    def labels(self) -> "pd.DataFrame":
        """The labels alone: item_id, prompt_id and model, then a column per field of the answer schema.

        Rows are the answers that fit the schema; without an answer schema there are no rows.
        """
        from mavi_tasks.storage.tables import LABEL_OF, latest

        labels = self._labels_of(latest(self._folder, LABEL_OF))
        if "request_key" not in labels.column_names:
            return frame(labels)
        import pyarrow.compute as pc

        found = labels.filter(pc.is_valid(labels["request_key"]))
        kept = [name for name in found.column_names if name not in ("run_id", "request_key", "run_date")]
        return frame(found.select(kept))

    @property
    def _folder(self) -> Path:
        from mavi_tasks.storage.s3 import existing

        return existing(self.output)

    def _labels_of(self, results: "pa.Table") -> "pa.Table":
        """The label row of each result, all null where there is none."""
        import pyarrow as pa
        import pyarrow.compute as pc

        labels = labels_table(self._folder)
        if "request_key" not in labels.column_names:
            return pa.table({})

        def keys(table: "pa.Table") -> Any:
            columns = [table[name].combine_chunks().cast(pa.string()) for name in ("run_id", "request_key")]
            return pc.binary_join_element_wise(*columns, "|")

        return labels.take(pc.index_in(keys(results), value_set=keys(labels)))

    def __repr__(self) -> str:
        return f"<RunResult {self.job.name!r}: {self._summary()}>"

    def _summary(self) -> str:
        counts = {name: self.report.total(name) for name in ("answered", "failed", "invalid", "unsent")}
        counts["answered"] += self.report.total("already_answered")
        cost = spent(usd(self.report.cost_pico), self.report.unpriced, ledger_usd)
        text = ", ".join(
            f"{number:,} {name}" for name, number in counts.items() if number or name == "answered"
        )
        return f"{self.status}: {text}; {cost}"

    def _repr_html_(self) -> str:
        """For notebooks: the summary and the first rows, with small pictures of local media."""
        from mavi_tasks.reports.html.thumbnails import embed

        rows = self.arrow.slice(0, ROWS_SHOWN).to_pylist()
        pictures = embed(row["media_uri"] for row in rows)
        answers = f" ({self.report.answers})" if self.report.answers is not None else ""
        head = "".join(f"<th>{name}</th>" for name in ("", "item_id", "model", "answer", "cost_usd"))
        body = "".join(_html_row(row, pictures) for row in rows)
        more = self.arrow.num_rows - len(rows)
        return (
            f"<p><b>{html.escape(self.job.name)}</b> {html.escape(self._summary() + answers)}</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            + (f"<p>and {more:,} more rows</p>" if more > 0 else "")
        )


def _html_row(row: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    picture = pictures.get(row["media_uri"] or "")
    cells = (
        row["item_id"],
        row["model"],
        row["answer"] if row["answer"] is not None else (row["error_message"] or row["status"]),
        "" if row["cost_usd"] is None else all_digits(row["cost_usd"]),
    )
    image = f'<img src="{html.escape(picture)}" width="80" alt="">' if picture else ""
    texts = (html.escape(str(cell or "")[:ANSWER_CHARS]) for cell in cells)
    return f"<tr><td>{image}</td>" + "".join(f"<td>{text}</td>" for text in texts) + "</tr>"


def labels_table(folder: Path) -> "pa.Table":
    """All of labels/; without columns when the dataset has no labels."""
    from mavi_tasks.storage.tables import open_table

    return open_table(folder, "labels").to_table()


def frame(table: "pa.Table") -> "pd.DataFrame":
    """An Arrow table for pandas; every column keeps its Arrow type."""
    import pandas as pd

    made: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return made
