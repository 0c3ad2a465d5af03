"""What past runs in a dataset really used: tokens, answers, latency and cost of each model."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mavi_tasks.estimate.token_formulas import (
    DURATION_S,
    Formula,
    formula_of,
    size_bucket,
    text_chars,
    text_tokens,
)
from mavi_tasks.estimate.token_model import ENOUGH_ROWS, FEW_ROWS, Kind, Shape, TokenModel, fit

SAMPLE_ROWS = 4096  # of each model: a sum is then within about 2 %, whatever the dataset's size
COLUMNS = (
    "gateway",
    "model",
    "prompt_id",
    "media_kind",
    "input_mode",
    "frames_sent",
    "width",
    "height",
    "duration_s",
    "prompt",
    "status",
    "input_tokens",
    "output_tokens",
    "latency_s",
    "cost_usd",
    "extra",
)
BILLED = frozenset({"answered", "invalid"})


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution that was seen: its mean, its spread and three of its points."""

    rows: int
    mean: float
    deviation: float
    p10: float
    p50: float
    p90: float
    p95: float

    @property
    def error(self) -> float:
        """Standard error of the mean, as a share of it; Student's t turned into a wider normal."""
        if self.mean <= 0:
            return 0.0
        return self.deviation / self.mean / math.sqrt(self.rows) * student(self.rows - 1)


def student(freedom: int) -> float:
    """How much wider Student's t is than a normal at its tenth percentile (Cornish and Fisher)."""
    return 1 + (1.2816**2 + 1) / (4 * max(1, freedom))


@dataclass(frozen=True, slots=True)
class History:
    """What was seen, by model. Every look-up gives None when too little was seen to replace the formula."""

    token_models: Mapping[tuple[str, Kind], TokenModel] = field(default_factory=dict)
    outputs: Mapping[tuple[str, str | None, Kind | None], Spread] = field(default_factory=dict)
    latencies: Mapping[tuple[str, Kind | None], Spread] = field(default_factory=dict)
    costs: Mapping[str, Spread] = field(default_factory=dict)  # dollars of a row
    overheads: Mapping[str, float] = field(default_factory=dict)  # billed in all / billed for the results
    rows: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def from_dataset(
        results: "Batches",
        *,
        gateway: str | None = None,
        attempts: "Batches | None" = None,
        seed: int = 0,
    ) -> "History":
        """Fit what a results table (or dataset, or record batches) shows, in bounded memory.

        `gateway`: only rows of this gateway count; the sandbox's tokens say nothing about the real service.
        `attempts`: the attempts table, so that repairs and retries that were billed count too.
        """
        samples = _sample(_batches(results, COLUMNS), gateway, seed)
        observed = _observed(samples)
        overheads = (
            _overheads(_batches(attempts, ("model", "cost_usd")), results) if attempts is not None else {}
        )
        return History(
            observed.token_models,
            observed.outputs,
            observed.latencies,
            observed.costs,
            overheads,
            observed.rows,
        )

    def token_model(self, model: str, kind: Kind) -> TokenModel | None:
        return self.token_models.get((model, kind))

    def output(self, model: str, prompt_id: str, kind: Kind) -> Spread | None:
        """Output tokens of this prompt for this kind of media, or for any kind."""
        own = self.outputs.get((model, prompt_id, kind))
        return own if own is not None else self.outputs.get((model, prompt_id, None))

    def latency(self, model: str, kind: Kind) -> Spread | None:
        own = self.latencies.get((model, kind))
        return own if own is not None else self.latencies.get((model, None))


class HasBatches(Protocol):
    """A pyarrow Table or Dataset."""

    def to_batches(self, **options: Any) -> Any: ...


Batches = HasBatches | Iterable[pa.RecordBatch]


def kind_of(media_kind: str | None, as_frames: bool) -> Kind:
    """The kind of a request, by which its tokens are counted."""
    if media_kind == "image":
        return "image"
    if media_kind == "video":
        return "frames" if as_frames else "video"
    return "text"


