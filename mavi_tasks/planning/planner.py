"""Items x prompts x models -> requests with keys, minus what is already answered, spooled in shards.

One pass over the manifest, in batches, before anything is sent: every problem of the input shows here, and a
million requests take disk (`DIR/_plan/<run>/`), not memory. What is left of each request:

    to send            shards of `shard_size` lines, by model
    refused            a model cannot take this media: a skipped row, unless it was told before
    shared             another row asked the very same thing: the answer is copied, nothing is paid
    already answered   counted
"""

import errno
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
from filelock import FileLock, Timeout

from mavi_tasks import estimate, manifest
from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.common.money import pico, usd
from mavi_tasks.errors import StorageError
from mavi_tasks.job import Job
from mavi_tasks.manifest import Item
from mavi_tasks.media import Media, MediaOptions, ProbeCache, Refusal, Unit, identify, known
from mavi_tasks.media.types import Kind
from mavi_tasks.planning.target import ModelTarget, Request
from mavi_tasks.prompts.templates import MediaView, Prompts
from mavi_tasks.storage.answered_index import AnsweredIndex, AnswerState, row_fingerprint, split_keys

READERS = 4  # threads that hash and probe local media
READ_AT_ONCE = 16  # files a thread is given: one by one, handing them over costs as much as reading them
REFUSALS_SHOWN = 1000
NO_VIEW = MediaView(kind="text", name="", uri="", count=0)  # for prompts that do not look at it

# Told of every request that will be sent: the estimate listens.
Listener = Callable[[ModelTarget, Request], None]
# Shown the plan as it grows, after every batch of items.
Watcher = Callable[["Plan"], None]


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that a model will not get, and why."""

    request: Request
    code: str
    reason: str


@dataclass
class Plan:
    """What a run will do. The requests themselves lie in `folder`."""

    folder: Path
    targets: list[ModelTarget]
    all_counters: dict[str, ModelCounters]
    items: int = 0
    shards: dict[str, list[Path]] = field(default_factory=dict)
    refused: list[dict[str, str]] = field(default_factory=list)  # the first of them, for people
    to_send: dict[str, int] = field(default_factory=dict)
    to_share: int = 0
    held: FileLock | None = None  # while it is, no other run takes the folder for a dead run's

    @property
    def requests(self) -> int:
        return sum(counters.requests for counters in self.all_counters.values())

    @property
    def already_answered(self) -> int:
        return sum(counters.already_answered for counters in self.all_counters.values())

    def read(self, shards: Sequence[Path]) -> Iterator[Request]:
        """The requests of these shards, in the manifest's order."""
        for path in shards:
            with path.open("rb") as file:
                yield from map(Request.from_json, file)

    def read_refused(self, target: ModelTarget) -> Iterator[Refused]:
        for line in _lines(self.folder / f"{self._at(target)}-refused.jsonl"):
            raw, code, reason = orjson.loads(line)
            yield Refused(Request.from_json(raw.encode()), code, reason)

    def read_shared(self, target: ModelTarget) -> Iterator[Request]:
        yield from map(Request.from_json, _lines(self.folder / f"{self._at(target)}-shared.jsonl"))

    def _at(self, target: ModelTarget) -> int:
        return self.targets.index(target)

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.held is not None:
            self.held.release()
            _lock_path(self.folder).unlink(missing_ok=True)


