"""What the dollars bought: results, counted once per row for money and once per request for results."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from mavi_tasks.common.money_columns import pico_column
from mavi_tasks.costs import sources
from mavi_tasks.costs.arrow_columns import (
    UNKNOWN,
    DictionaryColumn,
    Ints,
    Keys,
    Mask,
    StringDictionary,
    dictionary_column,
    exact_sums,
    int_column,
    keys,
    stir,
)
from mavi_tasks.costs.cell import SLOT
from mavi_tasks.costs.cube import Cube
from mavi_tasks.costs.grouping import Grid, grid_of
from mavi_tasks.costs.scan import scan
from mavi_tasks.storage.recency import RANK, plausible_us

RESULT_COLUMNS = (
    "run_id",
    "job",
    "gateway",
    "model",
    "status",
    "media_kind",
    "duration_s",
    "request_key",
    "item_id",
    "cost_usd",
    "cached_tokens",
    "reasoning_tokens",
    "started_at",
    "finished_at",
)
GROWTH_ROWS = 2**20
STATUSES = ("answered", "invalid", "failed", "skipped")


@dataclass(slots=True)
class ResultRows:
    """One line per result row: who it results, when, and the number of its (cell, status) pair.

    28 bytes a row: this, and not the rows themselves, is what a large dataset costs in memory. The columns
    grow in place; collecting pieces and joining them at the end was measured to cost half as much again.
    """

    request: Keys = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    item: Keys = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    instant_us: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    pair: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    filled: int = 0
    pairs: list[tuple[int, ...]] = field(default_factory=list)  # day, model, run, prompt, status
    numbers: dict[tuple[int, ...], int] = field(default_factory=dict)
    lookup: tuple[Keys, npt.NDArray[np.int32]] | None = None  # requests, sorted, and their prompts

    def append(self, request: Keys, item: Keys, instant_us: Ints, pair: npt.NDArray[np.int32]) -> None:
        """Add the rows of a batch."""
        end = self.filled + len(pair)
        if end > len(self.pair):
            self.cut_to(end + GROWTH_ROWS)
        for name, values in (
            ("request", request),
            ("item", item),
            ("instant_us", instant_us),
            ("pair", pair),
        ):
            getattr(self, name)[self.filled : end] = values
        self.filled = end

    def cut_to(self, rows: int) -> None:
        """Make the columns just so long."""
        for name in ("request", "item", "instant_us", "pair"):
            getattr(self, name).resize(rows, refcheck=False)

    def number(self, combo: tuple[int, ...]) -> int:
        """The number of a (cell, status) pair."""
        if combo not in self.numbers:
            self.numbers[combo] = len(self.pairs)
            self.pairs.append(combo)
        return self.numbers[combo]

    def prompt_of(self, requests: Keys) -> Ints:
        """The number of each request's prompt; `(unknown)` (number 0) when it has no result row yet."""
        if not len(self.request):
            return np.zeros(len(requests), dtype=np.int64)
        if self.lookup is None:
            order = np.argsort(self.request)
            prompts = np.array([combo[3] for combo in self.pairs], dtype=np.int32)
            self.lookup = self.request[order], prompts[self.pair][order]
        known, prompts = self.lookup
        # Sorted look-ups walk through the table once; unsorted ones miss the cache at every step.
        order = np.argsort(requests)
        wanted = requests[order]
        place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        found = np.empty(len(wanted), dtype=np.int64)
        found[order] = np.where(known[place] == wanted, prompts[place], 0)
        return found


def count_results(source: sources.Source, cube: Cube) -> ResultRows:
    """Add the results of one dataset to the cube; the runs they name become known to the source."""
    cube.prompts.number(None)
    results = ResultRows()
    statuses = StringDictionary()
    columns = (*RESULT_COLUMNS, "prompt_id") if cube.with_prompts else RESULT_COLUMNS
    for batch, instant_us, days in scan(source, "results", columns, cube.period):
        _add_batch(source, cube, results, statuses, batch, instant_us, days)
    results.cut_to(results.filled)
    _keep_latest(cube, results, statuses)
    _count_items(source, cube, results)
    return results


def _add_batch(
    source: sources.Source,
    cube: Cube,
    results: ResultRows,
    statuses: StringDictionary,
    batch: Any,
    instant_us: Ints,
    days: Ints,
) -> None:
    run, model = dictionary_column(batch["run_id"], cube.runs), dictionary_column(batch["model"], cube.models)
    status = dictionary_column(batch["status"], statuses)
    prompt = DictionaryColumn(np.zeros(len(days), dtype=np.int64), [0])
    if cube.with_prompts:
        prompt = dictionary_column(batch["prompt_id"], cube.prompts)
    _learn_runs(source, cube.runs, run, batch)
    grid = grid_of(days, (model, run, prompt, status))
    _add_sums(cube, grid, batch, statuses, status)
    numbers = np.array([results.number(combo) for combo in grid.combos], dtype=np.int32)
    jobs = np.array(
        [cube.jobs.number(source.run(cube.runs.strings[n]).job) for n in run.globals], dtype=np.uint64
    )
    items = keys(batch["item_id"]) ^ stir(jobs + np.uint64(1))[run.local]
    results.append(keys(batch["request_key"]), items, instant_us, numbers[grid.cell])


