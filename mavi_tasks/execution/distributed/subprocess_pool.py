"""`runner: processes`: the shards of a run asked by processes of this machine; no Prefect, no cluster.

The parent hands out shards, two of a model to each worker at a time, adds up what they report, and publishes.
A worker is `python -m` this module with lines of JSON on its pipes; it leaves no shard half-recorded that
its journal does not tell of, so one that dies is replaced, and its shards are asked again for what they have
left.

    to a worker     its setting (a pickle), then {"id": 1, "model": .., "shard": .., "again": ..}; end: finish
    from a worker   {"told": [..]} now and then, {"done": 1}, at its end {"bye": true}
"""

import asyncio
import base64
import contextlib
import itertools
import logging
import os
import pickle
import signal
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import orjson

from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.common.event_loop import fast_loop, tune_gc
from mavi_tasks.errors import MaviError
from mavi_tasks.execution.distributed import worker as workers
from mavi_tasks.execution.distributed.worker import (
    LOOK_EVERY_S,
    CounterSnapshot,
    WorkerConfig,
    WorkerSession,
    setting_of,
)
from mavi_tasks.execution.run import RequestFilter, Run
from mavi_tasks.limits.shared import StoreError
from mavi_tasks.storage import run_totals

log = logging.getLogger("mavi")

IN_HAND: Final = 2  # shards of one model a worker has: the next one fills in while one's last calls come back
MOST_DEATHS: Final = 3  # of workers in a row that did not finish a single shard
LAST_WORDS_S: Final = 20.0  # for workers told to stop now
LINE_BYTES: Final = 64 << 20


async def ask_all(run: Run, want: RequestFilter | None = None) -> None:
    """Ask everything the plan has left (of it, what `want` says) by worker processes."""
    assert run.plan is not None and run.dispatcher is not None
    setting = setting_of(run)
    if want is not None:
        _keep_only(run, want)
    if not await make_ready(run, setting):
        return
    base = {counters.model: copy_of(counters) for counters in run.all_counters}
    crew, reported = SubprocessPool(run, setting), False
    try:
        await crew.work()
        reported = not crew.deaths
    finally:
        if not reported:
            count_again(run, base)


async def make_ready(run: Run, setting: WorkerConfig) -> bool:
    """Ask the shared stores once, and put what may be spent into the ledger; False: the run has stopped."""
    assert run.dispatcher is not None
    try:
        await workers.probe(setting)
        if setting.on_ledger:
            ledger = workers.ledger_of(setting)
            await ledger.open(Run._budget(run).remaining_pico or 0)
            await ledger.close()
    except StoreError as error:
        run.dispatcher.stop("store", f"the store that workers share cannot be asked: {error}")
        return False
    return True


async def bury(run: Run, setting: WorkerConfig) -> None:
    """Publish what dead workers left, and give back what they had of the budget and did not spend."""
    await asyncio.to_thread(run.dataset.publish)
    if not setting.on_ledger:
        return
    ledger = workers.ledger_of(setting)
    for writer in await ledger.holders():
        if not (run.dataset.journal / f"{writer}.lock").exists():  # cleared when a dead writer is published
            spent = await asyncio.to_thread(run_totals.spent_pico, run.dataset.root, writer)
            await ledger.reclaim(writer, spent)
    await ledger.close()


def copy_of(counters: ModelCounters) -> ModelCounters:
    """The counts of now; latencies are only ever added to."""
    return replace(counters, errors=dict(counters.errors))


def count_again(run: Run, base: dict[str, ModelCounters]) -> None:
    """Take the counts from what is recorded: a worker that died, or ran a shard twice, could not tell them.

    base: the all_counters before the workers began.
    """
    assert run.plan is not None and run.dispatcher is not None
    run.dispatcher.journal.roll()
    run.dataset.publish()
    recorded = run_totals.all_counters(run.dataset.root, run.run_id)
    for target in run.targets:
        counters, before = run.plan.all_counters[target.model], base[target.model]
        found = recorded.get(target.model, ModelCounters(target.model))
        known = before.skipped - sum(1 for _ in run.plan.read_refused(target))  # told in earlier runs
        for name in workers.COUNTED:
            if name != "already_answered":
                setattr(counters, name, getattr(found, name))
        counters.skipped += known
        counters.errors, counters.latencies = found.errors, found.latencies
        room = counters.requests - (counters.finished - counters.already_answered)
        counters.already_answered = min(counters.already_answered, room)


