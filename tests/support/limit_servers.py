"""Simulated servers with limits of their own, and many workers that call them through a ModelLimiter."""

import asyncio
import random
from dataclasses import dataclass, field

from mavi_tasks.limits import LimitChange, ModelLimiter
from tests.support.clock import FakeClock


@dataclass
class RateServer:
    """A token bucket: `rate_per_s`, `burst`; a 429 comes after `refusal_s` (None: as late as an answer)."""

    rate_per_s: float
    burst: float
    latency_s: float = 0.3
    jitter: float = 0.0
    refusal_s: float | None = 0.01
    retry_after_s: float | None = None
    new_rates: tuple[tuple[float, float], ...] = ()
    scattered: float = 0.0
    """The share of requests refused at random, whatever their rate: others use the same quota."""
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    _level: float | None = None
    _at: float = 0.0
    _began: float | None = None

    def capacity_per_s(self) -> float:
        return self.rate_per_s

    @property
    def in_flight(self) -> int:
        """Requests under way at the full rate."""
        return int(self.rate_per_s * self.latency_s)

    def take(self, now: float) -> bool:
        if self._began is None:
            self._began = now
        for after_s, rate in self.new_rates:
            if now - self._began >= after_s:
                self.rate_per_s = rate
        if self._level is None:
            self._level = self.burst
        self._level = min(self.burst, self._level + (now - self._at) * self.rate_per_s)
        self._at = now
        if self._level < 1 - 1e-9:
            return False
        self._level -= 1
        return True

    def scatters(self) -> bool:
        return bool(self.scattered) and self.rng.random() < self.scattered

    def draw_latency(self) -> float:
        return self.latency_s * (1 + self.jitter * self.rng.uniform(-1, 1))

    async def ask(self, clock: FakeClock) -> bool:
        latency_s = self.draw_latency()
        if not self.scatters() and self.take(clock.now()):
            await clock.sleep(latency_s)
            return True
        await clock.sleep(latency_s if self.refusal_s is None else self.refusal_s)
        return False


@dataclass
class SlotServer(RateServer):
    """So many at a time, else 429; `rate_per_s` and `burst` are not used."""

    slots: int = 20
    rate_per_s: float = 0.0
    burst: float = 0.0
    busy: int = 0

    def capacity_per_s(self) -> float:
        return self.slots / self.latency_s

    async def ask(self, clock: FakeClock) -> bool:
        latency_s = self.draw_latency()
        if self.scatters() or self.busy >= self.slots:
            await clock.sleep(latency_s if self.refusal_s is None else self.refusal_s)
            return False
        self.busy += 1
        await clock.sleep(latency_s)
        self.busy -= 1
        return True


@dataclass
class QueueServer(RateServer):
    """Never refuses: beyond `rate_per_s` it queues, and latency grows."""

    free_at: float = 0.0

    async def ask(self, clock: FakeClock) -> bool:
        self.free_at = max(self.free_at, clock.now()) + 1 / self.rate_per_s
        await clock.sleep(self.free_at - clock.now() + self.draw_latency())
        return True


@dataclass
class Seen:
    """What one simulated run came to."""

    attempts: int = 0
    ok: int = 0
    throttled: int = 0
    warm_ok: int = 0
    warm_throttled: int = 0
    warm_s: float = 0.0
    wall_s: float = 0.0
    mean_latency_s: float = 0.0
    capacity_per_s: float = 0.0
    changes: list[LimitChange] = field(default_factory=list)

    @property
    def warm_use(self) -> float:
        """Share of what the server would have answered after the warm-up."""
        return self.warm_ok / self.warm_s / self.capacity_per_s

    @property
    def throttled_share(self) -> float:
        return self.throttled / self.attempts


def ask_many(
    server: RateServer,
    *,
    for_s: float = 120.0,
    warm_up_s: float = 30.0,
    workers: int = 600,
    **configured: object,
) -> Seen:
    """Workers ask without a pause for `for_s` virtual seconds."""
    clock = FakeClock()
    seen = Seen()
    limits = {"requests_per_minute": None, "tokens_per_minute": None, "concurrency": None} | configured
    limiter = ModelLimiter("gpt:sim", clock=clock, on_change=seen.changes.append, **limits)
    began = clock.now()

    async def work() -> None:
        while clock.now() < began + for_s:
            permit = await limiter.acquire(100)
            sent = clock.now()
            ok = await server.ask(clock)
            warm = sent >= began + warm_up_s
            seen.attempts += 1
            seen.ok += ok
            seen.throttled += not ok
            seen.warm_ok += ok and warm and sent < began + for_s
            seen.warm_throttled += (not ok) and warm
            seen.mean_latency_s += clock.now() - sent
            limiter.release(
                permit, "ok" if ok else "throttled", retry_after_s=None if ok else server.retry_after_s
            )
            if not ok and server.retry_after_s is None:
                await back_off(clock, server.rng)

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(workers)))

    clock.run(main)
    seen.warm_s, seen.wall_s = for_s - warm_up_s, clock.now() - began
    seen.mean_latency_s /= seen.attempts
    seen.capacity_per_s = server.capacity_per_s()
    return seen


async def back_off(clock: FakeClock, rng: random.Random) -> None:
    """Wait as a refused request does by itself."""
    await clock.sleep(rng.uniform(0.5, 1.0))


def answer_all(server: RateServer, count: int, *, concurrency: int | None, workers: int = 2000) -> float:
    """The virtual seconds until `count` requests are answered, each retried until it is."""
    clock = FakeClock()
    limiter = ModelLimiter(
        "gpt:sim", requests_per_minute=None, tokens_per_minute=None, concurrency=concurrency, clock=clock
    )
    requests = iter(range(count))

    async def work() -> None:
        for _ in requests:
            while True:
                permit = await limiter.acquire(100)
                ok = await server.ask(clock)
                limiter.release(permit, "ok" if ok else "throttled")
                if ok:
                    break
                await back_off(clock, server.rng)

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(min(workers, count))))

    began = clock.now()
    clock.run(main)
    return clock.now() - began
