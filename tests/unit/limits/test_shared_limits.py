"""Limits and dollars shared by several workers: leases, the stores they come from, portions of a budget."""

import asyncio
import itertools
import stat
import subprocess
import sys
import time

import fakeredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mavi_tasks.limits import ModelDown, ModelLimiter
from mavi_tasks.limits.shared import (
    LeaseClock,
    LeasedBudget,
    LeasedRateGate,
    MemoryRateLeases,
    StoreError,
    limit_name,
)
from mavi_tasks.limits.shared.budget_ledger import exchange, opened
from mavi_tasks.limits.shared.file_store import FileLedger, FileRateLeases, machine_folder
from mavi_tasks.limits.shared.redis_store import RedisLedger, RedisRateLeases
from tests.support.clock import FakeClock
from tests.support.gateways import REPOSITORY, environment

MODEL = "gemini:gemini-2.5-flash"


class Account:
    """Workers on one limit in virtual time; `sent` holds the instants of all sends, from 0."""

    def __init__(self, workers, *, rpm=None, tpm=None, tokens=0, latency_s=0.1, concurrency=64):
        self.clock, self.sent, self.of = FakeClock(), [], {}
        self.store = MemoryRateLeases(self.clock)
        self.workers, self.tokens, self.latency_s, self.most = workers, tokens, latency_s, concurrency
        self.rates = {"requests_per_minute": rpm, "tokens_per_minute": tpm, "clock": self.clock}

    def limiter(self, store=None):
        gate = LeasedRateGate(store or self.store, "x", workers=self.workers, **self.rates)
        return ModelLimiter(MODEL, concurrency=self.most, gate=gate, **self.rates)

    async def work(self, number, until_s, limiter):
        async def one():
            while self.clock.now() < 1000 + until_s:
                permit = await limiter.acquire(self.tokens)
                self.sent.append(self.clock.now() - 1000)
                self.of[number] = self.of.get(number, 0) + 1
                await self.clock.sleep(self.latency_s)
                limiter.release(permit, "ok", used_tokens=self.tokens)

        await asyncio.gather(*(one() for _ in range(self.most)))
        await limiter.close()

    def run(self, *seconds):
        """One worker for each number of seconds."""

        async def main():
            await asyncio.gather(*(self.work(n, s, self.limiter()) for n, s in enumerate(seconds)))

        self.clock.run(main)
        self.sent = sorted(at for at in self.sent if at < max(seconds))
        return self

    def most_in(self, window_s):
        most = first = 0
        for last, at in enumerate(self.sent):
            while self.sent[first] <= at - window_s:
                first += 1
            most = max(most, last - first + 1)
        return most


# -- one limit, many workers


@pytest.mark.parametrize("rpm", [60, 600, 6000])
def test_four_workers_use_a_limit_and_never_exceed_it(rpm):
    account = Account(4, rpm=rpm).run(*[120] * 4)
    assert len(account.sent) >= 0.95 * rpm * 2
    assert account.most_in(60) <= rpm
    assert account.most_in(1) <= rpm / 60 * 1.03 + 4


def test_a_worker_gets_what_the_others_do_not_use():
    account = Account(4, rpm=6000).run(60, 5, 5, 5)
    assert len([at for at in account.sent if 10 <= at < 60]) >= 0.95 * 100 * 50
    assert account.most_in(1) <= 107


def test_workers_that_all_want_more_get_equal_shares():
    account = Account(4, rpm=6000).run(*[30] * 4)
    assert max(account.of.values()) <= 1.1 * min(account.of.values())


def test_tokens_per_minute_are_shared_too():
    account = Account(4, tpm=600_000, tokens=1000).run(*[60] * 4)
    assert 0.95 * 600 <= len(account.sent) <= 600


def test_tokens_that_were_not_used_are_there_for_the_next():
    account = Account(2, tpm=60_000, tokens=1000)

    async def main():
        limiter = account.limiter()
        for _ in range(10):
            limiter.release(await limiter.acquire(1000), "ok", used_tokens=0)
        await limiter.close()
        return account.clock.now() - 1000

    assert account.clock.run(main) < 3  # 10,000 tokens would be 10 s


def test_a_worker_without_requests_takes_no_leases():
    account = Account(2, rpm=60)

    async def main():
        limiter = account.limiter()
        await account.clock.sleep(30)
        await limiter.close()
        return await account.store.lease("x", 1.0)

    assert account.clock.run(main) == 0.0


