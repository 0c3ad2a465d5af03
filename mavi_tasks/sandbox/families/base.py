"""What a family is here: tables and small functions that a request is checked and answered with."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..media import MediaRef, MediaRules, SeenMedia
from ..refusal import Refusal
from ..validators import Check, known_keys, refuse, text

Endpoint = Literal["/vu", "/iu"]
# Reads one part of a user message: its text, or the media it refers to.
PartReader = Callable[[Endpoint, str, Mapping[str, Any]], "str | MediaRef"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What form of answer the request asks for. extra_output: most tokens that are thought, not said."""

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
    media: tuple[SeenMedia, ...]
    max_tokens: int
    n: int
    stops: tuple[str, ...]
    asked: Asked
    text_chars: int
    body_sha256: str


@dataclass(frozen=True, slots=True)
class Completion:
    """What a call came to, before it takes the family's reply form."""

    call: Call
    texts: tuple[str, ...]
    cut: tuple[bool, ...]
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    created: int
    engine: str | None = None  # who really answered, when it is not made up

    @property
    def named(self) -> str:
        """What a reply calls its model: the one asked for, unless another one answered."""
        return self.engine or self.call.model


@dataclass(frozen=True, slots=True)
class Family:
    """One provider family, as the vendor's page of that name has it."""

    name: str
    endpoints: frozenset[Endpoint]
    roles: frozenset[str]
    max_tokens: int
    extra: Mapping[str, Check]
    part: PartReader
    rules: Callable[[str], MediaRules]
    media_tokens: Callable[[str, SeenMedia], int]
    asked: Callable[[Mapping[str, Any]], Asked]
    reply: Callable[[Completion], dict[str, Any]]
    bare_string: frozenset[Endpoint] = frozenset({"/vu", "/iu"})
    check: Callable[[Mapping[str, Any], str], None] = lambda body, prose: None
    errors_under_200: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)
    max_output: Callable[[str], int | None] = lambda model: None
    max_input: Callable[[str], int | None] = lambda model: None
    reasoning_tokens: Callable[[str, str, int], int] = lambda model, salt, most: 0


def typed_part(field: str, part: Mapping[str, Any], keys: Mapping[str, Sequence[str]]) -> str:
    """The `type` of a part that has just the keys its type takes. `keys`: the keys of each type."""
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
    """How many tiles of this side cover a length."""
    return math.ceil(size_px / tile_px)


def seconds(media: SeenMedia) -> int:
    """Whole seconds of a video, at least one: families sample one frame a second."""
    return max(1, math.ceil(media.duration_s or 0))


def usage(completion: Completion, names: tuple[str, str]) -> dict[str, Any]:
    """The usage object under the family's own two names."""
    total = completion.input_tokens + completion.output_tokens
    return {names[0]: completion.input_tokens, names[1]: completion.output_tokens, "total_tokens": total}


def text_choices(completion: Completion) -> list[dict[str, Any]]:
    """The choices of a `completion` object, which never says that it was cut."""
    return [{"text": said, "index": index} for index, said in enumerate(completion.texts)]
