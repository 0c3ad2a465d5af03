"""Server-sent events as one reply: the two shapes that are known, read into what a whole reply would be.

openai   data: {"choices": [{"index": 0, "delta": {"content": "..."}}]} ... data: [DONE]
mavi     data: {"token": "..."}, as MAVI's older chat sends them; ends with the body
"""

import time
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import orjson

StreamShape = Literal["openai", "mavi"]
EVENT_STREAM: Final = "text/event-stream"
_DONE: Final = b"[DONE]"


class FirstToken:
    """Watches a body as it comes: when did the first event with text arrive?"""

    def __init__(self, began_s: float, encoding: str) -> None:
        self.after_s: float | None = None
        """Seconds from sending; None = no text yet."""
        self._began_s = began_s
        self._unzip = zlib.decompressobj(zlib.MAX_WBITS | 32) if "gzip" in encoding.lower() else None
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the body, as they came."""
        if self.after_s is not None:
            return
        if self._unzip is not None:
            try:
                chunk = self._unzip.decompress(chunk, 1 << 20)
            except zlib.error:
                return
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self._rest = self._rest[-(1 << 20) :]
        if any(text for event in _events(lines) for _, text in _texts(event)):
            self.after_s = time.perf_counter() - self._began_s


def assembled(raw: bytes) -> tuple[StreamShape | None, dict[str, Any] | None]:
    """The shape of a stream, and the reply that it makes; (None, None) for neither shape.

    The reply is None when the stream broke off. An error that it holds is the reply.
    """
    shape: StreamShape | None = None
    texts: dict[int, list[str]] = {}
    reasons: dict[int, str] = {}
    reply: dict[str, Any] = {}
    ended = False
    for event in _events(raw.split(b"\n")):
        if event is None:
            ended = True
            continue
        if event.get("error") is not None or event.get("failed") is True:
            return shape or "openai", event
        for name in ("id", "model", "usage", "meta"):
            if event.get(name) is not None:
                reply[name] = event[name]
        if isinstance(event.get("token"), str):
            shape = shape or "mavi"
        for index, text in _texts(event):
            texts.setdefault(index, []).append(text)
        for index, reason in _reasons(event):
            shape = "openai"
            reasons[index] = reason
        if _choices(event):
            shape = "openai"
    if shape is None:
        return None, None
    if shape == "openai" and not ended and not reasons:
        return shape, None
    reply["choices"] = [
        {"index": index, "text": "".join(parts), "finish_reason": reasons.get(index)}
        for index, parts in sorted({**{key: [] for key in reasons}, **texts}.items())
    ]
    return shape, reply


def _events(lines: list[bytes]) -> Iterator[dict[str, Any] | None]:
    """The objects of `data:` lines; None for the end mark. What is no object is left out."""
    for line in lines:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == _DONE:
            yield None
            continue
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError:
            continue
        if isinstance(value, dict):
            yield value


def _choices(event: Mapping[str, Any]) -> list[tuple[int, Mapping[str, Any]]]:
    found = event.get("choices")
    choices = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    return [(one["index"] if type(one.get("index")) is int else 0, one) for one in choices]


def _texts(event: Mapping[str, Any] | None) -> Iterator[tuple[int, str]]:
    if event is None:
        return
    if isinstance(event.get("token"), str):
        yield 0, event["token"]
    for index, choice in _choices(event):
        delta = choice.get("delta")
        text = delta.get("content") if isinstance(delta, dict) else choice.get("text")
        if isinstance(text, str):
            yield index, text


def _reasons(event: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    for index, choice in _choices(event):
        if isinstance(choice.get("finish_reason"), str):
            yield index, choice["finish_reason"]
