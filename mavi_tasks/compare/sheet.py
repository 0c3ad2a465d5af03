"""Datasets become one sheet: every candidate's row for every item, as arrays [candidates, items].

A candidate is a model; where items were asked under several prompts, a model with one of them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from numpy.typing import NDArray

from mavi_tasks.common.money_columns import pico_column
from mavi_tasks.compare import origin
from mavi_tasks.compare.origin import Origin
from mavi_tasks.compare.statistics import Bools, Floats, Ints
from mavi_tasks.errors import InputError
from mavi_tasks.storage import tables
from mavi_tasks.storage.recency import plausible_us

Texts = NDArray[np.object_]

NOT_ASKED, ANSWERED, FAILED, INVALID, SKIPPED = range(5)
STATUSES = {"answered": ANSWERED, "failed": FAILED, "invalid": INVALID, "skipped": SKIPPED}
CUT_SHORT = ("length", "max_tokens", "max_output_tokens")  # finish reasons of a truncated answer
UNKNOWN = -1  # a count or an amount of money that is not known

COLUMNS = (
    "run_id", "gateway", "item_id", "prompt_id", "model", "media_uri", "media_kind", "input_mode",
    "frames_sent", "duration_s", "prompt", "status", "answer", "answer_json", "finish_reason", "input_tokens",
    "output_tokens", "cost_usd", "latency_s", "finished_at", "error_code", "provider_model", "truth",
    "job", "cluster", "repeat",
)  # fmt: skip


# the arrays of a sheet
CELLS = ("status", "cost_pico", "input_tokens", "output_tokens", "latency_s", "truncated")
TEXTS = ("saw", "answer", "answer_json", "error_code")


@dataclass(frozen=True, slots=True)
class Candidate:
    """What can be chosen: a model, with one of several prompts (else prompt_id is None)."""

    model: str
    prompt_id: str | None = None

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return self.model if self.prompt_id is None else f"{self.model} · {self.prompt_id}"


@dataclass(frozen=True, slots=True)
class Unit:
    """One question, the same for all candidates: an item, asked for the first time or again (`repeat`).

    prompt_id is empty where the candidates have different prompts.
    """

    item_id: str
    prompt_id: str
    repeat: int
    media_uri: str | None
    media_kind: str | None
    prompt: str | None
    duration_s: float | None
    truth: str | None


@dataclass(frozen=True, slots=True)
class Sheet:
    """All rows of a bake-off. Arrays are [candidates, items]; `models` are the candidates' names.

    `clusters` numbers each item's cluster: what the job named (columns.cluster), else its medium. cost_pico
    and tokens are UNKNOWN, latency_s NaN and text None where a row does not say. `alike` says, per item,
    whether all models that answered saw the same thing under the same prompt; `saw` names it in plain text.
    """

    models: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    units: tuple[Unit, ...]
    clusters: Ints
    status: Ints
    cost_pico: Ints
    input_tokens: Ints
    output_tokens: Ints
    latency_s: Floats
    truncated: Bools
    saw: Texts
    answer: Texts
    answer_json: Texts
    error_code: Texts
    alike: Bools
    simulated: tuple[bool, ...]
    provider_models: tuple[tuple[str, ...], ...]
    origin: Origin

    @property
    def asked(self) -> Bools:
        """Where a model has a row for an item."""
        where: Bools = self.status != NOT_ASKED
        return where

    @property
    def answered(self) -> Bools:
        """Where a model gave an answer that counts."""
        where: Bools = self.status == ANSWERED
        return where

    def keep(self, chosen: Bools) -> "Sheet":
        """Return the sheet with only the chosen items."""
        at = np.flatnonzero(chosen)
        _, clusters = np.unique(self.clusters[at], return_inverse=True)
        return Sheet(
            models=self.models,
            candidates=self.candidates,
            units=tuple(self.units[i] for i in at),
            clusters=clusters.astype(np.int64),
            alike=self.alike[at],
            simulated=self.simulated,
            provider_models=self.provider_models,
            origin=self.origin,
            **{name: getattr(self, name)[:, at] for name in (*CELLS, *TEXTS)},
        )

    def pick(self, order: Sequence[int]) -> "Sheet":
        """Return the sheet with only these candidates, in this order."""
        at = list(order)
        return Sheet(
            models=tuple(self.models[i] for i in at),
            candidates=tuple(self.candidates[i] for i in at),
            units=self.units,
            clusters=self.clusters,
            alike=self.alike,
            simulated=tuple(self.simulated[i] for i in at),
            provider_models=tuple(self.provider_models[i] for i in at),
            origin=self.origin,
            **{name: getattr(self, name)[at] for name in (*CELLS, *TEXTS)},
        )


def sheet(dirs: Sequence[Path], *, by_prompt: bool = False) -> Sheet:
    """Read datasets into one sheet; of several rows for the same model, item and prompt the latest counts.

    by_prompt: where an item was asked under several prompts, each model with each of them is a candidate.
    Raises InputError when a folder is no dataset or has no results.
    """
    table = pa.concat_tables([tables.latest(one, COLUMNS).select(COLUMNS) for one in dirs])
    return from_table(table, where=", ".join(map(str, dirs)), by_prompt=by_prompt)


def run_table(root: Path, run_id: str) -> pa.Table:
    """Return the results one run wrote."""
    mine = pads.field("run_id") == run_id
    return tables.open_table(root, "results").to_table(columns=list(COLUMNS), filter=mine)


def from_table(table: pa.Table, where: str, *, by_prompt: bool = False) -> Sheet:
    """Return the sheet of results rows, given with COLUMNS."""
    if table.num_rows == 0:
        raise InputError(f"{where}: has no results yet; run a job into it first")
    finished_us = plausible_us(pc.fill_null(table["finished_at"].cast(pa.int64()), 0).to_numpy())
    table = table.take(pa.array(np.argsort(finished_us, kind="stable")))  # later rows overwrite earlier
    items, prompt_ids = strings_of(table["item_id"]), strings_of(table["prompt_id"])
    repeats = pc.fill_null(table["repeat"], 1).to_pylist()
    apart = by_prompt and len(set(zip(items, prompt_ids, strict=True))) > len(set(items))
    asked_by = list(zip(strings_of(table["model"]), prompt_ids if apart else repeat(None), strict=False))
    candidates = tuple(Candidate(*key) for key in sorted(set(asked_by)))
    candidate_at = {(one.model, one.prompt_id): at for at, one in enumerate(candidates)}
    m = np.fromiter((candidate_at[key] for key in asked_by), np.int64, table.num_rows)
    questions = list(zip(items, repeat("") if apart else prompt_ids, repeats, strict=False))
    unit_at = {key: at for at, key in enumerate(dict.fromkeys(questions))}
    u = np.fromiter((unit_at[key] for key in questions), np.int64, table.num_rows)
    grid = _Grid(table, m, u, (len(candidates), len(unit_at)))
    prompts = strings_of(table["prompt"])
    units = _units(table, u, list(unit_at), repeat(None, len(prompts)) if apart else prompts)
    saw, status = (
        grid.texts(_saw(table)),
        grid.ints([STATUSES.get(s, FAILED) for s in strings_of(table["status"])], 0),
    )
    return Sheet(
        models=tuple(one.name for one in candidates),
        candidates=candidates,
        units=units,
        clusters=_clusters(table, u, units),
        status=status,
        cost_pico=grid.ints(_pico(table["cost_usd"]), UNKNOWN),
        input_tokens=grid.ints(pc.fill_null(table["input_tokens"], UNKNOWN).to_numpy(), UNKNOWN),
        output_tokens=grid.ints(pc.fill_null(table["output_tokens"], UNKNOWN).to_numpy(), UNKNOWN),
        latency_s=grid.floats(pc.fill_null(table["latency_s"], float("nan")).to_numpy()),
        truncated=grid.ints([(w or "").lower() in CUT_SHORT for w in strings_of(table["finish_reason"])], 0)
        == 1,
        saw=saw,
        answer=grid.texts(strings_of(table["answer"])),
        answer_json=grid.texts(strings_of(table["answer_json"])),
        error_code=grid.texts(strings_of(table["error_code"])),
        alike=_alike(grid.texts(_what(table)), grid.texts(repeat("") if apart else prompts), status),
        simulated=_simulated(table, m, len(candidates)),
        provider_models=_per_model(strings_of(table["provider_model"]), m, len(candidates)),
        origin=origin.of_rows(strings_of(table["job"]), _days(finished_us), prompt_ids, prompts),
    )


def _days(finished_us: Ints) -> list[str]:
    """The first and the last day of rows that say when they finished."""
    known = finished_us[finished_us > 0]
    ends = (known.min(), known.max()) if len(known) else ()
    return [f"{datetime.fromtimestamp(int(us) / 1e6, UTC):%Y-%m-%d}" for us in ends]


@dataclass(frozen=True, slots=True)
class _Grid:
    """Scatters a column's rows to their cells."""

    table: pa.Table
    model: Ints
    unit: Ints
    shape: tuple[int, int]

    def ints(self, values: Any, empty: int) -> Ints:
        out = np.full(self.shape, empty, np.int64)
        out[self.model, self.unit] = values
        return out

    def floats(self, values: Any) -> Floats:
        out = np.full(self.shape, np.nan)
        out[self.model, self.unit] = values
        return out

    def texts(self, values: Iterable[str | None]) -> Texts:
        out = np.full(self.shape, None, object)
        out[self.model, self.unit] = np.fromiter(values, object, self.table.num_rows)
        return out


