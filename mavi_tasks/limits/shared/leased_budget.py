"""A worker's budget: the portions that it has of the ledger."""

from typing import Final

from mavi_tasks.limits import Clock
from mavi_tasks.limits.budget import Budget, Reservation
from mavi_tasks.limits.shared.budget_ledger import BudgetGrant, Ledger

RETRY_S: Final = 0.1
FOREVER: Final = float("inf")
MAX_WAIT_S: Final = 60.0  # for what others may still give back; a dead worker's portion is reclaimed sooner


class LeasedBudget(Budget):
    """A `Budget` whose limit grows by what the ledger hands out; together never more than the whole.

    A request that does not fit takes more from the ledger. When that has too little, what is free here goes
    back to it for other workers, and the request waits while another worker may still give back.
    """

    def __init__(self, ledger: Ledger, holder: str, *, workers: int, clock: Clock) -> None:
        super().__init__(0)
        self._ledger, self._holder, self._clock = ledger, holder, clock
        self._parts = 2 * max(1, workers)
        self._top_up_at_s = 0.0  # of many requests that wait, one calls the ledger now and then

    async def reserve(self, max_cost_pico: int) -> Reservation | None:
        reservation = self.try_reserve(max_cost_pico)
        began_s = self._clock.now()
        while reservation is None:
            if self.stopped:
                return None
            just_done = self._clock.now() < self._top_up_at_s
            may_fit = just_done or await self._top_up(self.scaled_pico(max_cost_pico))
            reservation = self.try_reserve(max_cost_pico)
            if reservation is None:
                if not may_fit or self._clock.now() - began_s > MAX_WAIT_S:
                    self.refuse(max_cost_pico)
                    return None
                await self._clock.sleep(RETRY_S)
                reservation = self.try_reserve(max_cost_pico)
        return reservation

    async def close(self) -> None:
        """Give the rest back; nothing more is spent here."""
        back = self.remaining_pico or 0
        self.limit_pico = (self.limit_pico or 0) - back
        await self._ledger.exchange(self._holder, back_pico=back, least_pico=0, parts=1, last=True)

    async def _top_up(self, amount_pico: int) -> bool:
        """More money, if there is any; True: it may fit now, or later."""
        self._top_up_at_s = FOREVER
        try:
            granted, _ = await self._exchange(0, amount_pico - max(0, self.remaining_pico or 0))
            if granted:
                return True
            granted, others = await self._exchange(max(0, self.remaining_pico or 0), amount_pico)
            return bool(granted) or others or self.in_flight > 0
        finally:
            self._top_up_at_s = self._clock.now() + RETRY_S / 2

    async def _exchange(self, back_pico: int, least_pico: int) -> BudgetGrant:
        self.limit_pico = (self.limit_pico or 0) - back_pico  # gone before it is given back
        grant = await self._ledger.exchange(
            self._holder,
            back_pico=back_pico,
            least_pico=max(1, least_pico),
            parts=self._parts,
            last=not self.in_flight and self.remaining_pico == 0,  # nothing of ours can come back
        )
        self.limit_pico += grant.granted_pico
        return grant
