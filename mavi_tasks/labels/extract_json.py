"""JSON out of whatever a model said: fenced, wrapped in prose, cut off, or hostile.

The work is linear in the length of the text: each start costs what was read from it, and the sum is bounded.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

MAX_DEPTH = 64  # deeper than any label; far from the recursion limits of the parser and the validator
MAX_TRIES = 256


class _BadJsonError(ValueError):
    """JSON that parses but that no reader could agree on, in words."""


@dataclass(frozen=True, slots=True)
class Found:
    """One JSON value that begins at `start`, or the `error` why it could not be used.

    `end` is where the search goes on: after a value, after a broken object, or at the end of the text when
    nothing behind can be trusted.
    """

    start: int
    end: int
    value: Any = None
    error: str | None = None
    cut: bool = False  # the text ends inside this value


def find(text: str, openers: str = "{") -> Iterator[Found]:
    """Yield the JSON values that stand in a text, in order, failed starts with their errors."""
    budget = 3 * len(text) + 4096
    match = re.compile(f"[{re.escape(openers)}]").search(text)
    starts = re.compile("|".join(_STARTS[opener] for opener in openers))
    for _ in range(MAX_TRIES):
        if match is None or budget <= 0:
            return
        found = _decode(text, match.start())
        yield found
        budget -= found.end - found.start
        match = starts.search(text, found.end)


# What may follow an opening bracket in JSON, so that the braces of prose and of hostile texts cost nothing.
_STARTS = {"{": r'\{(?=\s{0,64}(?:["}]|$))', "[": r'\[(?=\s{0,64}(?:["{\[\]tfn\d-]|$))'}


def whole(text: str) -> Found | None:
    """Read a text that is one JSON value and nothing else, None when it is not."""
    found = _decode(text, 0)
    return found if found.error is None and not text[found.end :].strip() else None


def unfence(text: str) -> str:
    """The inside of a ``` fence that encloses the whole text, else the text itself, stripped."""
    stripped = text.strip().removeprefix("\ufeff")
    if not stripped.startswith("```"):
        return stripped
    head, newline, rest = stripped.partition("\n")
    if not newline:
        rest = head[3:].removeprefix("json").removeprefix("JSON")
    return rest.rstrip().removesuffix("```").strip()


def encodable(text: str) -> str:
    """The text with lone surrogates replaced, so that it can be stored as UTF-8."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def _decode(text: str, start: int) -> Found:
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        cut = _is_cut(text, error)
        end = len(text) if cut else _behind(text, start, error.pos)
        return Found(start, end, error=_describe(error, cut), cut=cut)
    except RecursionError:
        return Found(start, len(text), error=_TOO_DEEP)
    except ValueError as error:  # a number of thousands of digits, or one of ours
        return Found(start, len(text), error=str(error) if isinstance(error, _BadJsonError) else _TOO_LONG)
    if is_deep(value):
        return Found(start, len(text), error=_TOO_DEEP)
    return Found(start, end, value)


def _behind(text: str, start: int, failed: int) -> int:
    """Where to look on after a failed start: behind a broken object, whose pieces are not the answer."""
    if not _FIRST_KEY.match(text, start):
        return max(start + 1, failed)  # braces of prose, or of a template: {x}, {{"label": "cat"}}
    depth = 0
    for bracket in _BRACES.finditer(text, start):
        depth += 1 if bracket.group() == "{" else -1
        if depth == 0:
            return max(bracket.end(), failed)
    return len(text)


_FIRST_KEY = re.compile(r'[{\[]\s*"[^"\\]*"\s*[:,]')
_BRACES = re.compile("[{}]")
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"
_TOO_LONG = "a number is too long to be read"


def is_deep(value: Any) -> bool:
    """Whether a value is nested deeper than MAX_DEPTH, found without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for node in level if isinstance(node, dict | list) for child in _children(node)]
        if not level:
            return False
    return True


def _children(node: dict[str, Any] | list[Any]) -> list[Any]:
    return [child for child in (node.values() if isinstance(node, dict) else node) if type(child) in _NESTED]


_NESTED = (dict, list)


def _describe(error: json.JSONDecodeError, cut: bool) -> str:
    if cut:
        return "the JSON stops before its end"
    return f"not JSON at character {error.pos + 1}: {error.msg[:1].lower()}{error.msg[1:]}"


def _is_cut(text: str, error: json.JSONDecodeError) -> bool:
    """Whether the parser failed because the text ended."""
    if error.msg.startswith("Unterminated string"):
        return True
    if error.msg.startswith("Invalid \\u"):
        return _CUT_ESCAPE.search(text, max(0, len(text) - _LONGEST_REST)) is not None
    return len(text) - error.pos <= _LONGEST_REST and _REST.fullmatch(text, error.pos) is not None


_LONGEST_REST = 64
_CUT_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{0,4}\s*\Z")
# What a value cut in its middle leaves behind: nothing, half a literal, half a number.
_REST = re.compile(r"\s*(?:|t|tr|tru|f|fa|fal|fals|n|nu|nul|-|\.|[eE][+-]?)\s*")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        _refuse_contradiction(pairs)
    return value


def _refuse_contradiction(pairs: list[tuple[str, Any]]) -> None:
    """A key given twice is harmless when both say the same; else nobody knows which one is meant."""
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen and (type(seen[key]) is not type(value) or seen[key] != value):
            raise _BadJsonError("a key is given twice with different values")
        seen[key] = value


def _refuse_constant(name: str) -> NoReturn:
    raise _BadJsonError(f"{name} is not JSON; a number or null is wanted")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _BadJsonError("a number is too large for a double")
    return value


# strict=False: models put bare line breaks into strings, and the meaning is plain.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_constant=_refuse_constant, parse_float=_finite, strict=False
)
