"""The estimate of a whole plan, one request at a time: no request is remembered.

estimator = Estimator.of_lanes(targets, job.limits_for, observed)
plan.make(..., listen=lambda target, request: estimator.add(target.model, request.media_items, ...))
estimator.result().to_json()
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from math import ceil
from typing import Any, Protocol

from mavi_tasks.estimate import intervals
from mavi_tasks.estimate.accumulator import Accumulator, Tiers
from mavi_tasks.estimate.history import History, Spread
from mavi_tasks.estimate.intervals import Limits
from mavi_tasks.estimate.output_tokens import output_tokens
from mavi_tasks.estimate.result import CENT_FRACTIONS, Estimate, ModelEstimate
from mavi_tasks.estimate.token_formulas import (
    DURATION_S,
    Formula,
    Sized,
    formula_of,
    size_bucket,
    text_chars,
    text_tokens,
)
from mavi_tasks.estimate.token_model import ENOUGH_ROWS, Kind, TokenModel

MOST_ACCOUNTS = 1024  # by prompt, kind and size; prompts beyond them share one
MOST_FRAMES = 64  # of one video, as the media stage samples them
DEFAULT_FRAMES = 8


class Priced(Protocol):
    """A price: its tiers, in rising order."""

    @property
    def tiers(self) -> tuple[Any, ...]: ...


@dataclass(frozen=True, slots=True)
class Unlimited:
    """No limit is told."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class ModelAssumptions:
    """What the estimate must know of one model of a job."""

    price: Priced | None = None
    limits: Limits = field(default_factory=Unlimited)
    max_tokens: int | None = None
    overhead_chars: int = 0  # system prompt and schema: the same for each request
    schema: Mapping[str, Any] | None = None
    frames: int | None = None
    fps: float | None = None


class LaneLike(Protocol):
    """A target of the run, as far as the estimate reads it."""

    @property
    def model(self) -> str: ...
    @property
    def system(self) -> str | None: ...
    @property
    def schema(self) -> Mapping[str, Any] | None: ...
    @property
    def schema_chars(self) -> int: ...
    @property
    def frames(self) -> int | None: ...
    @property
    def fps(self) -> float | None: ...
    @property
    def equalise(self) -> bool: ...
    @property
    def price(self) -> Any: ...
    @property
    def max_tokens(self) -> int: ...


class Estimator:
    """Adds up requests as they are planned; `result()` may be asked at any time."""

    def __init__(self, settings: Mapping[str, ModelAssumptions], observed: History | None = None) -> None:
        self.observed = observed or History()
        self._targets = {
            model: _ModelSums(model, setting, self.observed) for model, setting in settings.items()
        }

    @staticmethod
    def of_lanes(
        targets: Iterable[LaneLike], limits_for: Callable[[str], Limits], observed: History | None = None
    ) -> "Estimator":
        """An estimator of a run's targets; `limits_for` is the job's."""
        return Estimator(
            {target.model: _setting(target, limits_for(target.model)) for target in targets}, observed
        )

    def add(
        self,
        model: str,
        media_items: Sequence[Sized],
        chars: int,
        prompt_id: str,
        *,
        frames: int | None = None,
    ) -> None:
        """Add one request: its media, and the characters of its rendered prompt (see `text_chars`).

        The system prompt and the schema are known from the setting and must not be counted here.
        """
        self._targets[model].add(media_items, chars, prompt_id, frames)

    def result(self, *, seed: int = 0) -> Estimate:
        """The bands of what was added so far."""
        shared = intervals.Shared(seed)
        targets = [target for target in self._targets.values() if target.accounts]
        sums = [target.sums(shared) for target in targets]
        walls = [target.wall(part, shared) for target, part in zip(targets, sums, strict=True)]
        models = tuple(
            target.estimate(part, wall) for target, part, wall in zip(targets, sums, walls, strict=True)
        )
        inputs = [part.inputs for part in sums]
        known = intervals.dollar_band(intervals.total(part.cost for part in sums if part.cost is not None))
        unpriced = tuple(model.model for model in models if model.cost_usd is None)
        return Estimate(
            requests=sum(model.requests for model in models),
            models=models,
            input_tokens=None
            if None in map(_or_none, inputs)
            else intervals.token_band(intervals.total(inputs)),
            output_tokens=intervals.token_band(intervals.total(part.outputs for part in sums)),
            cost_usd=None if unpriced else known,
            known_cost_usd=known,
            wall_s=intervals.second_band(intervals.longest(walls)),
            unpriced=unpriced,
        )


def _or_none(draws: Any) -> bool | None:
    return None if draws is None else True


def _setting(target: LaneLike, limits: Limits) -> ModelAssumptions:
    return ModelAssumptions(
        price=target.price,
        limits=limits,
        max_tokens=target.max_tokens,
        overhead_chars=text_chars(target.system) + target.schema_chars,
        schema=target.schema,
        frames=target.frames or (DEFAULT_FRAMES if target.equalise and target.fps is None else None),
        fps=target.fps,
    )


_AccountKey = tuple[Kind, str, bool, int]