# ---- one pass over the rows, a bounded sample of each model


def _batches(source: Batches, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    if isinstance(source, pa.Table | pa.RecordBatch):
        table = source if isinstance(source, pa.Table) else pa.Table.from_batches([source])
        yield from table.select(list(columns)).to_batches()
    elif hasattr(source, "to_batches"):
        yield from source.to_batches(columns=list(columns))
    else:
        for batch in source:
            yield batch.select(list(columns))


def _sample(
    batches: Iterable[pa.RecordBatch], gateway: str | None, seed: int
) -> dict[str, list[dict[str, Any]]]:
    """Up to SAMPLE_ROWS usable rows of each model, each with the same chance: the lowest marks win."""
    random = np.random.default_rng(seed)
    kept: dict[str, list[tuple[float, int, dict[str, Any]]]] = defaultdict(list)
    number = 0
    for batch in batches:
        marks = random.random(batch.num_rows)
        usable = _usable(batch, gateway)
        for model, own in _by_model(batch):
            rows = kept[model]
            limit = rows[-1][0] if len(rows) >= SAMPLE_ROWS else 1.0
            positions = np.flatnonzero(usable & own & (marks < limit))
            positions = positions[np.argsort(marks[positions], kind="stable")][:SAMPLE_ROWS]
            new = batch.take(pa.array(positions)).to_pylist()
            rows += [(float(marks[i]), number + int(i), row) for i, row in zip(positions, new, strict=True)]
            rows.sort(key=lambda row: row[:2])
            del rows[SAMPLE_ROWS:]
        number += batch.num_rows
    return {model: [row for _, _, row in rows] for model, rows in kept.items() if rows}


def _by_model(batch: pa.RecordBatch) -> Iterator[tuple[str, Any]]:
    """Each model of a batch, with a mask of its rows."""
    column = batch.column("model")
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    for code, model in enumerate(encoded.dictionary.to_pylist()):
        own = codes == code
        if model is not None and own.any():
            yield model, own


def _usable(batch: pa.RecordBatch, gateway: str | None) -> Any:
    """Rows that were billed for an answer of their own: no failures, no copies, no repairs."""
    usable = pc.and_(_is_one_of(batch.column("status"), BILLED), pc.greater(batch.column("input_tokens"), 0))
    if gateway is not None:
        usable = pc.and_(usable, _is_one_of(batch.column("gateway"), (gateway,)))
    for odd in _ODD:
        is_odd = pc.match_substring(batch.column("extra").cast(pa.string()), odd)
        usable = pc.and_not(usable, pc.fill_null(is_odd, False))
    return pc.fill_null(usable, False).to_numpy(zero_copy_only=False)


# A repair's prompt carries the bad answer; a copied answer was not sent for.
_ODD = ('"repaired"', '"shared_from"')


def _is_one_of(column: Any, values: Iterable[str]) -> Any:
    return pc.is_in(column.cast(pa.string()), value_set=pa.array(sorted(values), pa.string()))


# ---- from samples to token models


def _observed(samples: Mapping[str, list[dict[str, Any]]]) -> History:
    token_models: dict[tuple[str, Kind], TokenModel] = {}
    outputs: dict[tuple[str, str | None, Kind | None], Spread] = {}
    latencies: dict[tuple[str, Kind | None], Spread] = {}
    costs: dict[str, Spread] = {}
    for model, rows in samples.items():
        formula = formula_of(model)
        kinds = [kind_of(row["media_kind"], _as_frames(row, formula)) for row in rows]
        for kind in sorted(set(kinds)):
            own = [row for row, its in zip(rows, kinds, strict=True) if its == kind]
            fitted = fit([_shape(row, kind, formula) for row in own], [row["input_tokens"] for row in own])
            if fitted is not None:
                token_models[model, kind] = fitted
        tagged = list(zip(kinds, rows, strict=True))
        _collect(outputs, model, tagged, "output_tokens", _output_keys)
        _collect(latencies, model, tagged, "latency_s", _kind_keys)
        _collect(costs, model, tagged, "cost_usd", _model_key)
    return History(
        token_models, outputs, latencies, costs, {}, {model: len(rows) for model, rows in samples.items()}
    )


_Keys = Callable[[str, Kind, Mapping[str, Any]], tuple[Any, ...]]


def _output_keys(model: str, kind: Kind, row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (model, row["prompt_id"], kind), (model, row["prompt_id"], None)


def _kind_keys(model: str, kind: Kind, row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (model, kind), (model, None)


def _model_key(model: str, kind: Kind, row: Mapping[str, Any]) -> tuple[str]:
    return (model,)


def _collect(
    into: dict[Any, Spread],
    model: str,
    rows: Iterable[tuple[Kind, Mapping[str, Any]]],
    column: str,
    keys: _Keys,
) -> None:
    """Spreads of one column under each of a row's keys; a key of one kind of media needs more rows."""
    values: dict[Any, list[float]] = defaultdict(list)
    for kind, row in rows:
        if row[column] is not None:
            for key in keys(model, kind, row):
                values[key].append(float(row[column]))
    for key, numbers in values.items():
        least = FEW_ROWS if isinstance(key, str) or key[-1] is None else ENOUGH_ROWS
        if len(numbers) >= least:
            into[key] = spread(numbers)


def spread(numbers: Sequence[float]) -> Spread:
    """The distribution of at least one number."""
    values = np.asarray(numbers, float)
    p10, p50, p90, p95 = (float(point) for point in np.quantile(values, (0.1, 0.5, 0.9, 0.95)))
    deviation = float(values.std(ddof=1)) if len(values) > 1 else float(values.mean())
    return Spread(len(values), float(values.mean()), deviation, p10, p50, p90, p95)


def _as_frames(row: Mapping[str, Any], formula: Formula | None) -> bool:
    if row["input_mode"] is not None:
        return bool(row["input_mode"] == "frames")
    return row["frames_sent"] is not None or (formula is not None and formula.video_frames is not None)


@dataclass(frozen=True, slots=True)
class _Seen:
    kind: str
    width: int | None
    height: int | None
    duration_s: float | None


def _shape(row: Mapping[str, Any], kind: Kind, formula: Formula | None) -> Shape:
    text = text_tokens(text_chars(row["prompt"]))
    if kind == "text":
        return Shape(text, 0.0, 0.0)
    media = _Seen(row["media_kind"], row["width"], row["height"], row["duration_s"])
    frames = int(row["frames_sent"] or 1) if kind == "frames" else None
    tokens = formula.media_tokens(media, frames) if formula is not None else 0
    return Shape(text, units_of(kind, media.duration_s, frames), tokens, size_bucket(media))


def units_of(kind: Kind, duration_s: float | None, frames: int | None) -> float:
    """What the tokens of a media are counted by: images, seconds of video, or frames."""
    if kind == "video":
        return DURATION_S if duration_s is None else duration_s
    return float(frames) if kind == "frames" and frames else 1.0


def _overheads(attempts: Iterable[pa.RecordBatch], results: Batches) -> dict[str, float]:
    """What all attempts of a model were billed, over what its results were billed."""
    if not (isinstance(results, pa.Table) or hasattr(results, "to_batches")):
        return {}  # an iterator of batches has been read already
    billed = _sums(attempts)
    useful = _sums(_batches(results, ("model", "cost_usd")))
    return {model: max(1.0, billed[model] / useful[model]) for model in billed if useful.get(model)}


def _sums(batches: Iterable[pa.RecordBatch]) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for batch in batches:
        costs = batch.column("cost_usd").cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False)
        for model, own in _by_model(batch):
            sums[model] += float(costs[own].sum())
    return sums
