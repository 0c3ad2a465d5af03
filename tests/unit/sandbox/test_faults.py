"""The embedded gateway under strain: faults, limits, starting and stopping."""

import ast
import base64
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest

from mavi_tasks import sandbox as package
from mavi_tasks.sandbox import FAULT_KINDS, FaultRule, Limit, Sandbox, SandboxConfig, UnknownFault, serve
from mavi_tasks.sandbox.faults import FaultInjector
from mavi_tasks.sandbox.limits import ModelLimiter
from tests.support.sandbox_cases import JPEG, KEY, file, gemini, gpt, qwen, send, t, user


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(latency_s=0, hang_s=0.05, huge_body_bytes=1 << 20) as running:
        yield running


@pytest.fixture(autouse=True)
def fresh(sandbox):
    sandbox.reset()


@pytest.fixture(scope="module")
def client():
    with httpx.Client(headers={"Authorization": KEY}, timeout=10) as made:
        yield made


# -- faults


def code(status, text=""):
    """The documented envelope of that status, with a text in its message."""

    def check(reply):
        assert reply.status_code == status
        assert reply.json()["code"] == status
        assert reply.json()["data"] is None
        assert text in reply.json()["msg"]

    return check


def spring(status):
    def check(reply):
        assert (reply.status_code, reply.json()["status"]) == (status, status)
        assert reply.json().keys() == {"timestamp", "path", "status", "error", "requestId"}

    return check


def errored(name, text=""):
    def check(reply):
        assert (reply.status_code, reply.json()["status"], reply.json()["choices"]) == (200, "errored", [])
        assert reply.json()["error"]["code"] == name
        assert text in reply.json()["error"]["message"]

    return check


def retry_after_seconds(reply):
    code(429)(reply)
    assert reply.headers["Retry-After"] == "1"


def retry_after_date(reply):
    code(429)(reply)
    assert parsedate_to_datetime(reply.headers["Retry-After"]).tzinfo is not None


def plain_429(reply):
    code(429, "Rate limit exceeded")(reply)
    assert "Retry-After" not in reply.headers


def html(status):
    def check(reply):
        assert (reply.status_code, reply.headers["Content-Type"][:9]) == (status, "text/html")

    return check


def failed_0001(reply):
    assert (reply.status_code, reply.json()["code"], reply.json()["failed"]) == (200, "0001", True)


def empty_text(reply):
    assert (reply.json()["choices"][0]["text"], reply.json()["usage"]) == ("", None)


def empty_choices(reply):
    assert (reply.status_code, reply.json()["choices"]) == (200, [])


def no_usage(reply):
    assert reply.json()["choices"][0]["text"]
    assert "usage" not in reply.json()


def wrong_content_type(reply):
    assert reply.headers["Content-Type"].startswith("text/plain")
    assert reply.json()["status"] == "completed"


def huge(reply):
    assert len(reply.content) > 900_000
    assert reply.json()["status"] == "completed"


def invalid_utf8(reply):
    with pytest.raises(UnicodeDecodeError):
        reply.content.decode()


# kind -> what the client sees (an exception's class, or a check of the reply), and whether it was charged
EXPECTED = {
    "throttle": (plain_429, 0),
    "throttle_seconds": (retry_after_seconds, 0),
    "throttle_date": (retry_after_date, 0),
    "throttle_400": (code(400, "exceeded the limit"), 0),
    "resource_exhausted": (errored("RESOURCE_EXHAUSTED"), 0),
    "throttling": (errored("Throttling.RateQuota"), 0),
    "insufficient_quota": (code(429, "insufficient_quota"), 0),
    "http_400": (code(400), 0),
    "http_401": (code(401), 0),
    "http_402": (code(402), 0),
    "http_403": (code(403), 0),
    "http_409": (code(409), 0),
    "http_500": (code(500), 0),
    "http_502": (spring(502), 0),
    "http_503": (spring(503), 0),
    "http_504": (spring(504), 0),
    "gateway_404": (spring(404), 0),
    "model_not_found": (code(400, "model not found"), 0),
    "model_retired": (code(400, "retired"), 0),
    "download_timeout": (code(400, "timeout while downloading"), 0),
    "errored_invalid": (errored("INVALID_ARGUMENT"), 0),
    "errored_fetch": (errored("INVALID_ARGUMENT", "Cannot fetch"), 0),
    "errored_robots": (errored("INVALID_ARGUMENT", "ROBOTED"), 0),
    "errored_filter": (errored("DataInspectionFailed"), 0),
    "failed_0001": (failed_0001, 0),
    "empty_text": (empty_text, 0),
    "empty_choices": (empty_choices, 0),
    "empty_text_billed": (empty_text, 1),
    "empty_choices_billed": (empty_choices, 1),
    "html": (html(200), 0),
    "html_502": (html(502), 0),
    "reset": (httpx.ReadError, 0),
    "hang": (httpx.ReadError, 0),
    "reset_after": (httpx.ReadError, 1),
    "hang_after": (httpx.ReadError, 1),
    "truncated": (httpx.RemoteProtocolError, 1),
    "no_usage": (no_usage, 1),
    "wrong_content_type": (wrong_content_type, 1),
    "huge": (huge, 1),
    "invalid_utf8": (invalid_utf8, 1),
}


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_a_fault_strikes_once_and_is_charged_only_when_the_completion_ran(client, sandbox, kind):
    seen, billed = EXPECTED[kind]
    sandbox.faults(script=[kind])
    if isinstance(seen, type):
        with pytest.raises(seen):
            send(client, sandbox, "/vu", gemini())
    else:
        seen(send(client, sandbox, "/vu", gemini()))
    assert sandbox.bill()["billed_calls"] == billed
    assert sandbox.bill()["faults"] == {kind: 1}
    assert send(client, sandbox, "/vu", gemini()).json()["status"] == "completed"


