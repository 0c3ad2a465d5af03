"""A stream is one reply: its text, usage and end are those of a whole one, and it keeps the same bounds."""

import gzip
import json

import pytest

from mavi_tasks.gateway.streams import assembled
from mavi_tasks.providers import family_of
from tests.unit.gateway.test_gateway import KEY, ask

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
GPT = family_of("gpt:gpt-4o")


def event(value):
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def openai(*texts, end="stop", usage=None, done=True):
    raw = b"".join(event({"choices": [{"index": 0, "delta": {"content": text}}]}) for text in texts)
    if end is not None:
        raw += event({"choices": [{"index": 0, "delta": {}, "finish_reason": end}]})
    if usage is not None:
        raw += event({"choices": [], "usage": usage})
    return raw + (b"data: [DONE]\n\n" if done else b"")


def test_chunks_of_openai_are_a_reply():
    shape, reply = assembled(openai("a ", "cat", usage={"prompt_tokens": 7, "completion_tokens": 2}))
    answer = GPT.answer(reply)
    assert (shape, answer.text, answer.finish_reason) == ("openai", "a cat", "stop")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (7, 2)


def test_tokens_of_mavi_are_a_reply():
    shape, reply = assembled(event({"token": "a "}) + event({"token": "cat"}))
    assert (shape, GPT.answer(reply).text, GPT.answer(reply).usage.input_tokens) == ("mavi", "a cat", None)


def test_choices_are_kept_apart():
    raw = b"".join(event({"choices": [{"index": n % 2, "delta": {"content": str(n)}}]}) for n in range(4))
    assert GPT.answer(assembled(raw + b"data: [DONE]\n")[1]).choices == ("02", "13")


def test_a_stream_without_its_end_is_no_reply():
    assert assembled(openai("a ", end=None, done=False)) == ("openai", None)


@pytest.mark.parametrize(
    "raw", [b"", b"event: ping\n\n", event({"type": "progress"}), b"data: {\n\n", b"data: 1\n"]
)
def test_another_shape_is_known_as_such(raw):
    assert assembled(raw) == (None, None)


def test_a_stream_is_read_and_its_first_token_timed():
    reply = ask(HEAD + b"\r\n" + openai("a ", "cat", usage={"prompt_tokens": 7, "completion_tokens": 2}))
    assert (reply.decision.action, reply.stream) == ("ok", "openai")
    assert 0 < reply.first_token_s <= reply.latency_s


def test_a_stream_that_breaks_off_is_in_doubt():
    reply = ask(HEAD + b"\r\n" + openai("a ", end=None, done=False))
    assert (reply.decision.action, reply.decision.outcome) == ("again", "in_doubt")


def test_a_stream_of_another_shape_is_in_doubt_and_says_so():
    reply = ask(HEAD + b"\r\n" + event({"type": "progress"}))
    assert (reply.decision.outcome, reply.payload) == ("in_doubt", None)
    assert "mavi doctor --probe" in reply.decision.message


def test_an_error_in_a_stream_is_an_error():
    raw = event({"token": "a"}) + event({"error": {"code": "rate_limit_exceeded", "message": "slow down"}})
    assert ask(HEAD + b"\r\n" + raw).decision.code == "rate_limited"


def test_a_stream_that_goes_silent_is_in_doubt():
    reply = ask(HEAD + b"\r\n" + event({"token": "a"}), close=False)
    assert (reply.decision.action, reply.decision.outcome) == ("again", "in_doubt")


def test_a_stream_that_is_a_compression_bomb_is_not_unpacked():
    bomb = gzip.compress(b" " * (200 << 20))
    reply = ask(HEAD + b"Content-Encoding: gzip\r\n\r\n" + bomb, timeout_s=5)
    assert reply.decision.code == "unreadable"


def test_encodings_upon_encodings_are_refused_in_a_stream():
    nested = gzip.compress(gzip.compress(openai("a cat")))
    reply = ask(HEAD + b"Content-Encoding: gzip, gzip\r\n\r\n" + nested, timeout_s=5)
    assert reply.decision.code == "unreadable"


def test_a_compressed_stream_is_read_and_timed():
    reply = ask(HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(openai("a cat")), timeout_s=5)
    assert (GPT.answer(reply.payload).text, reply.first_token_s is not None) == ("a cat", True)


def test_a_key_in_pieces_over_many_chunks_is_taken_out():
    reply = ask(HEAD + b"\r\n" + openai(*KEY), key=KEY)
    assert KEY not in json.dumps(reply.payload)
