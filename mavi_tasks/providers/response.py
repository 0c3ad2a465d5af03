"""Read any family's reply: one tolerant reader, because families differ in names only and gateways mix them.

Nothing here raises, whatever the payload: what is missing or absurd is None. Whether a reply is a failure
is the gateway's question; this module only says what text and what counts it holds.
"""

import json
from collections.abc import Mapping
from typing import Any

from mavi_tasks.providers.base import Answer, Usage

MAX_TOKENS = 10**9  # no context window is near it; more is a fault of the counter, not a count
MAX_NAME_CHARS = 200  # of an id or a model's name; a reply may hold 32 MB of it
MAX_REASON_CHARS = 64
NO_USAGE = Usage()

_TEXT_TYPES = (None, "text", "output_text")


def answer(payload: Mapping[str, Any]) -> Answer:
    """Read a reply; `text` is the first choice that holds any, None when none does, "" when it is empty.

    A refusal without a text gives finish_reason "refusal". provider_model is what the reply names, for the
    record only: some families echo a bare or a dated name, so prices go by the requested one.
    """
    if not isinstance(payload, dict):
        payload = dict(payload) if isinstance(payload, Mapping) else {}
    found = payload.get("choices")
    if not isinstance(found, list):
        inner = payload.get("data")  # the wrapper of the gateway's other endpoints, should it come here
        if isinstance(inner, dict) and isinstance(inner.get("choices"), list):
            return answer(inner)
        found = []
    texts, finish = _choices(found)
    meta = payload.get("meta")
    named = meta.get("provider_model") if isinstance(meta, dict) else None
    identity = payload.get("id")
    if not isinstance(named, str):
        named = payload.get("model")
    return Answer(
        texts[0] if texts else None,
        tuple(texts),
        finish,
        usage(payload.get("usage")),
        identity[:MAX_NAME_CHARS] if isinstance(identity, str) else None,
        named[:MAX_NAME_CHARS] if isinstance(named, str) else None,
    )


def usage(found: Any) -> Usage:
    """The counts of a usage object, under any of the names that the families use."""
    if not isinstance(found, dict):
        return NO_USAGE
    get = found.get
    inputs = _count(get("input_tokens"))
    if inputs is None:
        inputs = _count(get("prompt_tokens"))
    outputs = _count(get("output_tokens"))
    if outputs is None:
        outputs = _count(get("completion_tokens"))
    if outputs is None:
        outputs = _count(get("output_token"))  # nova's own name, singular
    cached = get("prompt_tokens_details") or get("input_tokens_details")
    reasoning = get("completion_tokens_details") or get("output_tokens_details")
    return Usage(
        inputs,
        outputs,
        _count(get("total_tokens")),
        _count(cached.get("cached_tokens")) if isinstance(cached, dict) else None,
        _count(reasoning.get("reasoning_tokens")) if isinstance(reasoning, dict) else None,
    )


def _count(value: Any) -> int | None:
    # type() and not isinstance: True is an int to isinstance
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None


def _choices(found: list[Any]) -> tuple[list[str], str | None]:
    texts: list[str] = []
    finish: str | None = None
    for choice in found:
        if not isinstance(choice, dict):
            continue
        text = choice.get("text")
        if not isinstance(text, str):
            text = _message_text(choice.get("message"))
        if text is not None:
            texts.append(text)
        if finish is None:
            finish = _finish(choice, text)
    return texts, finish


def _finish(choice: dict[str, Any], text: str | None) -> str | None:
    if text is None:
        message = choice.get("message")
        if isinstance(message, dict) and isinstance(message.get("refusal"), str):
            return "refusal"
    reason = choice.get("finish_reason")
    return reason[:MAX_REASON_CHARS] if isinstance(reason, str) else None


def _message_text(message: Any) -> str | None:
    if not isinstance(message, dict):
        return None
    content = message.get("content")
    if isinstance(content, str) and content:
        return content
    parts = content if isinstance(content, list) else []
    texts = [
        part["text"]
        for part in parts
        if isinstance(part, dict) and isinstance(part.get("text"), str) and _is_text(part)
    ]
    if any(texts):
        return "".join(texts)
    called = _calls_text(parts, message)
    if called is not None:
        return called
    return content if isinstance(content, str) else ("" if texts else None)


def _is_text(part: dict[str, Any]) -> bool:
    kind = part.get("type")
    return kind is None or (isinstance(kind, str) and kind in _TEXT_TYPES)


def _calls_text(parts: list[Any], message: dict[str, Any]) -> str | None:
    """The arguments of tool calls as JSON text: of the one call, or a list when there are several.

    How nova's tool calls come back is documented nowhere, so the forms of Bedrock (toolUse.input) and of
    OpenAI (tool_calls[].function.arguments, older function_call.arguments) are read.
    """
    inputs = [part["toolUse"].get("input") for part in parts if _has_tool_use(part)]
    calls = message.get("tool_calls")
    listed = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    inputs += [_arguments(call.get("function", call)) for call in listed]
    inputs.append(_arguments(message.get("function_call")))
    texts = [text for text in map(_as_json_text, inputs) if text is not None]
    if not texts:
        return None
    return texts[0] if len(texts) == 1 else "[" + ",".join(texts) + "]"


def _has_tool_use(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("toolUse"), dict)


def _arguments(call: Any) -> Any:
    if not isinstance(call, dict):
        return None
    return call["toolUse"].get("input") if _has_tool_use(call) else call.get("arguments")


def _as_json_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return None