def test_an_unsent_permit_is_given_back_once():
    account = Account(1, rpm=600, tpm=1000)

    async def main():
        limiter = account.limiter()
        permit = await limiter.acquire(10)
        limiter.give_back(permit)
        with pytest.raises(ValueError, match="released before"):
            limiter.give_back(permit)
        await limiter.close()

    account.clock.run(main)


class Out:
    """A store that is out for a while; infinite is for good."""

    def __init__(self, clock, store, until_s, error=StoreError):
        self.clock, self.store, self.until_s, self.error, self.asked = clock, store, until_s, error, 0

    async def lease(self, limit, spacing_s):
        self.asked += 1
        if self.clock.now() < self.until_s:
            raise self.error("connection refused")
        return await self.store.lease(limit, spacing_s)


@pytest.mark.parametrize("error", [StoreError, ValueError])  # the latter: a proxy answers for the store
def test_a_store_that_is_out_holds_all_sends_and_lets_go_when_it_is_back(error):
    account = Account(1, rpm=600)

    async def main():
        limiter = account.limiter(Out(account.clock, account.store, 1020.0, error))
        await limiter.acquire()
        await limiter.close()
        return account.clock.now() - 1000

    assert 20 <= account.clock.run(main) < 22


def test_a_store_that_stays_out_ends_the_model_and_says_why():
    account = Account(1, rpm=600)

    async def main():
        limiter = account.limiter(Out(account.clock, account.store, float("inf")))
        with pytest.raises(ModelDown, match="shared limit is out: connection refused"):
            await limiter.acquire()
        return account.clock.now() - 1000

    assert 55 <= account.clock.run(main) <= 65


# -- leased time


@given(st.lists(st.floats(0, 3), max_size=8), st.floats(0, 10), st.floats(0, 2))
def test_leased_time_runs_at_the_share_that_is_held_and_says_when_it_will_have_run(gaps, now, more):
    leased, start = LeaseClock(0.25), 0.0
    for gap in gaps:
        start += gap
        leased.add(start)
    had = leased.leased_by(now)
    assert had <= 0.25 * len(gaps) + 1e-9
    when = leased.when(had + more, now)
    if when == float("inf"):
        assert had + more > 0.25 * len(gaps) - 1e-9
    else:
        assert when >= now
        assert leased.leased_by(when) == pytest.approx(had + more, abs=1e-6)


# -- stores


def test_leases_of_a_file_follow_one_another_in_time(tmp_path):
    async def main():
        permits = FileRateLeases(tmp_path / "limits")
        return [await permits.lease("x", 10.0) for _ in range(3)]

    first, second, third = asyncio.run(main())
    assert first == 0.0
    assert 9 < second <= 10
    assert 19 < third <= 20


def test_processes_of_one_machine_never_get_the_same_lease(tmp_path):
    code = (
        "import asyncio, sys, time\n"
        "from pathlib import Path\n"
        "from mavi_tasks.limits.shared.file_store import FileRateLeases\n"
        "permits = FileRateLeases(Path(sys.argv[1]))\n"
        "for _ in range(40):\n"
        "    wait = asyncio.run(permits.lease('x', 1.0))\n"
        "    print(time.monotonic() + wait)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    workers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(), cwd=REPOSITORY)
        for _ in range(3)
    ]
    starts = sorted(float(line) for worker in workers for line in worker.communicate()[0].split())
    assert len(starts) == 120
    assert all(b - a > 0.5 for a, b in itertools.pairwise(starts))


@pytest.mark.parametrize("content", ["1e12", "another-boot {soon}", "{boot} 1e12", "{boot} 1.", "{boot}", ""])
def test_a_file_from_before_a_restart_of_the_machine_or_cut_short_is_forgotten(tmp_path, content):
    permits = FileRateLeases(tmp_path)
    asyncio.run(permits.lease("x", 1.0))
    boot = (tmp_path / "x").read_text().partition(" ")[0]
    (tmp_path / "x").write_text(content.format(boot=boot, soon=time.monotonic() + 60))
    assert asyncio.run(permits.lease("x", 1.0)) == 0.0


def test_leases_lie_in_a_folder_of_the_user_that_others_cannot_enter(tmp_path):
    folder = machine_folder({"XDG_STATE_HOME": str(tmp_path)})
    asyncio.run(FileRateLeases(folder).lease("x", 1.0))
    assert folder.is_relative_to(tmp_path / "mavi" / "limits")
    folders = (folder, *folder.relative_to(tmp_path).parents)
    assert {stat.S_IMODE((tmp_path / one).stat().st_mode) for one in folders[:-1]} == {0o700}
    assert stat.S_IMODE((folder / "x").stat().st_mode) == 0o600


