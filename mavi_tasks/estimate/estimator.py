"""The estimate of a whole plan, one request at a time: no request is remembered.

estimator = Estimator({target.model: ModelAssumptions(target.price, ...) for target in targets}, observed)
estimator.add(target.model, request.media_items, text_chars(request.prompt), request.prompt_id)
estimator.result().to_json()
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from mavi_tasks.estimate import intervals
from mavi_tasks.estimate.accumulator import Accumulator, Tiers
from mavi_tasks.estimate.history import History, Spread
from mavi_tasks.estimate.intervals import RateLimits
from mavi_tasks.estimate.output_tokens import output_tokens
from mavi_tasks.estimate.request_tokens import NO_FRAMES, FrameSampling
from mavi_tasks.estimate.result import CENT_FRACTIONS, Estimate, ModelEstimate
from mavi_tasks.estimate.token_formulas import (
    DURATION_S,
    Formula,
    Sized,
    formula_of,
    size_bucket,
    text_tokens,
)
from mavi_tasks.estimate.token_model import ENOUGH_ROWS, Kind, TokenModel
from mavi_tasks.pricing.book import Price

MAX_ACCUMULATORS: Final = 1024  # by prompt, kind and size; prompts beyond them have one together


@dataclass(frozen=True, slots=True)
class ModelAssumptions:
    """What the estimate must know of one model of a job."""

    price: Price | None = None
    limits: RateLimits = field(default_factory=RateLimits)
    max_tokens: int | None = None
    overhead_chars: int = 0  # system prompt and schema: the same for each request
    schema: Mapping[str, Any] | None = None
    sampling: FrameSampling = NO_FRAMES


class Estimator:
    """Adds up requests as they are planned; `result()` may be called at any time."""

    def __init__(self, models: Mapping[str, ModelAssumptions], observed: History | None = None) -> None:
        self.observed = observed or History()
        self._models = {
            model: _ModelSums(model, assumptions, self.observed) for model, assumptions in models.items()
        }

    def add(self, model: str, media_items: Sequence[Sized], chars: int, prompt_id: str) -> None:
        """Add one request: its media, and the characters of its rendered prompt (see `text_chars`).

        The system prompt and the schema are part of the assumptions and must not be counted here.
        """
        self._models[model].add(media_items, chars, prompt_id)

    def result(self, *, seed: int = 0) -> Estimate:
        """The estimate of what was added so far."""
        shared = intervals.SharedErrors(seed)
        used = [model for model in self._models.values() if model.accumulators]
        sums = [model.sums(shared) for model in used]
        walls = [model.wall(part, shared) for model, part in zip(used, sums, strict=True)]
        models = tuple(
            model.estimate(part, wall) for model, part, wall in zip(used, sums, walls, strict=True)
        )
        inputs = [part.inputs for part in sums]
        known = intervals.dollar_interval(
            intervals.total(part.cost for part in sums if part.cost is not None)
        )
        unpriced = tuple(model.model for model in models if model.cost_usd is None)
        return Estimate(
            requests=sum(model.requests for model in models),
            models=models,
            input_tokens=None
            if None in map(_or_none, inputs)
            else intervals.token_interval(intervals.total(inputs)),
            output_tokens=intervals.token_interval(intervals.total(part.outputs for part in sums)),
            cost_usd=None if unpriced else known,
            known_cost_usd=known,
            wall_s=intervals.second_interval(intervals.longest(walls)),
            unpriced=unpriced,
        )


def _or_none(draws: Any) -> bool | None:
    return None if draws is None else True


_Key = tuple[Kind, str, bool, int]


class _ModelSums:
    """One model's accumulators."""

    def __init__(self, model: str, assumptions: ModelAssumptions, observed: History) -> None:
        self.model, self.assumptions, self.observed = model, assumptions, observed
        self.formula: Formula | None = formula_of(model)
        self.tiers = Tiers.of(assumptions.price) if assumptions.price is not None else None
        self.accumulators: dict[_Key, Accumulator] = {}

    def add(self, media_items: Sequence[Sized], chars: int, prompt_id: str) -> None:
        kind: Kind = "text"
        by_formula = units = 0.0
        frame_tokens = 0
        guessed = False
        for media in media_items:
            if media.kind == "video":
                sampled = self._frames(media, len(media_items))
                kind = "frames" if sampled else "video"
                units += sampled or (media.duration_s if media.duration_s is not None else DURATION_S)
                guessed |= media.duration_s is None
                frame_px = self.assumptions.sampling.frame_px
                tokens = self.formula.media_tokens(media, sampled, frame_px) if self.formula else 0
                frame_tokens += tokens if sampled else 0
            else:
                kind = "image" if kind == "text" else kind
                units += 1
                guessed |= media.width is None
                tokens = self.formula.media_tokens(media) if self.formula else 0
            by_formula += tokens
        accumulator = self._accumulator(
            kind, prompt_id, guessed, size_bucket(media_items[0]) if media_items else 0
        )
        text = text_tokens(chars)
        fitted = accumulator.token_model
        if fitted is not None:
            total = max(0.0, fitted.tokens(text, units, by_formula) + accumulator.shift_tokens)
        else:
            total = text_tokens(chars + self.assumptions.overhead_chars) + by_formula
        accumulator.add(text, units, by_formula, total, frame_tokens)

    def _frames(self, media: Sized, media_count: int) -> int | None:
        """Frames of one video; None when the model gets the video itself."""
        duration_s = DURATION_S if media.duration_s is None else media.duration_s
        sampled = self.assumptions.sampling.count(duration_s, media_count)
        return self._own_frames if sampled is None else sampled

    @property
    def _own_frames(self) -> int | None:
        return self.formula.video_frames if self.formula is not None else None

    def _accumulator(self, kind: Kind, prompt_id: str, guessed: bool, bucket: int) -> Accumulator:
        key = kind, prompt_id, guessed, bucket
        accumulator = self.accumulators.get(key)
        if accumulator is None:
            if len(self.accumulators) >= MAX_ACCUMULATORS:
                key = kind, "", guessed, bucket
            accumulator = self.accumulators.setdefault(key, self._new_accumulator(*key))
        return accumulator

    def _new_accumulator(self, kind: Kind, prompt_id: str, guessed: bool, bucket: int) -> Accumulator:
        fitted = self.observed.token_model(self.model, kind)
        return Accumulator(
            kind=kind,
            formula=self.formula,
            token_model=fitted,
            few_rows=fitted is not None and fitted.rows < ENOUGH_ROWS,
            guessed=guessed,
            bucket=bucket,
            shift_tokens=fitted.shift(bucket).tokens if fitted is not None else 0.0,
            output=self.observed.output(self.model, prompt_id, kind),
            output_interval=output_tokens(self.assumptions.max_tokens, self.assumptions.schema),
            tiers=self.tiers,
        )

    def sums(self, shared: intervals.SharedErrors) -> intervals.Sums:
        overhead = self.observed.overheads.get(self.model, 1.0)
        return intervals.sums_of(self.model, list(self.accumulators.values()), shared, overhead)

    def wall(self, sums: intervals.Sums, shared: intervals.SharedErrors) -> Any:
        accumulators = list(self.accumulators.values())
        return intervals.wall_of(
            self.model, accumulators, sums, self.assumptions.limits, self.observed, shared
        )

    def estimate(self, sums: intervals.Sums, wall: Any) -> ModelEstimate:
        accumulators = list(self.accumulators.values())
        frames_usd = sum(accumulator.frames_pico for accumulator in accumulators) * intervals.USD_PER_PICO
        return ModelEstimate(
            model=self.model,
            requests=sum(accumulator.requests for accumulator in accumulators),
            input_tokens=intervals.token_interval(sums.inputs) if sums.inputs is not None else None,
            output_tokens=intervals.token_interval(sums.outputs),
            cost_usd=intervals.dollar_interval(sums.cost) if sums.cost is not None else None,
            wall_s=intervals.second_interval(wall),
            basis=intervals.basis_of(accumulators),
            why=tuple(dict.fromkeys(self._why(accumulators))),
            tier_requests=self._tier_requests(accumulators),
            frames=self._mean_frames(accumulators),
            frame_cost_usd=Decimal(frames_usd).quantize(CENT_FRACTIONS),
        )

    def _mean_frames(self, accumulators: Sequence[Accumulator]) -> int | None:
        """Frames of a request's videos; with `fps` their mean."""
        sampling = self.assumptions.sampling
        if sampling.frames is not None or sampling.fps is None:
            return sampling.frames or self._own_frames
        sampled = [accumulator for accumulator in accumulators if accumulator.kind == "frames"]
        requests = sum(accumulator.requests for accumulator in sampled)
        return round(sum(accumulator.units for accumulator in sampled) / requests) if requests else None

    def _tier_requests(self, accumulators: Sequence[Accumulator]) -> tuple[tuple[str, int], ...]:
        counts: dict[str, int] = {}
        for accumulator in accumulators:
            for index, requests in enumerate(accumulator.tier_requests):
                if requests and self.tiers is not None:
                    price_id = self.tiers.ids[index]
                    counts[price_id] = counts.get(price_id, 0) + requests
        return tuple(counts.items())

    def _why(self, accumulators: Sequence[Accumulator]) -> Iterable[str]:
        for accumulator in accumulators:
            yield _why_input(accumulator)
            yield _why_output(accumulator)
            if accumulator.guessed and accumulator.token_model is None:
                yield f"{accumulator.kind}: sizes or durations not known, defaults taken"
        if self.tiers is None:
            yield "no price is known: the cost is not guessed"


def _why_input(accumulator: Accumulator) -> str:
    fitted: TokenModel | None = accumulator.token_model
    if fitted is not None:
        each = fitted.mean
        return f"{accumulator.kind}: {fitted.rows} answers seen, {each:,.0f} input tokens each on average"
    formula = accumulator.formula
    if formula is None:
        return "no formula for this family: its media's tokens are unknown"
    spread = formula.video_spread if accumulator.kind == "video" else formula.image_spread
    listed = "the family's default, because the model is not listed" if formula.family_default else None
    note = "; ".join(part for part in (listed, formula.note) if part)
    return f"{accumulator.kind}: published formula, within a factor of {spread:g}" + (
        f" ({note})" if note else ""
    )


def _why_output(accumulator: Accumulator) -> str:
    seen: Spread | None = accumulator.output
    if seen is not None:
        return f"answers: {seen.rows} seen, {seen.mean:,.0f} tokens each on average"
    low, _, high = accumulator.output_interval
    return f"answers: none seen of this prompt, {low} to {high} tokens each assumed"
