"""Every reply is judged once, as data: its meaning, whether to try again, whether it may have cost money."""

import asyncio
import contextlib
import gzip
import json
import time
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mavi_tasks.gateway.classify import read_reply
from mavi_tasks.gateway.client import Gateway
from mavi_tasks.gateway.redaction import Redaction

GOOD = {
    "status": "completed",
    "choices": [{"text": "a cat"}],
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


def envelope(code, msg, **more):
    return {"code": code, "msg": msg, "data": None, **more}


CASES = [
    # status, body, action, outcome, code
    (200, GOOD, "ok", "answered", None),
    (200, {**GOOD, "code": 200, "msg": "success"}, "ok", "answered", None),
    (200, {**GOOD, "status": None, "code": "0000"}, "ok", "answered", None),
    (201, GOOD, "ok", "answered", None),  # a whole answer is kept under every status that is no error
    (203, GOOD, "ok", "answered", None),
    (206, GOOD, "ok", "answered", None),
    (302, GOOD, "ok", "answered", None),
    (600, GOOD, "ok", "answered", None),
    (999, envelope("0000", "success") | {"data": GOOD}, "ok", "answered", None),
    (206, '{"choices": [{"te', "again", "in_doubt", "unreadable"),
    (999, "", "again", "in_doubt", "unreadable"),
    (999, {"choices": []}, "refetch", "in_doubt", "empty_answer"),
    (999, envelope(402, "Insufficient balance"), "stop_run", "rejected", "no_balance"),
    (429, GOOD, "throttled", "throttled", "rate_limited"),  # its usage is still paid for, and recorded
    (502, GOOD, "again", "in_doubt", "bad_gateway"),
    (200, envelope("0000", "success") | {"data": GOOD}, "ok", "answered", None),
    (200, envelope(429, "slow down") | {"data": GOOD}, "throttled", "throttled", "rate_limited"),
    (200, envelope("0001", "network", failed=True) | {"data": GOOD}, "again", "failed", "transient"),
    (200, {**GOOD, "code": 500, "msg": "Internal"}, "again", "failed", "server_error"),
    (400, envelope(400, "Asset not found"), "final", "rejected", "bad_request"),
    (401, envelope(401, "Unauthorized"), "stop_run", "rejected", "unauthorized"),
    (402, envelope(402, "Insufficient balance"), "stop_run", "rejected", "no_balance"),
    (403, envelope(403, "Forbidden"), "stop_run", "rejected", "forbidden"),
    (405, envelope(405, "Method not allowed"), "final", "rejected", "method_not_allowed"),
    (409, envelope(409, "Conflict"), "final", "rejected", "conflict"),
    (415, envelope(415, "Unsupported"), "final", "rejected", "unsupported_media_type"),
    (429, envelope(429, "Rate limit exceeded"), "throttled", "throttled", "rate_limited"),
    (500, envelope(500, "Internal"), "again", "failed", "server_error"),
    (502, "<html>Bad gateway</html>", "again", "in_doubt", "bad_gateway"),
    (503, envelope(503, "Unavailable"), "again", "failed", "unavailable"),
    (504, "", "again", "in_doubt", "gateway_timeout"),
    (400, envelope(400, "Request has exceeded the limit."), "throttled", "throttled", "rate_limited"),
    (400, envelope(400, "timeout while downloading https://x"), "refetch", "failed", "media_fetch"),
    (200, envelope("0001", "network is abnormal", failed=True), "again", "failed", "transient"),
    (200, envelope("0429", "slow down", success=False), "throttled", "throttled", "rate_limited"),
    (200, envelope("0401", "no"), "stop_run", "rejected", "unauthorized"),
    (200, envelope("0003", "bad"), "final", "rejected", "bad_request"),
    (200, envelope(429, "Rate limit exceeded"), "throttled", "throttled", "rate_limited"),
    (200, envelope(500, "Internal"), "again", "failed", "server_error"),
    (
        200,
        {"status": "errored", "choices": [], "error": {"code": "INVALID_ARGUMENT", "message": "bad"}},
        "final",
        "failed",
        "invalid_argument",
    ),
    (
        200,
        {"status": "errored", "choices": [], "error": {"code": "RESOURCE_EXHAUSTED", "message": "quota"}},
        "throttled",
        "throttled",
        "rate_limited",
    ),
    (
        200,
        {"status": "errored", "choices": [], "error": {"code": "Throttling.RateQuota", "message": "x"}},
        "throttled",
        "throttled",
        "rate_limited",
    ),
    (
        200,
        {"status": "errored", "choices": [], "error": {"code": "X", "message": "URL_ROBOTED-ROBOTED_DENIED"}},
        "final",
        "rejected",
        "media_refused",
    ),
    (429, {"error": {"code": "insufficient_quota", "message": "x"}}, "stop_run", "rejected", "no_balance"),
    (429, {"error": {"code": "rate_limit_exceeded"}}, "throttled", "throttled", "rate_limited"),
    (400, {"error": {"code": "DataInspectionFailed"}}, "final", "failed", "blocked"),
    (404, {"error": {"code": "model_not_found"}}, "stop_model", "rejected", "model_not_found"),
    (400, envelope(400, "model not found: gpt-9"), "stop_model", "rejected", "model_not_found"),
    (
        404,
        {"timestamp": 1, "path": "/x", "status": 404, "error": "Not Found"},
        "final",
        "rejected",
        "not_found",
    ),
    (200, {"status": "completed", "choices": [], "usage": None}, "refetch", "in_doubt", "empty_answer"),
    (200, "<html>proxy login</html>", "again", "in_doubt", "unreadable"),
    (200, '{"choices": [{"te', "again", "in_doubt", "unreadable"),
    (200, "[1, 2]", "again", "in_doubt", "unreadable"),
]


@pytest.mark.parametrize(("status", "body", "action", "outcome", "code"), CASES)
def test_reply_means(status, body, action, outcome, code):
    raw = body if isinstance(body, str) else json.dumps(body)
    decision = read_reply(status, {}, raw.encode(), 0.1).decision
    assert (decision.action, decision.outcome, decision.code) == (action, outcome, code)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("soon", None), ("99999999", None), ("nan", None), ("inf", None)],
)
def test_retry_after_is_read_or_left_out(value, seconds):
    raw = json.dumps(envelope(429, "x")).encode()
    assert read_reply(429, {"retry-after": value}, raw, 0.1).decision.retry_after_s == seconds