def test_a_link_in_place_of_a_lease_is_neither_read_nor_written(tmp_path):
    (tmp_path / "other").write_text("kept")
    permits = FileRateLeases(tmp_path / "limits")
    (tmp_path / "limits").mkdir()
    (tmp_path / "limits" / "x").symlink_to(tmp_path / "other")
    with pytest.raises(StoreError, match="is a link"):
        asyncio.run(permits.lease("x", 1.0))
    assert (tmp_path / "other").read_text() == "kept"


def test_a_folder_that_cannot_be_written_gives_no_lease(tmp_path):
    (tmp_path / "limits").write_text("a file")
    with pytest.raises(StoreError, match="limits"):
        asyncio.run(FileRateLeases(tmp_path / "limits").lease("x", 1.0))


def test_leases_of_redis_follow_one_another_by_its_clock():
    async def main():
        permits = RedisRateLeases(fakeredis.FakeAsyncRedis())
        waits = [await permits.lease("x", 10.0) for _ in range(3)]
        other = await permits.lease("y", 10.0)
        await permits.close()
        return waits, other

    (first, second, third), other = asyncio.run(main())
    assert first == other == 0.0
    assert 9 < second <= 10
    assert 19 < third <= 20


def test_redis_that_does_not_answer_gives_no_lease():
    server = fakeredis.FakeServer()
    server.connected = False

    async def main():
        await RedisRateLeases(fakeredis.FakeAsyncRedis(server=server)).lease("x", 1.0)

    with pytest.raises(StoreError, match="Redis"):
        asyncio.run(main())


def test_leases_of_prefect_follow_one_another_and_a_paused_limit_gives_none(prefect_server):
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate

    from mavi_tasks.limits.shared.prefect_store import PrefectRateLeases

    async def main():
        permits = PrefectRateLeases()
        waits = [await permits.lease("mavi-test", 10.0) for _ in range(3)]
        async with get_client() as client:
            paused = GlobalConcurrencyLimitUpdate(active=False)
            await client.update_global_concurrency_limit("mavi-test", paused)
            with pytest.raises(StoreError, match="paused"):
                await permits.lease("mavi-test", 10.0)
            await client.delete_global_concurrency_limit_by_name("mavi-test")
            with pytest.raises(StoreError, match="gone"):
                await permits.lease("mavi-test", 10.0)
        again = await permits.lease("mavi-test", 10.0)
        await permits.close()
        return waits, again

    (first, second, third), again = asyncio.run(main())
    assert first == again == 0.0
    assert 5 < second <= 10
    assert 10 < third <= 20


def test_a_limits_name_tells_accounts_apart_and_nothing_of_the_key():
    mine, yours = (limit_name("mavi", key, MODEL) for key in ("sk-mine", "sk-yours"))
    assert mine != yours
    assert "mine" not in mine


# -- dollars


@given(st.data())
def test_what_is_left_and_what_is_granted_is_always_the_whole_budget(data):
    state, held = opened(1000), {}
    for number in range(data.draw(st.integers(1, 40))):
        holder = data.draw(st.sampled_from("abc"))
        back = data.draw(st.integers(0, held.get(holder, 0)))
        told = exchange(
            state, holder, back, data.draw(st.integers(0, 300)), data.draw(st.integers(1, 8)), number
        )
        held[holder] = held.get(holder, 0) - back + told.granted_pico
        assert state.left >= 0
        assert state.left + sum(held.values()) == 1000
        assert state.granted[holder] == held[holder]


def test_a_dead_holders_portion_counts_as_spent_until_its_journal_is_read():
    state = opened(100)
    assert exchange(state, "dead", 0, 50, 2, 1).granted_pico == 50
    assert exchange(state, "living", 0, 60, 2, 1) == (0, True, 50)
    state.reclaim("dead", 10)
    state.reclaim("dead", 10)  # reported twice, given back once
    assert state.left == 90
    assert exchange(state, "living", 0, 60, 2, 2) == (60, False, 30)


def ledgers(tmp_path):
    server = fakeredis.FakeServer()
    return [
        ("file", lambda: FileLedger(tmp_path / "ledger.json")),
        ("redis", lambda: RedisLedger(fakeredis.FakeAsyncRedis(server=server), "run")),
    ]


