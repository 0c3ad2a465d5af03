"""A worker's budget: the portions that it has of the ledger."""

from typing import Final

from mavi_tasks.limits import Clock
from mavi_tasks.limits.budget import Budget, Reservation
from mavi_tasks.limits.shared.budget_ledger import BudgetGrant, Ledger
from mavi_tasks.limits.shared.rate_leases import StoreError

RETRY_S: Final = 0.1
FOREVER: Final = float("inf")
MAX_WAIT_S: Final = 60.0  # for what others may still give back; a dead worker's portion is reclaimed sooner
OUTAGE_S: Final = 60.0  # a store that is unavailable for longer ends the run
OUTAGE_RETRY_S: Final = 0.5


class LeasedBudget(Budget):
    """A `Budget` whose limit grows by what the ledger hands out; together never more than the whole.

    A request that does not fit takes more from the ledger. When that has too little, what is free here goes
    back to it for other workers, and the request waits while another worker may still give back.

    A ledger that is unavailable is called again for `OUTAGE_S`; meanwhile nothing is spent beyond what was
    handed out before.
    """

    def __init__(self, ledger: Ledger, holder: str, *, workers: int, clock: Clock) -> None:
        super().__init__(0)
        self._ledger, self._holder, self._clock = ledger, holder, clock
        self._parts = 2 * max(1, workers)
        self._exchanges = 0
        self._left_pico = 0
        self._top_up_at_s = 0.0  # of many requests that wait, one calls the ledger now and then

    @property
    def left_pico(self) -> int | None:
        return self._left_pico + max(0, self.remaining_pico or 0)

    async def reserve(self, max_cost_pico: int, model: str | None = None) -> Reservation | None:
        reservation = self.try_reserve(max_cost_pico, model)
        began_s = self._clock.now()
        while reservation is None:
            if self.stopped:
                return None
            amount = self.scaled_pico(max_cost_pico)
            if self._fits(amount) or self._top_up_at_s == FOREVER:  # on trial, or the ledger is being called
                began_s = self._clock.now()
                may_fit = True
            else:
                may_fit = self._clock.now() < self._top_up_at_s or await self._top_up(amount)
            reservation = self.try_reserve(max_cost_pico, model)
            if reservation is None:
                if not may_fit or self._clock.now() - began_s > MAX_WAIT_S:
                    self.refuse(max_cost_pico)
                    return None
                await self._clock.sleep(RETRY_S)
                reservation = self.try_reserve(max_cost_pico, model)
        return reservation

    async def close(self) -> None:
        """Give the rest back; nothing more is spent here."""
        back = self.remaining_pico or 0
        await self._exchange(back, 0, parts=1, last=True)

    async def _top_up(self, amount_pico: int) -> bool:
        """More money, if there is any; True: it may fit now, or later."""
        self._top_up_at_s = FOREVER
        try:
            grant = await self._take(0, amount_pico - max(0, self.remaining_pico or 0))
            if grant.granted_pico:
                return True
            grant = await self._take(max(0, self.remaining_pico or 0), amount_pico)
            return bool(grant.granted_pico) or grant.others or self.in_flight > 0
        finally:
            self._top_up_at_s = self._clock.now() + RETRY_S / 2

    async def _take(self, back_pico: int, least_pico: int) -> BudgetGrant:
        return await self._exchange(back_pico, max(1, least_pico), parts=self._parts, last=None)

    async def _exchange(self, back_pico: int, least_pico: int, parts: int, last: bool | None) -> BudgetGrant:
        """Call the ledger, again while its store is out: with the same number, so that it counts once."""
        self.limit_pico = (self.limit_pico or 0) - back_pico  # gone before it is given back
        if last is None:
            last = not self.in_flight and self.remaining_pico == 0  # nothing of ours can come back
        self._exchanges += 1
        number, began_s = self._exchanges, self._clock.now()
        while True:
            try:
                grant = await self._ledger.exchange(
                    self._holder,
                    back_pico=back_pico,
                    least_pico=least_pico,
                    parts=parts,
                    last=last,
                    number=number,
                )
                break
            except StoreError:
                if self.stopped or self._clock.now() - began_s >= OUTAGE_S:
                    raise
                await self._clock.sleep(OUTAGE_RETRY_S)
        self.limit_pico += grant.granted_pico
        self._left_pico = grant.left_pico
        return grant
