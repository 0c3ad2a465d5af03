"""GPT: /iu only, `image_url.url`, json_object at the top level, replies name the dated snapshot."""

import math
import re
import secrets
import string
from collections.abc import Mapping
from typing import Any

from ..deterministic import fraction
from ..ledger import PRICES
from ..media import MediaInput, MediaRef, MediaRules
from ..refusal import Refusal
from ..validators import obj, one_of, text
from .base import AnswerFormat, Completion, Endpoint, Family, pieces, typed_part, usage

RULES = MediaRules(
    image_mimes=frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"}),
    video_mimes=frozenset(),
    max_image_bytes=20_000_000,
    max_body_bytes=50_000_000,
    animated=False,
)
IMAGE_URL = obj({"url": text}, required=("url",))
# Tokens of an image: base and per tile of 512 px. The first matching prefix applies.
TILES = {
    "gpt-4o-mini": (2833, 5667),
    "gpt-4": (85, 170),
    "chatgpt-4o": (85, 170),
    "o1": (75, 150),
    "o3": (75, 150),
    "gpt-5": (70, 140),
}
# Per patch of 32 px, at most 1536 of them. gpt-5.2's factor is not published: 1.
PATCHES = {
    "gpt-4.1-mini": 1.62,
    "gpt-4.1-nano": 2.46,
    "gpt-5-mini": 1.62,
    "gpt-5-nano": 2.46,
    "o4-mini": 1.72,
    "gpt-5.2": 1.0,
}
REASONING = re.compile(r"o\d|gpt-5(?!.*chat)")


def read_part(endpoint: Endpoint, field: str, part: Mapping[str, Any]) -> str | MediaRef:
    if typed_part(field, part, {"text": ("text",), "image_url": ("image_url",)}) == "text":
        return str(part["text"])
    IMAGE_URL(f"{field}.image_url", part["image_url"])
    return MediaRef(f"{field}.image_url.url", "image", part["image_url"]["url"])


def check(body: Mapping[str, Any], prose: str) -> None:
    if "response_format" in body and "json" not in prose.lower():
        raise Refusal("response_format: json_object needs the word JSON in messages")


def answer_format(body: Mapping[str, Any]) -> AnswerFormat:
    return AnswerFormat(wants_json="response_format" in body)


def media_tokens(model: str, media: MediaInput) -> int:
    """OpenAI's published counts at high detail, by tiles or by patches."""
    factor = next((value for prefix, value in PATCHES.items() if model.startswith(prefix)), None)
    if factor is not None:
        patches = pieces(media.width, 32) * pieces(media.height, 32)
        return math.ceil(min(1536, patches) * factor)
    base, per_tile = next(value for prefix, value in TILES.items() if model.startswith(prefix))
    shrink = min(1.0, 2048 / max(media.width, media.height))
    shrink = min(shrink, 768 / min(media.width, media.height))
    across = pieces(round(media.width * shrink), 512)
    return base + per_tile * across * pieces(round(media.height * shrink), 512)


def snapshot(model: str) -> str:
    """The dated name a reply echoes: the newest snapshot of the model in the price list."""
    dated = [name for name in PRICES["gpt"] if re.fullmatch(re.escape(model) + r"-\d{4}-\d\d-\d\d", name)]
    return max(dated, default=model)


def details(completion: Completion) -> dict[str, Any]:
    return {
        **usage(completion, ("prompt_tokens", "completion_tokens")),
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": completion.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def choice(index: int, content: str, cut: bool) -> dict[str, Any]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": content, "refusal": None, "annotations": []},
        "logprobs": None,
        "finish_reason": "length" if cut else "stop",
    }


def reply(completion: Completion) -> dict[str, Any]:
    choices = zip(completion.texts, completion.cut, strict=True)
    return {
        "id": "chatcmpl-" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(29)),
        "object": "chat.completion",
        "created": completion.created,
        "model": completion.engine or snapshot(completion.call.model),
        "choices": [choice(index, *one) for index, one in enumerate(choices)],
        "usage": details(completion),
        "service_tier": "default",
        "system_fingerprint": f"fp_{(completion.engine or 'simulated').rpartition('/')[2]}",
    }


GPT = Family(
    name="gpt",
    endpoints=frozenset({"/iu"}),
    roles=frozenset({"system", "user", "assistant"}),
    max_tokens=1000,
    extra={"response_format": obj({"type": one_of("json_object")}, required=("type",))},
    part=read_part,
    rules=lambda model: RULES,
    media_tokens=media_tokens,
    answer_format=answer_format,
    reply=reply,
    check=check,
    # Thinking counts as output and is included in max_tokens.
    reasoning_tokens=lambda model, salt, budget: (
        32 + int(96 * fraction("thought", model, salt)) if REASONING.match(model) else 0
    ),
)