def strings_of(column: pa.ChunkedArray) -> list[Any]:
    """Texts as Python strings; a dictionary column gives the same string object again and again."""
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries().combine_chunks()
        whole = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        names = [*whole.dictionary.to_pylist(), None]
        return [names[at] for at in pc.fill_null(whole.indices, -1).to_pylist()]
    return list(column.to_pylist())


def _pico(column: pa.ChunkedArray) -> Ints:
    """Whole pico-dollars; UNKNOWN where null."""
    amounts, known = pico_column(column.combine_chunks())
    return np.where(known, amounts, UNKNOWN)


def _clusters(table: pa.Table, u: Ints, units: Sequence[Unit]) -> Ints:
    """Number what belongs together: the cluster a row names, else its medium, else the item."""
    named: list[str | None] = [None] * len(units)
    for at, cluster in zip(u.tolist(), table["cluster"].to_pylist(), strict=True):
        if cluster is not None:
            named[at] = cluster
    keys = [
        ("cluster", name) if name is not None else ("media", one.media_uri or one.item_id)
        for name, one in zip(named, units, strict=True)
    ]
    number = {key: at for at, key in enumerate(dict.fromkeys(keys))}
    return np.array([number[key] for key in keys], np.int64)


def _units(
    table: pa.Table, u: Ints, keys: list[tuple[str, str, int]], prompts: Iterable[str | None]
) -> tuple[Unit, ...]:
    """Describe each question by its latest row that has a value."""
    names = ("media_uri", "media_kind", "duration_s", "truth")
    columns: dict[str, Iterable[Any]] = {name: strings_of(table[name]) for name in names}
    columns["prompt"] = prompts
    latest: list[dict[str, Any]] = [dict.fromkeys(columns) for _ in keys]
    for name, values in columns.items():
        for at, value in zip(u.tolist(), values, strict=True):
            if value is not None:
                latest[at][name] = value
    return tuple(
        Unit(item_id=item, prompt_id=prompt, repeat=again, **values)
        for (item, prompt, again), values in zip(keys, latest, strict=True)
    )


