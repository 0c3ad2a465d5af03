"""Where the rows of a comparison come from, for the head of its page."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt_id: the text sent for the item that came first, and whether others got another text."""

    prompt_id: str
    text: str
    varies: bool


@dataclass(frozen=True, slots=True)
class Origin:
    """Jobs, the days of the first and last answer (2026-11-20; None = not known), and the prompts."""

    jobs: tuple[str, ...]
    first_day: str | None
    last_day: str | None
    prompts: tuple[Prompt, ...]


def of_rows(
    jobs: Sequence[str | None],
    days: Sequence[str],
    prompt_ids: Sequence[str],
    texts: Sequence[str | None],
) -> Origin:
    """Return the origin of rows of results; `days` are those that are known."""
    first: dict[str, str] = {}
    varies: set[str] = set()
    for prompt_id, text in zip(prompt_ids, texts, strict=True):
        if text and first.setdefault(prompt_id, text) is not text and first[prompt_id] != text:
            varies.add(prompt_id)
    return Origin(
        jobs=tuple(dict.fromkeys(job for job in jobs if job)),
        first_day=min(days, default=None),
        last_day=max(days, default=None),
        prompts=tuple(Prompt(one, text, one in varies) for one, text in sorted(first.items())),
    )
