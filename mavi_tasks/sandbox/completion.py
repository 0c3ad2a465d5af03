"""Executes a call: counts tokens, cuts the text at `stop` and max_tokens, builds the family's reply."""

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
class ChargedReply:
    """The reply of a completion that is charged, and its cost."""

    reply: Mapping[str, Any]
    input_tokens: int
    output_tokens: int
    pico: int
    cut: tuple[bool, ...] = ()


def input_tokens(call: Call) -> int:
    """Tokens of the text (four characters each) and of each media by the family's formula.

    Raises Refusal when the input is too long for the model.
    """
    media = sum(call.family.media_tokens(call.model, one) for one in call.media)
    tokens = math.ceil(call.text_chars / CHARS_PER_TOKEN) + media
    max_tokens = call.family.max_input(call.model)
    if max_tokens is not None and tokens > max_tokens:
        raise Refusal(f"messages: {tokens} input tokens, at most {max_tokens} for {call.model}")
    return tokens


def execute(call: Call, tokens: int, answerer: Answerer, created: int) -> ChargedReply:
    """Execute the call. `tokens`: its input tokens, already counted."""
    thinking_budget = call.answer_format.thinking_tokens
    reasoning_tokens = call.family.reasoning_tokens(call.model, call.prompt, thinking_budget)
    # Thinking without a budget of its own counts towards max_tokens.
    thinking_in_max = 0 if thinking_budget else min(reasoning_tokens, call.max_tokens // 2)
    choices = [_choice(call, answerer, index, call.max_tokens - thinking_in_max) for index in range(call.n)]
    text_tokens = sum(max(1, math.ceil(len(text) / CHARS_PER_TOKEN)) for text, _ in choices)
    reasoning = (thinking_in_max or reasoning_tokens) * call.n if thinking_budget or thinking_in_max else 0
    completion = Completion(
        call=call,
        texts=tuple(text for text, _ in choices),
        cut=tuple(cut for _, cut in choices),
        input_tokens=tokens,
        output_tokens=text_tokens + reasoning,
        reasoning_tokens=reasoning,
        created=created,
        engine=engine_of(answerer),
    )
    pico = cost_pico(call.family.name, call.model, tokens, completion.output_tokens)
    return ChargedReply(call.family.reply(completion), tokens, completion.output_tokens, pico, completion.cut)


def _choice(call: Call, answerer: Answerer, index: int, max_tokens: int) -> tuple[str, bool]:
    """The text of one choice, and whether max_tokens cut it."""
    schema, wants_json = call.answer_format.schema, call.answer_format.wants_json
    question = Question(call.wire_model, call.prompt, call.system, schema, wants_json, index)
    text = answerer.answer(question, call.media)
    if call.answer_format.fenced:
        text = f"```json\n{text}\n```"
    positions = [text.find(stop) for stop in call.stops if stop and stop in text]
    text = text[: min(positions)] if positions else text
    max_chars = max_tokens * CHARS_PER_TOKEN
    return text[:max_chars], len(text) > max_chars
