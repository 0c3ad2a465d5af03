"""Parses and checks a request body: a Call, or a Refusal that names the field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any

import orjson

from .families import FAMILIES, Call, Endpoint, Family
from .ledger import PRICES
from .media import MediaInput, MediaRef, MediaRules, MediaSources, check_counts, resolve
from .refusal import Errored, Refusal
from .validators import COMMON, known_keys, refuse, text


@dataclass(frozen=True, slots=True)
class Messages:
    """The content of the messages: the texts by role, and the media in order."""

    system: str
    prompt: str
    chars: int
    media: tuple[MediaRef, ...]


def read(raw: bytes, endpoint: Endpoint, sources: MediaSources, retired: Sequence[str] = ()) -> Call:
    """The call of a request body. Raises Refusal at the first violation of the contract."""
    try:
        return _checked(raw, endpoint, sources, retired)
    except RecursionError as error:
        raise Refusal("request body: nested too deep") from error


def _checked(raw: bytes, endpoint: Endpoint, sources: MediaSources, retired: Sequence[str]) -> Call:
    body = _json(raw)
    family, model = _family(body, endpoint, retired)
    known = {**COMMON, **family.extra}
    known_keys("", body, known, ("model", "messages"))
    for key, value in body.items():
        known[key](key, value)
    rules = family.rules(model)
    if rules.max_body_bytes is not None and len(raw) > rules.max_body_bytes:
        raise Refusal(f"request body: {len(raw)} bytes, at most {rules.max_body_bytes}")
    messages = _messages(family, endpoint, body["messages"])
    family.check(body, f"{messages.system}\n{messages.prompt}")
    media = [_resolve(family, ref, rules, sources) for ref in messages.media]
    check_counts(media, rules)
    return Call(
        family=family,
        endpoint=endpoint,
        model=model,
        wire_model=body["model"],
        system=messages.system,
        prompt=messages.prompt,
        media=tuple(media),
        max_tokens=_max_tokens(family, model, body),
        n=body.get("n", 1),
        stops=_stops(body.get("stop")),
        answer_format=family.answer_format(body),
        text_chars=messages.chars,
        body_sha256=sha256(raw).hexdigest(),
        stream=body.get("stream", False),
    )


def _json(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Refusal(f"request body: not JSON ({error})") from error
    if not isinstance(body, dict):
        raise refuse("request body", body, "a JSON object")
    return body


def _family(body: Mapping[str, Any], endpoint: Endpoint, retired: Sequence[str]) -> tuple[Family, str]:
    """The family, and the model name without prefix, as in the price list."""
    wire_model = body.get("model")
    if "model" not in body:
        raise Refusal("model: required parameter is missing")
    text("model", wire_model)
    prefix, colon, name = str(wire_model).partition(":")
    if not colon or prefix not in FAMILIES:
        raise Refusal(
            f"model: {wire_model!r} must start with its provider, one of "
            + ", ".join(f"{family}:" for family in FAMILIES)
        )
    family = FAMILIES[prefix]
    model = family.aliases.get(name, name)
    if model not in PRICES[prefix]:
        raise Refusal(f"model: model not found: {wire_model}")
    if any(fnmatchcase(str(wire_model), glob) for glob in retired):
        raise Refusal(f"model: {wire_model} has been retired and is no longer available")
    if endpoint not in family.endpoints:
        raise Refusal(f"model: {wire_model} is not served at {endpoint}/chat/completions")
    return family, model


def _messages(family: Family, endpoint: Endpoint, messages: Any) -> Messages:
    if not isinstance(messages, list) or not messages:
        raise refuse("messages", messages, "an array of at least one message")
    system: list[str] = []
    prompt: list[str] = []
    media: list[MediaRef] = []
    roles = set()
    for index, message in enumerate(messages):
        field = f"messages[{index}]"
        roles.add(_role(family, field, message))
        texts, refs = _content(family, endpoint, field, message)
        (system if message["role"] == "system" else prompt).extend(texts)
        media.extend(refs)
    if "user" not in roles:
        raise Refusal("messages: no message has the role user")
    chars = sum(map(len, system)) + sum(map(len, prompt))
    return Messages("\n".join(system), "\n".join(prompt), chars, tuple(media))


def _role(family: Family, field: str, message: Any) -> str:
    if not isinstance(message, dict):
        raise refuse(field, message, "an object with role and content")
    known_keys(field, message, ("role", "content"), ("role", "content"))
    role = message["role"]
    if not isinstance(role, str) or role not in family.roles:
        raise refuse(f"{field}.role", role, "one of " + ", ".join(sorted(family.roles)))
    return role


def _content(
    family: Family, endpoint: Endpoint, field: str, message: Mapping[str, Any]
) -> tuple[list[str], list[MediaRef]]:
    """The texts and media of one message."""
    content, role = message["content"], message["role"]
    if isinstance(content, str):
        if role == "user" and endpoint not in family.plain_string_endpoints:
            raise Refusal(f"Model input cannot be empty ({field}.content: send an array of parts)")
        text(f"{field}.content", content)
        return [content], []
    if not isinstance(content, list) or not content:
        raise refuse(f"{field}.content", content, "a string or an array of at least one part")
    texts: list[str] = []
    refs: list[MediaRef] = []
    for index, part in enumerate(content):
        read = _part(family, endpoint, f"{field}.content[{index}]", part)
        if isinstance(read, str):
            texts.append(read)
        elif role != "user":
            raise Refusal(f"{read.field}: only a user message may carry media")
        else:
            refs.append(read)
    return texts, refs


def _part(family: Family, endpoint: Endpoint, field: str, part: Any) -> str | MediaRef:
    if not isinstance(part, dict):
        raise refuse(field, part, "an object")
    return family.part(endpoint, field, part)


def _resolve(family: Family, ref: MediaRef, rules: MediaRules, sources: MediaSources) -> MediaInput:
    """The media of a reference; a failed download is reported in the family's own format."""
    try:
        return resolve(ref, rules, sources)
    except Errored as error:
        if family.errors_under_200:
            raise
        raise Refusal(f"{ref.field}: {error.message}") from error


def _max_tokens(family: Family, model: str, body: Mapping[str, Any]) -> int:
    requested = int(body.get("max_tokens", family.max_tokens))
    limit = family.max_output(model)
    if limit is not None and requested > limit:
        raise refuse("max_tokens", requested, f"at most {limit} for {model}")
    return requested


def _stops(stop: Any) -> tuple[str, ...]:
    return (stop,) if isinstance(stop, str) else tuple(stop or ())
