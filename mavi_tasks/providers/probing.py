"""What a probe asks a family to find out what its page leaves open."""

from collections.abc import Mapping
from typing import Any, Final

from mavi_tasks.providers.base import WireOptions
from mavi_tasks.providers.gpt import JSON_OBJECT

CHEAPEST: Final = (  # of each family, and still served
    "gemini:gemini-2.5-flash-lite", "qwen:qwen3-vl-flash", "nova:us.amazon.nova-lite-v1:0", "gpt:gpt-4o-mini",
)  # fmt: skip
UNSERVED: Final = "gemini:no-such-model"  # a call to it cannot be billed
SCHEMA: Final = {"type": "object", "properties": {"tool": {"type": "string"}}, "required": ["tool"]}
SPELLINGS: Final = tuple(
    WireOptions(base64=spelling, nova_url=shape)
    for shape in ("string", "object")
    for spelling in ("data_url", "raw")
)


def has_shapes(family: str) -> bool:
    """Whether the shape of this family's media parts is open, besides their spelling."""
    return family == "nova"


def spellings(family: str) -> tuple[WireOptions, ...]:
    """The ways in which this family's media may have to be written; the likeliest first."""
    return SPELLINGS if has_shapes(family) else SPELLINGS[:2]


def json_mode(family: str) -> tuple[Mapping[str, Any] | None, Mapping[str, Any]]:
    """The schema and the parameters that make the gateway answer in JSON, and not the prompt."""
    if family == "gpt":
        return None, {"response_format": JSON_OBJECT}
    return SCHEMA, {"structured": "tool"} if family == "nova" else {}
