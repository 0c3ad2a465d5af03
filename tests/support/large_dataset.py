"""Writes a dataset of many results quickly, for benches: every model answers every item, as JSON."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from mavi_tasks.schema import RESULTS
from mavi_tasks.storage.parts import PartWriter

LABELS = np.array(["cat", "dog", "bird", "fish", "horse", "moose", "frog", "hen"])
MODELS = ("gemini:gemini-2.5-flash", "gpt:gpt-4o-mini", "qwen:qwen3-vl-plus", "nova:us.amazon.nova-lite-v1:0")
GROUP = 10_000  # rows, as parts have


def write(root: Path, results: int, *, seed: int = 0) -> Path:
    """A dataset of so many results by four models, in parts of 100,000; items are in their order."""
    draw = np.random.default_rng(seed)
    items = results // len(MODELS)
    truth = draw.integers(0, len(LABELS), items)
    folder = root / "results" / "run_date=2026-11-20"
    folder.mkdir(parents=True)
    writer = None
    for start in range(0, results, GROUP):
        if start % (10 * GROUP) == 0:
            if writer is not None:
                writer.close()
            writer = PartWriter(folder / f"part-r-w0.{start // GROUP:05d}.parquet", RESULTS)
        writer.write(_rows(draw, truth, np.arange(start, min(start + GROUP, results))))
    writer.close()
    return root


def _rows(draw: np.random.Generator, truth: np.ndarray, at: np.ndarray) -> pa.Table:
    size = len(at)
    item, model = at // len(MODELS), at % len(MODELS)
    said = np.where(draw.random(size) < 0.85, truth[item], draw.integers(0, len(LABELS), size))
    sure = draw.random(size).round(2)
    failed = draw.random(size) < 0.01
    answers = [
        None
        if bad
        else f'{{"label":"{LABELS[one]}","confidence":{p},"reason":"in picture {i} it has the legs of one"}}'
        for bad, one, p, i in zip(failed, said, sure, at, strict=True)
    ]
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    values = {
        "run_id": ["r"] * size,
        "job": ["pets"] * size,
        "gateway": ["mavi"] * size,
        "request_key": [f"{one:064x}" for one in at],
        "item_id": [f"item-{one:07d}" for one in item],
        "prompt_id": ["label"] * size,
        "model": [MODELS[one] for one in model],
        "media_uri": [f"https://media.example/photos/2026/{one:07d}.jpg" for one in item],
        "media_kind": ["image"] * size,
        "status": ["failed" if bad else "answered" for bad in failed],
        "error_code": ["timeout" if bad else None for bad in failed],
        "answer": answers,
        "answer_json": answers,
        "prompt": ["What animal is this? Answer as JSON."] * size,
        "truth": [str(LABELS[one]) for one in truth[item]],
        "latency_s": draw.gamma(4, 0.4, size).round(3),
        "input_tokens": [300] * size,
        "output_tokens": [20] * size,
        "attempts": [1] * size,
        "started_at": [now] * size,
        "finished_at": [now] * size,
        "schema_version": [1] * size,
    }
    columns = []
    for field in RESULTS:
        is_word = pa.types.is_dictionary(field.type)
        kind = field.type.value_type if is_word else field.type
        column = pa.array(values[field.name], kind) if field.name in values else pa.nulls(size, kind)
        columns.append(column.dictionary_encode() if is_word else column)
    return pa.Table.from_arrays(columns, schema=RESULTS)
