"""Measures whether a budget is ever exceeded, by an independent bill, and how much of it can be used.

    python -m tests.bench.budget [--jobs 500] [--seed 1] [--json-only]

Each job is drawn at random: models of all families; pictures and videos by URL, whose true size only the
gateway knows; local pictures, videos and their frames (frames, fps, equalise); several media; several
choices, thinking, schemas (also one that no answer fits, so that all are repaired), system texts, up to 200
calls at once; replies that are lost, cut, empty or say nothing of what they cost. The budget is a part of
what the plan expects, or more. The bill is the strict sandbox's, in another process: its formulas and prices
share no code with the estimates. Prints a table and one JSON line; the expected number of budgets that were
exceeded is 0.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from mavi_tasks.errors import MaviError
from mavi_tasks.execution.local import execute, opened, plan
from mavi_tasks.job import Job, job_of
from mavi_tasks.planning import spool
from mavi_tasks.planning.planner import make_plan
from mavi_tasks.sandbox.ledger import PRICES
from tests.support.gateways import KEY, Remote, remote_sandbox
from tests.support.media_files import clip, image_file

ENV = {"MAVI_API_KEY": KEY}
FAMILIES = ("gemini", "qwen", "nova", "gpt")
MANY = 10  # a budget for so many of its dearest calls shows how much of one can be used
PICTURES = [(64, 48), (500, 400), (1024, 768), (1900, 1080), (3000, 2000), (4032, 3024)]
CLIPS = [(3, (320, 240)), (12, (1280, 720)), (40, (640, 360)), (75, (160, 120))]
BILLED_FAULTS = (
    "reset_after", "truncated", "wrong_content_type", "empty_text_billed", "no_usage", "empty_choices_billed",
    "invalid_utf8", "http_500", "http_503",
)  # fmt: skip
PET = {
    "type": "object",
    "properties": {"animal": {"type": "string"}, "legs": {"type": "integer"}, "wild": {"type": "boolean"}},
    "required": ["animal", "legs", "wild"],
    "additionalProperties": False,
}
NO_ANSWER_FITS = {**PET, "properties": {**PET["properties"], "legs": {"type": "integer", "not": {}}}}
WORDS = [
    "what",
    "animal",
    "größe",
    "猫",
    "собака",
    "cat;",
    "0.25",
    "{a}",
    "\U0001f98a",
    "describe it, and why",
]


@dataclass(frozen=True)
class Trial:
    """One job: its budget, what the independent bill says, and what the run says of itself."""

    budget: Decimal
    billed: Decimal
    known: Decimal  # cost and exposure, as the run reports them
    stopped: bool  # by its budget
    answered: int
    dearest: Decimal  # what is set aside for its dearest call
    fields: dict[str, Any]


# -- the jobs


def local_media(folder: Path) -> tuple[list[str], list[str]]:
    """Pictures and clips."""
    folder.mkdir()
    pictures = [image_file(folder / f"{n}.jpg", size=size) for n, size in enumerate(PICTURES)]
    clips = [
        clip(folder / f"{n}.mp4", seconds=seconds, size=size, fps=2)
        for n, (seconds, size) in enumerate(CLIPS)
    ]
    return pictures, clips


def side(rng: random.Random, most: int) -> int:
    return int(10 ** rng.uniform(1.5, len(str(most)))) % most + 1


def picture_url(rng: random.Random, most_px: int) -> str:
    width = side(rng, most_px)
    height = max(1, min(most_px, int(width * rng.choice([1, 0.75, 1.33, 0.56, 1.78, 0.4, 3]))))
    return f"https://media.example/{width}x{height}/{rng.random()}.jpg"


def video_url(rng: random.Random, most_s: float) -> str:
    width, height = rng.choice([(320, 240), (1280, 720), (1920, 1080), (3840, 2160), (720, 1280)])
    seconds = rng.randint(2, int(most_s))
    return f"https://media.example/{width}x{height}/{seconds}s/{rng.random()}.mp4"


def prose(rng: random.Random, most: int) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(1, most)))


def model_of(rng: random.Random, family: str) -> dict[str, Any]:
    """A model of a family, perhaps with parameters of its own."""
    params: dict[str, Any] = {}
    if family == "qwen" and rng.random() < 0.4:
        params = {"enable_thinking": True}
        if rng.random() < 0.7:
            params["thinking_budget"] = rng.choice([1, 50, 400])
    if family == "gemini" and rng.random() < 0.3:
        params = {"thinking_budget": rng.choice([-1, 0, 500])}
    return {"model": f"{family}:{rng.choice(list(PRICES[family]))}", "params": params}


def job_fields(
    rng: random.Random, folder: Path, pictures: Sequence[str], clips: Sequence[str]
) -> dict[str, Any]:
    """All of a job but its budget and its gateway."""
    source = rng.choices(["url_images", "url_videos", "images", "clips", "mixed"], [5, 3, 2, 2, 2])[0]
    media: dict[str, Any] = {}
    most_px, most_s = 8000, 600.0
    if rng.random() < 0.5:
        most_px = media["max_url_image_px"] = rng.choice([512, 1536, 3000])
    if rng.random() < 0.5:
        most_s = media["max_video_s"] = rng.choice([80.0, 200.0])
    draw = {
        "url_images": lambda: picture_url(rng, most_px),
        "url_videos": lambda: video_url(rng, most_s),
        "images": lambda: rng.choice(pictures),
        "clips": lambda: rng.choice(clips),
    }
    kinds = list(draw)[:3] if source == "mixed" else [source]
    per_item = rng.choice([1, 1, 1, 2, 3])
    rows = [
        {
            "item_id": f"i{n}",
            "media_url": [draw[rng.choice(kinds)]() for _ in range(per_item)],
            "note": f"{n} {prose(rng, 30)}",
        }
        for n in range(rng.choice([30, 60, 300]) if source.startswith("url") else rng.randint(8, 20))
    ]
    manifest = folder / "items.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    models = [model_of(rng, family) for family in rng.sample(FAMILIES, rng.choice([1, 1, 2, 3]))]
    fields: dict[str, Any] = {}
    if source == "clips" or rng.random() < 0.2:
        how = rng.choice(["frames", "fps", "equalise", "none"])
        if how == "frames":
            models = [{**model, "frames": rng.choice([1, 3, 5])} for model in models]
        elif how == "fps":
            models = [{**model, "fps": rng.choice([0.2, 1.0])} for model in models]
        elif how == "equalise":
            fields["equalise"] = "frames"
            media["default_frames"] = rng.choice([2, 4])
        media["frame_px"] = rng.choice([256, 1024, 1600])
        media["max_frames"] = rng.choice([4, 12])
    params: dict[str, Any] = {"n": rng.choice([1, 1, 1, 2, 4])}
    if rng.random() < 0.8:
        params["max_tokens"] = rng.choice([1, 5, 40, 300])
    return {
        **fields,
        "manifest": str(manifest),
        "output": str(folder / "out"),
        "prompts": {"p": prose(rng, 40) + " {{ note }}"},
        "system": prose(rng, 200) if rng.random() < 0.3 else None,
        "answer_schema": rng.choice([None, None, None, PET, NO_ANSWER_FITS]),
        "models": models,
        "params": params,
        "media": media,
        "limits": {"*": {"concurrency": rng.choice([1, 8, 64, 200])}},
        "retry": {"base_s": 0.001, "cap_s": 0.002, "attempts": 3},
    }


def faults(rng: random.Random) -> dict[str, Any]:
    if rng.random() < 0.5:
        return {}
    kinds = rng.sample(BILLED_FAULTS, 3)
    return {"probabilities": {kind: rng.uniform(0.02, 0.15) for kind in kinds}, "seed": rng.randrange(1000)}


# -- one trial


def trial(
    rng: random.Random, gateway: Remote, folder: Path, media: tuple[list[str], list[str]]
) -> Trial | None:
    """Run one random job; None when nothing of it can be sent."""
    folder.mkdir()
    fields = job_fields(rng, folder, *media)
    fields["gateway"] = {"name": "sandbox", "base_url": gateway.base_url}
    try:
        forecast = plan(job_of(**fields), ENV)
    except MaviError:  # a combination that the job refuses
        return None
    expected = forecast.cost_usd.p50
    if not forecast.to_send or not expected:
        return None
    budget = max(Decimal("0.000001"), round(expected * Decimal(10 ** rng.uniform(-1, 1)), 9))
    job = job_of(**fields, budget_usd=str(budget))
    dearest = dearest_usd(job)
    gateway.reset()
    gateway.faults(**faults(rng))
    report = execute(job, ENV)
    return Trial(
        budget=budget,
        billed=billed(gateway),
        known=Decimal(report.cost_pico + report.exposure_pico).scaleb(-12),
        stopped=report.stop_reason == "budget",
        answered=report.total("answered"),
        dearest=dearest,
        fields=fields,
    )


def billed(gateway: Remote) -> Decimal:
    """The independent bill, when nothing is in flight any more."""
    bill = gateway.bill()
    while bill["in_flight"]:
        time.sleep(0.005)
        bill = gateway.bill()
    return Decimal(bill["total_usd"])


def dearest_usd(job: Job) -> Decimal:
    """The most that a budget holds for one call of this job."""
    with opened(job, ENV, dry=True) as context:
        made = make_plan(context)
        dearest = max(
            target.max_cost_pico(request.max_input_tokens) or 0
            for target in context.targets
            for request in spool.read(made.shards[target.model])
        )
        made.discard()
    return Decimal(dearest).scaleb(-12)


def report_on(trials: Sequence[Trial]) -> dict[str, Any]:
    """The figures; ratios and shares of the budget."""
    stopped = [one for one in trials if one.stopped]
    used = [float(one.billed / one.budget) for one in stopped]
    used_of_many = [float(one.billed / one.budget) for one in stopped if one.budget >= MANY * one.dearest]
    unused = [float((one.budget - one.known) / one.dearest) for one in stopped]
    return {
        "jobs": len(trials),
        "over_budget": sum(one.billed > one.budget for one in trials),
        "more_billed_than_known": sum(one.billed > one.known for one in trials),
        "largest_spend_of_budget": round(max(float(one.billed / one.budget) for one in trials), 4),
        "stopped_by_budget": len(stopped),
        "not_one_call_fitted": sum(one.known == 0 for one in stopped),
        "median_used_when_stopped": round(statistics.median(used), 3) if used else None,
        f"stopped_with_budget_for_{MANY}_calls": len(used_of_many),
        "median_used_of_these": round(statistics.median(used_of_many), 3) if used_of_many else None,
        "largest_unused_in_dearest_calls": round(max(unused), 3) if unused else None,
        "answers": sum(one.answered for one in trials),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.budget")
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json-only", action="store_true")
    arguments = parser.parse_args()
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory() as folder, remote_sandbox() as gateway:
        media = local_media(Path(folder) / "media")
        number = 0
        while len(trials) < arguments.jobs:
            number += 1
            rng = random.Random(f"{arguments.seed} {number}")
            done = trial(rng, gateway, Path(folder) / str(number), media)
            if done is None:
                continue
            trials.append(done)
            if done.billed > done.budget:
                print(f"over: {done.billed} of {done.budget}: job {number}: {done.fields}", file=sys.stderr)
    figures = report_on(trials)
    if not arguments.json_only:
        for name, value in figures.items():
            print(f"{name.replace('_', ' '):<36} {value:>12}")
    print(json.dumps(figures))
    return 1 if figures["over_budget"] else 0


if __name__ == "__main__":
    sys.exit(main())
