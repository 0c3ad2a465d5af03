"""A plan's requests, asked slice by slice under leases, so that two machines never pay for the same answer.

The plan is cut anew: shards hold whole slices of the key space (a large slice fills several shards), in the
manifest's order within a slice. A run takes the leases of a few shards, asks them, takes the next ones before
the first are done, and gives slices back once their answers are in the bucket: after `GIVE_BACK_REQUESTS`, at
its end, or before it waits for what others hold. So runs of one job on several machines share its work, and
none waits while it sits on what another one waits for.
"""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.errors import MaviError, StorageError
from mavi_tasks.execution.distributed.slice_leases import SLICES, SliceLeases, Taken, slice_of
from mavi_tasks.execution.worker_pool import Dispatcher
from mavi_tasks.planning.planner import Plan
from mavi_tasks.planning.target import ModelTarget, Request
from mavi_tasks.storage.answered_index import AnsweredIndex, AnswerState, row_fingerprint
from mavi_tasks.storage.journal import Journal
from mavi_tasks.storage.publish import COLUMNS, Dataset
from mavi_tasks.storage.s3.mirror import Mirror

log = logging.getLogger("mavi")

GIVE_BACK_REQUESTS: Final = 20_000
GROUPS_AT_ONCE: Final = 2  # the next one fills in while the last calls of one come back
POLL_S: Final = 2.0
WATCH_S: Final = 1.0
LOOK_UP_ROWS: Final = 1_000
_SHARD: Final = re.compile(r"-b(\d+)-(\d+)-\d+\.")

Send = Callable[[Iterator[Request]], Awaitable[None]]
Want = Callable[[Request], bool] | None


