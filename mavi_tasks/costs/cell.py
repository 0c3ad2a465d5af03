"""What is counted in one cell of spend; all money is whole pico-dollars."""

from collections.abc import Iterable
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class SpendCell:
    """Counts and exact sums of one cell; every field adds up over cells.

    From attempts: calls by outcome, what was billed (`cost_pico`), the most that in-doubt calls may have cost
    (`exposure_pico`), tokens, and billed-looking calls without a known price (`unpriced_calls`).
    From results: what the billed dollars bought (`useful_pico` answered, `invalid_pico` invalid or failed),
    and, counting only the latest row of each request, how the requests ended.
    """

    calls: int = 0
    answered_calls: int = 0
    throttled_calls: int = 0
    rejected_calls: int = 0
    failed_calls: int = 0
    in_doubt_calls: int = 0
    unpriced_calls: int = 0
    cost_pico: int = 0
    exposure_pico: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    unpriced_tokens: int = 0
    useful_pico: int = 0
    invalid_pico: int = 0
    rows: int = 0
    requests: int = 0
    answered: int = 0
    invalid: int = 0
    failed: int = 0
    skipped: int = 0
    cached_tokens: int = 0
    cached_known: int = 0  # rows that report cached tokens
    reasoning_tokens: int = 0
    reasoning_known: int = 0
    video_ms: int = 0
    video_pico: int = 0  # cost of the rows whose video length is known

    @property
    def retried_pico(self) -> int:
        """Billed attempts that gave no row: repairs, retries after a billed failure, answers paid twice."""
        return self.cost_pico - self.useful_pico - self.invalid_pico

    @property
    def is_cost_unknown(self) -> bool:
        """Nothing of the cost is known: there is none but that of calls without a price."""
        return self.unpriced_calls > 0 and not self.cost_pico

    @property
    def error_calls(self) -> int:
        """Calls that were rejected, failed or left in doubt; throttled ones are counted apart."""
        return self.rejected_calls + self.failed_calls + self.in_doubt_calls

    def fraction(self, part: int) -> float | None:
        """`part` of all calls, None when there was no call."""
        return part / self.calls if self.calls else None


FIELDS = tuple(field.name for field in fields(SpendCell))
SLOT = {name: number for number, name in enumerate(FIELDS)}
Sums = list[int]  # one int per field of Tally, in its order: what is added to while reading


def empty() -> Sums:
    """Sums of nothing."""
    return [0] * len(FIELDS)


def add(into: Sums, more: Iterable[int]) -> None:
    """Add `more` to `into`, field by field."""
    for slot, value in enumerate(more):
        into[slot] += value


def total(parts: Iterable[Iterable[int]]) -> SpendCell:
    """The sum of the parts, exact."""
    sums = empty()
    for part in parts:
        add(sums, part)
    return SpendCell(*sums)


def values(spend: SpendCell) -> Sums:
    """The fields of a cell as sums, to be added up further."""
    return [getattr(spend, name) for name in FIELDS]
