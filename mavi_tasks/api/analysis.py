"""Read datasets from Python: compare models, add up costs, price a request, open a table."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mavi_tasks.api.location import location_of
from mavi_tasks.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from mavi_tasks.api.results import RunResult
    from mavi_tasks.compare.result import Comparison
    from mavi_tasks.costs import CostReport
    from mavi_tasks.pricing.book import Cost

TABLES: Final = ("results", "attempts", "runs", "labels")


@dataclass(frozen=True, slots=True, repr=False)
class ComparedModels:
    """A bake-off of the models in datasets."""

    comparison: "Comparison"

    def __repr__(self) -> str:
        return f"<ComparedModels {len(self.comparison.models)} models: {self.headline}>"

    @property
    def headline(self) -> str:
        """The recommendation in one sentence."""
        return self.comparison.verdict.headline

    def to_json(self) -> dict[str, Any]:
        """What `mavi compare --json` prints."""
        return self.comparison.to_json()

    def write_html(self, path: str | os.PathLike[str]) -> Path:
        """Write the report page, one file without links to anything; returns its path."""
        from mavi_tasks.reports.html.compare_page import write

        return write(self.comparison, Path(path))


def compare(
    datasets: "Sequence[str | os.PathLike[str] | RunResult]",
    *,
    fields: Mapping[str, str] | None = None,
    like_for_like: bool = False,
    reference: str | None = None,
    baseline: str | None = None,
    margin: float = 2.0,
) -> ComparedModels:
    """Compare all models in the datasets: accuracy with its interval, cost, agreement, a recommendation.

    margin: how many points behind the best the choice may be.

    datasets: folders, s3:// URLs or results of `run`. fields: how an answer field is matched, by name (exact,
    normalised, numeric, set); None takes what fits its values. like_for_like leaves out items that models saw
    differently. reference: a model whose answers stand in for the expected ones. baseline: the model in use.
    Raises InputError when a folder is not a dataset, or a named field or model is not in it.
    """
    from mavi_tasks.compare.comparison import compare as compare_datasets
    from mavi_tasks.storage.s3 import existing

    found = compare_datasets(
        [existing(location_of(one)) for one in datasets],
        fields=fields,
        like_for_like=like_for_like,
        reference=reference,
        baseline=baseline,
        margin=margin,
    )
    return ComparedModels(found)


@dataclass(frozen=True, slots=True, repr=False)
class Spend:
    """What datasets have cost, by group."""

    report: "CostReport"

    def __repr__(self) -> str:
        return f"<Spend ${self.total_usd:f}, {self.report.total.calls:,} calls>"

    @property
    def total_usd(self) -> Decimal:
        """All that was spent, exact, attempts without an answer included."""
        from mavi_tasks.common.money import usd

        return usd(self.report.total.cost_pico)

    def to_json(self) -> dict[str, Any]:
        """What `mavi costs --json` prints; dollars are text, so that no digit is lost."""
        from mavi_tasks.costs import to_json

        return to_json(self.report)

    def write_html(self, path: str | os.PathLike[str]) -> Path:
        """Write the dashboard page; returns its path."""
        from mavi_tasks.reports.html.costs_page import costs_page

        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(costs_page(self.report), encoding="utf-8")
        return target


def costs(
    datasets: "Sequence[str | os.PathLike[str] | RunResult]",
    *,
    by: Sequence[str] = ("day", "model"),
    tz: str = "UTC",
    since: date | None = None,
    until: date | None = None,
    budget_usd: Decimal | None = None,
) -> Spend:
    """Add up what datasets have cost, exact to the last digit.

    datasets: folders, s3:// URLs or results of `run`. by: day week month model family job gateway run dataset
    prompt. tz: where days are cut; since and until are days there, both included. budget_usd: of a calendar
    month; None has no budget. Raises InputError on an unknown dimension or a folder that is not a dataset.
    """
    from mavi_tasks.costs import cost_report

    locations = [location_of(one) for one in datasets]
    for location in locations:
        _publish(location)
    return Spend(cost_report(locations, by=tuple(by), tz=tz, since=since, until=until, budget_usd=budget_usd))


def _publish(location: str) -> None:
    """Rows that a killed run left in the journal of a local dataset count, too."""
    from mavi_tasks.storage.publish import Dataset

    if "://" not in location and Path(location, "_journal").is_dir():
        Dataset(Path(location)).publish_if_possible()


def price(model: str, *, input_tokens: int, output_tokens: int, on: date | None = None) -> Decimal:
    """Return the cost of one request in dollars, exact.

    The tier is chosen by the input tokens and prices the whole request. on: the day whose price is taken;
    None is today in UTC. Raises InputError when the model has no price on that day, or a count is negative.
    Source: pricing/prices.toml, from the vendors' model pages.
    """
    from mavi_tasks.common.money import usd

    cost = request_cost(model, input_tokens, output_tokens, on)
    assert cost.total_pico is not None
    return usd(cost.total_pico)


def request_cost(model: str, input_tokens: int, output_tokens: int, on: date | None) -> "Cost":
    """The cost of one request with its price's id. Raises InputError."""
    from mavi_tasks.common.clock import utc_today
    from mavi_tasks.pricing.book import load_prices

    prices = load_prices()
    found = prices.price(model, on or utc_today())
    if found is None:
        raise InputError(prices.hint(model) or f"{model}: no price was in force then")
    if input_tokens < 0 or output_tokens < 0:
        raise InputError("input and output tokens are counts: 0 or more")
    return found.cost(input_tokens, output_tokens)


def dataframe(dataset: "str | os.PathLike[str] | RunResult", table: str = "results") -> "pd.DataFrame":
    """Return one table of a dataset; every column keeps its Arrow type, so money stays exact.

    dataset: a folder, an s3:// URL or the result of `run`. table: results (the newest row of each request),
    attempts, runs or labels; the columns are those of schema.py, null means not known.
    Raises InputError when there is no such table or dataset.
    """
    from mavi_tasks.storage import dataframe as frames
    from mavi_tasks.storage.s3 import existing

    if table not in TABLES:
        raise InputError(f"table {table!r}: must be {' or '.join(TABLES)}")
    folder = existing(location_of(dataset))
    return frames.dataframe(folder, table)
