"""A plan's shards sent under leases, so that two machines never pay for the same answer.

The plan's shards hold whole slices of the key space. A run takes the leases of a few shards, sends them,
takes the next ones before the first are done, and releases slices once their answers are in the bucket: after
`RELEASE_AFTER_REQUESTS`, at its end, or before it waits for what others hold. So runs of one job on several
machines divide its work, and none waits while it holds what another one waits for.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.errors import MaviError, StorageError
from mavi_tasks.execution.dispatcher import Dispatcher
from mavi_tasks.execution.distributed.slice_leases import SliceLeases, Taken
from mavi_tasks.execution.worker_pool import send_all
from mavi_tasks.limits import ModelLimiter
from mavi_tasks.planning import spool
from mavi_tasks.planning.context import RunContext
from mavi_tasks.planning.request import Request
from mavi_tasks.planning.spool import Plan, slices_of
from mavi_tasks.planning.target import ModelTarget
from mavi_tasks.storage.answered_index import AnsweredIndex
from mavi_tasks.storage.publish import Dataset
from mavi_tasks.storage.s3 import mirror_of
from mavi_tasks.storage.s3.mirror import Mirror

log = logging.getLogger("mavi")

RELEASE_AFTER_REQUESTS: Final = 20_000
GROUPS_AT_ONCE: Final = 2  # the next one fills in while the last calls of one come back
POLL_S: Final = 2.0
WATCH_S: Final = 1.0
LOOK_UP_ROWS: Final = 1_000


class LeasedShards:
    """The leases of one run, and what it sends under them. One event loop; not thread safe."""

    def __init__(
        self,
        mirror: Mirror,
        dataset: Dataset,
        run_id: str,
        *,
        shard_size: int,
        progress: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._mirror, self._dataset, self._run_id = mirror, dataset, run_id
        self._shard_size = shard_size
        self.leases = SliceLeases(mirror, run_id, progress=progress)
        self._busy: Counter[str] = Counter()
        self._held: set[str] = set()
        self._exclusive = asyncio.Lock()
        self._sent = 0
        self._known: set[Path] = set()
        self._since: list[AnsweredIndex] = []
        self._warned = False

    @classmethod
    def of_bucket(
        cls, context: RunContext, progress: Callable[[], Mapping[str, Any]]
    ) -> "LeasedShards | None":
        """Begun for a dataset in a bucket: other machines may send the same. None for a local dataset.

        progress: how far the run is, for other machines; called in another thread.
        """
        mirror = mirror_of(context.dataset.root)
        if mirror is None:
            return None
        leased = cls(
            mirror,
            context.dataset,
            context.run_id,
            shard_size=context.job.shard_size,
            progress=progress,
        )
        leased._begin()
        return leased

    def _begin(self) -> None:
        """Before the dataset is indexed: what is released from here on is looked at again."""
        self.leases.start()
        try:
            self._mirror.refresh("results")
            self._known = self._parts()
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Nothing was sent: release what is held."""
        self.leases.close()

    def check(self) -> None:
        """Raise StorageError when the leases may have passed to others: nothing more may be sent then."""
        self.leases.check()

    # -- sending

    async def send(
        self,
        dispatcher: Dispatcher,
        target: ModelTarget,
        limiter: ModelLimiter,
        shards: Sequence[Path],
        counters: ModelCounters,
        only: Callable[[Request], bool] | None = None,
    ) -> None:
        """Send these shards (of them, what `only` lets through) as their leases can be had.

        Returns when all are recorded or the run has stopped.
        """
        left, name = list(shards), target.key("", ())[:12]
        most = max(1, min(RELEASE_AFTER_REQUESTS // self._shard_size, len(left) // 4))
        active: set[asyncio.Task[None]] = set()
        try:
            while (left and not dispatcher.stopping) or active:
                room = left and len(active) < GROUPS_AT_ONCE and not dispatcher.stopping
                group = await self._acquire(name, left, most) if room else []
                if group:
                    left = [shard for shard in left if shard not in group]
                    requests = self._unanswered(group, counters, only)
                    work = send_all(dispatcher, target, limiter, requests, counters)
                    active.add(asyncio.create_task(self._send_group(name, group, work, dispatcher)))
                elif active:
                    done, active = await asyncio.wait(active, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
                else:
                    await self._release(dispatcher)
                    await dispatcher.sleep(POLL_S)
        except MaviError as error:
            dispatcher.stop("storage", str(error))
        finally:
            for task in active:
                task.cancel()
            await asyncio.gather(*active, return_exceptions=True)

    async def _acquire(self, name: str, left: Sequence[Path], most: int) -> list[Path]:
        """The next shards whose leases are free, taken; what others answered since is known then."""
        async with self._exclusive:
            groups = [_lease_names(name, shard) for shard in left]
            taken = await asyncio.to_thread(self.leases.take, groups, most)
            self._warn(taken)
            if taken.groups and taken.releases != self.leases.seen_releases:
                await asyncio.to_thread(self._look_again, taken.releases)
            for position in taken.groups:
                self._busy.update(groups[position])
                self._held |= groups[position]
            return [left[position] for position in taken.groups]

    def _warn(self, taken: Taken) -> None:
        if not taken.groups and not self._warned:
            self._warned = True
            runs = ", ".join(taken.holders)
            log.warning("%s: waiting for %s, which holds the rest", self._mirror.url, runs)

    async def _send_group(
        self, name: str, group: Sequence[Path], work: Awaitable[None], dispatcher: Dispatcher
    ) -> None:
        try:
            await work
        finally:
            for shard in group:
                self._busy.subtract(_lease_names(name, shard))
        self._sent += len(group) * self._shard_size
        if self._sent >= RELEASE_AFTER_REQUESTS:
            await self._release(dispatcher)

    async def _release(self, dispatcher: Dispatcher) -> None:
        """Release what is not being sent, its answers shipped first. Raises StorageError."""
        async with self._exclusive:
            self._sent = 0
            idle = self._idle()
            if idle:
                dispatcher.journal.roll()
                await asyncio.to_thread(self._ship_and_release, idle)

    async def acquire_all(self, plan: Plan, targets: Sequence[ModelTarget], dispatcher: Dispatcher) -> None:
        """For shards that worker processes will send: wait for the leases of all of them, and remove what
        another run has paid for since the plan.
        """
        shards = {target.model: list(plan.shards[target.model]) for target in targets}
        names = {target.model: target.key("", ())[:12] for target in targets}
        wanted = {name for target in targets for shard in shards[target.model]
                  for name in _lease_names(names[target.model], shard)}  # fmt: skip
        while wanted and not dispatcher.stopping:
            async with self._exclusive:
                taken = await asyncio.to_thread(self.leases.take, [wanted], 1)
                self._warn(taken)
                if taken.groups:
                    self._held |= wanted
                    if taken.releases != self.leases.seen_releases:
                        await asyncio.to_thread(self._look_again, taken.releases)
                        await asyncio.to_thread(self._remove_answered, plan)
                    return
            await dispatcher.sleep(POLL_S)

    def _remove_answered(self, plan: Plan) -> None:
        for model, shards in plan.shards.items():
            for shard in shards:
                spool.rewrite(shard, partial(self._drop_answered, counters=plan.all_counters[model]))

    async def watch(self, dispatcher: Dispatcher) -> None:
        """Stop the run, its worker processes too, when its leases may have passed to others."""
        while not dispatcher.stopping:
            try:
                self.leases.check()
            except StorageError as error:
                dispatcher.stop("storage", str(error))
            await dispatcher.sleep(WATCH_S)

    async def release_all(self) -> None:
        """After the journals are closed: ship everything and release it. Raises StorageError."""
        async with self._exclusive:
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
        self, shards: Sequence[Path], counters: ModelCounters, only: Callable[[Request], bool] | None
    ) -> Iterator[Request]:
        return self._drop_answered(filter(only, spool.read(shards)), counters)

    def _drop_answered(self, requests: Iterable[Request], counters: ModelCounters) -> Iterator[Request]:
        """These requests, but for those that another run has paid for since the plan."""
        rest = iter(requests)
        while chunk := list(islice(rest, LOOK_UP_ROWS)):
            unanswered = chunk
            for index in self._since:
                unanswered = index.unanswered(unanswered)
            counters.already_answered += len(chunk) - len(unanswered)
            yield from unanswered


def _lease_names(model_name: str, shard: Path) -> set[str]:
    """The leases a shard needs: one for each slice it holds."""
    return {f"{model_name}/{number:02}" for number in slices_of(shard)}
