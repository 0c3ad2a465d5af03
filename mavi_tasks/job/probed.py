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
    """What one model of a gateway was seen to do. None = could not be found out.

    message: what it said when it did not work. read_media: whether its input tokens show that it read the
    media. finish_reason, finish_reason_cut: of a whole answer, and of one cut by max_tokens. n, stop,
    json_answer: honoured, ignored or refused.
    """

    works: bool
    message: str | None = None
    base64: Spelling | None = None
    nova_url: Literal["string", "object"] | None = None
    read_media: bool | None = None
    usage: bool | None = None
    finish_reason: str | None = None
    finish_reason_cut: str | None = None
    n: str | None = None
    stop: str | None = None
    json_answer: str | None = None
    stream: Stream | None = None
    stream_usage: bool | None = None
    latency_s: float | None = None
    first_token_s: float | None = None

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
    """When a gateway was probed, what that cost, and what was seen.

    at: an instant in UTC. body_taken_bytes, body_refused_bytes: the largest body that was taken, and the
    smallest that was refused for its size.
    """

    at: str
    mavi: str
    calls: int
    cost_usd: str
    exposure_usd: str = "0"
    body_taken_bytes: int | None = None
    body_refused_bytes: int | None = None
    models: dict[str, ProbedModel] = Field(default_factory=dict)
