"""What a family is: pure functions from a request to a body, and from a payload to an answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol

MediaKind = Literal["image", "video", "text"]
Endpoint = Literal["/vu", "/iu", ""]  # "": the base URL itself
CHAT_PATH: Final = "/chat/completions"  # after the endpoint
KnownParams = Mapping[str, frozenset[str]]  # family -> the names of its parameters
NO_OTHERS: Final[KnownParams] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class WireOptions:
    """How the unknowns of the contract are written on the wire; set in the job under `gateway`.

    base64: `data_url` (data:<mime>;base64,...) or `raw` (the bare base64 text).
    nova_url: `string` ("video_url": "...") or `object` ("video_url": {"url": "..."}).
    """

    base64: Literal["data_url", "raw"] = "data_url"
    nova_url: Literal["string", "object"] = "string"


@dataclass(frozen=True, slots=True)
class Part:
    """One media in a request: either a URL that the gateway fetches, or base64 text."""

    kind: Literal["image", "video"]
    mime: str
    url: str | None = None
    data: str | None = None  # bare base64, no data: prefix


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """One rendered request, before it takes a family's form. `model` is the wire name, family:name."""

    model: str
    prompt: str
    parts: tuple[Part, ...] = ()
    system: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    spelling: WireOptions = WireOptions()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the reply counted them; None = not reported. Input includes cached, output reasoning."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reply holds. `text` is the first choice, None when the reply holds no text at all."""

    text: str | None
    choices: tuple[str, ...]
    finish_reason: str | None
    usage: Usage
    response_id: str | None
    provider_model: str | None


@dataclass(frozen=True, slots=True)
class Route:
    """How one family takes one kind of media at one endpoint.

    url / inline: may it be a URL / base64. Limits are the provider's, None = none known; the gateway states
    none of its own and may lift some (it may fetch URLs itself), so a limit on URLs is worth a warning, not
    a refusal. max_inline_bytes counts one media's raw bytes, before base64; max_payload_bytes the whole
    body, after base64; max_items is for one request, max_url_items the same for URLs where it differs.
    """

    endpoint: Endpoint
    url: bool
    inline: bool
    max_inline_bytes: int | None = None
    max_url_bytes: int | None = None
    max_items: int = 1
    mimes: frozenset[str] = frozenset()  # empty = any of the kind
    max_url_items: int | None = None  # None = as max_items
    max_payload_bytes: int | None = None


class Family(Protocol):
    """One provider family; pure: no clock, no network, no environment."""

    name: str
    routes: Mapping[MediaKind, Route]  # a kind that is missing is not taken at all
    defaults: Mapping[str, Any]  # the parameter values in force when none is sent
    known_params: frozenset[str]  # the names that check() knows

    def check(
        self, params: Mapping[str, Any], schema: Mapping[str, Any] | None, known: KnownParams = NO_OTHERS
    ) -> list[str]:
        """Problems with the parameters, each naming the field, the value and what is expected.

        `known`: the parameters of every family, so that a message can name the family that has one.
        """
        ...

    def most_output(self, params: Mapping[str, Any]) -> int:
        """The most output tokens one call can bill: of all its choices, thinking included."""
        ...

    def body(self, request: PromptRequest) -> dict[str, Any]:
        """The JSON body of one request."""
        ...

    def answer(self, payload: Mapping[str, Any]) -> Answer:
        """Read a reply's JSON; never raises, whatever the payload."""
        ...