def _keep_only(run: Run, want: RequestFilter) -> None:
    """Cut the shards down to the wanted requests."""
    assert run.plan is not None
    for shards in run.plan.shards.values():
        for shard in shards:
            kept = [request.to_json() + b"\n" for request in run.plan.read([shard]) if want(request)]
            shard.write_bytes(b"".join(kept))


# -- the parent's side


@dataclass
class _Worker:
    """One worker process, as the parent sees it."""

    name: str
    process: asyncio.subprocess.Process
    in_hand: dict[int, "ShardAssignment"] = field(default_factory=dict)
    told: dict[str, CounterSnapshot] = field(default_factory=dict)
    finished: int = 0
    ended: bool = False

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(orjson.dumps(message) + b"\n")


@dataclass(frozen=True, slots=True)
class ShardAssignment:
    model: str
    shard: Path
    again: bool = False


class SubprocessPool:
    """The worker processes of one run."""

    def __init__(self, run: Run, setting: WorkerConfig) -> None:
        assert run.plan is not None and run.dispatcher is not None
        self.run, self.setting, self.plan, self.dispatcher = run, setting, run.plan, run.dispatcher
        self.deaths = 0
        self._barren = 0
        self._queues = {
            model: deque(ShardAssignment(model, shard) for shard in shards)
            for model, shards in run.plan.shards.items()
        }
        self._numbers, self._names = itertools.count(1), itertools.count(1)
        self._workers: list[_Worker] = []

    async def work(self) -> None:
        """Until every shard is done, or the run has stopped and what is in flight has come back."""
        shards = sum(map(len, self._queues.values()))
        count = min(self.setting.workers, shards)
        watch = asyncio.create_task(self._watch())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(count):
                    group.create_task(self._keep_one())
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
        finally:
            watch.cancel()
            await self._end_all()

    async def _keep_one(self) -> None:
        """One worker, and another one in its place when it dies, while there is work."""
        while any(self._queues.values()) and not self.dispatcher.stopping:
            worker = await self._start()
            try:
                await self._serve(worker)
            finally:
                self._workers.remove(worker)
            if worker.ended:
                return
            await self._mourn(worker)

    async def _start(self) -> _Worker:
        name = f"w{next(self._names)}"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mavi_tasks.execution.distributed.subprocess_pool", name,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
            start_new_session=True,  # Ctrl-C is for the parent, which has them finish
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(base64.b64encode(pickle.dumps(self.setting)) + b"\n")
        worker = _Worker(name, process)
        self._workers.append(worker)
        self._hand_out(worker)
        return worker

    def _hand_out(self, worker: _Worker) -> None:
        """Fill the worker's hands; one that has nothing left to come is told to finish."""
        assert worker.process.stdin is not None
        for model, queue in self._queues.items():
            if self.plan.all_counters[model].stopped is not None or self.dispatcher.stopping:
                queue.clear()
            held = sum(errand.model == model for errand in worker.in_hand.values())
            while queue and held < IN_HAND:
                errand, number, held = queue.popleft(), next(self._numbers), held + 1
                worker.in_hand[number] = errand
                worker.send({"id": number, "model": model, "shard": str(errand.shard), "again": errand.again})
        if not worker.in_hand and not worker.process.stdin.is_closing():
            worker.process.stdin.close()

    async def _serve(self, worker: _Worker) -> None:
        """Take the worker's reports until it ends."""
        assert worker.process.stdout is not None
        async for line in worker.process.stdout:
            if not line.endswith(b"\n"):
                break  # its last words, cut short
            message = orjson.loads(line)
            for values in message.get("told", ()):
                self._take(worker, CounterSnapshot.from_json(values))
            if "done" in message:
                del worker.in_hand[message["done"]]
                worker.finished += 1
                self._hand_out(worker)
            if "stopped" in message:
                self.dispatcher.stop(*message["stopped"])
            worker.ended = worker.ended or "bye" in message
        await worker.process.wait()

    def _take(self, worker: _Worker, told: CounterSnapshot) -> None:
        workers.add(told, self.plan.all_counters[told.model], but=worker.told.get(told.model))
        worker.told[told.model] = told
        if told.run_stopped is not None:
            self.dispatcher.stop(*told.run_stopped)

    async def _mourn(self, worker: _Worker) -> None:
        """A worker died: its shards go to another, for what they have left."""
        self.deaths += 1
        self._barren = 0 if worker.finished else self._barren + 1
        if not self.dispatcher.stopping:
            log.warning("worker %s died (%s); its shards go on", worker.name, worker.process.returncode)
        for errand in reversed(worker.in_hand.values()):
            self._queues[errand.model].appendleft(replace(errand, again=True))
        if self._barren >= MOST_DEATHS:
            self.dispatcher.stop(
                "workers",
                f"{self._barren} worker processes in a row died (exit status {worker.process.returncode}); "
                "what they recorded is kept. Look at what they wrote to stderr, or use runner: threads",
            )
        with contextlib.suppress(MaviError):  # the store is out: what it had stays counted as spent
            await bury(self.run, self.setting)

    async def _watch(self) -> None:
        """Pass the run's stop on to the workers."""
        while not self.dispatcher.stopping:  # noqa: ASYNC110 - 4 looks a second are cheap
            await asyncio.sleep(LOOK_EVERY_S)
        workers.stop(self.plan.folder, self.dispatcher.stop_reason or "", self.dispatcher.stop_message or "")

    async def _end_all(self) -> None:
        """Whoever is still there stops now: its calls in flight are in doubt, and recorded so."""
        left = list(self._workers)
        for worker in left:
            with contextlib.suppress(ProcessLookupError):
                worker.process.terminate()
        for worker in left:
            try:
                await asyncio.wait_for(worker.process.wait(), LAST_WORDS_S)
            except TimeoutError:
                worker.process.kill()
                await worker.process.wait()


