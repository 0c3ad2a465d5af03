"""Known secrets taken out of texts, also where they are cut, escaped, encoded or spelt in other letters."""

import base64
import html
import re
import string
from collections.abc import Iterable, Iterator
from typing import Final

_ESCAPE: Final = re.compile(  # begins with a class of characters: ten times as fast as with alternatives
    r"[%\\&](?:(?<=%)[0-9a-fA-F]{2}|(?<=&)#?\w{1,8};"
    r"|(?<=\\)\\*(?:u\{?[0-9a-fA-F]{4,6}\}?|x[0-9a-fA-F]{2}|[/\"'\\]))"
)
_ROUNDS: Final = 4  # of escapes upon escapes
_LONGEST: Final = 1_000_000
_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


class Redactor:
    """Puts `mark` in place of secrets, and of each piece of a secret that has `least` characters.

    Secrets shorter than `least` are found whole, those shorter than `shortest` never: they are in every text.
    Percent, JSON, HTML and backslash escapes are seen through, and base64 and hexadecimal forms are known.
    """

    def __init__(self, secrets: Iterable[str], mark: str, *, least: int, shortest: int) -> None:
        self._mark, self._least = mark, least
        self._probes: dict[str, list[tuple[str, int]]] = {}  # a probe -> the forms that hold it, and where
        forms = {form for secret in secrets if len(secret) >= shortest for form in _forms(secret)}
        step = least // 2  # of any `least` characters, these many are a probe
        for form in forms:
            if len(form) < least:
                self._probes.setdefault(form, []).append((form, 0))
            for at in range(0, len(form) - step + 1, step) if len(form) >= least else ():
                self._probes.setdefault(form[at : at + step], []).append((form, at))

    def __bool__(self) -> bool:
        return bool(self._probes)

    def redacted(self, text: str) -> str:
        """The text without the secrets. One of over a million characters that holds any is replaced whole."""
        plain = _plain(text)
        if not any(probe in plain for probe in self._probes):
            return text
        if len(text) > _LONGEST:
            return self._mark
        plain, places = _decoded(text)
        cut, at = [], 0
        for start, end in self._found(plain.translate(_LOWER)):
            while end < len(plain) and places[end] == places[end - 1]:
                end += 1  # to the end of an escape
            cut.append(text[at : places[start]] + self._mark)
            at = places[end]
        return "".join(cut) + text[at:] if cut else text

    def _found(self, plain: str) -> Iterator[tuple[int, int]]:
        """Where secrets lie, in order, those that touch as one."""
        spans = set()
        for probe, forms in self._probes.items():
            for found in re.finditer(re.escape(probe), plain):
                for form, at in forms:
                    start, end = _widened(plain, found.start(), form, at)
                    if end - start >= min(self._least, len(form)):
                        spans.add((start, end))
        start = end = -1
        for first, last in sorted(spans):
            if first > end:
                if end > 0:
                    yield start, end
                start = first
            end = max(end, last)
        if end > 0:
            yield start, end


def _widened(plain: str, place: int, form: str, at: int) -> tuple[int, int]:
    """How far the text at `place` and the form at `at` agree, to the left and to the right."""
    left = 0
    while left < min(place, at) and plain[place - left - 1] == form[at - left - 1]:
        left += 1
    right, most = 0, min(len(plain) - place, len(form) - at)
    while right < most and plain[place + right] == form[at + right]:
        right += 1
    return place - left, place + right


def probes(secret: str) -> tuple[str, ...]:
    """Short pieces of a secret: a text with 16 characters of it in a row, or its start, holds one of them.

    One piece each stands for its base64, its hexadecimal form and other cases of letters: they must be whole.
    """
    raw = secret.encode()
    pieces = [secret[at : at + 8] for at in range(0, max(1, len(secret) - 7), 8)]
    middle = [form[len(form) // 2 - 4 :][:8] for form in (*_base64(raw), raw.hex(), raw.hex().upper())]
    return tuple(dict.fromkeys((*pieces, secret[-8:], secret.lower()[:8], secret.upper()[:8], *middle)))


def _forms(secret: str) -> Iterator[str]:
    """The spellings of a secret, in lower case and without escapes."""
    raw = secret.encode("utf-8", "surrogatepass")
    for form in (
        secret,
        secret.replace("+", " "),
        raw.decode("latin-1"),  # percent escapes are bytes
        raw.hex(),
        *(_base64(raw) if len(raw) >= 8 else ()),
    ):
        yield _plain(form)


def _base64(raw: bytes) -> Iterator[str]:
    """What of a secret's base64 does not depend on what stands around it, at each of three alignments."""
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + raw).decode()
        inner = whole[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        yield inner
        if "+" in inner or "/" in inner:
            yield inner.replace("+", "-").replace("/", "_")


def has_escapes(text: str) -> bool:
    """Whether characters of the text may stand for others: `%73`, `\\u0073`, `&#115;`."""
    return "%" in text or "\\" in text or "&" in text


def _plain(text: str) -> str:
    """The text without escapes, in lower case."""
    for _ in range(_ROUNDS if has_escapes(text) else 0):
        before, text = text, _ESCAPE.sub(lambda escape: _meant(escape[0]), text)
        if text == before:
            break
    return text.translate(_LOWER)


def _decoded(text: str) -> tuple[str, list[int]]:
    """The text without escapes, and where each of its characters (and its end) begins in the text."""
    places = list(range(len(text) + 1))
    for _ in range(_ROUNDS):
        pieces: list[str] = []
        inner: list[int] = []
        at = 0
        for escape in _ESCAPE.finditer(text):
            meant = _meant(escape[0])
            pieces += (text[at : escape.start()], meant)
            inner += (*range(at, escape.start()), *[escape.start()] * len(meant))
            at = escape.end()
        if not pieces:
            break
        inner += range(at, len(text) + 1)
        text = "".join((*pieces, text[at:]))
        places = [places[place] for place in inner]
    return text, places


def _meant(escape: str) -> str:
    """The character that an escape stands for; the escape itself when it stands for none."""
    if escape[0] == "&":
        return html.unescape(escape)
    digits = escape.lstrip("\\").lstrip("%ux{").rstrip("}")
    if escape[0] == "\\" and escape.lstrip("\\")[:1] not in ("u", "x"):
        return escape[-1]
    code = int(digits, 16)
    return chr(code) if code < 0x110000 else escape
