"""What the published contract leaves open, decided: the sandbox can be each of the gateways that it allows.

By default everything that some reading of the contract allows is accepted, and streams are refused, because
no form of them is documented.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_type_hints

import orjson

from .deterministic import first_match
from .families import AnswerFormat, Call
from .media import MediaInput
from .refusal import Refusal

Heeded = Literal["honoured", "ignored", "refused"]
Spelling = Literal["any", "data_url", "raw"]
Shape = Literal["any", "string", "object"]
CHUNK_CHARS = 12


class UnknownSetting(ValueError):
    """No such switch, or not one of its values."""


@dataclass(frozen=True, slots=True)
class Unknowns:
    """Which gateway the sandbox is.

    base64: one spelling for all, or by model glob. wrong_spelling: whether media in another spelling are
    refused, or the answer is given (and charged) without them. finish_reason: as the pages document it, for
    no family or for all. stream `ignored`: the whole reply comes as if none was asked for. stream_usage: the
    last chunk of a stream counts tokens. before_token_s: pause before each chunk.
    """

    base64: Spelling | Mapping[str, Spelling] = "any"
    nova_url: Shape = "any"
    wrong_spelling: Literal["refused", "unread"] = "refused"
    usage: Literal["sent", "missing"] = "sent"
    finish_reason: Literal["documented", "always", "never"] = "documented"
    n: Heeded = "honoured"
    stop: Heeded = "honoured"
    schema: Heeded = "honoured"
    stream: Literal["refused", "ignored", "openai", "mavi"] = "refused"
    stream_usage: Literal["sent", "missing"] = "sent"
    before_token_s: float = 0.0


def from_settings(settings: Mapping[str, str]) -> Unknowns:
    """Switches by name. Raises UnknownSetting with what is accepted."""
    allowed = {name: _values(hint) for name, hint in get_type_hints(Unknowns).items()}
    for name, value in settings.items():
        if name not in allowed:
            raise UnknownSetting(f"{name}: no such switch; there are {', '.join(allowed)}")
        if allowed[name] and value not in allowed[name]:
            raise UnknownSetting(f"{name}: {value!r} must be one of {', '.join(allowed[name])}")
    try:
        pause_s = float(settings.get("before_token_s", 0))
    except ValueError as error:
        raise UnknownSetting("before_token_s: must be a number of seconds") from error
    given: dict[str, Any] = {**settings, "before_token_s": pause_s}
    return Unknowns(**given)


def _values(hint: Any) -> tuple[str, ...]:
    found = [value for part in (hint, *get_args(hint)) for value in get_args(part) if isinstance(value, str)]
    return tuple(dict.fromkeys(found))


NAMES = tuple(one.name for one in fields(Unknowns))


def heeded(call: Call, unknowns: Unknowns) -> Call:
    """The call as this gateway understands it. Raises Refusal for what it does not take."""
    call = replace(call, media=tuple(_understood(call, unknowns)))
    asked = call.answer_format
    wants = asked.schema is not None or asked.wants_json
    for name, given, without in (
        ("n", call.n > 1, {"n": 1}),
        ("stop", bool(call.stops), {"stops": ()}),
        (
            "schema",
            wants,
            {"answer_format": AnswerFormat(thinking_tokens=asked.thinking_tokens)},
        ),
        ("stream", call.stream, {"stream": False}),
    ):
        how = getattr(unknowns, name)
        if given and how == "refused":
            raise Refusal(f"{name}: not supported by {call.wire_model}")
        if given and how == "ignored":
            call = replace(call, **without)
    return call


def _understood(call: Call, unknowns: Unknowns) -> Iterator[MediaInput]:
    spelling = unknowns.base64
    if isinstance(spelling, Mapping):
        spelling = first_match(spelling, call.wire_model) or "any"
    for media in call.media:
        wrong = []
        if media.spelling != "url" and spelling not in ("any", media.spelling):
            wrong.append(f"base64 must be {spelling}")
        if media.shape is not None and unknowns.nova_url not in ("any", media.shape):
            wrong.append(f"must be {unknowns.nova_url}")
        if wrong and unknowns.wrong_spelling == "refused":
            raise Refusal(f"{media.field}: {', '.join(wrong)}")
        if not wrong:
            yield media


def changed(reply: Mapping[str, Any], cut: tuple[bool, ...], unknowns: Unknowns) -> dict[str, Any]:
    """The reply as this gateway gives it."""
    reply = dict(reply)
    if unknowns.usage == "missing":
        del reply["usage"]
    if unknowns.finish_reason == "never":
        reply["choices"] = [{**choice, "finish_reason": None} for choice in reply["choices"]]
    if unknowns.finish_reason == "always":
        reasons = ["length" if one else "stop" for one in cut]
        reply["choices"] = [
            {**choice, "finish_reason": reason}
            for choice, reason in zip(reply["choices"], reasons, strict=True)
        ]
    return reply


def chunks(reply: Mapping[str, Any], unknowns: Unknowns) -> Iterator[bytes]:
    """A reply as server-sent events."""
    usage = reply.get("usage") if unknowns.stream_usage == "sent" else None
    if unknowns.stream == "mavi":
        for text in _pieces(_text(reply["choices"][0])):
            yield _event({"token": text})
        if usage is not None:
            yield _event({"usage": usage})
        return
    start = {"id": reply["id"], "object": "chat.completion.chunk", "model": reply["model"]}
    for index, choice in enumerate(reply["choices"]):
        for text in _pieces(_text(choice)):
            yield _event({**start, "choices": [{"index": index, "delta": {"content": text}}]})
        end: dict[str, Any] = {
            "index": index,
            "delta": {},
            "finish_reason": choice.get("finish_reason") or "stop",
        }
        yield _event({**start, "choices": [end]})
    if usage is not None:
        yield _event({**start, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _text(choice: Mapping[str, Any]) -> str:
    return str(choice["text"] if "text" in choice else choice["message"]["content"])


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), CHUNK_CHARS):
        yield text[start : start + CHUNK_CHARS]


def _event(value: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"
