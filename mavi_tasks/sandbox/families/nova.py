"""Nova: `video_url` at /vu, `image_url` at /iu, each a string or an object; usage says `output_token`."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any
from uuid import uuid4

from .. import schemas
from ..media import MediaInput, MediaRef, MediaRules
from ..validators import array, name, obj, refuse, text
from .base import AnswerFormat, Completion, Endpoint, Family, seconds, typed_part, usage

TOOL_SPEC = obj(
    {"name": name, "description": text, "inputSchema": obj({"json": schemas.lower}, required=("json",))},
    required=("name", "inputSchema"),
)
TOOL = obj({"toolSpec": TOOL_SPEC}, required=("toolSpec",))
METADATA = obj({"toolConfig": obj({"tools": array(TOOL, min_items=1)}, required=("tools",))})
MEDIA_TYPE: Mapping[Endpoint, str] = {"/vu": "video_url", "/iu": "image_url"}
VIDEOS = "mp4 quicktime mov x-matroska webm x-flv flv mpeg mpg x-ms-wmv wmv 3gpp"
RULES = MediaRules(
    image_mimes=frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"}),
    video_mimes=frozenset(f"video/{name}" for name in VIDEOS.split()),
    inline_video=True,
    max_image_side_px=8000,
    max_inline_images=5,
    max_videos=1,
    max_url_video_bytes=1_000_000_000,
    max_body_bytes=25_000_000,
)
# Amazon's own examples: pixels and tokens; linear between them.
V1_TOKENS = ((0, 0), (405_000, 800), (810_000, 1300), (1_260_000, 1800), (1_620_000, 2400), (1_690_000, 2600))
V2_TOKENS = ((0, 0), (405_000, 515), (810_000, 1035), (1_260_000, 1600), (1_620_000, 2060), (1_690_000, 2155))


def read_part(endpoint: Endpoint, field: str, part: Mapping[str, Any]) -> str | MediaRef:
    media_type = MEDIA_TYPE[endpoint]
    kind = typed_part(field, part, {"text": ("text",), media_type: (media_type,)})
    if kind == "text":
        return str(part["text"])
    shape = "object" if isinstance(part[kind], dict) else "string"
    value = media_value(field, kind, part[kind])
    return MediaRef(f"{field}.{kind}", "video" if kind == "video_url" else "image", value, shape=shape)


def media_value(field: str, kind: str, value: Any) -> str:
    """The URL or base64 text; the page documents a string, real clients send {"url": ...}."""
    if isinstance(value, dict):
        obj({"url": text}, required=("url",))(f"{field}.{kind}", value)
        return str(value["url"])
    if not isinstance(value, str) or not value:
        raise refuse(f"{field}.{kind}", value, 'a string or {"url": "..."}')
    return value


def answer_format(body: Mapping[str, Any]) -> AnswerFormat:
    tools = body.get("extra_body", {}).get("metadata", {}).get("toolConfig", {}).get("tools")
    return AnswerFormat(tools[0]["toolSpec"]["inputSchema"]["json"] if tools else None, bool(tools))


def media_tokens(model: str, media: MediaInput) -> int:
    """Amazon's published counts: 288 a frame, one frame a second up to a cap; images by their pixels."""
    if media.kind == "video":
        return 288 * min(seconds(media), 3200 if "premier" in model else 960)
    table = V2_TOKENS if "nova-2" in model else V1_TOKENS
    pixels = media.width * media.height
    for (low_px, low), (high_px, high) in pairwise(table):
        if pixels <= high_px:
            return max(1, round(low + (high - low) * (pixels - low_px) / (high_px - low_px)))
    return table[-1][1]


def reply(completion: Completion) -> dict[str, Any]:
    return {
        "id": f"chatcmpl_{uuid4().hex}",
        "object": "chat.completion",
        "created": completion.created,
        "model": completion.engine or completion.call.wire_model,
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "length" if completion.cut[index] else "stop",
            }
            for index, text in enumerate(completion.texts)
        ],
        "usage": usage(completion, ("prompt_tokens", "output_token")),
    }


NOVA = Family(
    name="nova",
    endpoints=frozenset({"/vu", "/iu"}),
    roles=frozenset({"system", "user", "assistant"}),
    max_tokens=1000,
    extra={"extra_body": obj({"metadata": METADATA})},
    part=read_part,
    rules=lambda model: RULES,
    media_tokens=media_tokens,
    answer_format=answer_format,
    reply=reply,
    # The page's own example request drops the `us.` of its price table.
    aliases={"amazon.nova-lite-v1:0": "us.amazon.nova-lite-v1:0"},
)
