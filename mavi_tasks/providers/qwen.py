"""Qwen: parts without a type key, in DashScope's own style; only the roles system and user.

Source: the gateway's pages qwen-vlm and qwen-ilm. Limits: Alibaba's documentation for Model Studio.
"""

from collections.abc import Mapping
from typing import Any

from mavi_tasks.providers import params as rules
from mavi_tasks.providers import request_body, response, schema_dialects
from mavi_tasks.providers.base import NO_OTHERS, Answer, KnownParams, MediaKind, PromptRequest, Route
from mavi_tasks.providers.params import COMMON, Rule

IMAGE_MIMES = frozenset({"image/png", "image/jpeg", "image/webp", "image/bmp", "image/tiff", "image/heic"})

MAX_THINKING_TOKENS = 81_920
METADATA = ("enable_thinking", "thinking_budget", "response_format")


def _response_format(value: Any) -> str | None:
    wanted = "{type: json_schema, json_schema: {name: ..., schema: {...}}}"
    if not isinstance(value, Mapping) or value.get("type") != "json_schema":
        return wanted
    inner = value.get("json_schema")
    if not isinstance(inner, Mapping) or not isinstance(inner.get("schema"), Mapping):
        return wanted
    return None if isinstance(inner.get("name"), str) and inner["name"] else wanted


RULES: Mapping[str, Rule] = {
    **COMMON,
    "enable_thinking": rules.boolean,
    "thinking_budget": rules.integer(1, MAX_THINKING_TOKENS),
    "response_format": _response_format,
}


class Qwen:
    name = "qwen"
    routes: Mapping[MediaKind, Route] = {
        # 10 MB for the base64 text, so three quarters of it raw.
        "image": Route(
            "/vu", url=True, inline=True, max_inline_bytes=7_500_000, max_url_bytes=10_000_000,
            max_items=250, mimes=IMAGE_MIMES, max_url_items=256,
        ),
        "video": Route("/vu", url=True, inline=False, max_url_bytes=1_000_000_000, max_items=64),
        "text": Route("/vu", url=False, inline=False, max_items=0),
    }  # fmt: skip
    defaults: Mapping[str, Any] = {
        "temperature": 0.7, "max_tokens": 1024, "top_p": 0.9,
        "frequency_penalty": 0.0, "presence_penalty": 0.0, "n": 1, "stream": False, "stop": None,
    }  # fmt: skip
    known_params = frozenset(RULES)

    def check(
        self, params: Mapping[str, Any], schema: Mapping[str, Any] | None, known: KnownParams = NO_OTHERS
    ) -> list[str]:
        return rules.problems(self.name, RULES, params, schema, known, own="response_format")

    def most_output(self, params: Mapping[str, Any]) -> int:
        thinking = int(params.get("thinking_budget") or 0)
        if params.get("enable_thinking") and not thinking:
            thinking = MAX_THINKING_TOKENS
        return rules.most_output(params, self.defaults, thinking)

    def body(self, request: PromptRequest) -> dict[str, Any]:
        given = rules.given(request.params)
        metadata = {name: given.pop(name) for name in METADATA if name in given}
        if request.schema is not None:
            metadata["response_format"] = schema_dialects.qwen(request.schema)
        content: list[dict[str, Any]] = [
            {part.kind: request_body.reference(part, request.spelling)} for part in request.parts
        ]
        content.append({"text": request.prompt})
        return request_body.with_metadata(
            request_body.body(request, self.name, self.routes, content, given), metadata
        )

    def answer(self, payload: Mapping[str, Any]) -> Answer:
        return response.answer(payload)
