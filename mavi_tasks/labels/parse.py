"""An answer read against its schema, the prompt that asks for a repair, and whether it was cut off."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mavi_tasks.labels.bounded_validator import TooMuchWork, Work
from mavi_tasks.labels.extract_json import Found, encodable, find, unfence, whole
from mavi_tasks.labels.validate import TOO_MUCH, Checker, checker

MAX_ANSWER_CHARS = 1_000_000  # no model writes that much; an answer beyond it is not read
MAX_WORK_US = 1_000_000  # for one answer, all its values together
AT_ONCE_CHARS = 50_000
AT_ONCE_US = 20_000  # what an event loop may be kept waiting
MAX_VALUES = 16  # values in one answer that are tried against the schema
NEAR = 0.95  # of max_tokens: the answer most likely ran into it


@dataclass(frozen=True, slots=True)
class Checked:
    """What was read. Without an error `json` fits the schema and `json_text` is its compact form.

    `error` says path and what is wanted in one line, never the answer's own text. `truncated`: the text
    ends inside its JSON.
    """

    json: Any | None
    json_text: str | None
    error: str | None
    truncated: bool = False


def read_answer(text: str | None, schema: Mapping[str, Any] | None) -> Checked:
    """Find the JSON in an answer and check it; never raises, whatever the text. Takes about a second at most.

    The first value that fits the schema counts, whatever prose or fences stand around it. Without a schema
    the first object or list counts.
    """
    try:
        return _read(text, schema, Work(MAX_WORK_US))
    except TooMuchWork:
        return Checked(None, None, TOO_MUCH)


def read_at_once(text: str | None, schema: Mapping[str, Any] | None) -> Checked | None:
    """What `read_answer` returns, or None when it may take more than a moment: then read it in a thread."""
    if text is not None and len(text) > AT_ONCE_CHARS:
        return None
    try:
        return _read(text, schema, Work(AT_ONCE_US))
    except TooMuchWork:
        return None


def _read(text: str | None, schema: Mapping[str, Any] | None, work: Work) -> Checked:
    if not text or not text.strip():
        return Checked(None, None, "the answer is empty; JSON is wanted")
    if len(text) > MAX_ANSWER_CHARS:
        return Checked(None, None, f"the answer has {len(text)} characters; JSON is wanted")
    compiled = checker(schema) if schema is not None else None
    plain = unfence(encodable(text))
    value = whole(plain)
    if value is not None:
        return _judge(value, compiled, work)
    return _best(find(plain, compiled.openers if compiled else "{["), compiled, work)


def _best(values: Iterable[Found], compiled: Checker | None, work: Work) -> Checked:
    """The first value that fits, else the first that parsed with its error, else why none parsed."""
    misfit: Checked | None = None
    failed: Found | None = None
    parsed = 0
    for found in values:
        if found.cut:  # the real answer; whatever would parse inside it is only a piece
            return Checked(None, None, found.error, truncated=True)
        if found.error is not None:
            failed = failed or found
            continue
        checked = _judge(found, compiled, work)
        if checked.error is None:
            return checked
        misfit = misfit or checked
        parsed += 1
        if parsed >= MAX_VALUES:
            break
    why = failed.error if failed else "no JSON in the answer; a JSON object is wanted"
    return misfit or Checked(None, None, why)


def _judge(found: Found, compiled: Checker | None, work: Work) -> Checked:
    problem = compiled.problem(found.value, work) if compiled else None
    if problem is not None:
        return Checked(None, None, problem)
    json_text = json.dumps(found.value, ensure_ascii=False, separators=(",", ":"))
    if json_text.isascii() or encodable(json_text) == json_text:
        return Checked(found.value, json_text, None)
    # "\ud800" is legal JSON, but no UTF-8 file can hold it.
    json_text = encodable(json_text)
    return Checked(json.loads(json_text), json_text, None)


# ---- repair

MAX_REPAIR_CHARS = 20_000  # of the bad answer: its head and tail show the model what it did


def repair_prompt(prompt: str, bad_answer: str | None, error: str) -> str:
    """The prompt of the one repair call: the first prompt, what came back, and what is wrong with it."""
    return (
        f"{prompt}\n\n"
        "An earlier answer to this could not be used.\n"
        f"The answer was:\n<answer>\n{_middle_cut(bad_answer or '')}\n</answer>\n"
        f"What is wrong with it: {error}\n"
        "Look at the media again where needed, and answer with the corrected JSON only: "
        "no explanation, no code fence."
    )


def _middle_cut(text: str) -> str:
    if len(text) <= MAX_REPAIR_CHARS:
        return text
    half = MAX_REPAIR_CHARS // 2
    return f"{text[:half]}\n[...]\n{text[-half:]}"


# ---- truncation


def looks_truncated(
    text: str | None, output_tokens: int | None, max_tokens: int | None, json_expected: bool
) -> bool:
    """Whether an answer was cut off, for families that do not say so.

    JSON that stops in its middle is cut however few tokens were counted, because thinking may have eaten
    the rest and is not always counted. Prose is cut when it stops in mid-sentence near max_tokens, or after
    a comma, an opening bracket or a word like "and" that no sentence ends with.
    """
    near = _is_near(text or "", output_tokens, max_tokens)
    plain = unfence(text or "")
    if not plain:
        return near
    if json_expected and _has_json(plain):
        return read_answer(plain, None).truncated
    if _ENDED.search(plain):
        return False
    return near or (len(plain) >= _SENTENCE_CHARS and _HANGING.search(plain) is not None)


def _has_json(plain: str) -> bool:
    return "{" in plain or "[" in plain


def _is_near(text: str, output_tokens: int | None, max_tokens: int | None) -> bool:
    if not max_tokens:
        return False
    tokens = output_tokens if output_tokens is not None else len(text) / 4
    return tokens >= NEAR * max_tokens


_SENTENCE_CHARS = 32  # a shorter answer is a label or a list, not prose
# A sentence's end, perhaps followed by closing quotes, brackets, stars or a fence.
_ENDED = re.compile(r"[.!?…。！？｡︒:;؟।\U0001f300-\U0001faff☀-➿][\s\"'”’»)\]}*_`~]*\Z")
_HANGING = re.compile(
    r"(?:[,(\[–—-]|\b(?:a|an|and|as|at|by|for|from|in|into|is|of|on|or|that|the|to|was|were|which|with))\Z",
    re.IGNORECASE,
)
