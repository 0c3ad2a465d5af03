"""The `Answerer` interface, and the simulated answerer that is used by default."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from . import schemas
from .deterministic import choose, fraction
from .fake_values import fake_value
from .media import MediaInput


@dataclass(frozen=True, slots=True)
class Question:
    """One completion that a request needs, independent of the family's request format.

    schema: JSON Schema with lower-case type names, None = free text. wants_json: a parameter of the request
    requires JSON, not only its prompt. index: which of `n` choices.
    """

    model: str
    prompt: str
    system: str
    schema: Mapping[str, Any] | None = None
    wants_json: bool = False
    index: int = 0


class Answerer(Protocol):
    """Anything that answers a question about media, for example a local classifier."""

    def answer(self, question: Question, media: Sequence[MediaInput]) -> str:
        """The text of one choice: JSON without a code fence when JSON is required, else prose."""
        ...


def engine_of(answerer: Answerer) -> str | None:
    """The name that replies give for what really answered; None for an answerer without `engine`."""
    engine = getattr(answerer, "engine", None)
    return engine if isinstance(engine, str) else None


@dataclass(frozen=True, slots=True)
class Simulated:
    """Fake answers from hashes of (model, prompt, media): the same on every run, and marked as simulated."""

    mark: str = "[simulated] "

    def answer(self, question: Question, media: Sequence[MediaInput]) -> str:
        seed = _seed(question, media)
        options = offered_options(question.prompt) or offered_options(question.system)
        schema = requested_schema(question)
        if schema is not None:
            return json.dumps(fake_value(schema, options, *seed), ensure_ascii=False)
        if options:
            return self.mark + choose(options, *seed)
        return self.mark + _prose(question, media, seed)


def _seed(question: Question, media: Sequence[MediaInput]) -> tuple[str, ...]:
    """The texts that determine the answer: models agree on about four of five questions, as real ones do."""
    subject = (question.prompt, *(one.identity for one in media))
    own = fraction("dissent", question.model, *subject) < 0.2 or question.index > 0
    return (*subject, question.model, str(question.index)) if own else subject


def requested_schema(question: Question) -> Mapping[str, Any] | None:
    """The schema of the answer: from the request, or from a description in the prompt; None = prose."""
    if question.schema is not None:
        return question.schema
    prose = f"{question.prompt}\n{question.system}"
    if not question.wants_json and not re.search(r"\bjson\b", prose, re.IGNORECASE):
        return None
    return schemas.find(prose) or _schema_of(_fields(prose) or ["description"])


FIELDS = re.compile(
    r"(?:fields|keys|properties)\b[^:{\n]{0,40}:\s*([^\n.{}]+)|\bjson\b[^{\n]{0,40}\{([^{}\n]+)\}",
    re.IGNORECASE,
)


def _fields(prose: str) -> list[str]:
    """The names in `fields: a, b and c` or `JSON {a, b}`."""
    found = FIELDS.search(prose)
    return (
        re.findall(r"[A-Za-z_][A-Za-z0-9_]*", re.sub(r"\band\b", ",", found[1] or found[2])) if found else []
    )


NUMBER_FIELDS = {"confidence": 0.5, "score": 0.5, "probability": 0.5, "count": 1, "number": 1}


def _schema_of(names: Sequence[str]) -> dict[str, Any]:
    """A schema for fields known by name only: a few names mean numbers, the others mean text."""
    return schemas.like({name: NUMBER_FIELDS.get(name.lower(), "") for name in names})


OPTIONS = re.compile(
    r"(?:one of|choose (?:from|between|among)|options|labels|categories)\b(?: the following| these)?"
    r"(?: options| labels| categories| words)?\s*(?:are)?\s*[:\-(\[]?\s*([^\n?.;)\]]+)",
    re.IGNORECASE,
)


def offered_options(prose: str) -> list[str]:
    """The options of a question such as `one of: cat, dog or bird`; empty when there are none."""
    found = OPTIONS.search(prose)
    if not found:
        return []
    options = [option.strip(" \"'`*") for option in re.split(r",|\||/|\bor\b|\band\b", found[1])]
    options = [option for option in options if option]
    return options if len(options) > 1 else []


SUBJECTS = [
    "a quiet scene",
    "a busy street",
    "an animal",
    "a person",
    "some objects",
    "a landscape",
    "a building",
]
MANNERS = [
    "in daylight",
    "at close range",
    "from above",
    "in soft light",
    "against a plain ground",
    "in motion",
]


def _prose(question: Question, media: Sequence[MediaInput], seed: tuple[str, ...]) -> str:
    subject = choose(SUBJECTS, *seed, "subject")
    if not media:
        return f"{question.model} would answer about {subject}; nothing was read."
    kinds = " and ".join(
        f"{'an' if one.kind == 'image' else 'a'} {one.kind}{_size(one)}" for one in media[:3]
    )
    return f"{kinds}: {subject} {choose(MANNERS, *seed, 'manner')}. No model looked at it."


def _size(media: MediaInput) -> str:
    length = f", {media.duration_s:.1f} s" if media.duration_s else ""
    return f" of {media.width}x{media.height} px{length}"