def sweep(plans: Path) -> None:
    """Remove the spools of runs that died: a million requests take a gigabyte."""
    for folder in plans.glob("*/"):
        lock = FileLock(_lock_path(folder))
        with suppress(Timeout), lock.acquire(timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
            _lock_path(folder).unlink(missing_ok=True)


def _hold(folder: Path) -> FileLock:
    """Make the spool's folder, its lock held before it is seen; the lock falls with the process."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_lock_path(folder), thread_local=False)
    lock.acquire(timeout=0)
    folder.mkdir(exist_ok=True, mode=0o700)  # the spool holds media URLs as they are sent
    return lock


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def make(
    job: Job,
    targets: list[ModelTarget],
    answered: AnsweredIndex,
    folder: Path,
    *,
    options: MediaOptions,
    retry_invalid: bool = False,
    probes: ProbeCache | None = None,
    listen: Listener | None = None,
    watch: Watcher | None = None,
) -> Plan:
    """Plan a run. Raises InputError with every problem of the manifest, its prompts and templates at once."""
    plan = Plan(
        folder, targets, {target.model: ModelCounters(target.model) for target in targets}, held=_hold(folder)
    )
    problems = manifest.Problems()
    prompts = Prompts(job.prompts, job.columns, problems)
    again = frozenset(
        {AnswerState.NOTHING, AnswerState.SKIPPED} | ({AnswerState.INVALID} if retry_invalid else set())
    )
    with ThreadPoolExecutor(READERS, "media-probe") as pool:
        desks = [
            ModelPlanner(plan, at, target, answered, again, job, listen) for at, target in enumerate(targets)
        ]
        try:
            identified = _Identifier(options, probes or ProbeCache(), pool)
            for batch in _items(job, problems):
                _plan_batch(plan, batch, prompts, identified, desks)
                if watch is not None:
                    watch(plan)
            prompts.finish()
        except BaseException as error:
            plan.discard()
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageError(f"{folder}: no room for the plan: make some, and run again") from error
            raise
        finally:
            for desk in desks:
                desk.close()
    return plan


def _items(job: Job, problems: manifest.Problems) -> Iterator[list[Item]]:
    since = job.since_at(datetime.now(UTC))
    return manifest.read(
        job.manifest, job.columns, limit=job.limit, problems=problems, order=job.order, since=since
    )


class _Identifier:
    """References to media, the local ones read in threads."""

    def __init__(self, options: MediaOptions, probes: ProbeCache, pool: ThreadPoolExecutor) -> None:
        self._options, self._probes, self._pool = options, probes, pool

    def __call__(self, batch: Sequence[Item]) -> list[tuple[Unit, ...]]:
        refs = [(ref, _kind(item)) for item in batch for ref in item.media]
        each = iter(self._units(refs))
        return [tuple(_as_it_is(next(each), item) for _ in item.media) for item in batch]

    def _units(self, refs: Sequence[tuple[str, Kind | None]]) -> list[Unit]:
        found = known(refs, self._options, self._probes)
        unread = [ref for ref, unit in zip(refs, found, strict=True) if unit is None]
        chunks = [unread[start : start + READ_AT_ONCE] for start in range(0, len(unread), READ_AT_ONCE)]
        read = iter([unit for units in self._pool.map(self._read, chunks) for unit in units])
        return [next(read) if unit is None else unit for unit in found]

    def _read(self, refs: Sequence[tuple[str, Kind | None]]) -> list[Unit]:
        return [identify(ref, self._options, self._probes, kind) for ref, kind in refs]


def _as_it_is(unit: Unit, item: Item) -> Unit:
    """A remote media is another one when the store tells another content mark (the media_etag column)."""
    etag = item.variables.get("media_etag")
    if not etag or not isinstance(unit, Media) or unit.place not in ("url", "s3"):
        return unit
    return unit._replace(identity=f"{unit.identity}#etag={etag}")


def _kind(item: Item) -> Kind | None:
    said = item.variables.get("media_kind")
    return said if said in ("image", "video") else None


def _plan_batch(
    plan: Plan,
    batch: Sequence[Item],
    prompts: Prompts,
    identified: _Identifier,
    desks: Sequence["ModelPlanner"],
) -> None:
    drafts = []
    for item, units in zip(batch, identified(batch), strict=True):
        view = NO_VIEW if prompts.constant else _view(item, units)
        for prompt_id, text in prompts.render(item, view):
            drafts.append((item, units, prompt_id, text))
    plan.items += len(batch)
    for desk in desks:
        desk.take(drafts)


def _view(item: Item, units: Sequence[Unit]) -> MediaView:
    first = units[0] if units else None
    kind = first.kind if isinstance(first, Media) else "media"
    uri = first.uri if isinstance(first, Media) else (item.media[0] if item.media else "")
    return MediaView(kind=kind if units else "text", name=uri.rsplit("/", 1)[-1], uri=uri, count=len(units))


_Draft = tuple[Item, tuple[Unit, ...], str, str]


class ModelPlanner:
    """Sorts one target's requests into its shards and lists."""

    def __init__(
        self,
        plan: Plan,
        at: int,
        target: ModelTarget,
        answered: AnsweredIndex,
        again: frozenset[AnswerState],
        job: Job,
        listen: Listener | None,
    ) -> None:
        self.plan, self.at, self.target, self.answered, self.again = plan, at, target, answered, again
        self.counters = plan.all_counters[target.model]
        self.shard_size, self.listen = job.shard_size, listen
        dearest = job.max_cost_per_item_usd
        self.most_pico = pico(dearest) if dearest is not None else None
        self.unknown_s = job.media.max_video_s
        self._seen = _Seen()
        self._shards: list[Path] = plan.shards.setdefault(target.model, [])
        self._shard: BinaryIO | None = None
        self._in_shard = 0
        self._lists: dict[str, BinaryIO] = {}
        plan.to_send[target.model] = 0

    def take(self, drafts: Sequence[_Draft]) -> None:
        if not drafts:
            return
        keys = [self._key(units, text) for _, units, _, text in drafts]
        marks = [row_fingerprint(item.item_id, prompt_id) for item, _, prompt_id, _ in drafts]
        known = self.answered.look_up(keys, marks)
        repeated = self._seen.add(keys)
        self.counters.requests += len(drafts)
        for draft, key, knows, again in zip(drafts, keys, known, repeated, strict=True):
            if knows is AnswerState.ANSWERED:
                self.counters.already_answered += 1
            else:
                self._sort(draft, key, knows, again)

    def _key(self, units: Sequence[Unit], text: str) -> str:
        return self.target.key(text, [u if isinstance(u, Media) else _nameless(u) for u in units])

    def _sort(self, draft: _Draft, key: str, knows: AnswerState, repeated: bool) -> None:
        item, units, prompt_id, text = draft
        way = self.target.way(units)
        media_items = tuple(u for u in units if isinstance(u, Media))
        if isinstance(way, Refusal):
            self._refuse(
                Request(key, item.item_id, prompt_id, text, media_items, item.truth, 0, 0), way, knows, item
            )
        elif knows is AnswerState.ANSWERED_FOR_ANOTHER:
            self._share(Request(key, item.item_id, prompt_id, text, media_items, item.truth, 0, 0))
        elif knows in self.again:
            request = self._request(key, item, prompt_id, text, media_items)
            dear = self._too_dear(request)
            if dear is not None:
                self._refuse(request, dear, knows, item)
            elif repeated:
                self._share(request)
            else:
                self._send(request)
        else:
            self.counters.already_answered += 1
            self.counters.invalid_before += knows is AnswerState.INVALID

    def _too_dear(self, request: Request) -> Refusal | None:
        worst, most = self.target.max_cost_pico(request.max_input_tokens), self.most_pico
        if most is None or worst is None or worst <= most:
            return None
        return Refusal("too_dear", f"may cost ${usd(worst):f}, over max_cost_per_item_usd (${usd(most):f})")

    def _request(
        self, key: str, item: Item, prompt_id: str, text: str, media_items: tuple[Media, ...]
    ) -> Request:
        target = self.target
        chars = estimate.text_chars(text, target.system) + target.schema_chars
        tokens = estimate.input_tokens(target.model, media_items, chars, frames=target.frames)
        tokens = estimate.text_tokens(chars) if tokens is None else tokens
        most = estimate.input_tokens_at_most(
            target.model, media_items, chars, frames=target.frames, unknown_s=self.unknown_s
        )
        return Request(key, item.item_id, prompt_id, text, media_items, item.truth, tokens, most)

    def _send(self, request: Request) -> None:
        if self._shard is None or self._in_shard >= self.shard_size:
            self._next_shard()
        assert self._shard is not None
        self._shard.write(request.to_json() + b"\n")
        self._in_shard += 1
        self.plan.to_send[self.target.model] += 1
        if self.listen is not None:
            self.listen(self.target, request)

    def _share(self, request: Request) -> None:
        mark = row_fingerprint(request.item_id, request.prompt_id)
        if self.answered.look_up([shared_key(request)], [mark]) == [AnswerState.ANSWERED]:
            self.counters.already_answered += 1
            return
        self.plan.to_share += 1
        self._list("shared").write(request.to_json() + b"\n")

    def _refuse(self, request: Request, why: Refusal, knows: AnswerState, item: Item) -> None:
        if len(self.plan.refused) < REFUSALS_SHOWN:
            self.plan.refused.append(
                {"item_id": item.item_id, "model": self.target.model, "code": why.code, "reason": why.reason}
            )
        if knows is AnswerState.SKIPPED:
            self.counters.skipped += 1  # its row is there already
            return
        line = orjson.dumps((request.to_json().decode(), why.code, why.reason))
        self._list("refused").write(line + b"\n")

    def _next_shard(self) -> None:
        if self._shard is not None:
            self._shard.close()
        path = self.plan.folder / f"{self.at}-{len(self._shards):05d}.jsonl"
        self._shards.append(path)
        self._shard, self._in_shard = path.open("wb"), 0

    def _list(self, name: str) -> BinaryIO:
        if name not in self._lists:
            self._lists[name] = (self.plan.folder / f"{self.at}-{name}.jsonl").open("wb")
        return self._lists[name]

    def close(self) -> None:
        for file in [self._shard, *self._lists.values()]:
            if file is not None:
                file.close()


class _Seen:
    """Which keys came before, within this plan: 8 bytes a key, in sorted runs that double in size.

    By 64 bits of the key: a chance hit (1 in 10**7 for a million) only leaves a request for the next run.
    """

    def __init__(self) -> None:
        self._runs: list[Any] = []

    def add(self, keys: Sequence[str]) -> list[bool]:
        """Remember these; True for each that was seen before."""
        new, _ = split_keys(keys)
        order = np.argsort(new, kind="stable")
        ranked = new[order]
        repeated = np.zeros(len(new), bool)
        repeated[order[1:]] = ranked[1:] == ranked[:-1]
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, new), len(run) - 1)
            repeated |= run[at] == new
        while self._runs and len(self._runs[-1]) <= len(ranked):
            ranked = np.sort(np.concatenate([self._runs.pop(), ranked]))
        self._runs.append(ranked)
        return list(repeated.tolist())


def shared_key(request: Request) -> str:
    """The key of a row that shares the answer of `request.key`, which another row asked for."""
    return sha256(f"{request.key}\0{request.item_id}\0{request.prompt_id}".encode()).hexdigest()


def _nameless(refusal: Refusal) -> Media:
    """Stands for a media that could not be identified, in the key of its skipped row."""
    return Media(
        uri="", source="", place="local", kind="image", mime="", identity=f"refused:{refusal.reason}"
    )


def _lines(path: Path) -> Iterator[bytes]:
    if path.exists():
        with path.open("rb") as file:
            yield from file
