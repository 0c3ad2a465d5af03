"""An answer that is made to be hard to check is paid once, recorded with its reason, and stops nothing."""

import json
import signal
from decimal import Decimal

from tests.support.gateways import ended, mavi, one, rows, says, start, url_job, wait_for

USAGE = {"prompt_tokens": 1000, "completion_tokens": 10}
NODE = {"properties": {"c": {"$ref": "#/$defs/node"}}}
TREE = {  # 3**60 ways through 60 levels
    "type": "object",
    "$ref": "#/$defs/node",
    "$defs": {"node": {"anyOf": [{**NODE, "required": [name]} for name in "cde"]}},
}
NESTED = '{"c":' * 60 + "{}" + "}" * 60


def reply(text):
    return json.dumps({"choices": [{"message": {"content": text}}], "usage": USAGE}).encode()


def test_answer_that_cannot_be_checked_in_bounded_time_is_recorded_as_invalid_and_not_paid_again(tmp_path):
    with says(reply(NESTED)) as base_url:
        job = url_job(tmp_path, 3, base_url, answer_schema=TREE, repair=False, gateway={"base_url": base_url})
        done = mavi("run", "--json", "--quiet", job)
        again = mavi("run", "--json", "--quiet", job)
    assert (done.code, done.json["invalid"]) == (3, 3), done.err
    for row in rows(tmp_path / "out"):
        assert (row["answer"], row["error_code"]) == (NESTED, "invalid_answer")
        assert row["error_message"] == "the answer takes too much work to check against answer_schema"
        assert row["cost_usd"] == Decimal("0.000325")  # 1000*0.30/1e6 + 10*2.50/1e6
    assert again.json["already_answered"] == 3


def test_answers_being_checked_are_kept_when_the_run_is_stopped_at_once(tmp_path):
    with says(reply(NESTED)) as base_url:
        job = url_job(
            tmp_path,
            6,
            base_url,
            answer_schema=TREE,
            repair=False,
            gateway={"base_url": base_url},
            limits={"*": {"concurrency": 6}},
        )
        process = start("run", "--json", "--quiet", job)
        journal = tmp_path / "out" / "_journal"
        wait_for(lambda: sum(path.read_text().count('"t":"i"') for path in journal.glob("*.jsonl")) >= 6)
        process.send_signal(signal.SIGINT)
        wait_for(lambda: sum(path.read_text().count('"t":"o"') for path in journal.glob("*.jsonl")) >= 1)
        process.send_signal(signal.SIGINT)
        ended(process)
        mavi("run", "--json", "--quiet", job)
    out = tmp_path / "out"
    assert {row["answer"] for row in rows(out)} == {NESTED}
    assert (one(out, "results", "count(*)"), one(out, "attempts", "count(*)")) == (6, 6)
