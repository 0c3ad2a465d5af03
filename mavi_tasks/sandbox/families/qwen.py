"""Qwen: parts without a type, system and user only, replies as `completion` with the bare model name."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

from .. import schemas
from ..deterministic import fraction
from ..media import MediaInput, MediaRef, MediaRules
from ..refusal import Refusal
from ..validators import boolean, integer, name, obj, one_of, text
from .base import AnswerFormat, Completion, Endpoint, Family, text_choices, usage

RESPONSE_FORMAT = obj(
    {
        "type": one_of("json_schema"),
        "json_schema": obj({"name": name, "schema": schemas.top_object}, required=("name", "schema")),
    },
    required=("type", "json_schema"),
)
METADATA = obj(
    {"enable_thinking": boolean, "thinking_budget": integer(1), "response_format": RESPONSE_FORMAT}
)
PARTS = {"/vu": ("text", "image", "video"), "/iu": ("text", "image")}
VIDEOS = "mp4 mpeg quicktime x-msvideo x-flv webm x-ms-wmv x-matroska 3gpp"
RULES = MediaRules(
    image_mimes=frozenset(
        {
            "image/jpeg",
            "image/png",
            "image/webp",
            "image/bmp",
            "image/tiff",
            "image/heic",
            "image/heif",
            "image/gif",
        }
    ),
    video_mimes=frozenset(f"video/{name}" for name in VIDEOS.split()),
    max_image_bytes=10_000_000,
    max_base64_chars=10_000_000,
    max_images=256,
    max_inline_images=250,
    max_videos=64,
    max_url_video_bytes=2_000_000_000,
    min_video_s=2.0,
)
OLD_SNAPSHOTS = frozenset({"qwen-vl-max-2025-04-08", "qwen-vl-plus-2025-05-07", "qwen-vl-plus-2025-01-25"})


def rules(model: str) -> MediaRules:
    if model.startswith("qwen3"):
        return replace(RULES, max_video_s=3600.0)
    if model.startswith("qwen-vl-max"):
        return replace(RULES, max_video_s=1200.0)
    return replace(RULES, max_video_s=600.0, max_url_video_bytes=1_000_000_000)


def read_part(endpoint: Endpoint, field: str, part: Mapping[str, Any]) -> str | MediaRef:
    allowed = PARTS[endpoint]
    if "type" in part:
        raise Refusal(f"{field}.type: unknown parameter; a part has one key: {', '.join(allowed)}")
    if len(part) != 1 or next(iter(part)) not in allowed:
        raise Refusal(
            f"{field}: keys {', '.join(map(str, part)) or '(none)'}; a part has one key: {', '.join(allowed)}"
        )
    key, value = next(iter(part.items()))
    text(f"{field}.{key}", value)
    return str(value) if key == "text" else MediaRef(f"{field}.{key}", key, value)  # type: ignore[arg-type]


def answer_format(body: Mapping[str, Any]) -> AnswerFormat:
    metadata = body.get("extra_body", {}).get("metadata", {})
    budget = metadata.get("thinking_budget", 2048) if metadata.get("enable_thinking") else 0
    response_format = metadata.get("response_format")
    schema = None if response_format is None else response_format["json_schema"]["schema"]
    return AnswerFormat(schema, response_format is not None, thinking_tokens=budget)


def media_tokens(model: str, media: MediaInput) -> int:
    """Alibaba's published counts: one token per merged patch; video at 2 frames/s, two frames a token."""
    side = 28 if model in OLD_SNAPSHOTS else 32
    qwen3 = model.startswith("qwen3")
    if media.kind == "image":
        cap_px = 2_621_440 if qwen3 else 1_310_720
        return max(4, _patches(media, side, cap_px) + 2)
    plus = model.startswith("qwen3-vl-plus")
    frames = min(2000, max(4, math.ceil((media.duration_s or 0) * 2)))
    pairs = math.ceil(frames / 2)
    total_px = (131_072 if plus else 65_536) * 1024
    cap_px = min((640 if plus else 768) * 1024, total_px // pairs)
    return pairs * _patches(media, side, cap_px) + 2


def _patches(media: MediaInput, side: int, cap_px: int) -> int:
    width = max(side, round(media.width / side) * side)
    height = max(side, round(media.height / side) * side)
    if width * height > cap_px:
        shrink = math.sqrt(media.width * media.height / cap_px)
        width = max(side, math.floor(media.width / shrink / side) * side)
        height = max(side, math.floor(media.height / shrink / side) * side)
    return (width // side) * (height // side)


def reply(completion: Completion) -> dict[str, Any]:
    call = completion.call
    return {
        "id": str(uuid4()),
        "object": "completion",
        "model": call.model,
        "created_at": completion.created,
        "status": "completed",
        "choices": text_choices(completion),
        "usage": usage(completion, ("input_tokens", "output_tokens")),
        "meta": {"provider": "qwen", "provider_model": completion.provider_model},
    }


QWEN = Family(
    name="qwen",
    endpoints=frozenset({"/vu", "/iu"}),
    roles=frozenset({"system", "user"}),
    max_tokens=1024,
    extra={"extra_body": obj({"metadata": METADATA})},
    part=read_part,
    rules=rules,
    media_tokens=media_tokens,
    answer_format=answer_format,
    reply=reply,
    errors_under_200=True,
    max_output=lambda model: 32768 if model.startswith("qwen3") else 8192,
    max_input=lambda model: 260_096 if model.startswith("qwen3") else 129_024,
    reasoning_tokens=lambda model, salt, budget: min(
        budget, 50 + int(150 * fraction("thought", model, salt))
    ),
)