# -- the worker's side


async def _work(
    name: str, setting: WorkerConfig, lines: "asyncio.Queue[bytes]", say: Callable[[dict[str, Any]], None]
) -> None:
    part = WorkerSession.open(setting)
    all_counters = {target.model: ModelCounters(target.model) for target in part.targets}
    sent: dict[str, CounterSnapshot] = {}

    def report(*, last: bool = False) -> list[dict[str, Any]]:
        now = [
            CounterSnapshot.of(counters, part.dispatcher, latencies=last)
            for counters in all_counters.values()
        ]
        news = [told for told in now if last or sent.get(told.model) != told]
        sent.update({told.model: told for told in news})
        return [told.to_json() for told in news]

    async def reports() -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            say({"told": report()})

    async def errand(message: dict[str, Any]) -> None:
        model, shard = message["model"], Path(message["shard"])
        await part.ask_shard(model, shard, all_counters[model], again=message["again"])
        say({"told": report(), "done": message["id"]})

    async with part.working(name), _cancelled_after(reports()), asyncio.TaskGroup() as group:
        while line := await lines.get():
            group.create_task(errand(orjson.loads(line)))
    say({"told": report(last=True), "bye": True})


@contextlib.asynccontextmanager
async def _cancelled_after(work: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()


async def _main(name: str, out: Any) -> None:
    """Read the setting, then errands until the pipe ends; SIGTERM cancels what is in flight."""
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[bytes]()
    setting: WorkerConfig = pickle.loads(base64.b64decode(sys.stdin.buffer.readline()))  # noqa: S301 - our parent's

    def read() -> None:
        for line in sys.stdin.buffer:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, b"")

    threading.Thread(target=read, daemon=True).start()

    def say(message: dict[str, Any]) -> None:
        out.write(orjson.dumps(message) + b"\n")
        out.flush()

    work = asyncio.create_task(_work(name, setting, lines, say))
    with contextlib.suppress(NotImplementedError):  # Windows ends the process, which the journal survives
        loop.add_signal_handler(signal.SIGTERM, work.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await work
    except* MaviError as errors:  # what the parent tells its user, who needs no traceback
        first = next(_single(errors))
        say({"stopped": ["store" if isinstance(first, StoreError) else "storage", str(first)]})


def _single(errors: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _single(error)
        else:
            yield error


def main() -> None:
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print must not mix with the reports
    tune_gc()
    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        runner.run(_main(sys.argv[1], out))
    sys.stderr.flush()
    os._exit(0)  # all is closed; the thread that may still read stdin would make an ordinary end a crash


if __name__ == "__main__":
    main()
