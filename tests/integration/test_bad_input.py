"""Whatever is wrong with what was given: words that say what to do, the right status, and nothing sent."""

import json
import socket

import pytest
from PIL import Image

from mavi_tasks.cli import main
from tests.support.gateways import KEY, Ended, mavi, remote_sandbox, says

MODEL = "gemini:gemini-2.5-flash"
ROWS = "item_id,media_url\na,https://media.example/a.jpg\nb,https://media.example/b.jpg\n"


@pytest.fixture(scope="module")
def sandbox():
    with remote_sandbox() as gateway:
        yield gateway


@pytest.fixture
def gateway(sandbox):
    sandbox.reset()
    return sandbox


@pytest.fixture
def call(tmp_path, gateway, monkeypatch, capsys):
    """Runs a command in an empty folder with a good manifest, a good key, and a gateway that answers."""
    monkeypatch.chdir(tmp_path)
    for name in ("MEMORIES_API_KEY", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MAVI_API_KEY", KEY)
    monkeypatch.setenv("MAVI_BASE_URL", gateway.base_url)
    (tmp_path / "items.csv").write_text(ROWS)

    def run(*argv):
        try:
            code = main.main([str(word) for word in argv])
        except SystemExit as stopped:  # argparse
            code = stopped.code
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return run


def refused(done, gateway, *words, code=2, sent=0):
    """It ended with words, the status, no traceback, the key unseen, and so many calls."""
    told = " ".join((done.err + done.out).split())
    assert done.code == code, told
    for word in words:
        assert word in told, told
    assert "Traceback" not in told
    assert KEY not in told
    assert gateway.bill()["calls"] == sent
    return told


def job_text(**fields):
    given = {"manifest": "items.csv", "prompts": {"p": "What?"}, "models": [MODEL], "output": "out", **fields}
    return json.dumps({name: value for name, value in given.items() if value is not None})


# -- the command line

MANIFEST = ("run", "items.csv", "--model", MODEL, "--prompt", "What?", "--out", "out")
COMMAND_LINES = {
    "no job": (("run",), ["JOB"]),
    "no such command": (("rum", "job.yaml"), ["rum"]),
    "no such option": ((*MANIFEST, "--modle", "x"), ["--modle"]),
    "no such file": (("run", "nowhere.csv", "--model", MODEL, "--prompt", "?"), ["nowhere.csv"]),
    "no such job": (("run", "nowhere.yaml"), ["nowhere.yaml"]),
    "no model": (("run", "items.csv", "--prompt", "?"), ["--model"]),
    "no prompt": (("run", "items.csv", "--model", MODEL), ["--prompt"]),
    "limit 0": ((*MANIFEST, "--limit", "0"), ["--limit", "0"]),
    "limit -1": ((*MANIFEST, "--limit", "-1"), ["--limit"]),
    "limit x": ((*MANIFEST, "--limit", "x"), ["--limit", "'x'"]),
    "budget abc": ((*MANIFEST, "--budget-usd", "abc"), ["--budget-usd", "'abc'"]),
    "budget -1": ((*MANIFEST, "--budget-usd", "-1"), ["--budget-usd"]),
    "budget nan": ((*MANIFEST, "--budget-usd", "nan"), ["--budget-usd"]),
    "no such port": (("sandbox", "--port", "99999"), ["99999"]),
    "pilot 0": ((*MANIFEST, "--pilot", "0"), ["--pilot"]),
    "unknown family": (("run", "items.csv", "--model", "claude:opus", "--prompt", "?"), ["claude"]),
    "family with a typo": (("run", "items.csv", "--model", "gemmini:x", "--prompt", "?"), ["gemini"]),
    "no family": (("run", "items.csv", "--model", "gemini-2.5-flash", "--prompt", "?"), ["gemini-2.5-flash"]),
    "a model twice": ((*MANIFEST, "--model", MODEL), [MODEL]),
    "no such gateway": ((*MANIFEST, "--gateway", "mavy"), ["--gateway", "mavi"]),
    "base url without a scheme": ((*MANIFEST, "--base-url", "example.com/v2"), ["--base-url"]),
    "a template that is none": (("run", "items.csv", "--model", MODEL, "--prompt", "{{ x"), ["--prompt"]),
    "a variable that no row has": (
        ("run", "items.csv", "--model", MODEL, "--prompt", "{{ colour }}"), ["colour", "items.csv"],
    ),
    "unpriced with a budget": (
        ("run", "items.csv", "--model", "gpt:gpt-99", "--prompt", "?", "--budget-usd", "1",
         "--allow-unknown-model"),
        ["gpt-99", "budget"],
    ),
    "status of no dataset": (("status", "nowhere"), ["nowhere"]),
    "export of no dataset": (("export", "nowhere", "--to", "x.csv"), ["nowhere"]),
    "price of no model": (("price", "gpt:gpt-99", "--input", "1", "--output", "1"), ["gpt-99"]),
    "price of words": (("price", "gpt:gpt-4o", "--input", "many", "--output", "1"), ["many"]),
    "compare of no dataset": (("compare", "nowhere"), ["nowhere"]),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMAND_LINES)
def test_a_wrong_command_line_is_told(call, gateway, name):
    argv, words = COMMAND_LINES[name]
    refused(call(*argv), gateway, *words)


# -- the job file

JOBS = {
    "not YAML": ("manifest: [", ["job.yaml:"]),
    "empty": ("", ["job.yaml"]),
    "a list": ("- manifest: x", ["job.yaml"]),
    "an unknown key": (job_text(mdels=["x"]), ["mdels", "models"]),
    "no models": (job_text(models=None), ["models"]),
    "models empty": (job_text(models=[]), ["models"]),
    "no manifest": (job_text(manifest=None), ["manifest"]),
    "manifest not there": (job_text(manifest="nope.csv"), ["nope.csv"]),
    "temperature of 9": (job_text(params={"temperature": 9}), ["temperature", "9"]),
    "temperature of cold": (job_text(params={"temperature": "cold"}), ["temperature", "cold"]),
    "a parameter nobody has": (job_text(params={"temprature": 1}), ["temprature", "temperature"]),
    "max_tokens 0": (job_text(params={"max_tokens": 0}), ["max_tokens"]),
    "concurrency 0": (job_text(limits={"*": {"concurrency": 0}}), ["concurrency"]),
    "attempts of many": (job_text(retry={"attempts": "many"}), ["attempts", "many"]),
    "cap under base": (job_text(retry={"base_s": 9, "cap_s": 1}), ["cap_s", "base_s"]),
    "schema file not there": (job_text(answer_schema="no.schema.json"), ["no.schema.json"]),
    "schema that is none": (job_text(answer_schema={"type": "objekt"}), ["answer_schema"]),
    "a column not there": (job_text(columns={"media": "picture"}), ["picture", "items.csv"]),
    "no prompt anywhere": (job_text(prompts=None), ["prompt"]),
    "a prompt that reaches out": (job_text(prompts={"p": "{{ ''.__class__.__mro__ }}"}), ["p"]),
}  # fmt: skip


@pytest.mark.parametrize("name", JOBS)
def test_a_wrong_job_is_told(call, gateway, tmp_path, name):
    text, words = JOBS[name]
    (tmp_path / "job.yaml").write_text(text)
    refused(call("run", "job.yaml"), gateway, *words)


def test_all_problems_of_a_job_are_told_at_once(call, gateway, tmp_path):
    (tmp_path / "job.yaml").write_text(
        "manifest: nope.csv\nmodels: ['claude:x', 'gpt:gpt-4o']\nparams: {temperature: 9}\nbudget: 3\n"
    )
    told = refused(call("run", "job.yaml"), gateway, "nope.csv", "claude", "temperature", "budget_usd")
    assert "job.yaml:1" in told
    assert "job.yaml:4" in told


def test_a_folder_as_a_job_is_told(call, gateway, tmp_path):
    (tmp_path / "job.yaml").mkdir()
    refused(call("run", "job.yaml"), gateway, "job.yaml")


def test_a_job_in_another_encoding_is_told(call, gateway, tmp_path):
    (tmp_path / "job.yaml").write_bytes("manifest: Bäume.csv".encode("latin-1"))
    refused(call("run", "job.yaml"), gateway, "job.yaml", "UTF-8")


# -- the manifest

MANIFESTS = {
    "empty": (b"", ["items.csv"]),
    "a header only": (b"item_id,media_url\n", ["items.csv"]),
    "no media column": (b"item_id,link\na,https://media.example/a.jpg\n", ["media_url", "link", "items.csv"]),
    "nothing but bad rows": (
        b"item_id,media_url\na,\nb,ftp://h/b.jpg\n",
        ["items.csv:2", "items.csv:3", "ftp"],
    ),
    "latin-1": (ROWS.encode() + b"\xe9t\xe9,https://media.example/c.jpg\n", ["items.csv", "UTF-8"]),
    "an image": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(200), ["items.csv"]),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_wrong_manifest_is_told_with_its_line(call, gateway, tmp_path, name):
    raw, words = MANIFESTS[name]
    (tmp_path / "items.csv").write_bytes(raw)
    refused(call(*MANIFEST), gateway, *words)


BAD_ROWS = {
    "an item twice": ("a,https://media.example/c.jpg", ["items.csv:4", "'a'", "first on line 2"]),
    "empty media": ("c,", ["items.csv:4"]),
    "ftp": ("c,ftp://media.example/c.jpg", ["items.csv:4", "ftp"]),
    "a ragged row": ("c,https://media.example/c.jpg,x,y", ["items.csv:4"]),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_job_that_stops_at_a_bad_row_tells_its_line(call, gateway, tmp_path, name):
    row, words = BAD_ROWS[name]
    (tmp_path / "items.csv").write_text(f"{ROWS}{row}\n")
    (tmp_path / "job.yaml").write_text(job_text(on_bad_row="stop"))
    refused(call("run", "job.yaml"), gateway, *words)


def test_a_jsonl_line_that_is_none_is_told_with_its_line(call, gateway, tmp_path):
    (tmp_path / "items.jsonl").write_text(
        '{"item_id": "a", "media_url": "https://media.example/a.jpg"}\n{"item_id"\n'
    )
    (tmp_path / "job.yaml").write_text(job_text(manifest="items.jsonl", on_bad_row="stop"))
    refused(call("run", "job.yaml"), gateway, "items.jsonl:2")


def test_a_parquet_file_that_is_none_is_told(call, gateway, tmp_path):
    (tmp_path / "items.parquet").write_text("no parquet")
    refused(call("run", "items.parquet", *MANIFEST[2:]), gateway, "items.parquet")


def test_media_that_are_not_there_are_skipped_rows_with_the_reason(call, gateway, tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "there.png")
    (tmp_path / "items.csv").write_text("media_url\nthere.png\ngone.png\n")
    done = call(*MANIFEST, "--json", "--quiet")
    assert done.code == 0, done.err
    assert (done.json["answered"], done.json["skipped"]) == (1, 1)


# -- the key and the environment

KEYS = {
    "missing": (None, ["MAVI_API_KEY", "--gateway sandbox"]),
    "empty": ("  ", ["MAVI_API_KEY"]),
    "with Bearer": (f"Bearer {KEY}", ["Bearer"]),
    "with a line end inside": (f"{KEY}\nx", ["MAVI_API_KEY"]),
    "with a letter of another script": (f"{KEY}é", ["MAVI_API_KEY"]),
}


@pytest.mark.parametrize("name", KEYS)
def test_a_wrong_key_is_told_and_never_shown(call, gateway, monkeypatch, name):
    key, words = KEYS[name]
    if key is None:
        monkeypatch.delenv("MAVI_API_KEY")
    else:
        monkeypatch.setenv("MAVI_API_KEY", key)
    refused(call(*MANIFEST), gateway, *words)


BASE_URLS = {
    "no scheme": "localhost:8000",
    "a port that is none": "http://host:port",
    "a password": "https://me:s3cret@gateway.example/v2",
}


@pytest.mark.parametrize("name", BASE_URLS)
def test_a_wrong_base_url_of_the_environment_is_told_and_never_shown(call, gateway, monkeypatch, name):
    monkeypatch.setenv("MAVI_BASE_URL", BASE_URLS[name])
    assert "s3cret" not in refused(call(*MANIFEST), gateway, "MAVI_BASE_URL must")


def test_a_plan_needs_no_key(call, gateway, monkeypatch, tmp_path):
    monkeypatch.setenv("MAVI_API_KEY", "")
    done = call("plan", "items.csv", "--model", MODEL, "--prompt", "?")
    assert done.code == 0, done.err
    (tmp_path / "job.yaml").write_text(job_text(gateway={"api_key_env": "NOT_SET_API_KEY"}))
    assert call("plan", "job.yaml").code == 0


# -- the output


def test_an_output_that_is_a_file_is_told(call, gateway, tmp_path):
    (tmp_path / "out").write_text("mine")
    done = call(*MANIFEST)
    refused(done, gateway, "out", "--out", code=done.code)
    assert done.code in (2, 4)
    assert (tmp_path / "out").read_text() == "mine"


def test_an_output_below_a_file_is_told(call, gateway, tmp_path):
    (tmp_path / "file").write_text("mine")
    done = call(*MANIFEST[:-1], "file/out")
    refused(done, gateway, "file", "--out", code=done.code)
    assert done.code in (2, 4)


# -- the gateway: the run starts, and stops with words


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def quick_job(tmp_path, base_url, **fields):
    retry = {"attempts": 2, "base_s": 0.001, "cap_s": 0.002}
    (tmp_path / "job.yaml").write_text(job_text(gateway={"base_url": base_url}, retry=retry, **fields))
    return "job.yaml"


def stopped(done, *words, codes=(3, 4)):
    told = " ".join((done.err + done.out).split())
    assert done.code in codes, told
    for word in words:
        assert word in told, told
    assert "Traceback" not in told
    assert KEY not in told


def test_a_gateway_that_is_down_is_told(call, tmp_path):
    port = free_port()
    done = call("run", quick_job(tmp_path, f"http://127.0.0.1:{port}/v2"))
    stopped(done, "cannot connect to the gateway", "is the gateway up")
    found = call("export", "out", "--to", "all.csv")
    assert found.code == 0
    assert "cannot connect to the gateway" in (tmp_path / "all.csv").read_text()


@pytest.mark.parametrize("kind", ["text/html", "application/json"])
def test_a_page_of_a_proxy_is_no_answer(call, tmp_path, kind):
    with says(b"<html><h1>Sign in to the network</h1></html>", Content_Type=kind) as base_url:
        stopped(call("run", quick_job(tmp_path, base_url)), "Sign in to the network", "check the base URL")
    call("export", "out", "--to", "all.jsonl")
    row = json.loads((tmp_path / "all.jsonl").read_text().splitlines()[0])
    assert (row["status"], row["error_code"], row["answer"]) == ("failed", "unreadable", None)
    assert "Sign in" in row["error_message"]


def test_a_wrong_base_url_is_told(call, gateway, tmp_path):
    done = call("run", quick_job(tmp_path, f"{gateway.origin}/wrong/path"))
    stopped(done, "2 x not_found", "is the base URL right?")


def test_a_key_that_the_gateway_refuses_stops_the_run(call, gateway, monkeypatch):
    monkeypatch.setenv("MAVI_API_KEY", "mine-is-another-key")
    done = call(*MANIFEST)
    stopped(done, "MAVI_API_KEY", "not sent", codes=(4,))
    assert "mine-is-another-key" not in done.err + done.out


def test_an_unknown_model_is_not_sent_unless_told(call, gateway):
    done = call("run", "items.csv", "--model", "gemini:gemini-2.5-flahs", "--prompt", "?")
    refused(done, gateway, "no such model; did you mean gemini:gemini-2.5-flash?", "--allow-unknown-model")


def test_a_model_without_a_price_runs_when_told_and_its_cost_is_unknown_not_zero(call, tmp_path, gateway):
    asked = ("--model", "gpt:gpt-99", "--prompt", "?", "--allow-unknown-model")
    done = call("plan", "items.csv", *asked, "--json")
    assert done.code == 0, done.err
    assert done.json["models"][0]["cost_usd"] is None
    assert "gpt-99" in done.err + done.out
    assert "cost unknown" in done.err
    assert "$" not in done.err
    body = json.dumps({"choices": [{"text": "a cat"}], "usage": {"input_tokens": 9, "output_tokens": 1}})
    with says(body.encode()) as base_url:
        job = quick_job(tmp_path, base_url, name="[/]", models=["gpt:gpt-99"])
        again = (job, "--out", "asked-again", "--json", "--allow-unknown-model")
        assert call("run", job).code == 2
        ran, told = call("run", job, "--allow-unknown-model"), call("run", *again)
    assert ran.code == 0, ran.err
    line = next(line for line in ran.out.splitlines() if "gpt:gpt-99" in line)
    assert "unknown" in line, ran.out
    assert "$" not in line
    assert "Cost unknown in" in ran.out
    assert "[/]: finished" in ran.out  # a name is no markup
    assert (told.json["cost_usd"], told.json["models"][0]["cost_usd"], told.json["unpriced"]) == (
        None,
        None,
        2,
    )
    for command in ("status", "costs", "compare"):
        shown = call(command, "asked-again").out
        assert "unknown" in shown, shown
        assert "$0.00 " not in shown
    assert call("status", "asked-again", "--json").json["cost_usd"] is None
    assert call("costs", "asked-again", "--json").json["total_usd"] is None


def test_the_real_entry_says_the_same_without_a_traceback(tmp_path):
    done = mavi("run", "nowhere.yaml", cwd=tmp_path)
    assert done.code == 2
    assert done.err.startswith("mavi: ")
    assert "Traceback" not in done.err
    assert done.out == ""
