"""Answers become labels: per field one code for each model and item, and whether it is right."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mavi_tasks.compare import match_rules
from mavi_tasks.compare.match_rules import Rule
from mavi_tasks.compare.sheet import Sheet, Texts
from mavi_tasks.compare.statistics import MISSING, Bools, Floats, Ints
from mavi_tasks.errors import InputError

WHOLE = "answer"  # the field's name when an answer is one label
MOST_LABELS = 500  # more distinct values than this, without expected ones, are free text


@dataclass(frozen=True, slots=True)
class Field:
    """One field of all answers. Codes index `labels`; MISSING where there is no usable value.

    `right` is False wherever `truth` is MISSING, and where `score` (0..1) is below 1. `numbers` only under a
    numeric or date rule (in days), NaN where missing.
    """

    name: str
    rule: Rule
    labels: tuple[str, ...]
    codes: Ints
    truth: Ints
    right: Bools
    score: Floats
    numbers: Floats | None
    mentioned: int
    free_text: bool

    @property
    def note(self) -> str:
        """What a reader should know of how this field was read."""
        if self.free_text:
            return "free text: too many different values to count agreement"
        if self.mentioned:
            return f"{self.mentioned:,} answers were sentences; their one known label was taken"
        return ""


@dataclass(frozen=True, slots=True)
class Labels:
    """All fields, and the whole answer as one label: right when every field that has a truth is right.

    `score` [models, items] in 0..1 is that of the field with the least, 0 where an item has no truth or no
    answer.
    """

    fields: tuple[Field, ...]
    names: tuple[str, ...]
    codes: Ints
    judged: Bools
    right: Bools
    score: Floats
    confidence: Floats
    stands_in: str | None

    @property
    def has_truth(self) -> bool:
        """Whether any item has an expected answer."""
        return bool(self.judged.any())


def read(sheet: Sheet, matching: Mapping[str, Rule], reference: str | None = None) -> Labels:
    """Return the labels of a sheet, matched as declared, else by what fits the values.

    `reference` names a model whose answers stand in for the truth. Raises InputError when a declared
    field, or the reference, is not in the data.
    """
    values = _values(sheet)
    own = [_truth(unit.truth) for unit in sheet.units]
    truths = _stand_in(sheet, values, reference) if reference else own
    names = _field_names(truths, values)
    key = _label_key(values, truths, matching) if names == [WHOLE] else ""
    if unknown := sorted(set(matching) - {*names, key}):
        raise InputError(f"field {unknown[0]!r}: the answers have no such field, only {', '.join(names)}")
    from_text = all(one is None for one in sheet.answer_json.ravel())
    fields = []
    for name in names:
        cells = [[_taken(value, name, key) for value in row] for row in values]
        expected = [_of(truth, name) if isinstance(truth, dict) else truth for truth in truths]
        rule = matching.get(name) or matching.get(key)
        fields.append(_field(name, rule, cells, expected, from_text=from_text))
    return _labels(sheet, fields, values, reference)


def _labels(sheet: Sheet, fields: Sequence[Field], values: "Values", reference: str | None) -> Labels:
    counted = [one for one in fields if one.rule.kind != "ignore" and not one.free_text]
    codes, names = _together(counted, sheet.status.shape)
    judged = np.zeros(len(sheet.units), bool)
    score = sheet.answered.astype(float)
    for one in counted:
        judged |= one.truth != MISSING
        score = np.minimum(score, np.where(one.truth == MISSING, 1.0, one.score))
    score = score * judged
    return Labels(
        fields=tuple(fields),
        names=names,
        codes=codes,
        judged=judged,
        right=score >= 1,
        score=score,
        confidence=_confidence(values),
        stands_in=reference,
    )


Values = list[list[object]]  # [models][items], parsed; None where there is no answer


def _values(sheet: Sheet) -> Values:
    parsed: dict[str, object] = {}

    def value(given: str | None, as_json: str | None) -> object:
        text = as_json if as_json is not None else given
        if text is None:
            return None
        if text not in parsed:
            held = _loaded(text) if as_json is not None else match_rules.found_json(text)
            parsed[text] = text if held is None else held
        return parsed[text]

    def row(given: Texts, as_json: Texts, answered: Bools) -> list[object]:
        return [value(a, j) if ok else None for a, j, ok in zip(given, as_json, answered, strict=True)]

    return [row(*one) for one in zip(sheet.answer, sheet.answer_json, sheet.answered, strict=True)]


def _loaded(text: str) -> object:
    try:
        held: object = json.loads(text)
        return held
    except ValueError:
        return None


def _truth(text: str | None) -> object:
    if text is None or not text.strip():
        return None
    if text.lstrip()[0] in "{[":
        held = _loaded(text)
        return text if held is None else held
    return text


def _stand_in(sheet: Sheet, values: Values, reference: str) -> list[object]:
    if reference not in sheet.models:
        raise InputError(f"reference {reference!r}: not one of the models, {', '.join(sheet.models)}")
    return values[sheet.models.index(reference)]


def _field_names(truths: Sequence[object], values: Values) -> list[str]:
    """The expected answers' fields; without any, those of the answers but for aides such as a reason."""
    known = [truth for truth in truths if truth is not None]
    basis = known or [value for row in values for value in row if value is not None]
    maps = [value for value in basis if isinstance(value, dict)]
    if not maps or len(maps) * 2 < len(basis):
        return [WHOLE]
    seen: dict[str, int] = {}
    for one in maps:
        for key in one:
            seen[key] = seen.get(key, 0) + 1
    if known:
        return [key for key in seen if key.casefold() not in match_rules.AIDES] or list(seen)
    return [
        key
        for key, times in seen.items()
        if times * 5 >= len(maps) and key.casefold() not in match_rules.AIDES
    ] or [WHOLE]