def test_a_reply_lost_after_its_charge_shows_as_paid_twice(client, sandbox):
    sandbox.faults(script=["reset_after"])
    with pytest.raises(httpx.ReadError):
        send(client, sandbox, "/vu", gemini())
    send(client, sandbox, "/vu", gemini())
    bodies = sandbox.bill()["bodies"]
    assert (bodies["distinct"], bodies["billed_again"], bodies["extra_payments"]) == (1, 1, 1)


def test_a_script_names_the_next_requests_and_a_refused_one_uses_none_up(client, sandbox):
    sandbox.faults(script=["http_500", "ok", "http_503"])
    assert send(client, sandbox, "/vu", gemini(n=0)).status_code == 400
    assert [send(client, sandbox, "/vu", gemini()).status_code for _ in range(4)] == [500, 200, 503, 200]


def test_rules_strike_the_models_of_their_glob_as_often_as_told():
    board = FaultInjector([FaultRule("http_500", model="gemini:*", times=2)])
    assert [board.draw(model) for model in ("gpt:o3", "gemini:a", "gemini:b", "gemini:a")] == [
        None,
        "http_500",
        "http_500",
        None,
    ]


def test_chances_are_met_and_repeat_for_a_seed():
    def drawn(seed):
        board = FaultInjector({"http_500": 0.05, "reset": 0.10}, seed=seed)
        return [board.draw("m") for _ in range(10_000)]

    kinds = drawn(1)
    assert kinds == drawn(1) != drawn(2)
    assert 430 < kinds.count("http_500") < 570
    assert 900 < kinds.count("reset") < 1100


def test_the_control_endpoint_sets_tells_and_clears_the_faults(client, sandbox):
    url = f"{sandbox.origin}/_sandbox/faults"
    settings = client.post(
        url, json={"rules": [{"kind": "http_500", "times": 1}], "script": ["ok"], "seed": 3}
    ).json()
    assert settings["rules"] == [{"kind": "http_500", "probability": 1.0, "model": "*", "left": 1}]
    assert client.get(url).json() == settings
    assert [send(client, sandbox, "/vu", gemini()).status_code for _ in range(3)] == [200, 500, 200]
    assert client.post(url, json={}).json()["rules"] == []
    assert client.post(f"{sandbox.origin}/_sandbox/reset").json()["calls"] == 0


@pytest.mark.parametrize(
    "settings",
    [
        b"{",
        b"[]",
        b'{"fault": 1}',
        b'{"script": ["nothing"]}',
        b'{"script": 1}',
        b'{"rules": [{"sort": "reset"}]}',
        b'{"probabilities": {"reset": "often"}}',
        b'{"probabilities": []}',
    ],
)
def test_unreadable_faults_are_refused_and_change_nothing(client, sandbox, settings):
    reply = client.post(f"{sandbox.origin}/_sandbox/faults", content=settings)
    assert (reply.status_code, reply.json()["code"]) == (400, 400)
    assert send(client, sandbox, "/vu", gemini()).status_code == 200


def test_an_unknown_fault_in_the_config_names_the_known_ones():
    with pytest.raises(UnknownFault, match="fault 'nope' is unknown; known: ok, "):
        Sandbox(script=["nope"]).start()


# -- limits and latency


def test_a_model_takes_its_burst_and_then_its_rate():
    limiter = ModelLimiter(Limit(requests_per_s=10, burst=3))
    assert [limiter.acquire(1, 0.0) for _ in range(4)] == [None, None, None, pytest.approx(0.1)]
    assert limiter.acquire(1, 0.05) == pytest.approx(0.05)
    assert limiter.acquire(1, 0.1) is None
    assert [limiter.acquire(1, 60.0) for _ in range(4)].count(None) == 3


def test_tokens_per_minute_are_counted_and_a_giant_waits_for_a_full_bucket():
    limiter = ModelLimiter(Limit(tokens_per_min=600))
    assert limiter.acquire(500, 0.0) is None
    assert limiter.acquire(200, 0.0) == pytest.approx(10.0)
    assert limiter.acquire(1000, 49.0) == pytest.approx(1.0)
    assert limiter.acquire(1000, 50.0) is None


