"""What one thing costs: 1,000 items, an answered request, an hour of video, a million tokens."""

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from mavi_tasks.costs.cell import SpendCell


@dataclass(frozen=True, slots=True)
class Unit:
    """Unit costs of one model, or of all (`model` None). None = nothing to divide by, or no
    known cost.

    All billed dollars are spread over the items and answers, retries and invalid answers included. An hour of
    video bears the cost of the rows whose video length is known. Tokens are those of calls with a known
    price. `lower_bound`:  calls without a known price are missing from the dollars.
    """

    model: str | None
    items: int
    spend: SpendCell

    @property
    def lower_bound(self) -> bool:
        return self.spend.unpriced_calls > 0

    @property
    def per_1000_items_usd(self) -> Decimal | None:
        return self._per(self.spend.cost_pico * 1000, self.items)

    @property
    def per_answered_usd(self) -> Decimal | None:
        return self._per(self.spend.cost_pico, self.spend.answered)

    @property
    def per_video_hour_usd(self) -> Decimal | None:
        return self._per(self.spend.video_pico * 3_600_000, self.spend.video_ms)

    @property
    def per_mtok_usd(self) -> Decimal | None:
        tokens = self.spend.input_tokens + self.spend.output_tokens - self.spend.unpriced_tokens
        return self._per(self.spend.cost_pico * 1_000_000, tokens)

    def _per(self, pico: int, parts: int) -> Decimal | None:
        return None if self.spend.is_cost_unknown else quotient(pico, parts)


def quotient(pico: int, parts: int) -> Decimal | None:
    """Dollars per part, rounded to a pico-dollar; None when there is no part."""
    if parts <= 0:
        return None
    whole, rest = divmod(pico, parts)
    return (Decimal(whole) + Decimal(rest) / Decimal(parts)).quantize(Decimal(1), ROUND_HALF_EVEN).scaleb(-12)
