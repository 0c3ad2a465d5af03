"""A known secret is found in a text whatever escapes, encodings and cuts it went through."""

import base64
import html
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mavi_tasks.common.redact import Redactor

KEY = "sk-mavi/9fQ2+xL7_vB3.cD8"
FINDER = Redactor([KEY], "[key]", least=8, shortest=4)


def numbered(form):
    return "".join(form.format(ord(c)) for c in KEY)


SPELLINGS = {
    "as it is": KEY,
    "capitals": KEY.upper(),
    "percent": quote(KEY, safe=""),
    "percent, all": numbered("%{:02x}"),
    "percent, twice": quote(quote(KEY, safe=""), safe=""),
    "percent, some": KEY.replace("m", "%6D"),
    "json": numbered("\\u{:04x}"),
    "json in json": json.dumps(numbered("\\u{:04X}")),
    "json slash": KEY.replace("/", "\\/"),
    "javascript": numbered("\\x{:02x}"),
    "html": numbered("&#{};"),
    "html, hexadecimal": numbered("&#x{:x};"),
    "html, names": KEY.replace("/", "&sol;").replace("+", "&plus;"),
    "html in percent": quote(html.escape(numbered("&#{};")), safe=""),
    "form": quote(KEY.replace("+", " ")),
    "hexadecimal": KEY.encode().hex(),
    "hexadecimal capitals": KEY.encode().hex().upper(),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of a login": base64.b64encode(f"me:{KEY}".encode()).decode(),
    "base64 behind two": base64.b64encode(f"xy{KEY}z".encode()).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(KEY.encode()).decode(),
}


@pytest.mark.parametrize("spelt", SPELLINGS.values(), ids=SPELLINGS)
def test_a_secret_is_found_in_every_spelling(spelt):
    shown = FINDER.redacted(f"before {spelt} after")
    assert shown.startswith("before ") and shown.endswith(" after")
    assert shown.count("[key]") == 1
    assert len(shown) <= len("before [key] after") + 6  # base64 has ends that say nothing of the key


@pytest.mark.parametrize("piece", [KEY[:8], KEY[-8:], KEY[5:17], KEY[:-1]])
def test_a_piece_of_a_secret_is_found(piece):
    assert FINDER.redacted(f"key={piece}...") == "key=[key]..."


def test_text_without_the_secret_stays_as_it_is():
    text = r"50% off &amp; a\nb C:\users %41 sk-mavi \u0041 &nbsp;"
    assert FINDER.redacted(text) == text


def test_what_stands_between_two_secrets_stays():
    assert FINDER.redacted(f"{KEY} and {quote(KEY, safe='')}") == "[key] and [key]"


def test_a_short_secret_is_found_whole():
    finder = Redactor(["pa55w", "abc"], "[x]", least=8, shortest=4)
    assert finder.redacted("user:pa55w@host abc") == "user:[x]@host abc"


def test_a_long_text_with_a_secret_is_not_kept():
    assert FINDER.redacted(" " * 2_000_000 + KEY) == "[key]"


@given(st.text(), st.text())
def test_the_rest_of_a_text_is_kept(before, after):
    shown = FINDER.redacted(f"{before} {KEY} {after}")
    assert shown == f"{before} [key] {after}"
