"""A call is answered: tokens counted, text cut as asked, the family's reply built."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .answers import Answerer, Question, engine_of
from .families import Call, Completion
from .ledger import cost_pico
from .refusal import Refusal

CHARS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Executed:
    """A completion that is charged: its reply and what it costs."""

    reply: Mapping[str, Any]
    input_tokens: int
    output_tokens: int
    pico: int


def input_tokens(call: Call) -> int:
    """Tokens of text (four characters each) and of every media by the family's formula.

    Raises Refusal when the model takes no input that long.
    """
    media = sum(call.family.media_tokens(call.model, one) for one in call.media)
    tokens = math.ceil(call.text_chars / CHARS_PER_TOKEN) + media
    most = call.family.max_input(call.model)
    if most is not None and tokens > most:
        raise Refusal(f"messages: {tokens} input tokens, at most {most} for {call.model}")
    return tokens


def execute(call: Call, tokens: int, answerer: Answerer, created: int) -> Executed:
    """Answers the call. `tokens`: its input tokens, already counted."""
    most_thought = call.asked.thinking_tokens
    thought = call.family.reasoning_tokens(call.model, call.prompt, most_thought)
    inside = 0 if most_thought else thought  # where thinking has no budget of its own, max_tokens bounds it
    inside = min(inside, call.max_tokens // 2)
    said = [_said(call, answerer, index, call.max_tokens - inside) for index in range(call.n)]
    spoken = sum(max(1, math.ceil(len(text) / CHARS_PER_TOKEN)) for text, _ in said)
    reasoning = (inside or thought) * call.n if most_thought or inside else 0
    completion = Completion(
        call=call,
        texts=tuple(text for text, _ in said),
        cut=tuple(cut for _, cut in said),
        input_tokens=tokens,
        output_tokens=spoken + reasoning,
        reasoning_tokens=reasoning,
        created=created,
        engine=engine_of(answerer),
    )
    pico = cost_pico(call.family.name, call.model, tokens, completion.output_tokens)
    return Executed(call.family.reply(completion), tokens, completion.output_tokens, pico)


def _said(call: Call, answerer: Answerer, index: int, max_tokens: int) -> tuple[str, bool]:
    """One choice's text, and whether max_tokens cut it."""
    schema, wants_json = call.asked.schema, call.asked.wants_json
    question = Question(call.wire_model, call.prompt, call.system, schema, wants_json, index)
    text = answerer.answer(question, call.media)
    if call.asked.fenced:
        text = f"```json\n{text}\n```"
    ends = [text.find(stop) for stop in call.stops if stop and stop in text]
    text = text[: min(ends)] if ends else text
    most_chars = max_tokens * CHARS_PER_TOKEN
    return text[:most_chars], len(text) > most_chars
