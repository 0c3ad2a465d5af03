"""When an answer counts as equal to another: one rule per field, declared or chosen from the data.

exact          the text as it is
normalised     without case, outer punctuation, code fences and doubled spaces
mention        normalised; else the only known label the sentence mentions
numeric        equal numbers; numeric:0.5 within 0.5, numeric:5% within 5 % of the expected one
set            the same labels, in any order
date           the same day or time; date:2d, date:1h within that long (s, min, h, d, w)
f1             lists: the F1 of their labels, a score between 0 and 1
iou            boxes, tiou spans of time: the F1 of those that overlap by .5 or more; iou:.75
ignore         not compared
"""

import json
import math
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from mavi_tasks.errors import InputError
from mavi_tasks.labels import extract_json

KINDS = ("exact", "normalised", "mention", "numeric", "set", "date", "f1", "iou", "tiou", "ignore")
GRADED = ("f1", "iou", "tiou")  # scores between 0 and 1
DAYS = {"s": 1 / 86_400, "min": 1 / 1440, "h": 1 / 24, "": 1.0, "d": 1.0, "w": 7.0}
AIDES = frozenset(
    {"confidence", "reason", "reasoning", "rationale", "explanation", "justification", "evidence", "notes"}
)
LABEL_NAMES = ("label", "answer", "class", "category", "value", "result")
LEAST_OVERLAP = 0.5  # intersection / union from which on two boxes or spans are the same
MOST_MENTIONED = 100  # labels beyond which looking for mentions would find accidents

_RULE = re.compile(r"(\w+)(?:\s*[:(]\s*(\d+(?:\.\d+)?|\.\d+)\s*(%|[a-z]+)?\s*\)?)?\s*$")
_FENCE = re.compile(r"^\s*```[\w-]*\s*\n?(.*?)\n?\s*```\s*$", re.DOTALL)
_INNER_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])[-+−]?\d[\d,]*(?:\.\d+)?(?![\w])")
_OUTER = " \t\r\n.,;:!?\"'`*_()[]{}<>«»“”‘’…"


@dataclass(frozen=True, slots=True)
class Rule:
    """How one field is matched.

    `tolerance` is absolute, or `relative` to the expected number; days for dates; the least overlap for boxes
    and spans.
    """

    kind: str
    tolerance: float = 0.0
    relative: bool = False

    def __str__(self) -> str:
        if not self.tolerance:
            return self.kind
        if self.kind == "date":
            size, unit = next(
                (self.tolerance / days, unit)
                for unit, days in reversed(DAYS.items())
                if unit == "s" or (self.tolerance / days + 1e-9) % 1 < 1e-6
            )
            return f"date:{size:g}{unit}"
        shown = f"{self.tolerance * 100:g}%" if self.relative else f"{self.tolerance:g}"
        return f"{self.kind}:{shown}"


def parse(text: str) -> Rule:
    """Return the rule a user wrote. Raises InputError naming the known ones."""
    found = _RULE.match(text.strip())
    if not found or found[1] not in KINDS or not _fits(found[1], found[2], found[3] or ""):
        raise InputError(
            f"match rule {text!r}: use one of {', '.join(KINDS)}, or numeric:0.5, numeric:5%, date:2d, "
            "iou:.5, tiou:.5"
        )
    kind, size = found[1], float(found[2] or 0)
    if kind in ("iou", "tiou"):
        return Rule(kind, size if found[2] else LEAST_OVERLAP)
    if kind == "date":
        return Rule(kind, size * DAYS[found[3] or ""])
    return Rule(kind, size / 100 if found[3] else size, bool(found[3]))


def _fits(kind: str, size: str | None, unit: str) -> bool:
    """Whether a kind takes this number and unit."""
    if size is None:
        return True
    units = {"numeric": ("", "%"), "date": tuple(DAYS), "iou": ("",), "tiou": ("",)}.get(kind, ())
    return unit in units and (kind not in ("iou", "tiou") or 0 < float(size) <= 1)


def found_json(text: str) -> object:
    """Return the JSON object or list an answer holds, inside fences or prose too; None when it holds none."""
    if "{" not in text and "[" not in text:
        return None
    fence = _INNER_FENCE.search(text)
    bare = extract_json.unfence(fence[1] if fence else text)
    if bare.startswith("[") and (found := extract_json.whole(bare)):
        return cast(object, found.value)
    return next((one.value for one in extract_json.find(bare) if one.error is None), None)


def plain(value: object) -> str:
    """Return a value's text without case, fences, outer punctuation and doubled spaces."""
    if not isinstance(value, str):
        value = json.dumps(value, sort_keys=True, ensure_ascii=False) if value is not None else ""
    if fence := _FENCE.match(value):
        value = fence[1]
    folded = unicodedata.normalize("NFKC", value).casefold()
    return " ".join(folded.split()).strip(_OUTER)


def as_number(value: object) -> float | None:
    """Return the number a value is, or the only number its text holds; a JSON true is none."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    if not isinstance(value, str):
        return None
    found = _NUMBER.findall(value)
    return float(found[0].replace(",", "").replace("−", "-")) if len(found) == 1 else None


def is_number(value: object) -> bool:
    """Tell whether a value is a number and nothing else: 3, "3", "-0.5"; not "3 dogs"."""
    if isinstance(value, str):
        return bool(_NUMBER.fullmatch(value.strip()))
    return isinstance(value, int | float) and not isinstance(value, bool)


def as_set(value: object) -> frozenset[str]:
    """Return the normalised labels of a list, or of a text that lists them."""
    if isinstance(value, str):
        held = found_json(value)
        value = held if isinstance(held, list) else re.split(r"[,;\n|]", value)
    parts = value if isinstance(value, list | tuple) else [value]
    return frozenset(word for word in map(plain, parts) if word)


class Mentions:
    """Finds the one known label in a sentence; longer labels win over those inside them."""

    def __init__(self, labels: Collection[str]) -> None:
        ordered = sorted((label for label in labels if label), key=len, reverse=True)
        words = "|".join(map(re.escape, ordered))
        self._pattern = re.compile(rf"(?<!\w)(?:{words})(?!\w)") if words else None

    def only(self, text: str) -> str | None:
        """Return the label mentioned, if it is only one (any number of times)."""
        found = set(self._pattern.findall(text)) if self._pattern else set()
        return found.pop() if len(found) == 1 else None


def choose(truths: Sequence[object], answers: Sequence[object], *, from_text: bool) -> Rule:
    """Return the rule that fits a field's values: set, numeric, mention or normalised."""
    basis = truths or answers
    if not basis:
        return Rule("normalised")
    if sum(isinstance(value, list) for value in basis) > len(basis) / 2:
        return Rule("set")
    if sum(map(is_number, basis)) >= 0.95 * len(basis):
        return Rule("numeric")
    labels = len({plain(value) for value in truths})
    return Rule("mention") if truths and from_text and labels <= MOST_MENTIONED else Rule("normalised")


def declared(fields: Mapping[str, str]) -> dict[str, Rule]:
    """Return the user's rules by field name. Raises InputError of all that are wrong."""
    problems, rules = [], {}
    for name, text in fields.items():
        try:
            rules[name] = parse(text)
        except InputError as error:
            problems.append(f"field {name!r}: {error}")
    if problems:
        raise InputError(problems)
    return rules
