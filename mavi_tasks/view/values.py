"""An answer as a short text for each of its fields, by which answers are compared, filtered and counted."""

import json
from collections.abc import Mapping, Sequence, Set
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import orjson
import pyarrow as pa

from mavi_tasks.compare import match_rules

WHOLE: Final = "answer"  # the field's name when an answer is no JSON object
LONGEST: Final = 80  # characters that are kept of a value; the rows have all of it
CONFIDENCE: Final = "confidence"
MOST_DISTINCT: Final = 2000  # values of a field among the rows of a part, before it counts as free text
FREE_TEXT: Final = "(text)"  # stands for every value of such a field
MOST_FIELDS: Final = 64  # of all answers: models may make up names
_CUT: Final = "\0"  # between a cut text and the hash of the whole


class FieldValues:
    """The values of all fields of some rows, gathered row by row; `arrays` gives them as columns.

    free: names of fields that hold free text. What they say is different in nearly every row, so that it can
    neither be counted nor kept in memory: only that there is something is kept.
    """

    def __init__(self, free: Set[str] = frozenset()) -> None:
        self._free = free
        self._texts: dict[str, list[str | None]] = {}
        self._parsed: dict[tuple[str | None, str | None], Mapping[str, str]] = {}
        self._rows = 0

    def add(self, answer: str | None, answer_json: str | None) -> None:
        """One more row."""
        key = (None, answer_json) if answer_json is not None else (answer, None)
        found = self._parsed.get(key)
        if found is None:
            found = self._parsed[key] = texts_of(answer, answer_json, self._free)
        for name, text in found.items():
            column = self._texts.get(name)
            if column is None:
                if len(self._texts) >= MOST_FIELDS:
                    continue
                column = self._texts[name] = []
            if len(column) < self._rows:
                column.extend([None] * (self._rows - len(column)))
            column.append(text)
        self._rows += 1

    def arrays(self) -> dict[str, pa.DictionaryArray]:
        """A column for each field, as long as there were rows; null where an answer lacks the field."""
        return {
            name: pa.array(column + [None] * (self._rows - len(column)), pa.string()).dictionary_encode()
            for name, column in self._texts.items()
        }


def is_free(name: str, distinct: int, rows: int) -> bool:
    """Whether a field holds free text, by its name or by how many different values some rows have."""
    if name.casefold() == CONFIDENCE:
        return False
    return name.casefold() in match_rules.AIDES or distinct > max(MOST_DISTINCT, rows // 20)


def texts_of(answer: str | None, answer_json: str | None, free: Set[str] = frozenset()) -> Mapping[str, str]:
    """Field -> short text; of an answer that is no JSON object, its whole as WHOLE. Nothing of no answer."""
    value = parsed(answer, answer_json)
    if value is None:
        return {}
    fields = value if isinstance(value, dict) and value else {WHOLE: value}
    found = {}
    for given, one in fields.items():
        name = _name(given)
        if one is not None:
            found[name] = FREE_TEXT if name in free else short(text_of(one))
    return found


def parsed(answer: str | None, answer_json: str | None) -> Any:
    """The value that an answer is: the JSON it holds, else its text; None when there is no answer."""
    if answer_json is not None:
        found = loaded(answer_json)
        return answer_json if found is None else found
    if answer is None:
        return None
    found = match_rules.found_json(answer)
    return answer.strip() if found is None else found


def loaded(text: str) -> Any:
    """What a JSON text says; None when it is no JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:  # numbers beyond 64 bits, deep nesting
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def text_of(value: Any) -> str:
    """A value as a text: itself, or its JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def short(text: str) -> str:
    """At most LONGEST characters; of a longer text its start and a hash, so that different ones stay so."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    if len(text) <= LONGEST:
        return text.replace(_CUT, " ")
    digest = blake2b(text.encode(), digest_size=8).hexdigest()
    return f"{text[:LONGEST].replace(_CUT, ' ')}{_CUT}{digest}"


def shown(text: str | None) -> str | None:
    """A short text as people see it."""
    if text is None:
        return None
    start, cut, _ = text.partition(_CUT)
    return f"{start}…" if cut else start


def canonical(text: str) -> str:
    """Equal for values that count as the same answer: `Cat.` and `cat`, 3 and 3.0."""
    if _CUT in text:
        return text
    if match_rules.is_number(text):
        return f"{match_rules.as_number(text):.12g}"
    return match_rules.plain(text)


def label_field(fields: Sequence[str]) -> str | None:
    """The field that a plain expected answer is about; None when it cannot be told."""
    plain = [name for name in fields if name.casefold() not in match_rules.AIDES]
    named = [name for like in match_rules.LABEL_NAMES for name in plain if name.casefold() == like]
    return plain[0] if len(plain) == 1 else next(iter(named), None)


@lru_cache(1024)
def _name(name: object) -> str:
    return short(str(name)).partition(_CUT)[0]
