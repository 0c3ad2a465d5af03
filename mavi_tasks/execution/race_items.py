"""The media of a race in their random order, and the questions that belong to each."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from mavi_tasks import manifest
from mavi_tasks.compare.race_decisions import in_random_order
from mavi_tasks.job import Job
from mavi_tasks.manifest import Item
from mavi_tasks.media.urls import stored
from mavi_tasks.prompts.templates import Prompts

Unit = tuple[str, str]  # item_id, prompt_id


@dataclass(frozen=True, slots=True)
class RaceItems:
    """order: the media, by name; units: the questions of each. with_truth: they have an expected answer.

    left_out: items of the manifest without an expected answer, which a race with a truth does not ask.
    """

    order: tuple[str, ...]
    units: dict[str, list[Unit]]
    with_truth: bool
    left_out: int

    def between(self, start: int, end: int) -> set[Unit]:
        """The questions of the media from place `start` up to, without, `end`."""
        return {unit for name in self.order[start:end] for unit in self.units[name]}

    @property
    def fingerprint(self) -> str:
        """The same for the same media and questions."""
        digest = hashlib.sha256()
        for name in self.order:
            digest.update(repr((name, sorted(self.units[name]))).encode())
        return digest.hexdigest()[:16]


def read_items(job: Job, seed: int, *, needs_truth: bool) -> RaceItems:
    """Read a job's manifest for a race; items that cannot be asked are left out. Raises InputError.

    needs_truth: when any item has an expected answer, only those that have one take part.
    """
    prompts = Prompts(job.prompts, job.columns)
    batches = manifest.read(
        job.manifest,
        job.columns,
        limit=job.limit,
        order=job.order,
        since=job.since_at(datetime.now(UTC)),
        skip_bad=True,
    )
    judged: dict[str, list[Unit]] = {}
    unjudged: dict[str, list[Unit]] = {}
    left_out = 0
    for batch in batches:
        for item in batch:
            if item.refusal is not None:
                continue
            found = judged if item.truth is not None else unjudged
            left_out += item.truth is None
            asked = [(item.item_id, prompt) for prompt in prompts.ids(item)]
            found.setdefault(_name(item), []).extend(asked)
    if needs_truth and judged:
        return RaceItems(tuple(in_random_order(judged, seed)), judged, with_truth=True, left_out=left_out)
    for name, units in judged.items():
        unjudged.setdefault(name, []).extend(units)
    order = tuple(in_random_order(unjudged, seed))
    return RaceItems(order, unjudged, with_truth=False, left_out=0)


def _name(item: Item) -> str:
    """What an item belongs to: its cluster, else its first medium by its name in results."""
    return item.cluster or (stored(item.media[0]) if item.media else item.item_id)
