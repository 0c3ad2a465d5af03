"""Dollars reserved before sending, settled after; the limit holds even if every call costs its worst.

All amounts are whole pico-dollars (int, 1 USD = 10**12).
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

FIRST_CALLS: Final = 4
"""Calls of a model in flight before any cost is known; each known cost lets one more in."""
KNOWN_AFTER: Final = 60
"""Known costs after which a model's calls are no longer counted."""


@dataclass(slots=True, eq=False)
class Reservation:
    """Money set aside for one call in flight; settle it once."""

    max_cost_pico: int
    """What the call may cost at most, by the caller's estimate."""
    reserved_pico: int
    """What was set aside: `max_cost_pico`, more once calls have cost more than their worst."""
    model: str | None = None
    settled: bool = False


@dataclass(slots=True)
class _Trial:
    """The first calls of a model: how many are in flight, and of how many the cost is known."""

    in_flight: int = 0
    known: int = 0

    @property
    def full(self) -> bool:
        return self.known < KNOWN_AFTER and self.in_flight >= FIRST_CALLS + self.known


class Budget:
    """spent + exposure + reserved never exceeds `limit_pico`; None is no limit.

    A request that does not fit waits, in order, while calls in flight may turn out cheaper. With none in
    flight it is refused (None): each request is checked on its own, so that a smaller one may still fit
    afterwards.

    Exposure is what in-doubt calls may have cost: it stays counted and is never given back.

    A call that cost more than its worst case shows in `overrun_pico`; from then on every reservation is
    raised by the worst ratio seen, so that the estimate's error cannot repeat itself through the limit.

    The first calls of a model go few at a time, until what they really cost is known: a gateway that bills by
    another rule than the estimate's is found out by four calls, not by all that could be in flight.

    One event loop, no threads.
    """

    def __init__(self, limit_pico: int | None, *, spent_pico: int = 0, exposure_pico: int = 0) -> None:
        """`spent_pico` and `exposure_pico` carry over what earlier runs have used of the same limit."""
        self.limit_pico = limit_pico
        self.spent_pico = spent_pico
        self.exposure_pico = exposure_pico
        self.reserved_pico = 0
        self.overrun_pico = 0
        """By how much calls cost more than was set aside for them, summed."""
        self.refused_pico: int | None = None
        """The smallest worst case refused so far; None: nothing was refused."""
        self.stopped = False
        self.in_flight = 0
        """Reservations that are not settled."""
        self._ratio = (1, 1)
        self._least_pico = 0
        self._waiters: deque[tuple[asyncio.Future[Reservation | None], int, str | None]] = deque()
        self._trials: dict[str, _Trial] = {}

    @property
    def remaining_pico(self) -> int | None:
        """What is neither spent, in doubt nor reserved; None is no limit, below 0 is an overrun."""
        if self.limit_pico is None:
            return None
        return self.limit_pico - self.spent_pico - self.exposure_pico - self.reserved_pico

    @property
    def left_pico(self) -> int | None:
        """What a call could still cost, 0 at least; None is no limit."""
        remaining = self.remaining_pico
        return None if remaining is None else max(0, remaining)

    @property
    def exhausted(self) -> bool:
        """True once a request was refused."""
        return self.refused_pico is not None

    def try_reserve(self, max_cost_pico: int, model: str | None = None) -> Reservation | None:
        """The reservation when it fits now and nobody waits; on None call `reserve`, which may wait."""
        if max_cost_pico < 0:
            raise ValueError(f"a call cannot cost {max_cost_pico} pico-dollars")
        if self.limit_pico is None:
            return self._set_aside(max_cost_pico, max_cost_pico, None)
        if self._waiters:
            return None
        amount = self.scaled_pico(max_cost_pico)
        if not self._fits(amount) or self.on_trial(model, amount):
            return None
        return self._set_aside(max_cost_pico, amount, model)

    async def reserve(self, max_cost_pico: int, model: str | None = None) -> Reservation | None:
        """Money for a call that costs at most `max_cost_pico`, or None when the budget cannot pay it.

        model: whose first calls go few at a time; None = let it in whenever there is money.
        """
        reservation = self.try_reserve(max_cost_pico, model)
        if reservation is not None:
            return reservation
        waiter: asyncio.Future[Reservation | None] = asyncio.get_running_loop().create_future()
        self._waiters.append((waiter, max_cost_pico, model))
        self._serve()
        try:
            return await waiter
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise

    def settle(self, reservation: Reservation, actual_pico: int, exposure_pico: int = 0) -> None:
        """Count what the call cost and what it may have cost besides; the rest is free again."""
        if reservation.settled:
            raise ValueError("this reservation was settled before")
        if actual_pico < 0 or exposure_pico < 0:
            raise ValueError(f"a call cannot cost {actual_pico} + {exposure_pico} pico-dollars")
        reservation.settled = True
        self.in_flight -= 1
        self.reserved_pico -= reservation.reserved_pico
        self.spent_pico += actual_pico
        self.exposure_pico += exposure_pico
        cost = actual_pico + exposure_pico
        if cost > reservation.reserved_pico:
            self.overrun_pico += cost - reservation.reserved_pico
        if cost > reservation.max_cost_pico:
            self._learn(cost, reservation.max_cost_pico)
        if reservation.model is not None:
            trial = self._trials[reservation.model]
            trial.in_flight -= 1
            trial.known = 0 if cost > reservation.max_cost_pico else trial.known + (cost > 0)
        if self._waiters:
            self._serve()

    def stop(self) -> None:
        """From now on nobody waits for money that others may give back."""
        self.stopped = True

    def give_back(self, reservation: Reservation) -> None:
        """The call was never sent."""
        self.settle(reservation, 0)

    def refuse(self, max_cost_pico: int) -> None:
        """A request of this worst case was refused; the smallest one is kept."""
        refused = self.refused_pico
        self.refused_pico = max_cost_pico if refused is None else min(refused, max_cost_pico)

    def scaled_pico(self, max_cost_pico: int) -> int:
        """What is set aside for a call: its worst case, raised by the worst ratio seen."""
        above, below = self._ratio
        return max(-(-max_cost_pico * above // below), self._least_pico)

    def _withdraw(self, waiter: asyncio.Future[Reservation | None]) -> None:
        """A waiter was cancelled; what it may just have got goes back."""
        if waiter.done() and not waiter.cancelled():
            reservation = waiter.result()
            if reservation is not None:
                self.give_back(reservation)
            return
        waiter.cancel()
        self._serve()

    def _serve(self) -> None:
        """Grant or refuse from the head of the queue; stop at the first that has to wait."""
        on_trial = []  # the others do not wait behind these
        while self._waiters:
            waiter, max_cost_pico, model = entry = self._waiters[0]
            if not waiter.done():
                amount = self.scaled_pico(max_cost_pico)
                if not self._fits(amount):
                    if self.in_flight:
                        break
                    self.refuse(max_cost_pico)
                    waiter.set_result(None)
                elif self.on_trial(model, amount):
                    on_trial.append(entry)
                else:
                    waiter.set_result(self._set_aside(max_cost_pico, amount, model))
            self._waiters.popleft()
        self._waiters.extendleft(reversed(on_trial))

    def on_trial(self, model: str | None, amount_pico: int) -> bool:
        """As many first calls of this model are in flight as may be; free ones always may."""
        if model is None or not amount_pico:
            return False
        trial = self._trials.get(model)
        return trial is not None and trial.full

    def _fits(self, amount: int) -> bool:
        remaining = self.remaining_pico
        return remaining is None or amount <= remaining

    def _set_aside(self, max_cost_pico: int, amount: int, model: str | None) -> Reservation:
        self.reserved_pico += amount
        self.in_flight += 1
        if model is not None:
            trial = self._trials.get(model)
            if trial is None:
                trial = self._trials[model] = _Trial()
            trial.in_flight += 1
        return Reservation(max_cost_pico, amount, model)

    def _learn(self, cost: int, max_cost_pico: int) -> None:
        """Remember the worst ratio of cost to estimate; of an estimate of 0 the cost, as a floor."""
        if max_cost_pico == 0:
            self._least_pico = max(self._least_pico, cost)
            return
        above, below = self._ratio
        if cost * below > above * max_cost_pico:
            self._ratio = (cost, max_cost_pico)