class _ModelSums:
    """One model's accounts."""

    def __init__(self, model: str, setting: ModelAssumptions, observed: History) -> None:
        self.model, self.setting, self.observed = model, setting, observed
        self.formula: Formula | None = formula_of(model)
        self.tiers = Tiers.of(setting.price.tiers) if setting.price is not None else None
        self.samples_frames = setting.frames is not None or setting.fps is not None
        self.takes_frames = self.samples_frames or (self.formula is not None and self.formula.video_is_frames)
        self.accounts: dict[_AccountKey, Accumulator] = {}

    def add(self, media_items: Sequence[Sized], chars: int, prompt_id: str, frames: int | None) -> None:
        kind: Kind = "text"
        by_formula = units = 0.0
        frame_tokens = 0
        guessed = False
        for media in media_items:
            if media.kind == "video":
                sampled = frames or self._frames(media)
                kind = "frames" if sampled else "video"
                units += sampled or (media.duration_s if media.duration_s is not None else DURATION_S)
                guessed |= media.duration_s is None
                tokens = self.formula.media_tokens(media, sampled) if self.formula else 0
                frame_tokens += tokens if sampled else 0
            else:
                kind = "image" if kind == "text" else kind
                units += 1
                guessed |= media.width is None
                tokens = self.formula.media_tokens(media) if self.formula else 0
            by_formula += tokens
        account = self._account(kind, prompt_id, guessed, size_bucket(media_items[0]) if media_items else 0)
        text = text_tokens(chars)
        law = account.law
        if law is not None:
            total = max(0.0, law.tokens(text, units, by_formula) + account.shift_tokens)
        else:
            total = text_tokens(chars + self.setting.overhead_chars) + by_formula
        account.add(text, units, by_formula, total, frame_tokens)

    def _frames(self, media: Sized) -> int | None:
        if not self.takes_frames:
            return None
        if self.setting.fps is not None:
            seconds = DURATION_S if media.duration_s is None else media.duration_s
            return max(1, min(MOST_FRAMES, ceil(seconds * self.setting.fps)))
        return self.setting.frames or DEFAULT_FRAMES

    def _account(self, kind: Kind, prompt_id: str, guessed: bool, bucket: int) -> Accumulator:
        key = kind, prompt_id, guessed, bucket
        account = self.accounts.get(key)
        if account is None:
            if len(self.accounts) >= MOST_ACCOUNTS:
                key = kind, "", guessed, bucket
            account = self.accounts.setdefault(key, self._new_account(*key))
        return account

    def _new_account(self, kind: Kind, prompt_id: str, guessed: bool, bucket: int) -> Accumulator:
        law = self.observed.law(self.model, kind)
        return Accumulator(
            kind=kind,
            formula=self.formula,
            law=law,
            law_is_short=law is not None and law.rows < ENOUGH_ROWS,
            guessed=guessed,
            bucket=bucket,
            shift_tokens=law.shift(bucket).tokens if law is not None else 0.0,
            output=self.observed.output(self.model, prompt_id, kind),
            output_band=output_tokens(self.setting.max_tokens, self.setting.schema),
            tiers=self.tiers,
        )

    def sums(self, shared: intervals.Shared) -> intervals.Sums:
        overhead = self.observed.overheads.get(self.model, 1.0)
        return intervals.sums_of(self.model, list(self.accounts.values()), shared, overhead)

    def wall(self, sums: intervals.Sums, shared: intervals.Shared) -> Any:
        accounts = list(self.accounts.values())
        return intervals.wall_of(self.model, accounts, sums, self.setting.limits, self.observed, shared)

    def estimate(self, sums: intervals.Sums, wall: Any) -> ModelEstimate:
        accounts = list(self.accounts.values())
        frames_usd = sum(account.frames_pico for account in accounts) * intervals.USD_PER_PICO
        return ModelEstimate(
            model=self.model,
            requests=sum(account.requests for account in accounts),
            input_tokens=intervals.token_band(sums.inputs) if sums.inputs is not None else None,
            output_tokens=intervals.token_band(sums.outputs),
            cost_usd=intervals.dollar_band(sums.cost) if sums.cost is not None else None,
            wall_s=intervals.second_band(wall),
            basis=intervals.basis_of(accounts),
            why=tuple(dict.fromkeys(self._why(accounts))),
            tier_requests=self._tier_requests(accounts),
            frames=self.setting.frames or (DEFAULT_FRAMES if frames_usd else None),
            frame_cost_usd=Decimal(frames_usd).quantize(CENT_FRACTIONS),
        )

    def _tier_requests(self, accounts: Sequence[Accumulator]) -> tuple[tuple[str, int], ...]:
        counts: dict[str, int] = {}
        for account in accounts:
            for at, requests in enumerate(account.tier_requests):
                if requests and self.tiers is not None:
                    counts[self.tiers.ids[at]] = counts.get(self.tiers.ids[at], 0) + requests
        return tuple(counts.items())

    def _why(self, accounts: Sequence[Accumulator]) -> Iterable[str]:
        for account in accounts:
            yield _why_input(account)
            yield _why_output(account)
            if account.guessed and account.law is None:
                yield f"{account.kind}: sizes or durations not known, defaults taken"
        if self.tiers is None:
            yield "no price is known: the cost is not guessed"


def _why_input(account: Accumulator) -> str:
    law: TokenModel | None = account.law
    if law is not None:
        each = law.mean
        return f"{account.kind}: {law.rows} answers seen, {each:,.0f} input tokens each on average"
    formula = account.formula
    if formula is None:
        return "no formula for this family: its media's tokens are unknown"
    spread = formula.video_spread if account.kind == "video" else formula.image_spread
    listed = "the family's default, because the model is not listed" if formula.family_default else None
    said = "; ".join(part for part in (listed, formula.note) if part)
    return f"{account.kind}: published formula, within a factor of {spread:g}" + (
        f" ({said})" if said else ""
    )


def _why_output(account: Accumulator) -> str:
    seen: Spread | None = account.output
    if seen is not None:
        return f"answers: {seen.rows} seen, {seen.mean:,.0f} tokens each on average"
    low, _, high = account.output_band
    return f"answers: none seen of this prompt, {low} to {high} tokens each assumed"