@pytest.mark.parametrize("kind", [0, 1], ids=["file", "redis"])
def test_workers_together_never_reserve_more_than_the_budget_and_waste_none(tmp_path, kind):
    make = ledgers(tmp_path)[kind][1]

    class Clock:
        now = staticmethod(lambda: asyncio.get_running_loop().time())
        sleep = staticmethod(lambda _: asyncio.sleep(0.001))

    async def worker(name, spent):
        ledger = make()
        budget = LeasedBudget(ledger, name, workers=3, clock=Clock())
        while (reservation := await budget.reserve(70)) is not None:
            await asyncio.sleep(0)
            budget.settle(reservation, 50)
            spent.append(50)
        assert budget.exhausted
        await budget.close()
        await ledger.close()

    async def main():
        spent, first = [], make()
        await first.open(10_000)
        await asyncio.gather(*(worker(name, spent) for name in "abc"))
        holders = await first.holders()
        await first.close()
        return sum(spent), holders

    total, holders = asyncio.run(main())
    assert 10_000 - 70 < total <= 10_000
    assert holders == []


def test_a_ledger_that_is_gone_pays_nothing(tmp_path):
    async def of(ledger):
        return await ledger.exchange("a", back_pico=0, least_pico=1, parts=1, last=False, number=1)

    assert asyncio.run(of(FileLedger(tmp_path / "absent.json"))).granted_pico == 0
    with pytest.raises(StoreError, match="not there any more"):
        asyncio.run(of(RedisLedger(fakeredis.FakeAsyncRedis(), "absent")))


class Unsteady:
    """A ledger whose store is out between two instants; what it did just before, it may not have told."""

    def __init__(self, ledger, clock, out_from_s, out_to_s):
        self.ledger, self.clock, self.out = ledger, clock, (clock.now() + out_from_s, clock.now() + out_to_s)
        self.untold = 1

    async def exchange(self, holder, **options):
        if self.out[0] <= self.clock.now() < self.out[1]:
            if self.untold:  # done, but the reply was lost
                self.untold -= 1
                await self.ledger.exchange(holder, **options)
            raise StoreError("Redis: ConnectionError: out")
        return await self.ledger.exchange(holder, **options)


class MemoryLedger:
    def __init__(self, left_pico):
        self.state = opened(left_pico)

    async def exchange(self, holder, *, back_pico, least_pico, parts, last, number):
        return exchange(self.state, holder, back_pico, least_pico, parts, number, last=last)


def spend_all(clock, ledger, cost=50, worst=70, most=10_000):
    """One worker's calls of a second each, until the budget refuses one."""

    async def main():
        budget, spent = LeasedBudget(ledger, "a", workers=1, clock=clock), 0
        while (reservation := await budget.reserve(worst)) is not None:
            await clock.sleep(1.0)
            budget.settle(reservation, cost)
            spent += cost
            assert spent <= most
        await budget.close()
        return spent

    return clock.run(main)


@pytest.mark.parametrize("out_s", [(0.0, 10.0), (3.0, 13.0), (3.0, 55.0)])
def test_a_store_of_dollars_that_is_out_for_seconds_is_waited_for_and_nothing_is_counted_twice(out_s):
    clock = FakeClock()
    ledger = MemoryLedger(10_000)
    spent = spend_all(clock, Unsteady(ledger, clock, *out_s))
    assert 10_000 - 70 < spent <= 10_000
    assert ledger.state.left + ledger.state.granted["a"] == 10_000
    assert ledger.state.granted["a"] == spent


def test_a_store_of_dollars_that_is_out_for_more_than_a_minute_stops_the_run():
    clock = FakeClock()
    began_s = clock.now()
    with pytest.raises(StoreError, match="out"):
        spend_all(clock, Unsteady(MemoryLedger(10_000), clock, 3.0, 1e9))
    assert 150 <= clock.now() - began_s < 170  # 100 calls were paid for before, then a minute


def test_a_stop_does_not_wait_for_a_store_that_is_out():
    clock = FakeClock()
    began_s = clock.now()

    async def main():
        budget = LeasedBudget(Unsteady(MemoryLedger(100), clock, 0.0, 1e9), "a", workers=1, clock=clock)
        waiting = asyncio.create_task(budget.reserve(10))
        await clock.sleep(2.0)
        budget.stop()
        with pytest.raises(StoreError):
            await waiting
        return clock.now() - began_s

    assert clock.run(main) < 5
