"""OpenAI: any server that speaks OpenAI's chat completions: vLLM, Ollama, LM Studio, llama.cpp, OpenAI's own.

Asked at {base_url}/chat/completions, in jobs with `gateway: {base_url: ..., dialect: openai}` and models
openai:NAME; NAME goes on the wire as it is, colons included (openai:llava:7b). Such servers state no limits
of their own, so none are known here. Source: OpenAI's API reference, create chat completion.
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
DATA_URL = WireOptions(
    base64="data_url"
)  # an image_url is a URL; the job's other spelling does not exist here
MAX_TOKENS = 1000  # sent when none is given: a server's own default may be its whole context


def _response_format(value: Any) -> str | None:
    """text, json_object, or json_schema with a name and a schema."""
    wanted = (
        "{type: text}, {type: json_object} or {type: json_schema, json_schema: {name: ..., schema: {...}}}"
    )
    if not isinstance(value, Mapping):
        return wanted
    inner = value.get("json_schema")
    if value.get("type") == "json_schema" and isinstance(inner, Mapping):
        named = isinstance(inner.get("name"), str) and inner["name"] != ""
        return None if named and isinstance(inner.get("schema"), Mapping) else wanted
    return None if dict(value) in ({"type": "text"}, {"type": "json_object"}) else wanted


RULES: Mapping[str, Rule] = {
    **COMMON,
    "seed": rules.integer(-(2**31)),
    "response_format": _response_format,
    "extra_body": rules.mapping,  # what a server adds to the API, such as top_k: goes to the top level
}


class OpenAI:
    name = "openai"
    routes: Mapping[MediaKind, Route] = {
        "image": Route("", url=True, inline=True, max_items=1500, mimes=IMAGE_MIMES),
        "text": Route("", url=False, inline=False, max_items=0),
    }
    defaults: Mapping[str, Any] = {
        "temperature": 1.0, "max_tokens": MAX_TOKENS, "top_p": 1.0,
        "frequency_penalty": 0.0, "presence_penalty": 0.0, "n": 1, "stream": False, "stop": None,
    }  # fmt: skip
    known_params = frozenset(RULES)

    def check(
        self, params: Mapping[str, Any], schema: Mapping[str, Any] | None, known: KnownParams = NO_OTHERS
    ) -> list[str]:
        found = rules.problems(self.name, RULES, params, schema, known, own="response_format")
        extra = params.get("extra_body")
        if isinstance(extra, Mapping):
            taken = sorted({"model", "messages", *RULES} & set(extra))
            found += [
                f"params.extra_body.{name}: has a place of its own, outside extra_body" for name in taken
            ]
        return found

    def most_output(self, params: Mapping[str, Any]) -> int:
        return rules.most_output(params, self.defaults)

    def body(self, request: PromptRequest) -> dict[str, Any]:
        top = rules.given(request.params)
        extra = top.pop("extra_body", {})
        if rules.NEWER_NAME not in extra:
            top.setdefault("max_tokens", MAX_TOKENS)
        if request.schema is not None:
            top["response_format"] = schema_dialects.qwen(request.schema)  # json_schema, as OpenAI has it
        if top.get("stream"):
            top["stream_options"] = {"include_usage": True}  # else the stream counts no tokens
        content: list[dict[str, Any]] = [{"type": "text", "text": request.prompt}]
        content += [_part(part) for part in request.parts]
        body = request_body.body(request, self.name, self.routes, content, top)
        return {**body, **extra, "model": request.model.partition(":")[2]}

    def answer(self, payload: Mapping[str, Any]) -> Answer:
        return response.answer(payload)


def _part(part: Part) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": request_body.reference(part, DATA_URL)}}