def test_no_more_are_in_flight_than_allowed():
    limiter = ModelLimiter(Limit(concurrency=1))
    assert limiter.acquire(1, 0.0) is None
    assert limiter.acquire(1, 0.0) is not None
    limiter.release()
    assert limiter.acquire(1, 0.0) is None


@pytest.mark.parametrize(("retry_after", "header"), [(None, None), ("seconds", "10"), ("date", "GMT")])
def test_over_the_limit_is_429_with_the_retry_after_that_is_configured(client, retry_after, header):
    limits = {"gemini:*": Limit(requests_per_s=0.1, retry_after=retry_after)}
    with Sandbox(latency_s=0, limits=limits) as limited:
        replies = [send(client, limited, "/vu", gemini()) for _ in range(2)]
        other = send(client, limited, "/vu", qwen())
        bill = limited.bill()
    assert [reply.status_code for reply in replies] == [200, 429]
    assert other.status_code == 200
    assert replies[1].json() == {"code": 429, "msg": "Rate limit exceeded", "data": None}
    assert (replies[1].headers.get("Retry-After") or "").endswith(header or "")
    assert ("Retry-After" in replies[1].headers) == (header is not None)
    assert (
        bill["throttled"],
        bill["billed_calls"],
        bill["models"]["gemini:gemini-2.5-flash"]["throttled"],
    ) == (1, 2, 1)


def test_the_bill_tells_the_most_in_flight_and_in_a_second(client):
    with (
        Sandbox(latency_s=0.05, limits={"*": Limit(concurrency=3)}) as limited,
        ThreadPoolExecutor(6) as pool,
    ):
        codes = sorted(pool.map(lambda _: send(client, limited, "/iu", gpt()).status_code, range(6)))
        model = limited.bill()["models"]["gpt:gpt-4o"]
    assert codes.count(200) >= 3
    assert 3 <= model["in_flight_max"] <= 6
    assert model["max_in_1s"] == model["max_in_60s"] == 6


def test_latency_is_lifelike_by_default_and_settable_by_model():
    lifelike = [SandboxConfig().latency_of("gpt:gpt-4o", str(number)) for number in range(50)]
    assert 0.02 < min(lifelike) < max(lifelike) < 0.25
    by_model = SandboxConfig(latency_s={"gpt:*": 1.5})
    assert (by_model.latency_of("gpt:gpt-4o", ""), by_model.latency_of("nova:x", "")) == (1.5, 0.0)


# -- starting, stopping, plugging in


def test_another_answerer_may_stand_behind_the_same_contract(client):
    class Counter:
        def answer(self, question, media):
            return f"{question.prompt} {len(media)} {media[0].width}x{media[0].height} {len(media[0].data)}"

    with Sandbox(latency_s=0, answerer=Counter()) as own:
        reply = send(client, own, "/vu", {**gemini(), "messages": user(t("Size?"), file(JPEG))}).json()
    assert reply["choices"][0]["text"] == f"Size? 1 64x48 {len(base64.b64decode(JPEG))}"


def test_it_starts_and_stops_again_and_its_bill_outlives_it(client):
    running = Sandbox(latency_s=0)
    with pytest.raises(RuntimeError, match="not running"):
        _ = running.base_url
    for _ in range(2):
        with running:
            send(client, running, "/vu", gemini())
            with pytest.raises(RuntimeError, match="already running"):
                running.start()
        assert running.bill()["billed_calls"] == 1
    running.stop()


def test_stopping_does_not_wait_for_a_request_that_hangs():
    hanging = Sandbox(latency_s=0, script=["hang"], hang_s=600).start()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(
            httpx.post,
            f"{hanging.base_url}/vu/chat/completions",
            json=gemini(),
            headers={"Authorization": KEY},
            timeout=30,
        )
        while not hanging.bill()["faults"]:
            time.sleep(0.005)
        hanging.stop()
        assert isinstance(waiting.exception(10), httpx.TransportError)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_blocking_server_ends_cleanly_on_a_signal(number):
    call = "serve(port=0, latency_s=0, announce=lambda url: print(url, flush=True))"
    command = [sys.executable, "-W", "error", "-c", f"from mavi_tasks.sandbox import serve; {call}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        reply = httpx.post(f"{url}/vu/chat/completions", json=gemini(), headers={"Authorization": KEY})
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""
    assert reply.status_code == 200


def test_a_taken_port_is_an_oserror():
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OSError, match="address already in use"),
    ):
        serve(port=taken.getsockname()[1])


def test_the_sandbox_imports_nothing_of_the_rest():
    for path in Path(package.__file__).parent.rglob("*.py"):
        depth = 1 if path.parent.name == "sandbox" else 2
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level <= depth, path
                assert not (node.module or "").startswith("mavi_tasks"), path
            if isinstance(node, ast.Import):
                assert not any(name.name.startswith("mavi_tasks") for name in node.names), path
