"""Gemini: `input_file` parts, options under extra_body.metadata, replies as `completion`."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from .. import schemas
from ..media import MediaInput, MediaRef, MediaRules
from ..refusal import Refusal
from ..validators import integer, obj, one_of, refuse, text
from .base import AnswerFormat, Completion, Endpoint, Family, pieces, seconds, text_choices, typed_part, usage

METADATA = obj(
    {
        "thinking_config": obj({"thinking_budget": integer(-1)}),
        "response_mime_type": one_of("application/json", "json_schema"),
        "responseSchema": schemas.upper,
    }
)
VIDEOS = "mp4 mpeg mpg mov quicktime avi x-msvideo x-flv webm wmv x-ms-wmv 3gpp x-matroska"
RULES = MediaRules(
    image_mimes=frozenset({"image/jpeg", "image/png", "image/webp", "image/heic", "image/heif"}),
    video_mimes=frozenset(f"video/{name}" for name in VIDEOS.split()),
    max_image_bytes=7_000_000,
    max_images=3000,
    max_videos=10,
    max_url_video_bytes=15_000_000,
    max_body_bytes=20_000_000,
)


def read_part(endpoint: Endpoint, field: str, part: Mapping[str, Any]) -> str | MediaRef:
    kind = typed_part(field, part, {"text": ("text",), "input_file": ("file_uri", "mime_type")})
    if kind == "text":
        return str(part["text"])
    text(f"{field}.file_uri", part["file_uri"])
    mime = part["mime_type"]
    if not isinstance(mime, str) or mime.partition("/")[0] not in {"image", "video"}:
        raise refuse(f"{field}.mime_type", mime, "image/* or video/*")
    video = mime.startswith("video/")
    if video and endpoint == "/iu":
        raise Refusal(f"{field}.mime_type: video is taken at /vu/chat/completions only")
    return MediaRef(f"{field}.file_uri", "video" if video else "image", part["file_uri"], mime)


def check(body: Mapping[str, Any], prose: str) -> None:
    metadata = body.get("extra_body", {}).get("metadata", {})
    if "responseSchema" in metadata and "response_mime_type" not in metadata:
        raise Refusal(
            "extra_body.metadata.responseSchema: needs response_mime_type application/json beside it"
        )


def answer_format(body: Mapping[str, Any]) -> AnswerFormat:
    metadata = body.get("extra_body", {}).get("metadata", {})
    schema = metadata.get("responseSchema")
    wants_json = "response_mime_type" in metadata
    return AnswerFormat(None if schema is None else schemas.normal(schema), wants_json, fenced=wants_json)


def media_tokens(model: str, media: MediaInput) -> int:
    """Google's published counts: 258 a tile or frame up to 2.5; 1120 an image and 70 a frame for 3."""
    gemini_3 = model.startswith("gemini-3")
    if media.kind == "video":
        return seconds(media) * (70 if gemini_3 else 258) + seconds(media) * 25  # 25/s of sound
    if gemini_3:
        return 1120
    if max(media.width, media.height) <= 384:
        return 258
    return 258 * pieces(media.width, 768) * pieces(media.height, 768)


def reply(completion: Completion) -> dict[str, Any]:
    call = completion.call
    return {
        "id": f"resp_{uuid4()}",
        "object": "completion",
        "model": call.wire_model,
        "created_at": completion.created,
        "status": "completed",
        "choices": text_choices(completion),
        "usage": usage(completion, ("input_tokens", "output_tokens")),
        "meta": {"provider": "gemini", "provider_model": completion.provider_model},
    }


GEMINI = Family(
    name="gemini",
    endpoints=frozenset({"/vu", "/iu"}),
    roles=frozenset({"system", "user", "assistant"}),
    max_tokens=1000,
    extra={"extra_body": obj({"metadata": METADATA})},
    part=read_part,
    rules=lambda model: RULES,
    media_tokens=media_tokens,
    answer_format=answer_format,
    reply=reply,
    errors_under_200=True,
    plain_string_endpoints=frozenset({"/iu"}),
    check=check,
    max_output=lambda model: 8192 if model.startswith("gemini-2.0") else 65536,
    max_input=lambda model: 1_048_576,
)