def _seen(table: pa.Table, describe: Callable[[str, str | None, int | None], str]) -> list[str]:
    modes, kinds = strings_of(table["input_mode"]), strings_of(table["media_kind"])
    frames = table["frames_sent"].to_pylist()
    cache: dict[tuple[Any, ...], str] = {}
    out = []
    for key in zip(modes, kinds, frames, strict=True):
        if key not in cache:
            cache[key] = describe(key[0] or "unknown", key[1], key[2])
        out.append(cache[key])
    return out


def _saw(table: pa.Table) -> list[str]:
    """What was sent, for people: "whole video", "8 frames"."""

    def describe(mode: str, kind: str | None, frames: int | None) -> str:
        if mode == "frames":
            return f"{frames} frames" if frames else "frames"
        return mode if mode in ("text", "unknown") else f"whole {kind or 'media'}"

    return _seen(table, describe)


def _what(table: pa.Table) -> list[str]:
    """What was seen, to separate like from unlike: a URL and the same medium inline are alike."""
    return _seen(
        table,
        lambda mode, _, frames: f"frames {frames}" if mode == "frames" else ("", "text")[mode == "text"],
    )


def _alike(what: Texts, prompts: Texts, status: Ints) -> Bools:
    counted = (status == ANSWERED) | (status == INVALID)

    def same(texts: Texts) -> Bools:
        out = np.ones(texts.shape[1], bool)
        first = np.full(texts.shape[1], None, object)
        for row, present in zip(texts, counted, strict=True):
            unset = present & _is_none(first)
            out &= ~present | unset | np.equal(row, first)
            first = np.where(unset, row, first)
        return out

    return same(what) & same(np.where(_is_none(prompts), "", prompts))


def _is_none(texts: Texts) -> Bools:
    found: Bools = texts == np.array(None)
    return found


def _simulated(table: pa.Table, m: Ints, models: int) -> tuple[bool, ...]:
    sandboxed = np.fromiter(
        (name == "sandbox" for name in strings_of(table["gateway"])), bool, table.num_rows
    )
    return tuple(bool(sandboxed[m == at].any()) for at in range(models))


def _per_model(values: Sequence[str | None], m: Ints, models: int) -> tuple[tuple[str, ...], ...]:
    out: list[set[str]] = [set() for _ in range(models)]
    for at, value in zip(m.tolist(), values, strict=True):
        if value:
            out[at].add(value)
    return tuple(tuple(sorted(one)) for one in out)