def _learn_runs(source: sources.Source, runs: StringDictionary, run: DictionaryColumn, batch: Any) -> None:
    """Take job and gateway of a run that has no row of its own (yet) from its results."""
    for local, number in enumerate(run.globals):
        run_id = runs.strings[number]
        if run_id in source.runs:
            continue
        places = np.flatnonzero(run.local == local)
        if len(places):
            row = batch.slice(int(places[0]), 1)
            job, gateway = row["job"][0].as_py(), row["gateway"][0].as_py()
            source.runs[run_id] = sources.Run(run_id, job or UNKNOWN, gateway or UNKNOWN)


def _add_sums(
    cube: Cube, grid: Grid, batch: Any, statuses: StringDictionary, status: DictionaryColumn
) -> None:
    sums = {
        SLOT[name]: exact_sums(grid.cell, len(grid.combos), column)
        for name, column in _amounts(batch, statuses, status).items()
    }
    for place, combo in enumerate(grid.combos):
        cell = cube.cell((combo[0], combo[1], combo[2], combo[3]))
        _count(cell, statuses.strings[combo[4]], grid.counts[place])
        cell[SLOT["rows"]] += grid.counts[place]
        for slot, column in sums.items():
            cell[slot] += column[place]


def _amounts(batch: Any, statuses: StringDictionary, status: DictionaryColumn) -> Mapping[str, Ints]:
    cost, _ = pico_column(batch["cost_usd"])
    good: Mask = np.array([statuses.strings[number] == "answered" for number in status.globals])[status.local]
    cached, cached_known = int_column(batch["cached_tokens"])
    reasoning, reasoning_known = int_column(batch["reasoning_tokens"])
    length_ms, is_video = _video(batch)
    return {
        "useful_pico": np.where(good, cost, 0),
        "invalid_pico": np.where(good, 0, cost),
        "cached_tokens": cached,
        "cached_known": cached_known.astype(np.int64),
        "reasoning_tokens": reasoning,
        "reasoning_known": reasoning_known.astype(np.int64),
        "video_ms": length_ms,
        "video_pico": np.where(is_video, cost, 0),
    }


def _video(batch: Any) -> tuple[Ints, Mask]:
    """Milliseconds of each video whose length is known, and which rows those are."""
    lengths = batch["duration_s"]
    is_video = np.asarray(pc.fill_null(pc.equal(batch["media_kind"], "video"), False)) & np.asarray(
        lengths.is_valid()
    )
    seconds = np.asarray(pc.fill_null(lengths, 0.0), dtype=np.float64)
    known: Mask = is_video & np.isfinite(seconds)
    return np.rint(np.where(known, seconds, 0.0) * 1000).astype(np.int64), known


def _count(cell: list[int], status: str, count: int) -> None:
    cell[SLOT["requests"]] += count
    if status in STATUSES:
        cell[SLOT[status]] += count


def _keep_latest(cube: Cube, results: ResultRows, statuses: StringDictionary) -> None:
    """Take back the counts of rows that a later row of the same request replaces; their money stays."""
    requests = results.request
    ordered = np.sort(requests)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(repeated):
        return
    place = np.minimum(np.searchsorted(repeated, requests), len(repeated) - 1)
    rows = np.flatnonzero(repeated[place] == requests)
    rank = np.array([RANK.get(statuses.strings[combo[4]], 0) for combo in results.pairs], np.int8)
    rows = rows[
        np.lexsort((plausible_us(results.instant_us[rows]), rank[results.pair[rows]], requests[rows]))
    ]
    replaced = rows[:-1][requests[rows][1:] == requests[rows][:-1]]
    counts = np.bincount(results.pair[replaced], minlength=len(results.pairs))
    for number in np.flatnonzero(counts):
        combo = results.pairs[number]
        _count(
            cube.cell((combo[0], combo[1], combo[2], combo[3])),
            statuses.strings[combo[4]],
            -int(counts[number]),
        )


def _count_items(source: sources.Source, cube: Cube, results: ResultRows) -> None:
    """Count the distinct items of the dataset: of each model, and of all models together."""
    items = results.item
    pairs = results.pair
    sandbox = [source.run(cube.runs.strings[combo[2]]).gateway == "sandbox" for combo in results.pairs]
    for kind in dict.fromkeys(sandbox):
        models = np.array(
            [
                combo[1] if is_sandbox == kind else -1
                for combo, is_sandbox in zip(results.pairs, sandbox, strict=True)
            ]
        )
        model = models[pairs]
        for number in np.unique(models[models >= 0]):
            _add_items(cube, (kind, cube.models.strings[number]), items[model == number])
        _add_items(cube, (kind, None), items if (models >= 0).all() else items[model >= 0])


def _add_items(cube: Cube, scope: tuple[bool, str | None], items: Keys) -> None:
    ordered = np.sort(items)
    distinct = int(np.count_nonzero(ordered[1:] != ordered[:-1])) + 1 if len(ordered) else 0
    cube.items[scope] = cube.items.get(scope, 0) + distinct
