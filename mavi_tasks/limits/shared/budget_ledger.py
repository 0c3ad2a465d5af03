"""One budget for many workers: dollars handed out in portions, the rest back at the end.

    left       not handed out
    granted    by holder: what it was given, less what it gave back; at its end that is what it spent
    open       holders that may still spend or give back

A dead holder's portion counts as spent until its journal is read; then `reclaim` sets the true figure.
left + all that is granted is always the whole budget, in whole pico-dollars.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Protocol


class BudgetGrant(NamedTuple):
    """The result of an exchange. `others`: another holder may still give something back."""

    granted_pico: int
    others: bool
    left_pico: int


class Ledger(Protocol):
    """A budget that several processes draw on. Its methods raise StoreError when the store is unavailable."""

    async def open(self, left_pico: int) -> None:
        """Begin anew with so much to hand out."""
        ...

    async def exchange(
        self, holder: str, *, back_pico: int, least_pico: int, parts: int, last: bool, number: int
    ) -> BudgetGrant:
        """Give back, then take at least `least_pico` (0: nothing), or nothing when there is less.

        What is taken is a `parts`-th of what is left when that is more. last: the holder has nothing
        more to give back, unless it gets something now. number: counts the holder's exchanges; the same
        number again, after a reply that was lost, changes nothing and returns the same result.
        """
        ...

    async def reclaim(self, holder: str, spent_pico: int) -> None:
        """A holder died having spent so much; the rest of its portion is free again."""
        ...

    async def holders(self) -> list[str]:
        """Workers that may still spend."""
        ...

    async def close(self) -> None:
        """Close the connection to the store."""
        ...


@dataclass(slots=True)
class State:
    """A ledger's figures, in pico-dollars."""

    left: int
    granted: dict[str, int] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)
    latest: dict[str, list[int]] = field(default_factory=dict)  # by holder: number and result of its exchange

    @classmethod
    def of(cls, values: dict[str, Any]) -> "State":
        return cls(**values)

    def values(self) -> dict[str, Any]:
        return asdict(self)

    def reclaim(self, holder: str, spent_pico: int) -> None:
        if holder in self.open:
            self.open.remove(holder)
            self.latest.pop(holder, None)
            self.left += self.granted[holder] - spent_pico
            self.granted[holder] = spent_pico


def opened(left_pico: int) -> State:
    """A ledger of which nothing is handed out."""
    return State(left_pico)


def exchange(
    state: State,
    holder: str,
    back_pico: int,
    least_pico: int,
    parts: int,
    number: int,
    *,
    last: bool = False,
) -> BudgetGrant:
    """Change `state` as `Ledger.exchange` says."""
    if holder in state.latest and state.latest[holder][0] == number:
        _, granted, others, left = state.latest[holder]
        return BudgetGrant(granted, bool(others), left)
    if holder not in state.open:
        state.open.append(holder)
        state.granted.setdefault(holder, 0)
    state.left += back_pico
    state.granted[holder] -= back_pico
    granted = 0
    if 0 < least_pico <= state.left:
        granted = max(least_pico, state.left // parts)
        state.left -= granted
        state.granted[holder] += granted
    if last and not granted:
        state.open.remove(holder)
    others = any(other != holder for other in state.open)
    state.latest[holder] = [number, granted, int(others), state.left]
    return BudgetGrant(granted, others, state.left)
