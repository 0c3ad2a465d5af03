"""Media for the dispatcher: off the event loop, once per media, bounded in threads and memory.

    async with loader.delivery(plan) as delivery:     # Delivery | Refusal
        ... build the body and send it

A request whose media all travel as URLs touches no thread, no lock and no budget. Everything else runs in a
few threads; a media that several models and prompts need is read and encoded once, and is kept for a
while. The bytes of the texts in flight are limited until the `async with` ends.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from types import TracebackType
from typing import Any, Final, TypeVar

from mavi_tasks.media.encode import as_url, assemble, encode
from mavi_tasks.media.identify import identify
from mavi_tasks.media.options import DEFAULTS, MediaOptions
from mavi_tasks.media.probe_cache import Bounded, ProbeCache
from mavi_tasks.media.thread_pool import ByteBudget, ThreadPool
from mavi_tasks.media.types import (
    MB,
    Delivery,
    DeliveryPlan,
    DeliveryStep,
    Encoded,
    Kind,
    Refusal,
    Unit,
)

THREADS: Final = 3
BUDGET_BYTES: Final = 192 * MB
CACHE_BYTES: Final = 64 * MB
DECODE_BYTES: Final = 160 * MB
# What one raw byte takes in flight: 4/3 as base64 text, and as much again in the body that is sent.
_COPIES: Final = 3
_UNKNOWN_BYTES: Final = 4 * MB  # a remote media, whose size is not known before
_FRAME_BYTES: Final = 300_000
_PIXEL_BYTES: Final = 6  # decoded, and a smaller or turned copy
_UNKNOWN_PIXELS: Final = 8_000_000
_READ_S: Final = 600.0  # to hash one file, the largest from a slow disk
_GRACE_S: Final = 5.0  # beyond the deadlines inside, for a decoder stuck in one call

Result = TypeVar("Result")


class LoaderStopped(Exception):
    """The loader was stopped before this media was ready."""


class MediaLoader:
    """Prepares the media of requests. Belongs to one event loop; `await close()` when done."""

    def __init__(
        self,
        options: MediaOptions = DEFAULTS,
        *,
        probes: ProbeCache | None = None,
        threads: int = THREADS,
        budget_bytes: int = BUDGET_BYTES,
        cache_bytes: int = CACHE_BYTES,
        decode_bytes: int = DECODE_BYTES,
    ) -> None:
        self.encoded = 0  # media read and encoded so far: for reports and tests
        self.budget = ByteBudget(budget_bytes)
        self._options = options
        self._probes = probes or ProbeCache()
        self._pool = ThreadPool(threads)
        self._decoding = ByteBudget(decode_bytes)
        self._cache: Bounded[Encoded] = Bounded(cache_bytes)
        self._in_progress: dict[Hashable, asyncio.Task[Any]] = {}
        self._stopped = False

    def delivery(self, plan: DeliveryPlan) -> "PreparedMedia":
        """The media of one request: `async with` gives a Delivery or a Refusal, and frees the memory."""
        return PreparedMedia(self, plan)

    async def identify(self, ref: str, kind: Kind | None = None) -> Unit:
        """What `media.identify` gives; files are read in a thread, each once at a time."""
        if ref.startswith(("https://", "http://")):
            return identify(ref, self._options, self._probes, kind)
        work = (identify, ref, self._options, self._probes, kind)
        run = self._pool.run
        return await self._once(
            ("identify", ref, kind), lambda: _in_time(run(*work, timeout_s=_READ_S), "reading")
        )

    async def encode(self, step: DeliveryStep) -> Encoded | Refusal:
        """One media as it is sent: from the cache, from the work in progress, or encoded now."""
        if step.transport == "url":
            return as_url(step)
        key = _key(step)
        cached = self._cache.get(key)
        return cached if cached is not None else await self._once(key, lambda: self._encode(key, step))

    def stop(self) -> None:
        """Start nothing more; whoever waits for a media gets LoaderStopped now."""
        self._stopped = True
        for task in self._in_progress.values():
            task.cancel()

    async def close(self) -> None:
        """Stop, and wait until the work in progress is cancelled."""
        self.stop()
        await asyncio.gather(*self._in_progress.values(), return_exceptions=True)

    async def __aenter__(self) -> "MediaLoader":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _once(self, key: Hashable, start: Callable[[], Awaitable[Result]]) -> Result:
        """The result of the work under this key: joins the one in progress, or starts it."""
        if self._stopped:
            raise LoaderStopped
        task = self._in_progress.get(key)
        if task is None:
            task = asyncio.ensure_future(start())
            self._in_progress[key] = task
            task.add_done_callback(lambda _: self._in_progress.pop(key, None))
        # Shielded: one request that is cancelled must not take the media away from the others.
        try:
            result: Result = await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._stopped and task.cancelled():
                raise LoaderStopped from None
            raise
        return result

    async def _encode(self, key: Hashable, step: DeliveryStep) -> Encoded | Refusal:
        options = self._options
        taken = await self._decoding.take(_decode_bytes(step, options))
        try:
            self.encoded += 1
            limit_s = options.decode_timeout_s + options.download_timeout_s + _GRACE_S
            done = await _in_time(self._pool.run(encode, step, options, timeout_s=limit_s), "decoding")
        finally:
            self._decoding.give_back(taken)
        if isinstance(done, Encoded) and step.transport != "presign":  # a presigned URL expires
            self._cache.put(key, done, done.text_bytes)
        return done


class PreparedMedia:
    """One request's media, and the memory they take, until the block ends."""

    __slots__ = ("_loader", "_plan", "_taken")

    def __init__(self, loader: MediaLoader, plan: DeliveryPlan) -> None:
        self._loader, self._plan, self._taken = loader, plan, 0

    async def __aenter__(self) -> Delivery | Refusal:
        plan = self._plan
        if not plan.reads:
            return assemble(plan, [as_url(step) for step in plan.steps])
        self._taken = await self._loader.budget.take(sum(map(_weight, plan.steps)))
        try:
            return await self._gathered()
        except BaseException:
            self._give_back()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    async def _gathered(self) -> Delivery | Refusal:
        done = []
        for step in self._plan.steps:
            encoded = await self._loader.encode(step)
            if isinstance(encoded, Refusal):
                return encoded
            done.append(encoded)
        return assemble(self._plan, done)

    def _give_back(self) -> None:
        taken, self._taken = self._taken, 0
        if taken:
            self._loader.budget.give_back(taken)


