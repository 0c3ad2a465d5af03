"""Nova: video at /vu, images at /iu; no schema option, so a schema goes into the prompt, or into a tool.

Source: the gateway's pages nova-vlm and nova-ilm. Limits: Amazon's documentation for Nova.
"""

import re
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

IMAGE_MIMES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
VIDEO_MIMES = frozenset(
    {
        "video/mp4", "video/quicktime", "video/x-matroska", "video/webm",
        "video/x-flv", "video/mpeg", "video/x-ms-wmv", "video/3gpp",
    }
)  # fmt: skip

TOOL = "answer"  # the tool that carries a schema under `structured: tool`
MAX_PAYLOAD_BYTES = 25_000_000
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def _tool(value: Any) -> bool:
    spec = value.get("toolSpec") if isinstance(value, Mapping) else None
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        return False
    schema = spec.get("inputSchema")
    return (
        _TOOL_NAME.fullmatch(spec["name"]) is not None
        and isinstance(schema, Mapping)
        and isinstance(schema.get("json"), Mapping)
    )


def _tools(value: Any) -> str | None:
    if isinstance(value, list | tuple) and value and all(map(_tool, value)):
        return None
    return (
        "a list of {toolSpec: {name, description, inputSchema: {json: {...}}}}, names of letters, digits, _ -"
    )


def _tool_config(value: Any) -> str | None:
    if not isinstance(value, Mapping) or set(value) != {"tools"}:
        return "{tools: [...]}; the gateway documents no other key, so no toolChoice"
    wanted = _tools(value["tools"])
    return f"{{tools: [...]}}, with {wanted}" if wanted else None


RULES: Mapping[str, Rule] = {
    **COMMON,
    "tools": _tools,
    "toolConfig": _tool_config,
    "structured": rules.one_of("prompt", "tool"),
}


class Nova:
    name = "nova"
    routes: Mapping[MediaKind, Route] = {
        # 25 MB for the whole payload, so about 18 MB of raw media. Nova 2 takes 5 embedded images; no
        # number is known for the older ones, so its number holds for all.
        "image": Route(
            "/iu", url=True, inline=True, max_inline_bytes=18_000_000, max_items=5, mimes=IMAGE_MIMES,
            max_payload_bytes=MAX_PAYLOAD_BYTES,
        ),
        "video": Route(
            "/vu", url=True, inline=True, max_inline_bytes=18_000_000, max_url_bytes=1_000_000_000,
            mimes=VIDEO_MIMES, max_payload_bytes=MAX_PAYLOAD_BYTES,
        ),
        "text": Route("/vu", url=False, inline=False, max_items=0),
    }  # fmt: skip
    defaults: Mapping[str, Any] = {
        "temperature": 1.0, "max_tokens": 1000, "top_p": 1.0,
        "frequency_penalty": 0.0, "presence_penalty": 0.0, "n": 1, "stream": False, "stop": None,
        "structured": "prompt",
    }  # fmt: skip
    known_params = frozenset(RULES)

    def check(
        self, params: Mapping[str, Any], schema: Mapping[str, Any] | None, known: KnownParams = NO_OTHERS
    ) -> list[str]:
        found = rules.problems(self.name, RULES, params, schema, known)
        own_tools = [name for name in ("tools", "toolConfig") if params.get(name) is not None]
        if len(own_tools) > 1:
            found.append("params.tools: give either this or toolConfig, not both")
        if params.get("structured") == "tool":
            found += _tool_problems(schema, own_tools)
        return found

    def most_output(self, params: Mapping[str, Any]) -> int:
        return rules.most_output(params, self.defaults)

    def body(self, request: PromptRequest) -> dict[str, Any]:
        given = rules.given(request.params)
        structured = given.pop("structured", "prompt")
        tools = list(given.pop("tools", ())) or list(given.pop("toolConfig", {}).get("tools", ()))
        text = request.prompt
        if request.schema is not None and structured == "tool":
            tools = [_answer_tool(request.schema)]
            text = f"{request.prompt}\n\nGive your answer by calling the tool `{TOOL}`."
        elif request.schema is not None:
            text = request_body.schema_prompt(request.prompt, request.schema)
        content: list[dict[str, Any]] = [{"type": "text", "text": text}]
        content += [_part(part, request.spelling) for part in request.parts]
        metadata = {"toolConfig": {"tools": tools}} if tools else {}
        return request_body.with_metadata(
            request_body.body(request, self.name, self.routes, content, given), metadata
        )

    def answer(self, payload: Mapping[str, Any]) -> Answer:
        return response.answer(payload)


def _part(part: Part, spelling: WireOptions) -> dict[str, Any]:
    key = f"{part.kind}_url"
    return {"type": key, key: request_body.nova_reference(part, spelling)}


def _answer_tool(schema: Mapping[str, Any]) -> dict[str, Any]:
    form = {"json": schema_dialects.inlined(schema)}
    return {"toolSpec": {"name": TOOL, "description": "Gives the answer.", "inputSchema": form}}


def _tool_problems(schema: Mapping[str, Any] | None, own_tools: list[str]) -> list[str]:
    found = [f"params.{name}: `structured: tool` writes the tools itself; leave it out" for name in own_tools]
    if schema is None:
        found.append("params.structured: tool needs an answer_schema")
    elif not schema_dialects.is_object(schema):
        found.append("params.structured: tool needs an answer_schema whose type is object")
    return found
