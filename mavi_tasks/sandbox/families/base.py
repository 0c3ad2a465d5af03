"""A provider family: the tables and functions that check a request and build its reply."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..media import MediaInput, MediaRef, MediaRules
from ..refusal import Refusal
from ..validators import Check, known_keys, refuse, text

Endpoint = Literal["/vu", "/iu"]
# Reads one part of a user message: its text, or the media it refers to.
PartReader = Callable[[Endpoint, str, Mapping[str, Any]], "str | MediaRef"]


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """The answer format that the request needs. thinking_tokens: the most tokens for thinking."""

    schema: Mapping[str, Any] | None = None
    wants_json: bool = False
    fenced: bool = False
    thinking_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One request that passed every check."""

    family: "Family"
    endpoint: Endpoint
    model: str
    wire_model: str
    system: str
    prompt: str
    media: tuple[MediaInput, ...]
    max_tokens: int
    n: int
    stops: tuple[str, ...]
    answer_format: AnswerFormat
    text_chars: int
    body_sha256: str
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """The result of a call, before it becomes a reply in the family's format."""

    call: Call
    texts: tuple[str, ...]
    cut: tuple[bool, ...]
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    created: int
    engine: str | None = None  # what really answered; None = simulated

    @property
    def provider_model(self) -> str:
        """The model name of a reply: the requested model, unless another engine answered."""
        return self.engine or self.call.model


@dataclass(frozen=True, slots=True)
class Family:
    """One provider family, as documented on the vendor's page of that name."""

    name: str
    endpoints: frozenset[Endpoint]
    roles: frozenset[str]
    max_tokens: int
    extra: Mapping[str, Check]
    part: PartReader
    rules: Callable[[str], MediaRules]
    media_tokens: Callable[[str, MediaInput], int]
    answer_format: Callable[[Mapping[str, Any]], AnswerFormat]
    reply: Callable[[Completion], dict[str, Any]]
    plain_string_endpoints: frozenset[Endpoint] = frozenset({"/vu", "/iu"})
    check: Callable[[Mapping[str, Any], str], None] = lambda body, prose: None
    errors_under_200: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)
    max_output: Callable[[str], int | None] = lambda model: None
    max_input: Callable[[str], int | None] = lambda model: None
    reasoning_tokens: Callable[[str, str, int], int] = lambda model, salt, budget: 0


def typed_part(field: str, part: Mapping[str, Any], keys: Mapping[str, Sequence[str]]) -> str:
    """The `type` of a part, after a check that it has exactly the keys of that type."""
    kind = part.get("type")
    if "type" not in part:
        raise Refusal(f"{field}.type: required parameter is missing; a part is one of {', '.join(keys)}")
    if not isinstance(kind, str) or kind not in keys:
        raise refuse(f"{field}.type", kind, " or ".join(map(repr, keys)))
    known_keys(field, part, ("type", *keys[kind]), keys[kind])
    if kind == "text":
        text(f"{field}.text", part["text"])
    return kind


def pieces(size_px: int, tile_px: int) -> int:
    """How many tiles of this size cover a length."""
    return math.ceil(size_px / tile_px)


def seconds(media: MediaInput) -> int:
    """Whole seconds of a video, at least one: families sample one frame a second."""
    return max(1, math.ceil(media.duration_s or 0))


def usage(completion: Completion, names: tuple[str, str]) -> dict[str, Any]:
    """The usage object with the family's own two key names."""
    total = completion.input_tokens + completion.output_tokens
    return {names[0]: completion.input_tokens, names[1]: completion.output_tokens, "total_tokens": total}


def text_choices(completion: Completion) -> list[dict[str, Any]]:
    """The choices of a `completion` object; this format has no field for a cut text."""
    return [{"text": text, "index": index} for index, text in enumerate(completion.texts)]
