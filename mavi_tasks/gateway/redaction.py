"""What a gateway says back: without the key, without the secrets of the URLs that it was sent, and short."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mavi_tasks.common.redact import Redactor, has_escapes, probes
from mavi_tasks.common.screen import printable
from mavi_tasks.media.url_secrets import pairs_in, secrets_in

WINDOW: Final = 8192  # characters of a message that are looked at: the rest is never kept
_ANSWERS: Final = ("text", "content", "arguments", "input")
_NAMES: Final = ("id", "model", "provider_model", "finish_reason")
_REASONS: Final = (None, "stop", "STOP", "length", "max_tokens", "MAX_TOKENS", "end_turn", "tool_calls")
_KEY: Final = "[the key]"
_HIDDEN: Final = "[hidden]"
_MOST_TEXTS: Final = 10_000  # of a reply: the texts behind them are not read
_DEPTH: Final = 100  # of a reply: what lies deeper is not read

_URL: Final = re.compile(r"""https?(?::|%3a)(?:\\*/|%2f){2}[^\s"'<>)\]]*""", re.IGNORECASE)
_QUERY: Final = re.compile(r"[?#]|%3f|%23|\\u00(?:3f|23)", re.IGNORECASE)
_USER: Final = re.compile(r"(//|/\\/|%2f%2f)[^\s/@\"'<>]*(?:@|%40)", re.IGNORECASE)
_PERCENT: Final = re.compile(rb"%[0-9a-fA-F]{2}").search


class Redaction:
    """Takes the key of a gateway's requests, and the secrets of the URLs in one request, out of its replies.

    Messages lose every piece of 8 characters. Answers are paid for: they lose the key in pieces of 16, and a
    URL's secrets only together with their names, because `?label=cat` must not take the cat out of an answer.
    """

    def __init__(self, key: str | None) -> None:
        keys = [key] if key else []
        self._in_messages = Redactor(keys, _KEY, least=8, shortest=4)
        self._in_answers = Redactor(keys, _KEY, least=16, shortest=8)
        self._probes = probes(key) if key and self._in_answers else ()
        self._raw_probes = tuple(probe.encode() for probe in self._probes)

    def payload(self, payload: Mapping[str, Any], raw: bytes, urls: Sequence[str]) -> Mapping[str, Any]:
        """A reply's object with answers and names redacted; the same one when nothing points to a secret."""
        may_hold_key = self._probes and (_is_escaped(raw) or _holds(raw, self._raw_probes))
        may_hold_url = urls and (b":/" in raw or b":\\/" in raw or b"%3" in raw)  # no URL without these
        if not (may_hold_key or may_hold_url or _has_odd_reason(payload)):
            return payload
        cleaner = _Cleaner(self._probes)
        cleaner.add(self._in_answers, self._in_messages)
        if secrets := [secret for url in urls for secret in secrets_in(url)]:
            cleaner.look_at_all = True
            pairs = [pair for url in urls for pair in pairs_in(url)]
            cleaner.add(
                Redactor(pairs, _HIDDEN, least=24, shortest=8),
                Redactor(secrets, _HIDDEN, least=8, shortest=8),
            )
        found: Mapping[str, Any] = cleaner.cleaned(payload)
        return found

    def message(self, text: str, urls: Sequence[str], most: int) -> str:
        """A message for people, redacted first, then without control characters and cut to `most`."""
        text = self._in_messages.redacted(text[:WINDOW])
        secrets = [secret for url in urls for secret in secrets_in(url)]
        if secrets:
            text = Redactor(secrets, _HIDDEN, least=8, shortest=6).redacted(text)
        return printable(_URL.sub(_without_query, text))[:most]


NOTHING_SECRET: Final = Redaction(None)


def _holds(text: Any, pieces: Sequence[Any]) -> bool:
    return any(map(text.__contains__, pieces))  # a third of the time of a generator, in every reply


def _is_escaped(raw: bytes) -> bool:
    """Whether characters may stand for others, so that the key is not there as it is."""
    if b"\\" in raw and (b"\\u" in raw or b"\\\\" in raw or b"\\/" in raw):
        return True
    return b"&" in raw or (b"%" in raw and _PERCENT(raw) is not None)


def _has_odd_reason(payload: Mapping[str, Any]) -> bool:
    """Whether a finish reason is none that is known: it is the one text of an answer that messages quote."""
    choices = payload.get("choices")
    if isinstance(choices, list):
        for choice in choices:
            if isinstance(choice, dict) and choice.get("finish_reason") not in _REASONS:
                return True
    return False


class _Cleaner:
    """Goes through a reply, and takes secrets out of the texts that are kept of it: answers and names.

    Other texts, as the status, decide what the reply means and are not kept: they stay.
    """

    def __init__(self, probes: Sequence[str]) -> None:
        self.look_at_all = False  # else only at texts with a probe, or with escapes
        self._probes = probes
        self._redactors: dict[str, list[Redactor]] = {name: [] for name in (*_ANSWERS, *_NAMES)}
        self._left = _MOST_TEXTS

    def add(self, answers: Redactor, names: Redactor) -> None:
        for name, redactors in self._redactors.items():
            redactors.append(answers if name in _ANSWERS else names)

    def cleaned(self, value: Any, redactors: Sequence[Redactor] = (), depth: int = _DEPTH) -> Any:
        """A part of a reply. `redactors` are those of the field that it is in."""
        if isinstance(value, str):
            return self._text(value, redactors) if redactors else value
        if not isinstance(value, dict | list):
            return value
        if not depth:
            return None
        if isinstance(value, list):
            return [self.cleaned(inner, redactors, depth - 1) for inner in value]
        return {
            self._text(name, redactors) if redactors else name: self.cleaned(
                inner, redactors or self._redactors.get(name, ()), depth - 1
            )
            for name, inner in value.items()
        }

    def _text(self, text: str, redactors: Sequence[Redactor]) -> str:
        self._left -= 1
        if self._left < 0:
            return ""
        if self.look_at_all or has_escapes(text) or len(text) < 16 or _holds(text, self._probes):
            for redactor in redactors:
                text = redactor.redacted(text)
        return text


def _without_query(url: re.Match[str]) -> str:
    """Gateways quote the URL that they could not fetch; no query and no login of it is kept."""
    start = _USER.sub(r"\1", url[0])
    query = _QUERY.search(start)
    return start if query is None else start[: query.start()] + "?..."
