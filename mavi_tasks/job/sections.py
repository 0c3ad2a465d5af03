"""The parts of a job, each a small model of its own: columns, models, limits, gateway, prices."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)

from mavi_tasks.common.field_types import BaseUrl, PositiveFloat, PositiveInt, Seconds, Text, one_of, wrong
from mavi_tasks.common.strict_model import StrictModel
from mavi_tasks.job import validators
from mavi_tasks.job.types import Attempts, EnvName, UsdPerMtok
from mavi_tasks.pricing.parse import own_price
from mavi_tasks.pricing.price import Price


class ModelSpec(StrictModel):
    """One model to label with, and its own settings.

    model: "family:name", such as "gemini:gemini-2.5-flash". params: over the job's params; None removes one.
    frames, fps: how many frames of each video are sent as images, in all or per second; not both, and None
    for both sends videos as they are. Raises ValidationError for an unknown family.
    """

    model: Text = Field(description="family:name, for example gemini:gemini-2.5-flash")
    params: dict[str, Any] = Field(default_factory=dict, description="Go before the job's params")
    frames: PositiveInt | None = Field(
        default=None, description="Frames of each video, for models that take images"
    )
    fps: PositiveFloat | None = Field(default=None, description="Or so many frames for each second of video")

    @field_validator("model")
    @classmethod
    def _known(cls, value: str) -> str:
        if problem := validators.model_problem(value):
            raise wrong(problem)
        return value

    @model_validator(mode="after")
    def _one_sampling(self) -> Self:
        if self.frames is not None and self.fps is not None:
            raise wrong("must have frames or fps, not both")
        return self


class Limits(StrictModel):
    """The most that is sent to a model. None = unknown: the limit is discovered while the run goes on.

    Requests and tokens per minute, and requests in flight at the same time.
    """

    requests_per_minute: PositiveFloat | None = Field(
        default=None, description="Requests sent in a minute, evenly"
    )
    tokens_per_minute: PositiveFloat | None = Field(
        default=None, description="Tokens in a minute, of questions and answers together"
    )
    concurrency: PositiveInt | None = Field(default=None, description="Requests in flight at the same time")


class Retry(StrictModel):
    """How often and how long one request is attempted. All times are in seconds.

    The wait before attempt n + 1 is min(cap_s, base_s * 2 ** (n - 1)), times 0.5 to 1.0 at random, and at
    least the server's Retry-After. After a 429 it is never more than 1 s, and such an attempt does not count.
    The request fails after `attempts` attempts, or when it is refused `deadline_s` after the first one.
    """

    attempts: Attempts = Field(default=5, description="The most attempts of one request")
    base_s: Seconds = Field(default=1.0, description="The first wait; each next one is twice as long")
    cap_s: Seconds = Field(default=32.0, description="The longest wait")
    deadline_s: Seconds = Field(default=600.0, description="From the first attempt; then the request fails")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.cap_s < self.base_s:
            raise wrong(f"must have cap_s ({self.cap_s:g}) of at least base_s ({self.base_s:g})")
        return self


class Gateway(StrictModel):
    """Who answers: MAVI, the embedded sandbox, or any server with the same contract.

    name: "mavi", "sandbox" (no key, no cost), or "custom" with a base_url. dialect: "openai" for servers of
    OpenAI's API. api_key_env: the variable that holds the key, never the key itself; None = MAVI_API_KEY for
    MAVI, and no key for others. base64, nova_url: how media are written in a body. timeout_s: None = the
    default of the gateway client.
    """

    name: Annotated[
        Literal["mavi", "sandbox", "custom"], BeforeValidator(one_of("mavi", "sandbox", "custom"))
    ] = Field(default="mavi", description="sandbox: embedded, no key, no cost; custom: needs base_url")
    base_url: BaseUrl | None = Field(default=None, description="https://host/path, without /vu or /iu")
    api_key_env: EnvName | None = Field(
        default=None, description="The environment variable that holds the key; its name ends in _API_KEY"
    )
    dialect: Annotated[Literal["mavi", "openai"], BeforeValidator(one_of("mavi", "openai"))] = Field(
        default="mavi", description="openai: an OpenAI-compatible server (vLLM, Ollama), models openai:NAME"
    )
    base64: Annotated[Literal["data_url", "raw"], BeforeValidator(one_of("data_url", "raw"))] = Field(
        default="data_url", description="raw: bare base64 instead of data:image/jpeg;base64,..."
    )
    nova_url: Annotated[Literal["string", "object"], BeforeValidator(one_of("string", "object"))] = Field(
        default="string", description='object: {"video_url": {"url": ...}} instead of a string'
    )
    timeout_s: Seconds | None = Field(default=None, description="For one call, from sending to the last byte")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """A base URL without a name is a gateway of the user's own."""
        if isinstance(value, Mapping) and value.get("base_url") is not None:
            return {"name": "custom", **value}
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.name == "custom" and self.base_url is None:
            raise wrong("needs a base_url")
        if self.dialect != "mavi" and self.base_url is None:
            raise wrong(f"needs a base_url: {self.name} does not speak the dialect {self.dialect}")
        return self


class PriceTier(StrictModel):
    """A price for requests of at most `up_to_input_tokens` input tokens; None = any number."""

    up_to_input_tokens: PositiveInt | None = Field(default=None, description="Inclusive; null = no bound")
    input_usd_per_mtok: UsdPerMtok = Field(description="Dollars for a million tokens of input")
    output_usd_per_mtok: UsdPerMtok = Field(description="Dollars for a million tokens of output")


class ModelPrice(StrictModel):
    """Your own price of a model, in US dollars per million tokens: two amounts, or tiers.

    The tier is chosen by a request's input tokens and prices the whole request. The last tier has no bound.
    """

    input_usd_per_mtok: UsdPerMtok | None = Field(
        default=None, description="Dollars for a million tokens of input"
    )
    output_usd_per_mtok: UsdPerMtok | None = Field(
        default=None, description="Dollars for a million tokens of output"
    )
    tiers: list[PriceTier] | None = Field(default=None, description="Instead of one price; in rising order")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        flat = (self.input_usd_per_mtok, self.output_usd_per_mtok)
        if (self.tiers is None) == (flat == (None, None)) or (self.tiers is None and None in flat):
            raise wrong("needs input_usd_per_mtok and output_usd_per_mtok, or tiers")
        bounds = [tier.up_to_input_tokens for tier in self.tiers or []]
        rising = [bound for bound in bounds[:-1] if bound is not None]
        if self.tiers is not None and (not bounds or bounds[-1] is not None):
            raise wrong("needs a last tier without up_to_input_tokens")
        if len(rising) != len(bounds[:-1]) or sorted(set(rising)) != rising:
            raise wrong("must have its tiers in rising order of up_to_input_tokens")
        return self

    def of_model(self, model: str) -> Price:
        """The price of this model, as requests are priced with it."""
        one = (None, self.input_usd_per_mtok or Decimal(0), self.output_usd_per_mtok or Decimal(0))
        tiers = [
            (t.up_to_input_tokens, t.input_usd_per_mtok, t.output_usd_per_mtok) for t in self.tiers or []
        ]
        return own_price(model, tiers or [one])