async def _in_time(work: Awaitable[Result], doing: str) -> Result | Refusal:
    try:
        return await work
    except TimeoutError:
        return Refusal("media_timeout", f"{doing} it took too long and was stopped")


def _key(step: DeliveryStep) -> Hashable:
    """What decides the encoded form: the content and the form, not the model or the prompt."""
    media = step.media
    source = media.source if step.transport == "presign" else ""
    form = (step.transport, step.mimes, step.max_bytes, step.frames, step.fps, step.max_frames)
    return (media.identity, source, *form)


def _weight(step: DeliveryStep) -> int:
    """Bytes that this media takes in flight; a guess for what has not been read."""
    if step.transport == "url":
        return 0
    if step.transport == "presign":
        return 4096
    size = step.media.bytes if step.media.bytes is not None else _UNKNOWN_BYTES
    if step.transport == "frames":
        size = (step.frames or step.max_frames or 1) * _FRAME_BYTES
    return _COPIES * min(size, step.max_bytes or size)


def _decode_bytes(step: DeliveryStep, options: MediaOptions) -> int:
    """Bytes that decoding takes beside the texts; 0 when the file is sent as it is."""
    media = step.media
    if step.transport == "presign" or (step.transport == "inline" and media.kind == "video"):
        return 0
    width, height = media.width, media.height
    if width is None or height is None:
        return _PIXEL_BYTES * _UNKNOWN_PIXELS
    too_large = (media.bytes or 0) > (step.max_bytes or 0) or max(width, height) > (
        options.max_image_px or width
    )
    as_it_is = step.transport == "inline" and not too_large and (not step.mimes or media.mime in step.mimes)
    return 0 if as_it_is else _PIXEL_BYTES * width * height
