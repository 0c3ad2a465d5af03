"""A worker process of `runner: processes`: lines of JSON in, lines of JSON out (subprocess_pool.py).

in      its config (a pickle), then {"id": 1, "model": .., "shard": .., "again": ..}; end of input: finish
out     {"counts": [..]} now and then, {"done": 1}, at its end {"finished": true}
"""

import asyncio
import base64
import contextlib
import os
import pickle
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.common.event_loop import fast_loop, tune_gc
from mavi_tasks.common.screen import log_to_stderr
from mavi_tasks.errors import MaviError
from mavi_tasks.execution.distributed.coordination import LOOK_EVERY_S, WorkerConfig
from mavi_tasks.execution.distributed.counter_snapshot import CounterSnapshot
from mavi_tasks.execution.distributed.worker import WorkerSession
from mavi_tasks.limits.shared import StoreError

Send = Callable[[dict[str, Any]], None]


async def _work(name: str, config: WorkerConfig, lines: "asyncio.Queue[bytes]", send: Send) -> None:
    session = WorkerSession(config)
    all_counters = {target.model: ModelCounters(target.model) for target in session.context.targets}
    sent: dict[str, CounterSnapshot] = {}

    def changed(*, last: bool = False) -> list[dict[str, Any]]:
        now = [CounterSnapshot.of(one, session.stop, latencies=last) for one in all_counters.values()]
        new = [snapshot for snapshot in now if last or sent.get(snapshot.model) != snapshot]
        sent.update({snapshot.model: snapshot for snapshot in new})
        return [snapshot.to_json() for snapshot in new]

    async def report_regularly() -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            send({"counts": changed()})

    async def send_shard(message: dict[str, Any]) -> None:
        model, shard = message["model"], Path(message["shard"])
        await session.send_shard(model, shard, all_counters[model], again=message["again"])
        send({"counts": changed(), "done": message["id"]})

    async with session.opened(name), _cancelled_after(report_regularly()), asyncio.TaskGroup() as group:
        while line := await lines.get():
            group.create_task(send_shard(orjson.loads(line)))
    send({"counts": changed(last=True), "finished": True})


@contextlib.asynccontextmanager
async def _cancelled_after(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()


async def _main(name: str, out: BinaryIO) -> None:
    """Read the config, then shards until the pipe ends; SIGTERM cancels what is in flight."""
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[bytes]()
    config: WorkerConfig = pickle.loads(base64.b64decode(sys.stdin.buffer.readline()))  # noqa: S301 - our parent's

    def read() -> None:
        for line in sys.stdin.buffer:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, b"")

    threading.Thread(target=read, daemon=True).start()

    def send(message: dict[str, Any]) -> None:
        out.write(orjson.dumps(message) + b"\n")
        out.flush()

    work = asyncio.create_task(_work(name, config, lines, send))
    with contextlib.suppress(NotImplementedError):  # Windows ends the process, which the journal survives
        loop.add_signal_handler(signal.SIGTERM, work.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await work
    except* MaviError as errors:  # the parent shows it to its user, who needs no traceback
        first = next(_single(errors))
        send({"stopped": ["store" if isinstance(first, StoreError) else "storage", str(first)]})


def _single(errors: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _single(error)
        else:
            yield error


def main() -> None:
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print must not mix with the reports
    log_to_stderr()
    tune_gc()
    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        runner.run(_main(sys.argv[1], out))
    sys.stderr.flush()
    os._exit(0)  # all is closed; the thread that may still read stdin would make an ordinary end a crash


if __name__ == "__main__":
    main()