def test_retry_after_as_a_date_counts_from_now():
    raw = json.dumps(envelope(429, "x")).encode()
    past = read_reply(429, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, raw, 0.1).decision
    assert past.retry_after_s == 0.0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(["code", "msg", "status", "choices", "error", "failed", "success", "usage", "message"])


@given(status=st.integers(200, 599), body=st.dictionaries(KEYS, JSON, max_size=6) | JSON)
def test_any_json_is_a_decision_never_an_exception(status, body):
    reply = read_reply(status, {}, json.dumps(body).encode(), 0.1)
    assert reply.decision.action in {
        "ok",
        "throttled",
        "again",
        "refetch",
        "final",
        "stop_model",
        "stop_run",
    }
    assert reply.decision.message is None or len(reply.decision.message) <= 500


@given(status=st.integers(100, 599), raw=st.binary(max_size=200))
def test_any_bytes_are_a_decision_never_an_exception(status, raw):
    read_reply(status, {}, raw, 0.1)


def ask(server_bytes, *, close=True, timeout_s=0.3, key="sk-x"):
    """The decision on what a raw server on loopback does after it has read a request."""

    async def main():
        asked = asyncio.Event()

        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(server_bytes)
            await writer.drain()
            if not close:
                await asked.wait()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, Gateway(f"http://127.0.0.1:{port}", key, read_timeout_s=timeout_s) as gateway:
            reply = await gateway.post("/vu/chat/completions", b"{}")
            asked.set()
            await asyncio.sleep(0.01)
        return reply

    return asyncio.run(main())


def test_a_lost_reply_is_in_doubt():
    decision = ask(b"").decision
    assert (decision.action, decision.outcome, decision.code) == ("again", "in_doubt", "disconnected")


