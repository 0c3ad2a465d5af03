"""The pieces that the four request bodies share, and the one place where unknown spellings are decided.

Two things the gateway's documents leave open are settings of the job (`WireOptions`), decided here and
nowhere else:
  base64    how inlined media are written. `data_url` (data:<mime>;base64,...) is what OpenAI and DashScope
            want and the default; `raw` is the bare base64 text, as Gemini and Bedrock have it natively.
  nova_url  `string` is what the page's table says ("Video URL or base64 encoded video") and the default;
            `object` ({"url": ...}) is what the one public client sends.
Settled by the documents or by working clients: user content is always an array (a bare text was refused as
"Model input cannot be empty"), system content is a text, `extra_body` is a literal key of the body.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from mavi_tasks.errors import InputError
from mavi_tasks.providers.base import MediaKind, Part, PromptRequest, Route, WireOptions

Body = dict[str, Any]


def reference(part: Part, spelling: WireOptions) -> str:
    """The media as one text: its URL, or its base64 in the job's spelling."""
    if part.url is not None:
        return part.url
    if spelling.base64 == "raw":
        return part.data or ""
    return f"data:{part.mime};base64,{part.data}"


def nova_reference(part: Part, spelling: WireOptions) -> str | dict[str, str]:
    """The value of nova's video_url or image_url, in the job's spelling."""
    text = reference(part, spelling)
    return {"url": text} if spelling.nova_url == "object" else text


def refusal(family: str, routes: Mapping[MediaKind, Route], parts: Iterable[Part]) -> str | None:
    """Why a family cannot take these media, or None: kinds, URL or base64, one endpoint for all."""
    endpoints = set()
    for part in parts:
        route = routes.get(part.kind)
        if route is None:
            return f"{family} takes no {part.kind}"
        if part.url is not None and not route.url:
            return f"{family} takes no {part.kind} by URL"
        if part.url is None and not route.inline:
            return f"{family} takes {part.kind} by URL only, not as base64"
        endpoints.add(route.endpoint)
    if len(endpoints) > 1:
        return f"{family} takes images and videos at different endpoints, not in one request"
    return None


def body(
    request: PromptRequest,
    family: str,
    routes: Mapping[MediaKind, Route],
    content: list[Body],
    top: Mapping[str, Any],
) -> Body:
    """The body around one user message; `top` are the given parameters that stand at the top level.

    InputError when the family cannot take the request's media, because such a call would fail with 400.
    """
    problem = refusal(family, routes, request.parts) if request.parts else None
    if problem is not None:
        raise InputError(f"{request.model}: {problem}")
    messages: list[Body] = [{"role": "user", "content": content}]
    if request.system:
        messages.insert(0, {"role": "system", "content": request.system})
    return {"model": request.model, "messages": messages, **top}


def with_metadata(request: Body, metadata: Body) -> Body:
    """The body with extra_body.metadata, when there is any."""
    if metadata:
        request["extra_body"] = {"metadata": metadata}
    return request


def schema_prompt(prompt: str, schema: Mapping[str, Any]) -> str:
    """The prompt followed by the schema, in text that every model follows; it contains JSON as a word."""
    text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    return (
        f"{prompt}\n\nAnswer with JSON only, no other text, that is valid against this JSON Schema:\n{text}"
    )
