"""Replies: whatever a gateway sends is an answer with what could be read, never an exception."""

import copy
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mavi_tasks import providers
from mavi_tasks.providers import FAMILIES
from tests.unit.providers.test_providers import CASES
from tests.unit.providers.test_schema_dialects import ANY_JSON

# ---- replies ----


def read(payload):
    return FAMILIES["gemini"].answer(payload)


def message(**fields):
    return {"choices": [{"message": {"role": "assistant", **fields}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"choices": [{"text": "a"}]}, "a"),
        ({"choices": [{"text": ""}]}, ""),
        (message(content="a"), "a"),
        (message(content=""), ""),
        (message(content=[{"type": "text", "text": "a"}, {"text": "b"}]), "ab"),
        (message(content=[{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "b"}]), "b"),
        (message(content=[{"toolUse": {"name": "answer", "input": {"label": "cat"}}}]), '{"label": "cat"}'),
        (message(content=None, tool_calls=[{"function": {"arguments": '{"a":1}'}}]), '{"a":1}'),
        (message(content="", tool_calls=[{"function": {"arguments": {"a": 1}}}]), '{"a": 1}'),
        (message(content=None, tool_calls=[{"toolUse": {"input": {"a": 1}}}]), '{"a": 1}'),
        (message(content=None, function_call={"arguments": "{}"}), "{}"),
        (message(tool_calls=[{"function": {"arguments": "1"}}, {"function": {"arguments": "2"}}]), "[1,2]"),
        ({"code": 200, "data": {"choices": [{"text": "wrapped"}]}}, "wrapped"),
        (message(content=None), None),
        ({"choices": []}, None),
        ({"choices": None}, None),
        ({"status": "errored", "choices": [], "error": {"code": "INVALID_ARGUMENT"}}, None),
        ({}, None),
    ],
)
def test_text_is_found_in_every_known_form(payload, text):
    assert read(payload).text == text


def test_every_choice_is_kept():
    assert read({"choices": [{"text": "a"}, {"text": "b"}]}).choices == ("a", "b")


def test_a_refusal_is_no_answer():
    answer = read(message(content=None, refusal="I cannot help."))
    assert (answer.text, answer.finish_reason) == (None, "refusal")
    assert read(message(content="a", refusal=None)).finish_reason == "stop"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}, (1, 2, 3)),
        ({"prompt_tokens": 1, "completion_tokens": 2}, (1, 2, None)),
        ({"prompt_tokens": 1, "output_token": 2}, (1, 2, None)),
        ({"total_tokens": 3}, (None, None, 3)),
        ({"input_tokens": 0, "output_tokens": 0}, (0, 0, None)),
        ({"input_tokens": -1, "output_tokens": True, "total_tokens": 3.0}, (None, None, None)),
        ({"input_tokens": "5", "output_tokens": 10**10, "total_tokens": [3]}, (None, None, None)),
        ({"input_tokens": None, "prompt_tokens": 4}, (4, None, None)),
        (None, (None, None, None)),
        ([1], (None, None, None)),
    ],
)
def test_tokens_are_counts_or_unknown(usage, expected):
    found = read({"choices": [{"text": "a"}], "usage": usage}).usage
    assert (found.input_tokens, found.output_tokens, found.total_tokens) == expected


def test_cached_and_reasoning_tokens_are_read():
    usage = {
        "prompt_tokens_details": {"cached_tokens": 7},
        "completion_tokens_details": {"reasoning_tokens": 9},
    }
    found = read({"usage": usage}).usage
    assert (found.cached_tokens, found.reasoning_tokens) == (7, 9)


def assert_answer(answer):
    assert answer.text is None or isinstance(answer.text, str)
    assert isinstance(answer.choices, tuple)
    assert all(isinstance(choice, str) for choice in answer.choices)
    assert answer.text == (answer.choices[0] if answer.choices else None)
    for word in (answer.finish_reason, answer.response_id, answer.provider_model):
        assert word is None or isinstance(word, str)
    for count in asdict(answer.usage).values():
        assert count is None or (type(count) is int and 0 <= count <= 10**9)


@given(ANY_JSON)
def test_any_json_is_an_answer_never_an_exception(payload):
    assert_answer(read(payload))


WORDS = (
    "choices text message content usage meta data id model tool_calls function arguments function_call "
    "toolUse input type refusal finish_reason prompt_tokens output_token total_tokens provider_model "
    "prompt_tokens_details cached_tokens"
)
REPLY_KEYS = st.sampled_from(WORDS.split())
NEAR_REPLIES = st.recursive(
    ANY_JSON,
    lambda inner: st.dictionaries(REPLY_KEYS, inner | st.lists(inner, max_size=3), max_size=6),
    max_leaves=25,
)


@settings(max_examples=1000)
@given(NEAR_REPLIES)
def test_anything_like_a_reply_is_an_answer_never_an_exception(payload):
    assert_answer(read(payload))


def places(value, path=()):
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*path, key))


@settings(max_examples=2000)
@given(st.sampled_from(sorted(CASES)), st.data())
def test_documented_replies_with_any_part_replaced_are_answers(name, data):
    reply = copy.deepcopy(CASES[name]["reply"])
    path = data.draw(st.sampled_from(list(places(reply))[1:]))
    target = reply
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = data.draw(ANY_JSON)
    assert_answer(providers.family_of(CASES[name]["ask"]["model"]).answer(reply))


def test_a_reply_nested_beyond_all_bounds_is_an_answer():
    deep = None
    for _ in range(5_000):
        deep = [deep]
    assert read(message(content=None, function_call={"arguments": deep})).text is None
    nested = {}
    for _ in range(5_000):
        nested = {"data": nested}
    assert read(nested).text is None
