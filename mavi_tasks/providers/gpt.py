"""GPT: images only, at /iu; JSON by response_format json_object, so a schema goes into the prompt.

Source: the gateway's page gpt-ilm. Limits: OpenAI's documentation.
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

IMAGE_MIMES = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
JSON_OBJECT = {"type": "json_object"}


def _response_format(value: Any) -> str | None:
    if isinstance(value, Mapping) and dict(value) == JSON_OBJECT:
        return None
    return "{type: json_object}, the only one this gateway documents; for a schema give answer_schema"


RULES: Mapping[str, Rule] = {**COMMON, "response_format": _response_format}


class Gpt:
    name = "gpt"
    routes: Mapping[MediaKind, Route] = {
        "image": Route(
            "/iu", url=True, inline=True, max_inline_bytes=20_000_000, max_url_bytes=20_000_000,
            max_items=1500, mimes=IMAGE_MIMES, max_payload_bytes=50_000_000,
        ),
        "text": Route("/iu", url=False, inline=False, max_items=0),
    }  # fmt: skip
    defaults: Mapping[str, Any] = {
        "temperature": 0.0, "max_tokens": 1000, "top_p": 1.0,
        "frequency_penalty": 0.0, "presence_penalty": 0.0, "n": 1, "stream": False, "stop": None,
    }  # fmt: skip
    known_params = frozenset(RULES)

    def check(
        self, params: Mapping[str, Any], schema: Mapping[str, Any] | None, known: KnownParams = NO_OTHERS
    ) -> list[str]:
        return rules.problems(self.name, RULES, params, schema, known)

    def most_output(self, params: Mapping[str, Any]) -> int:
        return rules.most_output(params, self.defaults)

    def body(self, request: PromptRequest) -> dict[str, Any]:
        top = rules.given(request.params)
        text = request.prompt
        if request.schema is not None:
            text = request_body.schema_prompt(request.prompt, request.schema)
            # json_object mode forces an object, so a schema of another type goes without it
            if schema_dialects.is_object(request.schema):
                top["response_format"] = dict(JSON_OBJECT)
        elif "response_format" in top and "json" not in f"{request.system or ''} {text}".lower():
            text = f"{text}\n\nAnswer as JSON."  # json_object mode is refused without the word
        content: list[dict[str, Any]] = [{"type": "text", "text": text}]
        content += [_part(part, request.spelling) for part in request.parts]
        return request_body.body(request, self.name, self.routes, content, top)

    def answer(self, payload: Mapping[str, Any]) -> Answer:
        return response.answer(payload)


def _part(part: Part, spelling: WireOptions) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": request_body.reference(part, spelling)}}
