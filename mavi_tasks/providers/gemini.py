"""Gemini: media as input_file parts with their MIME type; thinking and schemas under extra_body.metadata.

Source: the gateway's pages gemini-vlm and gemini-ilm. Limits: Google's documentation for Vertex AI.
"""

from collections.abc import Mapping
from typing import Any

from mavi_tasks.providers import params as rules
from mavi_tasks.providers import request_body, response, schema_dialects
from mavi_tasks.providers.base import (
    NO_OTHERS,
    Answer,
    KnownParams,
    MediaKind,
    Part,
    PromptRequest,
    Route,
    WireOptions,
)
from mavi_tasks.providers.params import COMMON, Rule

IMAGE_MIMES = frozenset({"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"})

RULES: Mapping[str, Rule] = {
    **COMMON,
    "thinking_budget": rules.integer(-1),  # -1 lets the model decide, 0 turns thinking off where it can be
    "response_mime_type": rules.one_of("application/json", "json_schema"),
    "responseSchema": rules.mapping,  # in Gemini's own form; answer_schema is converted for you
}


class Gemini:
    name = "gemini"
    routes: Mapping[MediaKind, Route] = {
        # At most 10 images by URL, 3000 inline; one video. The 15 MB for a video's URL is Vertex's own
        # fetcher's; whether the gateway fetches instead, and so lifts it, is not documented.
        "image": Route(
            "/vu", url=True, inline=True, max_inline_bytes=7_000_000, max_items=3000, mimes=IMAGE_MIMES,
            max_url_items=10, max_payload_bytes=20_000_000,
        ),
        "video": Route("/vu", url=True, inline=False, max_url_bytes=15_000_000),
        "text": Route("/vu", url=False, inline=False, max_items=0),
    }  # fmt: skip
    defaults: Mapping[str, Any] = {
        "temperature": 0.7, "max_tokens": 1000, "top_p": 1.0,
        "frequency_penalty": 0.0, "presence_penalty": 0.0, "n": 1, "stream": False, "stop": None,
    }  # fmt: skip
    known_params = frozenset(RULES)

    def check(
        self, params: Mapping[str, Any], schema: Mapping[str, Any] | None, known: KnownParams = NO_OTHERS
    ) -> list[str]:
        return rules.problems(self.name, RULES, params, schema, known, own="responseSchema")

    def most_output(self, params: Mapping[str, Any]) -> int:
        # -1 lets the model decide, within max_tokens.
        thinking = max(0, int(params.get("thinking_budget") or 0))
        return rules.most_output(params, self.defaults, thinking)

    def body(self, request: PromptRequest) -> dict[str, Any]:
        given = rules.given(request.params)
        metadata = _metadata(given, request.schema)
        content: list[dict[str, Any]] = [{"type": "text", "text": request.prompt}]
        content += [_part(part, request.spelling) for part in request.parts]
        return request_body.with_metadata(
            request_body.body(request, self.name, self.routes, content, given), metadata
        )

    def answer(self, payload: Mapping[str, Any]) -> Answer:
        return response.answer(payload)


def _part(part: Part, spelling: WireOptions) -> dict[str, str]:
    return {"type": "input_file", "file_uri": request_body.reference(part, spelling), "mime_type": part.mime}


def _metadata(given: dict[str, Any], schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """Takes its own parameters out of `given`."""
    metadata: dict[str, Any] = {}
    if "thinking_budget" in given:
        metadata["thinking_config"] = {"thinking_budget": given.pop("thinking_budget")}
    for name in ("response_mime_type", "responseSchema"):
        if name in given:
            metadata[name] = given.pop(name)
    if schema is not None:
        metadata.setdefault("response_mime_type", "application/json")
        form = schema_dialects.gemini(schema)
        if form is not None:
            metadata["responseSchema"] = form
    return metadata
