"""What a parameter may be: one small table of rules per family, one message form for all.

A rule returns what is wanted when the value does not fit, else None. `None` as a value means "not given"
everywhere, so that a model's own params can take back a parameter of the whole job. Only parameters that
were given go on the wire; the gateway's own defaults stay in force for the rest.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mavi_tasks.providers import schema_dialects

Rule = Callable[[Any], str | None]

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


def one_of(*words: str) -> Rule:
    """A rule for one of a few words."""
    wanted = " or ".join(words)
    return lambda value: None if isinstance(value, str) and value in words else wanted


def boolean(value: Any) -> str | None:
    """A rule for true or false."""
    return None if isinstance(value, bool) else "true or false"


def mapping(value: Any) -> str | None:
    """A rule for any object."""
    return None if isinstance(value, Mapping) else "an object"


def _stop(value: Any) -> str | None:
    words = [value] if isinstance(value, str) else value
    if isinstance(words, list | tuple) and words and all(isinstance(w, str) and w for w in words):
        return None
    return "a text or a list of texts, none of them empty"


def _stream(value: Any) -> str | None:
    if value is False:
        return None
    return (
        "false: the gateway documents no chunk format for streams, and tokens, hence costs, could not be read"
    )


COMMON: Mapping[str, Rule] = {
    "temperature": number(0, 2),
    "max_tokens": integer(1),
    "top_p": number(0, 1),
    "frequency_penalty": number(-2, 2),
    "presence_penalty": number(-2, 2),
    "n": integer(1),
    "stream": _stream,
    "stop": _stop,
}

# Names people try; difflib alone would send them elsewhere.
_OWN_WORDS: Mapping[str, str] = {
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


def problems(
    family: str,
    rules: Mapping[str, Rule],
    params: Mapping[str, Any],
    schema: Mapping[str, Any] | None,
    *,
    own: str | None = None,
) -> list[str]:
    """Everything wrong with the parameters and the answer schema of one family, one sentence each.

    own: the parameter that says the same as answer_schema in the family's own form.
    """
    found = schema_dialects.problems(schema) if schema is not None else []
    if schema is not None and own is not None and params.get(own) is not None:
        found.append(f"params.{own}: give either this or answer_schema, not both")
    for name, value in params.items():
        rule = rules.get(name)
        if rule is None:
            found.append(_unknown(family, name, rules))
        elif value is not None and (wanted := rule(value)) is not None:
            found.append(f"params.{name}: {_shown(value)} must be {wanted}")
    return found


def _unknown(family: str, name: Any, rules: Mapping[str, Rule]) -> str:
    from mavi_tasks.providers import KNOWN_PARAMS  # every family's, which import this module

    def owners(of: str) -> str:
        return ", ".join(sorted(other for other, names in KNOWN_PARAMS.items() if of in names))

    said = f"params.{name}: {family} knows no such parameter"
    if name in _OWN_WORDS:
        return f"{said}; {_OWN_WORDS[name]}"
    if owners(name):
        return f"{said} (known by: {owners(name)}); give it in the params of those models only"
    near = nearest(str(name), rules)
    if near is not None:
        return f"{said}; the nearest is {near}"
    elsewhere = nearest(str(name), {known for names in KNOWN_PARAMS.values() for known in names})
    if elsewhere is not None:
        return f"{said}; the nearest is {elsewhere}, known by {owners(elsewhere)}"
    return f"{said}; it knows {', '.join(sorted(rules))}"


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The name most like this one, whatever its case and its - or _; None when none is near."""
    plain = {_plain(n): n for n in names}
    found = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=cutoff)
    return plain[found[0]] if found else None


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
