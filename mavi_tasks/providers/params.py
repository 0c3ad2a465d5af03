"""What a parameter may be: one small table of rules per family, one message form for all.

A rule returns what is expected when the value does not fit, else None. `None` as a value means "not given"
everywhere, so that a model's own params can take back a parameter of the whole job. Only parameters that
were given go on the wire; the gateway's own defaults stay in force for the rest.
"""

from collections.abc import Callable, Mapping
from typing import Any

from mavi_tasks.common.suggest import nearest
from mavi_tasks.providers import schema_dialects
from mavi_tasks.providers.base import KnownParams

Rule = Callable[[Any], str | None]

NEWER_NAME = "max_completion_tokens"  # of max_tokens, which it excludes; openai servers take it in extra_body
INT32_MAX = 2**31 - 1  # what every backend reads; the gateway states no upper bounds of its own


def number(low: float, high: float) -> Rule:
    """A rule for an int or float in [low, high]; True, "0.5", NaN and infinity are not numbers."""

    def rule(value: Any) -> str | None:
        wanted = f"a number from {low:g} to {high:g}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return wanted
        return None if low <= value <= high else wanted  # NaN compares false with everything

    return rule


def integer(low: int, high: int = INT32_MAX) -> Rule:
    """A rule for a whole number in [low, high]; 300.0 and True are not whole numbers."""

    def rule(value: Any) -> str | None:
        wanted = (
            f"a whole number from {low} to {high}" if high < INT32_MAX else f"a whole number from {low} up"
        )
        if isinstance(value, bool) or not isinstance(value, int):
            return wanted
        return None if low <= value <= high else wanted

    return rule


def one_of(*choices: str) -> Rule:
    """A rule for one of a few texts."""
    wanted = " or ".join(choices)
    return lambda value: None if isinstance(value, str) and value in choices else wanted


def boolean(value: Any) -> str | None:
    """A rule for true or false."""
    return None if isinstance(value, bool) else "true or false"


def mapping(value: Any) -> str | None:
    """A rule for any object."""
    return None if isinstance(value, Mapping) else "an object"


def _stop(value: Any) -> str | None:
    texts = [value] if isinstance(value, str) else value
    if isinstance(texts, list | tuple) and texts and all(isinstance(text, str) and text for text in texts):
        return None
    return "a text or a list of texts, none of them empty"


COMMON: Mapping[str, Rule] = {
    "temperature": number(0, 2),
    "max_tokens": integer(1),
    "top_p": number(0, 1),
    "frequency_penalty": number(-2, 2),
    "presence_penalty": number(-2, 2),
    "n": integer(1),
    "stream": boolean,
    "stop": _stop,
}

# Names that people often write; the nearest name would mislead them.
_HINTS: Mapping[str, str] = {
    "extra_body": "write its fields directly under params; mavi nests them",
    "metadata": "write its fields directly under params; mavi nests them",
    "thinking_config": "write thinking_budget directly under params; mavi nests it",
    "model": "it is written from the job's models",
    "messages": "they are written from the job's prompts and media",
    **dict.fromkeys(
        ("top_k", "seed", "logprobs", "detail", "reasoning_effort"), "the gateway documents none"
    ),
    "max_completion_tokens": "use max_tokens",
    "max_output_tokens": "use max_tokens",
}


def given(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that were given: those that are not None."""
    return {name: value for name, value in params.items() if value is not None}


def most_output(params: Mapping[str, Any], defaults: Mapping[str, Any], thinking: int = 0) -> int:
    """The most output tokens one call can bill: of all its choices, each with so much thinking besides."""
    return (answer_limit(params, defaults) + thinking) * int(params.get("n") or 1)


def answer_limit(params: Mapping[str, Any], defaults: Mapping[str, Any]) -> int:
    """The most tokens of one choice: what is given under either name, else the family's default."""
    newer = _extra_body(params).get(NEWER_NAME)
    return newer if type(newer) is int else int(params.get("max_tokens") or defaults["max_tokens"])


def with_answer_limit(params: Mapping[str, Any], max_tokens: int) -> dict[str, Any]:
    """The parameters with another limit of one choice, under the name that they have it."""
    extra = _extra_body(params)
    if NEWER_NAME in extra:
        return {**params, "extra_body": {**extra, NEWER_NAME: max_tokens}}
    return {**params, "max_tokens": max_tokens}


def _extra_body(params: Mapping[str, Any]) -> Mapping[str, Any]:
    extra = params.get("extra_body")
    return extra if isinstance(extra, Mapping) else {}


def problems(
    family: str,
    rules: Mapping[str, Rule],
    params: Mapping[str, Any],
    schema: Mapping[str, Any] | None,
    known: KnownParams,
    *,
    own: str | None = None,
) -> list[str]:
    """Everything wrong with the parameters and the answer schema of one family, one sentence each.

    known: the parameters of every family. own: the parameter that means the same as answer_schema in the
    family's own form.
    """
    found = schema_dialects.problems(schema) if schema is not None else []
    if schema is not None and own is not None and params.get(own) is not None:
        found.append(f"params.{own}: give either this or answer_schema, not both")
    for name, value in params.items():
        rule = rules.get(name)
        if rule is None:
            found.append(_unknown(family, name, rules, known))
        elif value is not None and (wanted := rule(value)) is not None:
            found.append(f"params.{name}: {_shown(value)} must be {wanted}")
    return found


def _unknown(family: str, name: Any, rules: Mapping[str, Rule], known: KnownParams) -> str:
    def owners(of: str) -> str:
        return ", ".join(sorted(other for other, names in known.items() if of in names))

    problem = f"params.{name}: {family} knows no such parameter"
    if name in _HINTS:
        return f"{problem}; {_HINTS[name]}"
    if owners(name):
        return f"{problem} (known by: {owners(name)}); give it in the params of those models only"
    near = nearest(str(name), rules)
    if near is not None:
        return f"{problem}; the nearest is {near}"
    elsewhere = nearest(str(name), {one for names in known.values() for one in names})
    if elsewhere is not None:
        return f"{problem}; the nearest is {elsewhere}, known by {owners(elsewhere)}"
    return f"{problem}; it knows {', '.join(sorted(rules))}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
