"""What a gateway says back: without the key, without the secrets of the URLs that it was sent, and short."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mavi_tasks.common.redact import Redactor, probes
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
# Bytes that may stand for others, so that the key is not there as it is: \u0073, \/, \\, %73, &#115;
_ESCAPED: Final = re.compile(rb"\\[u/\\]|%[0-9a-fA-F]{2}|&#").search
_URL_START: Final = re.compile(rb":\\?/|%3[aA]").search


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

    def payload(self, payload: Mapping[str, Any], raw: bytes, urls: Sequence[str]) -> Mapping[str, Any]:
        """A reply's object with answers and names redacted; the same one when nothing points to a secret."""
        may_hold_key = any(probe in raw for probe in self._probes) or (self._probes and _ESCAPED(raw))
        may_hold_url = urls and _URL_START(raw)
        if not (may_hold_key or may_hold_url or _has_odd_reason(payload)):
            return payload
        pairs = Redactor([pair for url in urls for pair in pairs_in(url)], _HIDDEN, least=24, shortest=8)
        secrets = Redactor([part for url in urls for part in secrets_in(url)], _HIDDEN, least=8, shortest=8)
        found: Mapping[str, Any] = _Cleaner((self._in_answers, pairs), (self._in_messages, secrets)).cleaned(
            payload
        )
        return found

    def message(self, text: str, urls: Sequence[str], most: int) -> str:
        """A message for people, redacted first, then without control characters and cut to `most`."""
        text = self._in_messages.redacted(text[:WINDOW])
        secrets = [secret for url in urls for secret in secrets_in(url)]
        if secrets:
            text = Redactor(secrets, _HIDDEN, least=8, shortest=6).redacted(text)
        return printable(_URL.sub(_without_query, text))[:most]


NOTHING_SECRET: Final = Redaction(None)


def _has_odd_reason(payload: Mapping[str, Any]) -> bool:
    """Whether a finish reason is none that is known: it is the one text of an answer that messages quote."""
    choices = payload.get("choices")
    return isinstance(choices, list) and any(
        isinstance(choice, dict) and choice.get("finish_reason") not in _REASONS for choice in choices
    )


class _Cleaner:
    """Goes through a reply: `answers` and `names` take secrets out of the texts that are kept of it.

    Other texts, as the status, decide what the reply means and are not kept: they stay.
    """

    def __init__(self, answers: Sequence[Redactor], names: Sequence[Redactor]) -> None:
        self._redactors = {**dict.fromkeys(_ANSWERS, answers), **dict.fromkeys(_NAMES, names)}
        self._left = _MOST_TEXTS

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
        for redactor in redactors:
            text = redactor.redacted(text)
        return text


def _without_query(url: re.Match[str]) -> str:
    """Gateways quote the URL that they could not fetch; no query and no login of it is kept."""
    start = _USER.sub(r"\1", url[0])
    query = _QUERY.search(start)
    return start if query is None else start[: query.start()] + "?..."
