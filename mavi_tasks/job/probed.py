"""What `mavi doctor --probe` writes into gateway.yaml besides settings: what was seen, when, at what cost."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mavi_tasks.common.field_types import one_of
from mavi_tasks.common.strict_model import StrictModel

Spelling = Annotated[Literal["data_url", "raw"], BeforeValidator(one_of("data_url", "raw"))]
Stream = Annotated[
    Literal["unknown", "none", "openai", "mavi"],
    BeforeValidator(one_of("unknown", "none", "openai", "mavi")),
]


class ProbedModel(StrictModel):
    """What one model of a gateway was seen to do; None = could not be found out."""

    works: bool = Field(description="Whether it answered at all")
    message: str | None = Field(default=None, description="What it said when it did not")
    base64: Spelling | None = Field(default=None, description="How base64 must be written")
    nova_url: Literal["string", "object"] | None = Field(default=None, description="The shape of media parts")
    read_media: bool | None = Field(
        default=None, description="Whether its input tokens show that it read the media"
    )
    usage: bool | None = Field(default=None, description="Whether answers count their tokens")
    finish_reason: str | None = Field(default=None, description="Of a whole answer; absent = there is none")
    finish_reason_cut: str | None = Field(default=None, description="Of an answer that max_tokens cut")
    n: str | None = Field(default=None, description="honoured, ignored or refused")
    stop: str | None = Field(default=None, description="honoured, ignored or refused")
    json_answer: str | None = Field(
        default=None, description="What a schema or JSON mode does: honoured, ignored or refused"
    )
    stream: Stream | None = Field(default=None, description="The shape of its streams")
    stream_usage: bool | None = Field(default=None, description="Whether streams count their tokens")
    latency_s: float | None = Field(default=None, description="Of the call with media")
    first_token_s: float | None = Field(default=None, description="Of a streamed answer")

    def doubts(self, params: Mapping[str, Any], schema: object) -> list[str]:
        """What a job asks for that this model was not seen to honour."""
        asked = {
            "n": (params.get("n") or 1) > 1,
            "stop": params.get("stop") is not None,
            "json_answer": schema is not None,
        }
        seen = {name: getattr(self, name) for name, is_asked in asked.items() if is_asked}
        texts = {"json_answer": "the answer schema"}
        return [
            f"{texts.get(name, name)} was {how}"
            for name, how in seen.items()
            if how in ("ignored", "refused")
        ]


class Probed(StrictModel):
    """When a gateway was probed, what that cost, and what was seen."""

    at: str = Field(description="When, in UTC")
    mavi: str = Field(description="The version that probed")
    calls: int = Field(description="How many calls that took")
    cost_usd: str = Field(description="What they cost")
    exposure_usd: str = Field(default="0", description="What answers without a usage may have cost besides")
    body_taken_bytes: int | None = Field(default=None, description="The largest body that was taken")
    body_refused_bytes: int | None = Field(
        default=None, description="The smallest that was refused for its size"
    )
    models: dict[str, ProbedModel] = Field(default_factory=dict, description="What each model was seen to do")