def _label_key(values: Values, truths: Sequence[object], matching: Mapping[str, Rule]) -> str:
    """The field of JSON answers that is compared to a plain truth.

    The only one, the one declared, one named as a label, or the one that holds such values. Raises InputError
    when there are several and none of them does: a guess would call right answers wrong.
    """
    given = [value for row in values for value in row if value is not None]
    maps = [value for value in given if isinstance(value, dict)]
    seen: dict[str, None] = {key: None for one in maps for key in one}
    keys = [key for key in seen if key.casefold() not in match_rules.AIDES]
    declared = [key for key in keys if key in matching]
    named = [key for name in match_rules.LABEL_NAMES for key in keys if key.casefold() == name]
    if len(keys) == 1 or declared or named:
        return (declared or named or keys)[0]
    plain = {match_rules.plain(truth) for truth in truths if truth is not None}
    held = {key: sum(match_rules.plain(one.get(key)) in plain for one in maps) for key in keys}
    if any(held.values()):
        return max(held, key=lambda key: held[key])
    if plain and len(maps) * 2 > len(given):
        raise InputError(
            f"the expected answers are text, and the answers have the fields {', '.join(keys)}: say which of "
            f"them is meant (--match {keys[0]}=normalised), or write the expected answers as JSON, "
            f'{{"{keys[0]}": ...}}'
        )
    return ""


def _taken(value: object, name: str, key: str) -> object:
    """One field of an answer; a whole answer is itself, or its field `key` when it is a JSON object."""
    if name != WHOLE:
        return _of(value, name)
    return _of(value, key) if isinstance(value, dict) and key else value


def _of(value: object, name: str) -> object:
    if not isinstance(value, dict):
        return None
    if name in value:
        return value[name]
    folded = name.casefold()
    return next((held for key, held in value.items() if key.casefold() == folded), None)