class LeasedShards:
    """The leases of one run, and what it asks under them. One event loop; not thread safe."""

    def __init__(self, mirror: Mirror, dataset: Dataset, run_id: str, *, shard_size: int) -> None:
        self._mirror, self._dataset, self._run_id = mirror, dataset, run_id
        self._shard_size = shard_size
        self.leases = SliceLeases(mirror, run_id)
        self._busy: Counter[str] = Counter()
        self._held: set[str] = set()
        self._turn = asyncio.Lock()
        self._asked = 0
        self._known: set[Path] = set()
        self._since: list[AnsweredIndex] = []
        self._told = False

    def begin(self) -> None:
        """Before the dataset is indexed: what is given back from here on is looked at again."""
        self.leases.start()
        try:
            self._mirror.refresh("results")
            self._known = self._parts()
        except BaseException:
            self.leases.close()
            raise

    def journal(self, writer: str, header: Mapping[str, Any], **options: Any) -> Journal:
        """A journal that refuses to record a send when the leases may have passed to others."""
        return _Fenced(self.leases, self._dataset.journal, writer, header, COLUMNS, **options)

    # -- the plan

    def cut(self, plan: Plan) -> None:
        """Put the requests of each model into shards of whole slices; those of a large slice share it."""
        for at, (model, shards) in enumerate(plan.shards.items()):
            if shards:
                plan.shards[model] = SlicePartitioner(plan.folder, at, self._shard_size).cut(shards)

    # -- asking

    async def ask(
        self,
        target: ModelTarget,
        counters: ModelCounters,
        shards: Sequence[Path],
        dispatcher: Dispatcher,
        send: Send,
        want: Want,
    ) -> None:
        """Ask these shards (of them, what `want` says) as their leases can be had.

        Returns when all are asked or the run has stopped.
        """
        left, name = list(shards), target.key("", ())[:12]
        most = max(1, min(GIVE_BACK_REQUESTS // self._shard_size, len(left) // 4))
        active: set[asyncio.Task[None]] = set()
        try:
            while (left and not dispatcher.stopping) or active:
                room = left and len(active) < GROUPS_AT_ONCE and not dispatcher.stopping
                group = await self._take(name, left, most) if room else []
                if group:
                    left = [shard for shard in left if shard not in group]
                    requests = self._unanswered(group, counters, want)
                    active.add(asyncio.create_task(self._asking(name, group, send(requests), dispatcher)))
                elif active:
                    done, active = await asyncio.wait(active, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
                else:
                    await self._give_back(dispatcher)
                    await dispatcher.sleep(POLL_S)
        except MaviError as error:
            dispatcher.stop("storage", str(error))
        finally:
            for task in active:
                task.cancel()
            await asyncio.gather(*active, return_exceptions=True)

    async def _take(self, name: str, left: Sequence[Path], most: int) -> list[Path]:
        """The next shards that can be had, their leases taken; what others answered since is known then."""
        async with self._turn:
            groups = [_slices(name, shard) for shard in left]
            taken = await asyncio.to_thread(self.leases.take, groups, most)
            self._tell(taken)
            if taken.groups and taken.releases != self.leases.seen_releases:
                await asyncio.to_thread(self._look_again, taken.releases)
            for at in taken.groups:
                self._busy.update(groups[at])
                self._held |= groups[at]
            return [left[at] for at in taken.groups]

    def _tell(self, taken: Taken) -> None:
        if not taken.groups and not self._told:
            self._told = True
            runs = ", ".join(taken.holders)
            log.warning("%s: waiting for %s, which is asking the rest", self._mirror.url, runs)

    async def _asking(
        self, name: str, group: Sequence[Path], work: Awaitable[None], dispatcher: Dispatcher
    ) -> None:
        try:
            await work
        finally:
            for shard in group:
                self._busy.subtract(_slices(name, shard))
        self._asked += len(group) * self._shard_size
        if self._asked >= GIVE_BACK_REQUESTS:
            await self._give_back(dispatcher)

    async def _give_back(self, dispatcher: Dispatcher) -> None:
        """Give back what is not being asked, its answers shipped first. Raises StorageError."""
        async with self._turn:
            self._asked = 0
            idle = self._idle()
            if idle:
                dispatcher.journal.roll()
                await asyncio.to_thread(self._ship_and_release, idle)

    async def hold_all(self, plan: Plan, targets: Sequence[ModelTarget], dispatcher: Dispatcher) -> None:
        """For shards that worker processes will ask: wait until the leases of all of them are had, and take
        out what another run has paid for since the plan.
        """
        shards = {target.model: list(plan.shards[target.model]) for target in targets}
        names = {target.model: target.key("", ())[:12] for target in targets}
        wanted = {name for target in targets for shard in shards[target.model]
                  for name in _slices(names[target.model], shard)}  # fmt: skip
        while wanted and not dispatcher.stopping:
            async with self._turn:
                taken = await asyncio.to_thread(self.leases.take, [wanted], 1)
                self._tell(taken)
                if taken.groups:
                    self._held |= wanted
                    if taken.releases != self.leases.seen_releases:
                        await asyncio.to_thread(self._look_again, taken.releases)
                        await asyncio.to_thread(self._strip, plan)
                    return
            await dispatcher.sleep(POLL_S)

    def _strip(self, plan: Plan) -> None:
        for model, shards in plan.shards.items():
            for shard in shards:
                left = b"".join(
                    r.to_json() + b"\n" for r in self._unanswered([shard], plan.all_counters[model])
                )
                shard.write_bytes(left)

    async def watch(self, dispatcher: Dispatcher) -> None:
        """Stop the run, its worker processes too, when its leases may have passed to others."""
        while not dispatcher.stopping:
            try:
                self.leases.check()
            except StorageError as error:
                dispatcher.stop("storage", str(error))
            await dispatcher.sleep(WATCH_S)

    async def settle(self) -> None:
        """After the journals are closed: ship everything and give it back. Raises StorageError."""
        async with self._turn:
            idle = self._idle()
            if idle and not any(self._dataset.journal.glob(f"{self._run_id}-*.jsonl")):
                await asyncio.to_thread(self._ship_and_release, idle)

    def _idle(self) -> set[str]:
        return {name for name in self._held if self._busy[name] <= 0}

    def _ship_and_release(self, names: set[str]) -> None:
        self._dataset.publish()
        if not self.shipped():
            raise StorageError(f"{self._mirror.url}: not everything could be shipped; run again")
        self.leases.release(names)
        self._held -= names

    def shipped(self) -> bool:
        """Whether nothing that this run sealed is still here only."""
        return not any(self._dataset.journal.glob(f"{self._run_id}-*.sealed"))

    def close(self) -> None:
        """The end of the run, after its publishing. Raises StorageError."""
        self.leases.close(release=self.shipped())

    # -- what others answered since the plan

    def _parts(self) -> set[Path]:
        return set((self._dataset.root / "results").rglob("*.parquet"))

    def _look_again(self, releases: int) -> None:
        self._mirror.forget()
        self._mirror.refresh("results")
        now = self._parts()
        new = [path for path in now - self._known if f"part-{self._run_id}-" not in path.name]
        self._known = now
        if new:
            self._since.append(AnsweredIndex.of_parts(new))
        self.leases.seen_releases = releases

    def _unanswered(
        self, shards: Sequence[Path], counters: ModelCounters, want: Want = None
    ) -> Iterator[Request]:
        """The requests of shards, but for those that another run has paid for since the plan."""
        requests = (Request.from_json(line) for shard in shards for line in _lines(shard))
        if want is not None:
            requests = (request for request in requests if want(request))
        while chunk := list(islice(requests, LOOK_UP_ROWS)):
            known = self._look_up(chunk)
            counters.already_answered += sum(known)
            yield from (request for request, paid in zip(chunk, known, strict=True) if not paid)

    def _look_up(self, chunk: Sequence[Request]) -> list[bool]:
        keys = [request.key for request in chunk]
        marks = [row_fingerprint(request.item_id, request.prompt_id) for request in chunk]
        paid = [False] * len(chunk)
        for index in self._since:
            paid = [
                was or known in _PAID for was, known in zip(paid, index.look_up(keys, marks), strict=True)
            ]
        return paid


class _Fenced(Journal):
    def __init__(self, leases: SliceLeases, *told: Any, **options: Any) -> None:
        self._leases = leases
        super().__init__(*told, **options)

    def intend(self, attempt: Sequence[Any]) -> None:
        self._leases.check()
        super().intend(attempt)


_PAID: Final = frozenset({AnswerState.ANSWERED, AnswerState.ANSWERED_FOR_ANOTHER, AnswerState.INVALID})


def _slices(name: str, shard: Path) -> set[str]:
    """The leases a shard needs, by what its name says of it."""
    found = _SHARD.search(shard.name)
    assert found is not None, shard
    return {f"{name}/{number:02}" for number in range(int(found[1]), int(found[2]) + 1)}


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


class SlicePartitioner:
    """Shards in the manifest's order -> shards by slice. The lines are moved as they are."""

    def __init__(self, folder: Path, at: int, size: int) -> None:
        self._folder, self._at, self._size = folder, at, size
        self._made: list[Path] = []
        self._out: BinaryIO | None = None
        self._first = self._last = self._lines = 0

    def cut(self, shards: Sequence[Path]) -> list[Path]:
        for number, path, lines in self._by_slice(shards):
            if self._lines + lines > self._size:
                self._close()
            for line in _lines(path):
                if self._lines >= self._size:
                    self._close()
                self._write(number, line)
            path.unlink()
        self._close()
        return self._made

    def _by_slice(self, shards: Sequence[Path]) -> list[tuple[int, Path, int]]:
        paths = [self._folder / f"{self._at}-slice-{number:02}" for number in range(SLICES)]
        counts = [0] * SLICES
        with ExitStack() as stack:
            files = [stack.enter_context(path.open("wb")) for path in paths]
            for shard in shards:
                for line in _lines(shard):
                    number = slice_of(line[2:4].decode())  # a line begins with its key: ["0f...
                    files[number].write(line)
                    counts[number] += 1
                shard.unlink()
        return list(zip(range(SLICES), paths, counts, strict=True))

    def _write(self, number: int, line: bytes) -> None:
        if self._out is None:
            self._out, self._first = (self._folder / f"{self._at}-cutting").open("wb"), number
        self._out.write(line)
        self._last = number
        self._lines += 1

    def _close(self) -> None:
        if self._out is not None:
            self._out.close()
            name = f"{self._at}-b{self._first:02}-{self._last:02}-{len(self._made):05}.jsonl"
            self._made.append((self._folder / f"{self._at}-cutting").replace(self._folder / name))
            self._out, self._lines = None, 0
