"""The running sums of a plan: requests with the same sources of error are added up together."""

from bisect import bisect_left
from dataclasses import dataclass, field

from mavi_tasks.estimate.history import Spread
from mavi_tasks.estimate.token_formulas import Formula
from mavi_tasks.estimate.token_model import Kind, TokenModel
from mavi_tasks.pricing.book import Price, tier_bounds

# Tokens may be off by one factor for all of a model's requests. What each such factor would cost is summed as
# the requests are added, because with tiers it cannot be known afterwards.
FACTORS = (0.4, 0.7, 0.85, 0.93, 1.0, 1.08, 1.18, 1.43, 2.5)
ONE = FACTORS.index(1.0)


@dataclass(slots=True)
class Tiers:
    """A price, for a quick look-up of the tier."""

    bounds: tuple[float, ...]
    inputs: list[int]  # pico-dollars a token
    outputs: list[int]
    ids: list[str]

    @staticmethod
    def of(price: Price) -> "Tiers":
        tiers = price.tiers
        return Tiers(
            tier_bounds(price),
            [tier.input_pico_per_token for tier in tiers],
            [tier.output_pico_per_token for tier in tiers],
            [tier.price_id for tier in tiers],
        )

    def index(self, input_tokens: float) -> int:
        """Which tier prices a request."""
        return bisect_left(self.bounds, input_tokens)


@dataclass(slots=True)
class Accumulator:
    """Sums over requests of one model, prompt, kind and size of media: O(1) memory for any number."""

    kind: Kind
    formula: Formula | None
    token_model: TokenModel | None
    few_rows: bool  # a few rows only: one factor on the formula
    guessed: bool  # sizes or durations were not known
    bucket: int  # the size of the media
    shift_tokens: float  # what the token model adds for this size
    output: Spread | None
    output_interval: tuple[int, int, int]
    tiers: Tiers | None
    requests: int = 0
    text: float = 0.0
    units: float = 0.0
    by_formula: float = 0.0
    inputs: float = 0.0  # tokens
    input_pico: list[float] = field(default_factory=lambda: [0.0] * len(FACTORS))
    output_pico: list[float] = field(default_factory=lambda: [0.0] * len(FACTORS))
    proportional_in: float = 0.0  # of requests that no factor lifts out of the first tier
    proportional_out: float = 0.0
    input_pico_squared: float = 0.0
    output_pico_squared: float = 0.0
    frames_pico: float = 0.0
    tier_requests: list[int] = field(default_factory=list)

    @property
    def output_mean(self) -> float:
        """Tokens of one answer: seen, or the middle of the interval (whose factor is the uncertain part)."""
        return self.output.mean if self.output is not None else float(self.output_interval[1])

    def add(self, text: float, units: float, by_formula: float, tokens: float, frame_tokens: float) -> None:
        """Add one request of so many input tokens."""
        self.requests += 1
        self.text += text
        self.units += units
        self.by_formula += by_formula
        self.inputs += tokens
        tiers = self.tiers
        if tiers is None:
            return
        tier = tiers.index(tokens) if len(tiers.bounds) > 1 else 0
        self._add_cost(tiers, tier, tokens)
        self.frames_pico += frame_tokens * tiers.inputs[tier]

    def _add_cost(self, tiers: Tiers, tier: int, tokens: float) -> None:
        output = self.output_mean
        cost_in, cost_out = tokens * tiers.inputs[tier], output * tiers.outputs[tier]
        self.input_pico[ONE] += cost_in
        self.output_pico[ONE] += cost_out
        self.input_pico_squared += cost_in * cost_in
        self.output_pico_squared += cost_out * cost_out
        if len(tiers.bounds) == 1:
            return
        if not self.tier_requests:
            self.tier_requests = [0] * len(tiers.bounds)
        self.tier_requests[tier] += 1
        if tokens * FACTORS[-1] <= tiers.bounds[0]:
            self.proportional_in += cost_in
            self.proportional_out += cost_out
        else:
            self._add_factors(tiers, tokens, output)

    def _add_factors(self, tiers: Tiers, tokens: float, output: float) -> None:
        bounds, inputs, outputs = tiers.bounds, tiers.inputs, tiers.outputs
        input_pico, output_pico = self.input_pico, self.output_pico
        for index, factor in _OTHER_FACTORS:
            scaled = tokens * factor
            tier = bisect_left(bounds, scaled)
            input_pico[index] += scaled * inputs[tier]
            output_pico[index] += output * outputs[tier]

    def costs(self) -> tuple[list[float], list[float]]:
        """Pico-dollars of the inputs and of the answers under each of FACTORS."""
        pairs = list(enumerate(FACTORS))
        if self.tiers is not None and len(self.tiers.bounds) == 1:
            return [self.input_pico[ONE] * factor for _, factor in pairs], [self.output_pico[ONE]] * len(
                pairs
            )
        # At a factor of one the proportional part is in the sums already.
        inputs = [
            self.input_pico[index] + (self.proportional_in * factor if index != ONE else 0)
            for index, factor in pairs
        ]
        outputs = [
            self.output_pico[index] + (self.proportional_out if index != ONE else 0) for index, _ in pairs
        ]
        return inputs, outputs


_OTHER_FACTORS = tuple((index, factor) for index, factor in enumerate(FACTORS) if index != ONE)
