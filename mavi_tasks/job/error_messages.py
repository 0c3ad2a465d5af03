"""A job's problems in one line each: where, which field, the value, what it must be.

pets.yaml:12: limits.gemini:*.requests_per_minute: 'fast' must be a number > 0
"""

import typing
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mavi_tasks.common.suggest import nearest

_SHOWN: Final = 60

# Names that other tools use, where spelling alone does not lead to ours.
_SYNONYMS: Final[Mapping[str, str]] = {
    "rpm": "requests_per_minute", "tpm": "tokens_per_minute", "max_concurrency": "concurrency",
    "data": "manifest", "dataset": "output", "input": "manifest", "items": "manifest", "out": "output",
    "schema": "answer_schema", "response_format": "answer_schema", "cost": "budget_usd",
    "max_cost": "budget_usd", "endpoint": "base_url", "url": "base_url", "host": "base_url",
    "label": "truth", "expected": "truth", "answer": "truth", "image": "media", "video": "media",
    "max_retries": "attempts", "retries": "retry", "timeout": "timeout_s", "system_prompt": "system",
}  # fmt: skip
_KEYS: Final = frozenset(("api_key", "key", "apikey", "token", "authorization", "secret", "password"))

# Our text for what pydantic itself refuses, by the type of the error.
_TEXTS: Final[Mapping[str, str]] = {
    "missing": "is missing",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "list_type": "must be a list",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text; put it in quotes",
    "too_short": "must not be empty",
}
_NO_VALUE: Final = frozenset(("missing", "too_short", "secret"))


class Lines(Protocol):
    """Finds the line of a field in a file."""

    def line(self, loc: Sequence[str | int]) -> int: ...


def problems(
    error: ValidationError, job: type[BaseModel], file: str, lines: Lines | None, flags: Mapping[str, str]
) -> list[str]:
    """Every problem as one line, in the order of the file, each once.

    flags: the fields that the command line set, each with its flag.
    """
    found: dict[str, int] = {}
    for detail in error.errors(include_url=False):
        loc = tuple((detail.get("ctx") or {}).get("loc") or detail["loc"])
        text = _text(detail, loc, job)
        flag = flags.get(str(loc[0])) if loc else None
        if flag is not None:
            found.setdefault(f"{flag}: {text}", 0)
        elif lines is None:
            found.setdefault(_line(file, loc, text), 0)
        else:
            number = lines.line(loc)
            found.setdefault(_line(f"{file}:{number}", loc, text), number)
    return sorted(found, key=found.__getitem__)


def _line(where: str, loc: Sequence[str | int], text: str) -> str:
    return ": ".join(part for part in (where, field_name(loc), text) if part)


def field_name(loc: Sequence[str | int]) -> str:
    """limits.gemini:*.concurrency, models[1].params."""
    name = ""
    for step in loc:
        name += f"[{step}]" if isinstance(step, int) else f".{step}" if name else step
    return name


def _text(detail: ErrorDetails, loc: Sequence[str | int], job: type[BaseModel]) -> str:
    kind = detail["type"]
    if kind == "extra_forbidden":
        return _unknown(str(loc[-1]), _section(job, loc[:-1]))
    text = _TEXTS.get(kind, detail["msg"])
    if kind in _NO_VALUE or detail["input"] is None:
        return text.removeprefix(": ")
    return _with_value(detail["input"], text)


def _with_value(value: Any, text: str) -> str:
    if isinstance(value, dict | list | BaseModel):
        return text.removeprefix(": ")
    return shown(value) + (text if text.startswith(": ") else f" {text}")


def shown(value: Any) -> str:
    """A value short enough for one line, as it would be written in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN // 2 - 3] + "..." + text[-_SHOWN // 2 :]


def _unknown(key: str, section: type[BaseModel] | None) -> str:
    if key.lower().replace("-", "_") in _KEYS:
        return "never write a key in a file; set MAVI_API_KEY, or name its variable with gateway.api_key_env"
    known = [name for name in section.model_fields if name != "source"] if section else []
    other = _SYNONYMS.get(key.lower())
    near = other if other in known else nearest(key, known)
    return f"unknown key; did you mean {near}?" if near else f"unknown key; known are {', '.join(known)}"


def _section(model: type[BaseModel], loc: Sequence[str | int]) -> type[BaseModel] | None:
    """The section of the job that `loc` leads to; list indexes and free names are skipped."""
    section: type[BaseModel] | None = model
    for step in loc:
        field = section.model_fields.get(str(step)) if section else None
        if field is not None:
            section = _model_in(field.annotation)
    return section


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(part) for part in typing.get_args(annotation))
    return next((model for model in found if model is not None), None)
