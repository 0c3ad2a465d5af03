"""A gateway that says back what it was sent: the key, a signed URL; cut, escaped, encoded, wherever it can.

Each case runs a job against a gateway with one fixed reply, then reads every file of the dataset and all that
was printed. Echoes that are escaped are read as a reader of the dataset could: their escapes are undone.
"""

import base64
import contextlib
import html
import io
import json
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote, unquote

from mavi_tasks.cli.main import main
from tests.bench.hostile.case import Case
from tests.bench.hostile.signatures import texts_of
from tests.support.gateways import says, url_job

KEY = "sk-9fQ2/xL7+vB3cD8mN4pR6tW1yZkT5uS"
SIGNATURE = "7hY3qP9wZ2eR8tU1iO6aS4dF0gH5jK"
PASSWORD = "hUnter2hUnter"
URL = f"https://me:{PASSWORD}@cdn.example.com/cat.jpg?w=300&auth_key={SIGNATURE}"
TRUNCATED = 500  # characters of a message that are kept


Place = Callable[[str], tuple[int, bytes]]  # an echo -> the status and the body of a reply


def numbered(form: str) -> Callable[[str], str]:
    return lambda text: "".join(form.format(ord(c)) for c in text)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "cut": lambda text: text[:-9] + "...",
    "its end": lambda text: "..." + text[9:],
    "capitals": str.upper,
    "percent": lambda text: quote(text, safe=""),
    "percent, all": numbered("%{:02x}"),
    "percent, twice": lambda text: quote(quote(text, safe=""), safe=""),
    "json": numbered("\\u{:04x}"),
    "json slashes": lambda text: text.replace("/", "\\/"),
    "html": lambda text: html.escape(text).replace("/", "&#47;"),
    "html, all": numbered("&#x{:x};"),
    "javascript": numbered("\\x{:02x}"),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 of a header": lambda text: base64.b64encode(f"Authorization: {text}\n".encode()).decode(),
    "hexadecimal": lambda text: text.encode().hex(),
    "where a message is cut": lambda text: "x" * (TRUNCATED - 15) + " " + text,
    "where a snippet is cut": lambda text: "x" * 185 + " " + text,
    "behind 30 MB": lambda text: "x" * 30_000_000 + text,
    "before 30 MB": lambda text: text + "x" * 30_000_000,
    "in all of 8,000 characters": lambda text: (text + " ") * 250,
}
USAGE = {"input_tokens": 900, "output_tokens": 9}


def error(status: int, **fields: object) -> tuple[int, bytes]:
    return status, json.dumps({"error": fields}).encode()


def reply(text: str = "a cat", **fields: object) -> tuple[int, bytes]:
    body = {"status": "completed", "choices": [{"text": text}], "usage": USAGE, **fields}
    return 200, json.dumps(body).encode()


# Where the echo stands -> the reply.
MESSAGES: dict[str, Place] = {
    "an error's message": lambda echo: error(400, code="X", message=echo),
    "a message that stops the run": lambda echo: error(402, code="X", message=echo),
    "a message that stops the model": lambda echo: error(404, code="model_not_found", message=echo),
    "an error's code": lambda echo: reply(status="errored", error={"code": echo, "message": "no"}),
    "an error's type": lambda echo: reply(status="errored", error={"type": echo}),
    "an error that is a text": lambda echo: (400, json.dumps({"error": echo}).encode()),
    "a message that is a list": lambda echo: (422, json.dumps({"message": [{"input": echo}]}).encode()),
    "an error without a message": lambda echo: (400, json.dumps({"detail": {"headers": echo}}).encode()),
    "a page": lambda echo: (502, f"<html>{echo}</html>".encode()),
    "a page with 200": lambda echo: (200, f"<html>{echo}</html>".encode()),
    "an empty answer's reason": lambda echo: reply(choices=[{"text": "", "finish_reason": echo}]),
    "a header": lambda echo: reply("a cat"),
}
ANSWERS: dict[str, Place] = {
    "an answer": lambda echo: reply(f"I cannot open {echo} for you"),
    "an answer in JSON": lambda echo: reply(json.dumps({"animal": echo})),
    "a second answer": lambda echo: reply(choices=[{"text": "a cat"}, {"text": echo}]),
    "a finish reason": lambda echo: reply(choices=[{"text": "a cat", "finish_reason": echo}]),
    "an id": lambda echo: reply(id=echo),
    "a model's name": lambda echo: reply(model=echo),
    "a provider's model": lambda echo: reply(meta={"provider_model": echo}),
    "a tool's arguments": lambda echo: reply(
        choices=[{"message": {"content": None, "tool_calls": [{"function": {"arguments": {echo: echo}}}]}}]
    ),
}