def _field(
    name: str, rule: Rule | None, cells: Values, expected: Sequence[object], *, from_text: bool
) -> Field:
    given = [value for row in cells for value in row if value is not None]
    truths = [value for value in expected if value is not None]
    rule = rule or match_rules.choose(truths, given, from_text=from_text)
    canon = _Canon(rule, truths)
    index: dict[str, int] = {}
    truth = np.array([canon.code(value, index) for value in expected], np.int64)
    codes = np.array([[canon.code(value, index, answer=True) for value in row] for row in cells], np.int64)
    numbers, score = None, ((codes == truth) & (truth != MISSING)).astype(float)
    if rule.kind == "numeric":
        numbers = np.array([[_nan(match_rules.as_number(value)) for value in row] for row in cells])
        aims = np.array([_nan(match_rules.as_number(value)) for value in expected])
        score = _near(numbers, aims, rule).astype(float)
    return Field(
        name=name,
        rule=rule,
        labels=tuple(index),
        codes=codes,
        truth=truth,
        right=score >= 1,
        score=score,
        numbers=numbers,
        mentioned=canon.mentioned,
        free_text=not truths and rule.kind != "numeric" and _is_free(given, len(index)),
    )


class _Canon:
    """The canonical text of a value under a rule; equal texts are equal answers."""

    def __init__(self, rule: Rule, truths: Sequence[object]) -> None:
        self.mentioned = 0
        self._known = {match_rules.plain(value) for value in truths} if rule.kind == "mention" else set()
        self._mentions = match_rules.Mentions(self._known)
        self._text: Callable[[object], str | None] = {
            "exact": lambda value: value if isinstance(value, str) else match_rules.plain(value),
            "numeric": _number_text,
            "set": lambda value: ", ".join(sorted(match_rules.as_set(value))) or "(none)",
        }.get(rule.kind, match_rules.plain)
        self._cache: dict[tuple[str, str], str | None] = {}

    def code(self, value: object, index: dict[str, int], *, answer: bool = False) -> int:
        if value is None:
            return MISSING
        key = (type(value).__name__, value if isinstance(value, str) else repr(value))
        if key not in self._cache:
            self._cache[key] = self._text(value)
        text = self._cache[key]
        if (
            answer
            and text
            and self._known
            and text not in self._known
            and (only := self._mentions.only(text))
        ):
            self.mentioned += 1
            text = only
        return MISSING if not text else index.setdefault(text, len(index))


def _number_text(value: object) -> str | None:
    number = match_rules.as_number(value)
    return None if number is None else f"{number:.12g}"


def _nan(number: float | None) -> float:
    return float("nan") if number is None else number


def _near(numbers: Floats, aims: Floats, rule: Rule) -> Bools:
    allowed = np.abs(aims) * rule.tolerance if rule.relative else np.full_like(aims, rule.tolerance)
    # a hair of slack: 0.3 - 0.1 is not 0.2 in binary
    near: Bools = np.abs(numbers - aims) <= allowed + 1e-9 * np.maximum(1.0, np.abs(aims))
    return near


def _is_free(given: Sequence[object], distinct: int) -> bool:
    if not given:
        return False
    mean_length = sum(len(value) for value in given if isinstance(value, str)) / len(given)
    return distinct > MOST_LABELS or mean_length > 80 or (len(given) >= 40 and distinct * 2 > len(given))


def _together(fields: Sequence[Field], shape: tuple[int, ...]) -> tuple[Ints, tuple[str, ...]]:
    """Code the whole answer: the only field's codes, or one code per combination of all fields."""
    if not fields:
        return np.full(shape, MISSING, np.int64), ()
    if len(fields) == 1:
        return fields[0].codes, fields[0].labels
    stacked = np.stack([one.codes.ravel() for one in fields], axis=1)
    combos, codes = np.unique(stacked, axis=0, return_inverse=True)
    codes = codes.reshape(-1).astype(np.int64)
    codes[(stacked == MISSING).all(1)] = MISSING
    names = tuple(_combination(fields, combo) for combo in combos.tolist())
    return codes.reshape(shape), names


def _combination(fields: Sequence[Field], combo: Sequence[int]) -> str:
    parts = zip(fields, combo, strict=True)
    return " · ".join(f"{one.name}: {one.labels[at] if at != MISSING else '–'}" for one, at in parts)


def _confidence(values: Values) -> Floats:
    """A field `confidence` in 0..1 (or in percent), NaN where an answer has none."""
    found = np.array(
        [[_nan(match_rules.as_number(_of(value, "confidence"))) for value in row] for row in values]
    )
    in_percent = np.nanmax(found, initial=0.0) > 1.0
    return found / 100 if in_percent else found
