"""What a gateway's documents leave open is found out, and jobs go by it (docs/gateways.md)."""

import json
from decimal import Decimal

import pytest
import yaml

from tests.support.gateways import KEY, mavi, one, remote_sandbox, rows, spent, write_job

GEMINI, GPT, NOVA = "gemini:gemini-2.5-flash-lite", "gpt:gpt-4o-mini", "nova:us.amazon.nova-lite-v1:0"


def probe(folder, gateway, *models, **env):
    return mavi("doctor", "--probe", *models, "--gateway", gateway.base_url, "--yes", cwd=folder, **env)


@pytest.fixture
def ask(tmp_path):
    """Run a job with `gateway: gateway.yaml` over one picture."""

    def ask(*arguments, **fields):
        from tests.support.media_files import image_file

        image_file(tmp_path / "cat.png", size=(64, 48))
        (tmp_path / "items.csv").write_text("item_id,media_url\na,cat.png\n")
        job = write_job(
            tmp_path,
            **{
                "manifest": "items.csv",
                "prompts": {"p": "What is it?"},
                "models": [GPT],
                "gateway": "gateway.yaml",
                "output": "out",
                **fields,
            },
        )
        return mavi(*(arguments or ("run",)), job, "--json")

    return ask


def test_a_gateway_of_another_spelling_is_found_out_and_a_job_goes_by_it(tmp_path, ask):
    unknowns = {"base64": {"gpt:*": "raw"}, "nova_url": "object"}
    with remote_sandbox(unknowns=unknowns, max_body_bytes=2_000_000) as gateway:
        (tmp_path / "gateway.yaml").write_text(json.dumps({"base_url": gateway.base_url}))
        refused = ask()
        assert (refused.code, refused.json["failed"]) == (3, 1)
        assert "mavi doctor --probe" in refused.err

        found = probe(tmp_path, gateway, GPT, NOVA)
        assert found.code == 0, found.err
        assert "for at most $" in found.err
        settings = yaml.safe_load((tmp_path / "gateway.yaml").read_text())
        assert settings["base64"] == {"gpt": "raw", "nova": "data_url"}
        assert settings["nova_url"] == "object"

        answered = ask()
        assert (answered.code, answered.json["answered"]) == (0, 1)
        plan = ask("plan")
        assert f"gateway.yaml (probed {settings['probed']['at'][:10]})" in "".join(plan.json["warnings"])


def test_the_price_is_asked_first_and_nothing_is_sent_without_an_answer(tmp_path):
    with remote_sandbox() as gateway:
        ended = mavi("doctor", "--probe", GPT, "--gateway", gateway.base_url, cwd=tmp_path)
        assert (ended.code, gateway.bill()["calls"]) == (2, 0)
    assert "for at most $0." in ended.err
    assert "give --yes" in ended.err
    assert not (tmp_path / "gateway.yaml").exists()


def test_a_key_goes_to_no_host_that_is_not_trusted_and_into_no_file(tmp_path):
    ended = mavi("doctor", "--probe", "--gateway", "https://else.example/v2", "--yes", cwd=tmp_path)
    assert ended.code == 2
    assert "is not sent to else.example" in ended.err
    with remote_sandbox(max_body_bytes=2_000_000) as gateway:
        ended = probe(tmp_path, gateway, GPT)
    assert KEY not in ended.out + ended.err + (tmp_path / "gateway.yaml").read_text()


@pytest.mark.parametrize("shape", ["openai", "mavi"])
def test_answers_are_streamed_where_the_probe_knows_the_shape(tmp_path, ask, shape):
    unknowns = {"stream": shape, "before_token_s": 0.01}
    with remote_sandbox(unknowns=unknowns, max_body_bytes=2_000_000) as gateway:
        assert probe(tmp_path, gateway, GEMINI, GPT).code == 0
        gateway.reset()
        ended = ask(models=[GEMINI, GPT], params={"stream": True})
        bill = Decimal(gateway.bill()["total_usd"])
    assert (ended.code, ended.json["answered"]) == (0, 2), ended.err
    found = rows(tmp_path / "out")
    assert all(0.01 <= row["first_token_s"] <= row["latency_s"] for row in found)
    assert all("simulated" in row["answer"] for row in found)
    assert spent(tmp_path / "out", "attempts") == bill > 0


def test_a_stream_without_usage_is_in_doubt_and_said_so(tmp_path, ask):
    unknowns = {"stream": "openai", "stream_usage": "missing"}
    with remote_sandbox(unknowns=unknowns, max_body_bytes=2_000_000) as gateway:
        probe(tmp_path, gateway, GPT)
        gateway.reset()
        ended = ask(params={"stream": True})
        bill = Decimal(gateway.bill()["total_usd"])
    assert ended.json["answered"] == 1
    assert one(tmp_path / "out", "results", "cost_usd") is None
    assert 0 < bill <= Decimal(ended.json["exposure_usd"])
    assert "counted no tokens" in ended.err


def test_a_stream_of_unknown_shape_is_refused_in_words(tmp_path, ask):
    (tmp_path / "gateway.yaml").write_text("name: sandbox\n")
    ended = ask(params={"stream": True})
    assert ended.code == 2
    assert "params.stream: True must be false: the gateway documents no form of streams" in ended.err
    with remote_sandbox(max_body_bytes=2_000_000) as gateway:
        probe(tmp_path, gateway, GPT)
        ended = ask(params={"stream": True})
    assert ended.code == 2
    assert "by gateway.yaml (probed 20" in ended.err
    assert "gpt models do not stream" in ended.err


def test_a_plan_says_what_the_gateway_does_not_honour(tmp_path, ask):
    with remote_sandbox(unknowns={"n": "ignored"}, max_body_bytes=2_000_000) as gateway:
        probe(tmp_path, gateway, GPT)
        plan = ask("plan", params={"n": 3})
    assert any("gpt:gpt-4o-mini: n was ignored when it was probed" in line for line in plan.json["warnings"])


def test_a_gateway_file_that_is_not_there_is_a_problem_with_its_line(tmp_path, ask):
    ended = ask()
    assert ended.code == 2
    assert "job.yaml:" in ended.err
    assert (
        "gateway: 'gateway.yaml' is not there; `mavi doctor --probe --to gateway.yaml` makes one" in ended.err
    )


def test_the_key_may_stand_in_the_env_file_as_for_a_run(tmp_path):
    (tmp_path / ".env").write_text(f"OTHER_API_KEY={KEY}\n")
    with remote_sandbox(max_body_bytes=2_000_000) as gateway:
        key = ("--api-key-env", "OTHER_API_KEY")
        ended = mavi("doctor", "--probe", GPT, "--gateway", gateway.base_url, *key, "--yes", cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert yaml.safe_load((tmp_path / "gateway.yaml").read_text())["api_key_env"] == "OTHER_API_KEY"
