"""The billed usage behind a report, attempt by attempt: for other prices, and for the edges of tiers."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np

from mavi_tasks.common.money_columns import pico_column
from mavi_tasks.costs import sources
from mavi_tasks.costs.aggregate import ATTEMPT_COLUMNS
from mavi_tasks.costs.arrow_columns import (
    Ints,
    Mask,
    StringDictionary,
    dictionary_column,
    int_column,
)
from mavi_tasks.costs.cost_report import CostReport
from mavi_tasks.costs.grouping import grid_of
from mavi_tasks.costs.scan import scan
from mavi_tasks.pricing.book import Price, Tier


@dataclass(frozen=True, slots=True)
class Usage:
    """Some billed attempts of one model on one day. has_tokens: both token counts are known."""

    day: date
    model: str
    input_tokens: Ints
    output_tokens: Ints
    cost_pico: Ints
    has_tokens: Mask
    priced: Mask  # a cost was recorded


def billed(report: CostReport) -> Iterator[Usage]:
    """Every billed attempt of the report: with a cost, or answered with its tokens known."""
    models, outcomes, cube = StringDictionary(), StringDictionary(), report.cube
    for source in sources.open_sources(report.paths):
        for batch, _, days in scan(source, "attempts", ATTEMPT_COLUMNS, cube.period):
            run = dictionary_column(batch["run_id"], cube.runs)
            model = dictionary_column(batch["model"], models)
            outcome = dictionary_column(batch["outcome"], outcomes)
            answered = np.array([outcomes.strings[number] == "answered" for number in outcome.globals])
            shown = np.array([cube.is_sandbox(n) == report.is_sandbox for n in run.globals])[run.local]
            cost, priced = pico_column(batch["cost_usd"])
            tokens_in, in_known = int_column(batch["input_tokens"])
            tokens_out, out_known = int_column(batch["output_tokens"])
            has_tokens = in_known & out_known
            bought = shown & (priced | (has_tokens & answered[outcome.local]))
            grid = grid_of(days, (model,))
            for place, (day, number) in enumerate(grid.combos):
                rows = np.flatnonzero((grid.cell == place) & bought)
                if len(rows):
                    yield Usage(
                        date.fromordinal(day),
                        models.strings[number],
                        tokens_in[rows],
                        tokens_out[rows],
                        cost[rows],
                        has_tokens[rows],
                        priced[rows],
                    )


def tiers_of(price: Price, input_tokens: Ints) -> Iterator[tuple[Tier, Mask]]:
    """Each tier with the rows it prices; the bound is inclusive, as in Price.cost."""
    bounds = [tier.up_to_input_tokens for tier in price.tiers]
    finite = np.array([bound for bound in bounds if bound is not None], dtype=np.int64)
    place = np.minimum(np.searchsorted(finite, input_tokens, side="left"), len(price.tiers) - 1)
    for number, tier in enumerate(price.tiers):
        yield tier, place == number


def cost_of(price: Price, input_tokens: Ints, output_tokens: Ints) -> int:
    """Whole pico-dollars of the rows together, each priced at its own tier; exact, whatever the size."""
    return sum(
        int(input_tokens[rows].sum()) * tier.input_pico_per_token
        + int(output_tokens[rows].sum()) * tier.output_pico_per_token
        for tier, rows in tiers_of(price, input_tokens)
    )
