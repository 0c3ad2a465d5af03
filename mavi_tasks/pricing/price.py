"""The price of one model: its tiers, and what a completion costs, in exact whole pico-dollars.

1 USD is 10**12 pico-dollars, so that a price of $1 per million tokens is exactly 10**6 pico-dollars per token
and no sum is ever rounded. `None` is "not known", never 0.
"""

from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from mavi_tasks.common.money import PriceError


class Cost(NamedTuple):
    """The exact cost of one completion in pico-dollars; a part is None when its tokens are not known.

    A tuple and not a dataclass, because one is made per completion and a tuple is made twice as fast.
    """

    input_pico: int | None
    output_pico: int | None
    total_pico: int | None
    price_id: str


@dataclass(frozen=True, slots=True)
class Tier:
    """Prices per token for requests of at most `up_to_input_tokens` (inclusive; None = any)."""

    up_to_input_tokens: int | None
    input_pico_per_token: int
    output_pico_per_token: int
    price_id: str

    @property
    def amounts(self) -> tuple[int, int]:
        """Pico-dollars per token of input and of output."""
        return self.input_pico_per_token, self.output_pico_per_token


@dataclass(frozen=True, slots=True)
class Price:
    """One row of prices.toml or of a job's own prices."""

    model: str
    endpoint: str | None
    source: str
    page: str | None
    checked: date | None  # None: the job's own
    starts: date | None  # `from` in the data; None = in force since before it was checked
    tiers: tuple[Tier, ...]
    price_id: str  # without the tier

    def cost(self, input_tokens: int | None, output_tokens: int | None) -> Cost:
        """Price one completion; the tier is chosen by its input tokens and prices the whole of it.

        Unknown tokens give None for their part and for the total, and without input tokens only a price
        of one tier can say what the output cost. Raises PriceError on a negative count.
        """
        if input_tokens is None or output_tokens is None:
            return self._partly(input_tokens, output_tokens)
        if input_tokens < 0 or output_tokens < 0:
            raise PriceError(
                f"{self.model}: {input_tokens} in, {output_tokens} out: tokens must be 0 or more"
            )
        for tier in self.tiers:
            bound = tier.up_to_input_tokens
            if bound is None or input_tokens <= bound:
                break
        inputs = input_tokens * tier.input_pico_per_token
        outputs = output_tokens * tier.output_pico_per_token
        return Cost(inputs, outputs, inputs + outputs, tier.price_id)

    def printed_tiers(self) -> tuple[Tier, ...]:
        """The tiers as people read them: what lies above the last published bound belongs to its tier."""
        *rest, last = self.tiers
        if rest and rest[-1].amounts == last.amounts:
            rest.pop()
        return (*rest, last)

    def _partly(self, input_tokens: int | None, output_tokens: int | None) -> Cost:
        if input_tokens is None and len(self.tiers) > 1:
            return Cost(None, None, None, self.price_id)
        known = self.cost(input_tokens or 0, output_tokens or 0)
        return Cost(
            None if input_tokens is None else known.input_pico,
            None if output_tokens is None else known.output_pico,
            None,
            known.price_id,
        )

    def max_cost_pico(self, input_tokens: int, max_tokens: int) -> int:
        """The most, in pico-dollars, that a request with at most this many input and output tokens can cost.

        For `n` completions, multiply max_tokens by n. Every tier that the input can fall into counts, because
        a job's own prices may fall as requests grow.
        """
        most = 0
        lowest = 0
        for tier in self.tiers:
            if lowest > input_tokens:
                break
            bound = tier.up_to_input_tokens
            inputs = input_tokens if bound is None else min(input_tokens, bound)
            most = max(most, inputs * tier.input_pico_per_token + max_tokens * tier.output_pico_per_token)
            lowest = inputs + 1
        return most
