"""Writes small datasets as a run would leave them, with answers made up from a seed."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mavi_tasks.schema import ATTEMPTS, RESULTS
from mavi_tasks.storage.parts import write_part

PARTS = 3
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DEFAULTS: dict[str, Any] = {
    "run_id": "run-1",
    "job": "pets",
    "gateway": "mavi",
    "prompt_id": "label",
    "endpoint": "/iu",
    "media_kind": "image",
    "input_mode": "url",
    "prompt": "What animal is this?",
    "status": "answered",
    "finish_reason": "stop",
    "input_tokens": 300,
    "output_tokens": 12,
    "total_tokens": 312,
    "attempts": 1,
    "latency_s": 1.0,
    "wait_s": 0.0,
    "schema_version": 1,
}


@dataclass(frozen=True)
class Made:
    """A made-up model: how often it is right, what an answer costs, how fast and how reliable it is."""

    name: str
    skill: float
    cost_usd: str
    latency_s: float = 1.0
    failing: float = 0.0
    invalid: float = 0.0
    input_mode: str = "url"
    frames: int | None = None


def row(model: str, item: str, answer: str | None = None, **more: Any) -> dict[str, Any]:
    """One results row; everything not said has an ordinary value."""
    key = f"{more.get('run_id')}|{model}|{item}|{more.get('prompt_id')}"
    said = {
        "model": model,
        "family": model.partition(":")[0],
        "item_id": item,
        "media_uri": f"https://media.example/{item}.jpg",
        "answer": answer,
        "request_key": hashlib.sha256(key.encode()).hexdigest(),
        "started_at": NOON,
        "finished_at": NOON + timedelta(seconds=1),
    }
    cost = more.pop("cost_usd", None)
    made = {**DEFAULTS, **said, **more}
    made["cost_usd"] = None if cost is None else Decimal(cost)
    return made


def write(root: Path, rows: Iterable[Mapping[str, Any]], *, day: str = "2026-11-20", part: str = "a") -> Path:
    """Write rows as parts of DIR/results, and one attempt for each as DIR/attempts.

    As a run that stops and goes on leaves them: several parts, which name their models in another order.
    """
    rows = list(rows)
    for number, few in enumerate(_parts_of(rows)):
        name = f"{part}-{number}" if number else part
        attempts = [
            {**one, "attempt_id": f"{name}-{at}", "outcome": one["status"]} for at, one in enumerate(few)
        ]
        _part(root / "results", RESULTS, few, day, name)
        _part(root / "attempts", ATTEMPTS, attempts, day, name)
    return root


def _parts_of(rows: Sequence[Mapping[str, Any]]) -> Iterable[Sequence[Mapping[str, Any]]]:
    """Three parts, the second one backwards: the dictionaries of their columns differ."""
    if len(rows) < PARTS:
        return [rows]
    cuts = [len(rows) * cut // PARTS for cut in range(PARTS + 1)]
    parts = [rows[start:end] for start, end in pairwise(cuts)]
    return [few[::-1] if number % 2 else few for number, few in enumerate(parts)]


def _part(folder: Path, schema: pa.Schema, rows: Sequence[Mapping[str, Any]], day: str, part: str) -> None:
    columns = [pa.array([one.get(field.name) for one in rows], _plain(field.type)) for field in schema]
    arrays = [
        column.dictionary_encode() if pa.types.is_dictionary(field.type) else column
        for column, field in zip(columns, schema, strict=True)
    ]
    place = folder / f"run_date={day}"
    place.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_arrays(arrays, schema=schema)
    write_part(place / f"part-{part}.parquet", table)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def bake_off(
    root: Path,
    models: Sequence[Made],
    items: int,
    *,
    labels: Sequence[str] = ("cat", "dog", "bird", "fish", "horse"),
    seed: int = 0,
    truth: bool = True,
    as_json: bool = False,
    media: Sequence[str] = (),
    run: Mapping[str, Any] | None = None,
) -> Path:
    """Write a bake-off: every model labels every item, harder items are wrong for all more often."""
    draw = np.random.default_rng(seed)
    true = draw.choice(len(labels), items, p=_uneven(len(labels)))
    hard = draw.normal(0, 1, items)
    rows = []
    for model in models:
        base = np.log(model.skill / (1 - model.skill)) * 1.25
        right = draw.random(items) < 1 / (1 + np.exp(-(base - hard)))
        other = (true + draw.integers(1, len(labels), items)) % len(labels)
        said = np.where(right, true, other)
        sure = np.clip(draw.normal(np.where(right, 0.86, 0.68), 0.1), 0.05, 0.99)
        fate = draw.random(items)
        took = draw.gamma(6, model.latency_s / 6, items)
        for at in range(items):
            label = labels[said[at]]
            answer = (
                json.dumps({"label": label, "confidence": round(float(sure[at]), 2)})
                if as_json
                else label.title()
            )
            status = "answered"
            if fate[at] < model.failing:
                status = "failed"
            elif fate[at] < model.failing + model.invalid:
                status = "invalid"
            rows.append(
                row(
                    model.name,
                    f"item-{at:05}",
                    None if status == "failed" else answer,
                    **{
                        "status": status,
                        "answer_json": answer if as_json and status == "answered" else None,
                        "error_code": "timeout" if status == "failed" else None,
                        "cost_usd": None if status == "failed" else model.cost_usd,
                        "latency_s": round(float(took[at]), 3),
                        "truth": labels[true[at]] if truth else None,
                        "input_mode": model.input_mode,
                        "frames_sent": model.frames,
                        "provider_model": model.name.partition(":")[2] + "-001",
                        **({"media_uri": media[at % len(media)]} if media else {}),
                        **(run or {}),
                    },
                )
            )
    return write(root, rows, part=(run or {}).get("run_id", "a"))


def _uneven(size: int) -> np.ndarray:
    weight = 1.0 / np.arange(1, size + 1)
    return weight / weight.sum()


SIX = (
    Made("gemini:gemini-2.5-pro", 0.93, "0.0031", 4.2),
    Made("gpt:gpt-4o", 0.92, "0.0044", 3.1, failing=0.01),
    Made("gemini:gemini-2.5-flash", 0.89, "0.00042", 1.4),
    Made("qwen:qwen3-vl-plus", 0.87, "0.00061", 2.0, invalid=0.03),
    Made("gpt:gpt-4o-mini", 0.83, "0.00019", 1.2, input_mode="frames", frames=8),
    Made("nova:us.amazon.nova-lite-v1:0", 0.78, "0.000074", 0.9, failing=0.02),
)