def test_a_reply_that_breaks_off_is_in_doubt():
    decision = ask(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"cho').decision
    assert (decision.action, decision.outcome, decision.code) == ("again", "in_doubt", "disconnected")


def test_no_reply_in_time_is_in_doubt():
    decision = ask(b"", close=False).decision
    assert (decision.action, decision.outcome, decision.code) == ("again", "in_doubt", "timeout")


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
def test_a_server_that_drips_is_stopped_at_the_timeout_of_the_whole_call(kind):
    """A byte every 50 ms never lets a timeout between two bytes run out."""

    async def main():
        ended, closed = asyncio.Event(), asyncio.Event()

        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 100000\r\n\r\n"
            writer.write(head.encode())
            with contextlib.suppress(ConnectionError):
                for _ in range(200):
                    if ended.is_set():
                        break
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(0.05)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            closed.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, Gateway(url, "sk-x", connect_timeout_s=0.2, read_timeout_s=0.2) as gateway:
            reply = await gateway.post("/vu/chat/completions", b"{}")
            ended.set()
            await closed.wait()
        return reply

    reply = asyncio.run(main())
    assert (reply.decision.outcome, reply.decision.code) == ("in_doubt", "timeout")
    assert reply.latency_s < 5


def compressed(body, encoding):
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nContent-Encoding: {encoding}\r\n\r\n"
    return ask(head.encode() + body, timeout_s=5)


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_answer_is_read(encoding, pack):
    reply = compressed(pack(json.dumps(GOOD).encode()), encoding)
    assert (reply.decision.action, reply.payload) == ("ok", GOOD)


def test_a_compression_bomb_is_not_unpacked():
    tracemalloc.start()
    bomb = gzip.compress(b" " * (200 << 20))
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    reply = compressed(bomb, "gzip")
    assert tracemalloc.get_traced_memory()[1] - before < 100 << 20
    tracemalloc.stop()
    assert (reply.decision.outcome, reply.decision.code) == ("in_doubt", "unreadable")


def test_encodings_upon_encodings_are_refused():
    nested = gzip.compress(gzip.compress(json.dumps(GOOD).encode()))
    assert compressed(nested, "gzip, gzip").decision.code == "unreadable"


@pytest.mark.parametrize("code", ["7" * 5_000, "x" * 1_000_000, {"a": ["b"] * 9_999}])
def test_a_monstrous_code_is_cut_and_never_raises(code):
    raw = json.dumps({"status": "errored", "choices": [], "error": {"code": code}}).encode()
    decision = read_reply(200, {}, raw, 0.1).decision
    assert len(decision.code) <= 64


def test_a_request_to_a_closed_port_was_never_sent():
    async def main():
        async with Gateway("http://127.0.0.1:9", "sk-x") as gateway:
            return await gateway.post("/vu/chat/completions", b"{}")

    decision = asyncio.run(main()).decision
    assert (decision.action, decision.outcome, decision.code) == ("again", "failed", "unreachable")


def test_an_answer_that_ends_in_half_a_character_is_an_answer():
    raw = rb'{"choices": [{"text": "a cat \ud83d"}], "usage": {"input_tokens": 1, "output_tokens": 1}}'
    reply = read_reply(200, {}, raw, 0.1)
    assert reply.decision.action == "ok"
    assert reply.payload["choices"] == [{"text": "a cat ?"}]


def test_a_message_quotes_no_signature_of_a_url():
    told = "failed to download https://u:pw@b.example/x.jpg?X-Amz-Signature=5ec4e7, try again"
    body = json.dumps(envelope(400, told)).encode()
    message = read_reply(400, {}, body, 0.1).decision.message
    assert message == "failed to download https://b.example/x.jpg?... try again"


def test_an_answer_that_broke_off_is_not_quoted():
    message = read_reply(200, {}, b'{"choices": [{"text": "the patient has', 0.1).decision.message
    assert message == "the reply is not a whole JSON object (38 bytes)"


KEY = "sk-9fQ2/xL7+vB3cD8mN4pR6tW1yZ"
SIGNED = (
    "https://me:hUnter2hUnter@cdn.example.com/cat.jpg?w=300&label=golden_cat&auth_key=7hY3qP9wZ2eR8tU1iO6a"
)


def said(body, status=200, urls=(SIGNED,)):
    """What is read of a reply to a request with this key and this URL."""
    return read_reply(status, {}, json.dumps(body).encode(), 0.1, Redaction(KEY), urls)


def test_a_message_is_redacted_before_it_is_cut():
    message = said(envelope(400, "x" * 485 + " " + KEY), 400).decision.message
    assert message == "x" * 485 + " [the key]"


def test_a_message_holds_neither_the_secrets_of_the_urls_that_were_sent_nor_pieces_of_them():
    told = r"cannot fetch https:\/\/cdn.example.com/cat.jpg with 7hY3qP9wZ2 as %68%55nter2hUnter"
    message = said(envelope(400, told), 400).decision.message
    assert message == r"cannot fetch https:\/\/cdn.example.com/cat.jpg with [hidden] as [hidden]"


def test_an_answer_loses_the_key_and_echoes_of_the_url_but_no_word_of_it():
    answer = f"A golden_cat, see {SIGNED} and {KEY}"
    reply = said({**GOOD, "choices": [{"text": answer}]})
    text = reply.payload["choices"][0]["text"]
    assert text == (
        "A golden_cat, see https://[hidden]cdn.example.com/cat.jpg?w=300&[hidden]&[hidden] and [the key]"
    )


def test_the_words_of_the_contract_are_never_taken_for_secrets():
    url = "https://cdn.example.com/a.jpg?state=completed&kind_of=choices&t=bad_request&x=server_error"
    assert said(GOOD, urls=(url,)).decision.action == "ok"
    decision = said(envelope(500, f"no {url} completed"), 500, urls=(url,)).decision
    assert (decision.action, decision.code) == ("again", "server_error")


def test_a_plain_answer_is_the_reply_itself():
    body = {**GOOD, "choices": [{"text": "50% a cat\n&", "finish_reason": "stop"}]}
    assert said(body).payload == body


def test_a_reply_of_a_million_texts_is_read_in_time():
    body = {**GOOD, "choices": [{"text": "%41"}] * 300_000}
    began = time.process_time()
    reply = said(body)
    assert time.process_time() - began < 5
    assert reply.payload["choices"][0]["text"] == "%41"


@pytest.mark.parametrize("message", ["x" * 30_000_000, ["x" * 30_000_000], {"a": ["b"] * 3_000_000}])
def test_a_monstrous_message_is_cut_in_time(message):
    began = time.process_time()
    decision = said(envelope(400, message), 400).decision
    assert len(decision.message) <= 500
    assert time.process_time() - began < 5


def test_a_refused_key_is_not_quoted():
    body = json.dumps(envelope(401, "Incorrect API key provided: sk-x")).encode()
    head = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert ask(head + body).decision.message == "Incorrect API key provided: [the key]"