def undone(text: str) -> str:
    """The text, and after it what its escapes, base64 and hexadecimal digits stand for."""
    texts = [text]
    for _ in range(3):
        one = re.sub(
            r"\\+u00([0-9a-fA-F]{2})|\\+x([0-9a-fA-F]{2})", _character, html.unescape(unquote(texts[-1]))
        )
        texts.append(re.sub(r"\\+/", "/", one))
    for word in re.findall(r"[A-Za-z0-9+/_-]{12,400}", text):
        with contextlib.suppress(ValueError):
            plain = word.translate(str.maketrans("-_", "+/"))
            texts.append(base64.b64decode(plain[: len(plain) // 4 * 4]).decode("latin-1"))
        with contextlib.suppress(ValueError):
            texts.append(bytes.fromhex(word).decode("latin-1"))
    return "\n".join(texts)


def _character(found: re.Match[str]) -> str:
    return chr(int(found[1] or found[2], 16))


def left_of(secret: str, text: str, least: int) -> str | None:
    """A piece of the secret that is in the text, whatever its letters' case."""
    secret, text = secret.lower(), text.lower()
    pieces = (secret[at : at + least] for at in range(len(secret) - least + 1))
    return next((piece for piece in pieces if piece in text), None)


def attempt(place: Place, echo: str, least: int, headers: dict[str, str], folder: Path) -> str | None:
    status, body = place(echo)
    manifest = folder / "m.csv"
    manifest.write_text(f"item_id,media_url\n1,{URL}\n")
    os.environ.update(MAVI_API_KEY=KEY)
    os.environ.pop("PREFECT_API_URL", None)
    shown = io.StringIO()
    with says(body, status, **headers) as url:
        retry = {"attempts": 1, "base_s": 0.001, "cap_s": 0.002}
        job = url_job(folder, 1, url, manifest=str(manifest), retry=retry, gateway={"base_url": url})
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
            main(["run", str(job), "--json"])
            main(["export", str(folder / "out"), "--to", str(folder / "out" / "all.csv")])
    for name, text in [("the screen", shown.getvalue()), *texts_of(folder / "out")]:
        if len(text) > 1_000_000:
            return f"{name} has {len(text):,} characters"
        for secret in (KEY, SIGNATURE, PASSWORD):
            if piece := left_of(secret, undone(text), least):
                return f"{name} holds {piece!r}"
    return None


def _cases():
    for what, echo in (("the key", KEY), ("the URL", URL)):
        for spelling, spell in SPELLINGS.items():
            for place, place_in in (MESSAGES | ANSWERS).items():
                answer = place in ANSWERS
                # A URL in an answer is looked for as a model would quote it, and an answer may be long.
                if answer and ("MB" in spelling or (echo == URL and spelling not in ("as it is", "percent"))):
                    continue
                if place == "a header" and spelling not in ("as it is", "percent"):
                    continue
                if spelling != "as it is" and hash_of(place, spelling) % 3:
                    continue  # one in three of the combinations, always the same
                headers = {"X_Echo": spell(echo), "Retry_After": spell(echo)} if place == "a header" else {}
                yield Case(
                    f"{what}, {spelling}, in {place}",
                    partial(attempt, place_in, spell(echo), 16 if answer else 8, headers),
                )


def hash_of(place: str, spelling: str) -> int:
    return [*MESSAGES, *ANSWERS].index(place) + [*SPELLINGS].index(spelling)


CASES = list(_cases())
