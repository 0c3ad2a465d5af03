"""Datasets become one sheet: every model's row for every item, as arrays [models, items]."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from numpy.typing import NDArray

from mavi_tasks.common.money_columns import pico_column
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
)  # fmt: skip


# the arrays of a sheet
CELLS = ("status", "cost_pico", "input_tokens", "output_tokens", "latency_s", "truncated")
TEXTS = ("saw", "answer", "answer_json", "error_code")


@dataclass(frozen=True, slots=True)
class Unit:
    """One question: an item with a prompt, the same for all models.

    `inclusion_probability` (0 to 1) is that with which it was chosen to be labelled; None: not drawn.
    """

    item_id: str
    prompt_id: str
    media_uri: str | None
    media_kind: str | None
    prompt: str | None
    duration_s: float | None
    truth: str | None
    inclusion_probability: float | None = None


@dataclass(frozen=True, slots=True)
class Sheet:
    """All rows of a bake-off. Arrays are [models, items]; `clusters` numbers each item's medium.

    cost_pico and tokens are UNKNOWN, latency_s NaN and text None where a row does not say. `alike` says, per
    item, whether all models that answered saw the same thing under the same prompt; `saw` names it
    in plain text.
    """

    models: tuple[str, ...]
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
            units=tuple(self.units[i] for i in at),
            clusters=clusters.astype(np.int64),
            alike=self.alike[at],
            simulated=self.simulated,
            provider_models=self.provider_models,
            **{name: getattr(self, name)[:, at] for name in (*CELLS, *TEXTS)},
        )


def sheet(dirs: Sequence[Path]) -> Sheet:
    """Read datasets into one sheet; of several rows for the same model, item and prompt the latest counts.

    Raises InputError when a folder is no dataset or has no results.
    """
    table = pa.concat_tables([tables.latest(one, COLUMNS).select(COLUMNS) for one in dirs])
    return from_table(table, where=", ".join(map(str, dirs)))


def run_table(root: Path, run_id: str) -> pa.Table:
    """Return the results one run wrote."""
    mine = pads.field("run_id") == run_id
    return tables.open_table(root, "results").to_table(columns=list(COLUMNS), filter=mine)


def from_table(table: pa.Table, where: str) -> Sheet:
    """Return the sheet of results rows, given with COLUMNS."""
    if table.num_rows == 0:
        raise InputError(f"{where}: has no results yet; run a job into it first")
    finished_us = plausible_us(pc.fill_null(table["finished_at"].cast(pa.int64()), 0).to_numpy())
    table = table.take(pa.array(np.argsort(finished_us, kind="stable")))  # later rows overwrite earlier
    columns = {name: strings_of(table[name]) for name in ("model", "item_id", "prompt_id")}
    models = tuple(sorted(set(columns["model"])))
    model_at = {name: at for at, name in enumerate(models)}
    m = np.fromiter((model_at[name] for name in columns["model"]), np.int64, table.num_rows)
    questions = list(zip(columns["item_id"], columns["prompt_id"], strict=True))
    unit_at = {key: at for at, key in enumerate(dict.fromkeys(questions))}
    u = np.fromiter((unit_at[key] for key in questions), np.int64, table.num_rows)
    grid = _Grid(table, m, u, (len(models), len(unit_at)))
    prompts = strings_of(table["prompt"])
    units = _units(table, u, list(unit_at), prompts)
    media = {key: at for at, key in enumerate(dict.fromkeys(one.media_uri or one.item_id for one in units))}
    saw, status = (
        grid.texts(_saw(table)),
        grid.ints([STATUSES.get(s, FAILED) for s in strings_of(table["status"])], 0),
    )
    return Sheet(
        models=models,
        units=units,
        clusters=np.array([media[one.media_uri or one.item_id] for one in units], np.int64),
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
        alike=_alike(grid.texts(_what(table)), grid.texts(prompts), status),
        simulated=_simulated(table, m, len(models)),
        provider_models=_per_model(strings_of(table["provider_model"]), m, len(models)),
    )


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

    def texts(self, values: Sequence[str | None]) -> Texts:
        out = np.full(self.shape, None, object)
        out[self.model, self.unit] = np.fromiter(values, object, len(values))
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


def _units(
    table: pa.Table, u: Ints, keys: list[tuple[str, str]], prompts: list[str | None]
) -> tuple[Unit, ...]:
    """Describe each question by its latest row that has a value."""
    names = ("media_uri", "media_kind", "duration_s", "truth")
    columns: dict[str, list[Any]] = {name: strings_of(table[name]) for name in names} | {"prompt": prompts}
    latest: list[dict[str, Any]] = [dict.fromkeys(columns) for _ in keys]
    for name, values in columns.items():
        for at, value in zip(u.tolist(), values, strict=True):
            if value is not None:
                latest[at][name] = value
    return tuple(
        Unit(item_id=item, prompt_id=prompt, **values)
        for (item, prompt), values in zip(keys, latest, strict=True)
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
