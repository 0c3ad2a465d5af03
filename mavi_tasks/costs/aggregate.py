"""Datasets -> cube: spend added up batch by batch, from results first and attempts second."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from mavi_tasks.common.money_columns import pico_column
from mavi_tasks.costs.arrow_columns import (
    DictionaryColumn,
    Ints,
    Mask,
    StringDictionary,
    dictionary_column,
    exact_sums,
    int_column,
    keys,
)
from mavi_tasks.costs.cell import SLOT
from mavi_tasks.costs.cube import Cube
from mavi_tasks.costs.grouping import Grid, grid_of
from mavi_tasks.costs.result_counts import ResultRows, count_results
from mavi_tasks.costs.scan import scan
from mavi_tasks.costs.sources import Period, Source

ATTEMPT_COLUMNS: Final = (
    "run_id",
    "model",
    "outcome",
    "started_at",
    "finished_at",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "exposure_usd",
)
CALLS: Final = {
    "answered": "answered_calls",
    "throttled": "throttled_calls",
    "rejected": "rejected_calls",
    "failed": "failed_calls",
    "in_doubt": "in_doubt_calls",
}


def build(sources: Sequence[Source], period: Period, *, with_prompts: bool = False) -> Cube:
    """Read the datasets into a cube.

    An attempt counts on the day it ended (or began, when its end is not known). Prompts are joined to the
    attempts by request only with `with_prompts`, because that reads a long key per row.
    """
    cube = Cube(period, with_prompts)
    for source in sources:
        results = count_results(source, cube)
        cube.about.update(source.runs)
        _count_attempts(source, cube, results)
        cube.datasets.update(dict.fromkeys(source.runs, source.path))
    return cube


def _count_attempts(source: Source, cube: Cube, results: ResultRows) -> None:
    columns = (*ATTEMPT_COLUMNS, "request_key") if cube.with_prompts else ATTEMPT_COLUMNS
    for batch, _, days in scan(source, "attempts", columns, cube.period):
        _add_attempts(cube, batch, days, _prompts(cube, batch, results))


def _prompts(cube: Cube, batch: Any, results: ResultRows) -> DictionaryColumn:
    if not cube.with_prompts:
        return DictionaryColumn(np.zeros(batch.num_rows, dtype=np.int64), [cube.prompts.number(None)])
    return DictionaryColumn(
        results.prompt_of(keys(batch["request_key"])), list(range(len(cube.prompts.strings)))
    )


def _add_attempts(cube: Cube, batch: Any, days: Ints, prompts: DictionaryColumn) -> None:
    outcome = dictionary_column(batch["outcome"], cube.outcomes)
    parts = (
        dictionary_column(batch["model"], cube.models),
        dictionary_column(batch["run_id"], cube.runs),
        prompts,
    )
    grid = grid_of(days, (*parts, outcome))
    sums = _attempt_sums(grid, batch, _equals(outcome, cube.outcomes, "answered"))
    for place, (*key, outcome_number) in enumerate(grid.combos):
        cell = cube.cell((key[0], key[1], key[2], key[3]))
        cell[SLOT["calls"]] += grid.counts[place]
        name = CALLS.get(cube.outcomes.strings[outcome_number])
        if name:
            cell[SLOT[name]] += grid.counts[place]
        for slot, column in sums.items():
            cell[slot] += column[place]


def _equals(column: DictionaryColumn, dictionary: StringDictionary, text: str) -> Mask:
    """Where a dictionary column holds the text."""
    hits = np.array([dictionary.strings[number] == text for number in column.globals])
    found: Mask = hits[column.local]
    return found


def _attempt_sums(grid: Grid, batch: Any, answered: Mask) -> Mapping[int, list[int]]:
    cost, priced = pico_column(batch["cost_usd"])
    exposure, _ = pico_column(batch["exposure_usd"])
    tokens_in, has_tokens = int_column(batch["input_tokens"])
    tokens_out, _ = int_column(batch["output_tokens"])
    unpriced = ~priced & (answered | has_tokens)
    amounts = {
        "cost_pico": cost,
        "exposure_pico": exposure,
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "unpriced_calls": unpriced.astype(np.int64),
        "unpriced_tokens": np.where(unpriced, tokens_in + tokens_out, 0),
    }
    return {SLOT[name]: exact_sums(grid.cell, len(grid.combos), column) for name, column in amounts.items()}
