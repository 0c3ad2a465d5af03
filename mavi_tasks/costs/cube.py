"""The cube: exact spend per day, model, run and prompt, added up batch by batch from attempts and results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mavi_tasks.common.money_columns import pico_column
from mavi_tasks.costs import sources as read
from mavi_tasks.costs.arrow_columns import (
    UNKNOWN,
    DictionaryColumn,
    Ints,
    Mask,
    StringDictionary,
    day_cutter,
    dictionary_column,
    exact_sums,
    instants,
    int_column,
    keys,
)
from mavi_tasks.costs.cell import SLOT, Sums, empty
from mavi_tasks.costs.grouping import Grid, grid_of, in_period, where_kept
from mavi_tasks.costs.result_counts import Answers, count_answers

SANDBOX = "sandbox"
ATTEMPT_COLUMNS = (
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
CALLS = {
    "answered": "answered_calls",
    "throttled": "throttled_calls",
    "rejected": "rejected_calls",
    "failed": "failed_calls",
    "in_doubt": "in_doubt_calls",
}
Key = tuple[int, int, int, int]  # day ordinal, numbers of model, run and prompt


@dataclass(slots=True)
class Cube:
    """Every cell of spend. `items` counts distinct items by (is sandbox, model or None for all models)."""

    period: read.Period
    with_prompts: bool = False
    models: StringDictionary = field(default_factory=StringDictionary)
    runs: StringDictionary = field(default_factory=StringDictionary)
    prompts: StringDictionary = field(default_factory=StringDictionary)
    jobs: StringDictionary = field(default_factory=StringDictionary)
    outcomes: StringDictionary = field(default_factory=StringDictionary)
    cells: dict[Key, Sums] = field(default_factory=dict)
    about: dict[str, read.Run] = field(default_factory=dict)
    datasets: dict[str, str] = field(default_factory=dict)  # run_id -> folder it was read from
    items: dict[tuple[bool, str | None], int] = field(default_factory=dict)

    def cell(self, key: Key) -> Sums:
        """The sums of a cell, new ones when nothing was added yet."""
        if key not in self.cells:
            self.cells[key] = empty()
        return self.cells[key]

    def run(self, number: int) -> read.Run:
        """The run of a number; job and gateway `(unknown)` when no table tells them."""
        run_id = self.runs.words[number]
        return self.about.get(run_id) or read.Run(run_id, UNKNOWN, UNKNOWN)

    def is_sandbox(self, run: int) -> bool:
        """Whether a run was answered by the embedded gateway, and so cost nothing real."""
        return self.run(run).gateway == SANDBOX


def build(sources: Sequence[read.Source], period: read.Period, *, with_prompts: bool = False) -> Cube:
    """Read the datasets into a cube.

    A try counts on the day it ended (or began, when its end is not known). Prompts are joined to the tries by
    request only when they are asked for, because that reads a long key per row.
    """
    cube = Cube(period, with_prompts)
    for source in sources:
        answers = count_answers(source, cube)
        cube.about.update(source.runs)
        _count_attempts(source, cube, answers)
        cube.datasets.update(dict.fromkeys(source.runs, source.path))
    return cube


def _count_attempts(source: read.Source, cube: Cube, answers: Answers) -> None:
    found = read.table(source, "attempts")
    if found is None:
        return
    cut = day_cutter(cube.period.tz)
    columns = (*ATTEMPT_COLUMNS, "request_key") if cube.with_prompts else ATTEMPT_COLUMNS
    for batch in read.batches(found, columns, cube.period):
        days = cut(instants(batch["finished_at"], batch["started_at"]))
        kept = in_period(days, cube.period)
        if kept is not None:
            batch, days = where_kept(batch, kept), days[kept]
        if batch.num_rows:
            _add_attempts(cube, batch, days, _prompts(cube, batch, answers))


def _prompts(cube: Cube, batch: Any, answers: Answers) -> DictionaryColumn:
    if not cube.with_prompts:
        return DictionaryColumn(np.zeros(batch.num_rows, dtype=np.int64), [cube.prompts.number(None)])
    return DictionaryColumn(
        answers.prompt_of(keys(batch["request_key"])), list(range(len(cube.prompts.words)))
    )


def _add_attempts(cube: Cube, batch: Any, days: Ints, prompts: DictionaryColumn) -> None:
    outcome = dictionary_column(batch["outcome"], cube.outcomes)
    parts = (
        dictionary_column(batch["model"], cube.models),
        dictionary_column(batch["run_id"], cube.runs),
        prompts,
    )
    grid = grid_of(days, (*parts, outcome))
    sums = _attempt_sums(grid, batch, _is(outcome, cube.outcomes, "answered"))
    for place, (*key, outcome_number) in enumerate(grid.combos):
        cell = cube.cell((key[0], key[1], key[2], key[3]))
        cell[SLOT["calls"]] += grid.counts[place]
        name = CALLS.get(cube.outcomes.words[outcome_number])
        if name:
            cell[SLOT[name]] += grid.counts[place]
        for slot, column in sums.items():
            cell[slot] += column[place]


def _is(column: DictionaryColumn, words: StringDictionary, word: str) -> Mask:
    """Where a coded column holds the word."""
    hits = np.array([words.words[number] == word for number in column.globals])
    found: Mask = hits[column.local]
    return found


def _attempt_sums(grid: Grid, batch: Any, answered: Mask) -> Mapping[int, list[int]]:
    cost, priced = pico_column(batch["cost_usd"])
    exposure, _ = pico_column(batch["exposure_usd"])
    tokens_in, told = int_column(batch["input_tokens"])
    tokens_out, _ = int_column(batch["output_tokens"])
    unpriced = ~priced & (answered | told)
    amounts = {
        "cost_pico": cost,
        "exposure_pico": exposure,
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "unpriced_calls": unpriced.astype(np.int64),
        "unpriced_tokens": np.where(unpriced, tokens_in + tokens_out, 0),
    }
    return {SLOT[name]: exact_sums(grid.cell, len(grid.combos), column) for name, column in amounts.items()}
