"""Everything that can go wrong on the wire, at once: nothing lost, every double payment reported."""

import json
import time
from decimal import Decimal

import pytest

from tests.support.gateways import ALL_FAMILIES, mavi, one, remote_sandbox, rows, spent, url_job

COUNT = 1000

# Faults that a retry solves or that end one request; faults that end a model or the run are below.
THROTTLED = ("throttle", "throttle_400", "resource_exhausted", "throttling", "throttle_seconds")
UNBILLED = (
    "http_500", "http_502", "http_503", "http_504", "reset", "html", "html_502", "failed_0001",
    "empty_text", "empty_choices", "errored_fetch", "download_timeout",
)  # fmt: skip
FINAL = ("errored_invalid", "errored_robots", "errored_filter", "http_400", "http_409", "gateway_404")
FINAL_CODES = {"bad_request", "invalid_argument", "media_refused", "blocked", "conflict", "not_found"}
REFETCHED = {"media_fetch", "empty_answer"}  # retried once
# billed, and the reply is incomplete or empty
LOST_IN_TRANSIT = ("reset_after", "truncated", "invalid_utf8", "empty_text_billed", "empty_choices_billed")
HUNG = ("hang", "hang_after")  # no reply in time; the latter is billed
HARMLESS = ("wrong_content_type", "huge")  # billed; the answer is still valid


def rules_for(kinds, probability, times=None):
    return [{"kind": kind, "probability": probability / len(kinds), "times": times} for kind in kinds]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One call in ten fails in one of these ways."""
    folder = tmp_path_factory.mktemp("faults")
    with remote_sandbox() as gateway:
        gateway.faults(
            rules=[
                *rules_for(THROTTLED, 0.02, times=1),  # each holds its model for a second
                *rules_for(UNBILLED, 0.05),
                *rules_for(FINAL, 0.015),
                *rules_for(LOST_IN_TRANSIT, 0.015),
                *rules_for(HARMLESS, 0.005),
                *rules_for(HUNG, 0.01, times=2),
            ],
            seed=7,
        )
        job = url_job(
            folder,
            COUNT // 4,
            gateway.base_url,
            models=ALL_FAMILIES,
            prompts={"p": "{{ item_id }}?"},
            gateway={"name": "sandbox", "base_url": gateway.base_url, "timeout_s": 3},
        )
        ended = mavi("run", job, "--json", "--quiet")
        yield folder / "out", ended, gateway.bill(bodies=True)


def test_no_request_is_lost(run):
    out, ended, _ = run
    assert ended.code == 3, ended.err
    counts = {
        row["status"]: row["n"] for row in rows(out, columns="status, count(*) n", where="true group by 1")
    }
    assert sum(counts.values()) == one(out, "results", "count(distinct request_key)") == COUNT
    assert counts == {"answered": ended.json["answered"], "failed": ended.json["failed"]}


def test_every_failure_that_was_not_billed_was_tried_again_and_final_ones_say_why(run):
    out, _, bill = run
    failed = rows(out, where="status = 'failed'")
    twice = [row for row in failed if row["error_code"] in REFETCHED]  # struck twice by chance
    assert all(row["attempts"] >= 2 for row in twice)
    assert {row["error_code"] for row in failed} - REFETCHED <= FINAL_CODES
    assert all(row["error_message"] for row in failed)
    assert len(failed) - len(twice) == sum(bill["faults"].get(kind, 0) for kind in FINAL)
    codes = {row["error_code"] for row in rows(out, "attempts", where="outcome <> 'answered'")}
    assert {"rate_limited", "server_error", "bad_gateway", "unavailable", "gateway_timeout", "disconnected",
            "unreadable", "timeout", "transient", "empty_answer", "media_fetch"} <= codes  # fmt: skip


def test_money_adds_up_and_what_was_paid_twice_is_told(run):
    out, _, bill = run
    in_doubt = "outcome = 'in_doubt'"
    lost_replies = sum(bill["faults"].get(kind, 0) for kind in (*LOST_IN_TRANSIT, "hang_after"))
    assert lost_replies > 0
    lost = Decimal(bill["total_usd"]) - spent(out, "attempts")
    assert 0 < lost <= one(out, "attempts", "sum(exposure_usd)", in_doubt)
    assert spent(out, "results") == spent(out, "attempts")
    # a body was paid more than once only where a reply was lost, and each such loss is an attempt in doubt
    again = one(out, "attempts", "count(*)", in_doubt)
    assert bill["bodies"]["extra_payments"] <= lost_replies <= again
    doubted = {row["request_key"] for row in rows(out, "attempts", where=in_doubt)}
    assert bill["bodies"]["billed_again"] <= len(doubted)


def test_attempts_hold_every_call_that_the_gateway_saw(run):
    out, _, bill = run
    assert one(out, "attempts", "count(*)") == bill["calls"]
    twice = rows(out, "attempts", "request_key", "outcome = 'answered' group by 1 having count(*) > 1")
    assert twice == []
    counted = one(out, "results", "sum(attempts)")
    assert counted == bill["calls"]


def test_a_refused_request_fails_at_its_deadline(tmp_path):
    """2 s, whatever number of attempts is left."""
    with remote_sandbox() as gateway:
        gateway.faults(rules=[{"kind": "throttling", "probability": 1.0}], seed=1)
        job = url_job(
            tmp_path,
            1,
            gateway.base_url,
            models=["gemini:gemini-2.5-flash"],
            prompts={"p": "{{ item_id }}?"},
            retry={"attempts": 50, "deadline_s": 2},
        )
        began = time.monotonic()
        ended = mavi("run", job, "--json", "--quiet")
        took_s = time.monotonic() - began
    assert (ended.code, json.loads(ended.out)["failed"]) == (3, 1)
    assert took_s < 20
