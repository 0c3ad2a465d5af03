"""The benchmark server answers, limits and counts, however a request is cut."""

import json
import re
import socket

import httpx
import pytest

from tests.bench.server import serving
from tests.support.sandbox_cases import KEY, gemini, gpt, nova, send, t, user


@pytest.fixture(scope="module")
def client():
    with httpx.Client(headers={"Authorization": KEY}, timeout=10) as made:
        yield made


def test_the_benchmark_server_answers_limits_and_counts(client):
    with serving(
        "--rate", 1, "--burst", 2, "--retry-after", 7, "--models", "nova:x;rate=1000", "gpt:y;down=1"
    ) as bench:
        large = gemini(messages=user(t("x" * 400_000)))
        replies = [send(client, bench, "/vu", large) for _ in range(3)]
        nova_reply = send(client, bench, "/vu", nova(model="nova:x")).json()
        down = send(client, bench, "/iu", gpt(model="gpt:y"))
        stats = bench.stats()
        bench.reset()
        assert bench.stats()["calls"] == 0
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert replies[2].headers["Retry-After"] == "7"
    assert replies[0].json()["usage"] == {"input_tokens": 1000, "output_tokens": 20, "total_tokens": 1020}
    assert nova_reply["usage"]["output_token"] == 20
    assert down.status_code == 503
    assert (stats["calls"], stats["billed"], stats["throttled"], stats["max_per_s"]) == (5, 3, 1, 5)
    assert (stats["distinct_bodies"], stats["duplicate_bodies"], stats["billed_again"]) == (3, 1, 1)


@pytest.mark.parametrize("cuts", [1, 7, 64])
def test_the_benchmark_server_reads_a_request_however_it_is_cut(cuts):
    body = json.dumps(gemini()).encode()
    head = f"POST /vu/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    both = (head + body) * 2
    with serving() as bench:
        host, port = re.fullmatch(r"http://([\d.]+):(\d+)", bench.url).groups()
        with socket.create_connection((host, int(port))) as raw:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for position in range(0, len(both), cuts):
                raw.sendall(both[position : position + cuts])
            received = b""
            while received.count(b'"status": "completed"') < 2:
                received += raw.recv(65536)
        assert bench.stats()["billed_again"] == 1
