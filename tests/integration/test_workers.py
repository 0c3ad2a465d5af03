"""Worker processes: each request is sent once, also after a crash; counts, limits and costs add up."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import psutil
import pytest

from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.execution.distributed.coordination import STOP_FILE, WorkerConfig, stop_workers
from mavi_tasks.execution.distributed.counter_snapshot import CounterSnapshot
from mavi_tasks.execution.distributed.worker import send_shard
from mavi_tasks.execution.run import Run
from mavi_tasks.execution.stop_signal import StopSignal
from mavi_tasks.job import load_job
from mavi_tasks.job.endpoint import SANDBOX_KEY, Endpoint
from mavi_tasks.planning.context import open_context
from mavi_tasks.planning.planner import make_plan
from mavi_tasks.storage import run_totals
from tests.bench.server import serving
from tests.support.gateways import (
    ended,
    environment,
    kill,
    mavi,
    one,
    remote_sandbox,
    rows,
    spent,
    start,
    url_job,
    wait_for,
)


@pytest.fixture(scope="module")
def gateway():
    with remote_sandbox(latency_s=0.02) as served:
        yield served


def job_of(folder, served, count=120, **fields):
    defaults = {"runner": "processes", "workers": 2, "shard_size": 20}
    return url_job(folder, count, served.base_url, prompts={"p": "{{ item_id }}?"}, **{**defaults, **fields})


def segments(out):
    return list((out / "_journal").glob("*-w[1-9]*.jsonl"))


def a_worker(process):
    """A worker process of this run that has a journal open."""

    def writes(child):
        try:
            return any(".jsonl" in file.path for file in child.open_files())
        except psutil.Error:
            return False

    return wait_for(lambda: next(filter(writes, psutil.Process(process.pid).children()), None))


# -- one run, many processes


def test_workers_retry_invalid_answers_when_configured(tmp_path, gateway):
    gateway.reset()
    never = {"type": "object", "properties": {"n": {"type": "integer", "not": {}}}, "required": ["n"]}
    job = job_of(tmp_path, gateway, 8, answer_schema=never, repair=False)
    first = mavi("run", job, "--json", "--quiet")
    assert (first.code, first.json["invalid"], gateway.bill()["billed_calls"]) == (3, 8, 8), first.err
    mavi("run", job, "--json", "--quiet")
    assert gateway.bill()["billed_calls"] == 8
    again = mavi("run", job, "--json", "--quiet", "--retry-invalid")
    assert (again.json["invalid"], gateway.bill()["billed_calls"]) == (8, 16), again.err


def test_a_worker_that_cannot_begin_says_why_without_a_traceback(tmp_path, gateway):
    """The parent has its journal; its workers find folders in place of their lock files."""
    job = job_of(tmp_path, gateway, 40)
    (tmp_path / "out" / "_journal").mkdir(parents=True)
    script = (
        "import mavi_tasks.planning.context as context, sys\n"
        "from mavi_tasks.cli.main import main\n"
        "context.new_run_id = lambda _: 'r1'\n"
        f"sys.exit(main(['run', {str(job)!r}, '--json', '--no-prefect']))\n"
    )
    for name in ("w1", "w2"):
        (tmp_path / "out" / "_journal" / f"r1-{name}.lock").mkdir()
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True)
    assert done.returncode == 4, done.stderr
    assert "Stopped: cannot write to" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Fatal" not in done.stderr


def test_a_module_in_the_current_folder_is_not_run_by_the_workers(tmp_path, gateway):
    """It would run with the key in its environment."""
    gateway.reset()
    (tmp_path / "base64.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\nfrom _base64 import *\n"
    )
    job = job_of(tmp_path, gateway, 40)
    parent = [sys.executable, "-P", "-m", "mavi_tasks", "run", str(job), "--quiet", "--no-prefect"]
    done = subprocess.run(parent, env=environment(), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_stop_reaches_the_workers_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr("os.link", refuse)
    stop_workers(tmp_path, "interrupted", "cancelled")
    assert [path.name for path in tmp_path.iterdir()] == [STOP_FILE]


def test_processes_send_each_request_once_and_the_parent_publishes(tmp_path, gateway):
    gateway.reset()
    report = mavi("run", job_of(tmp_path, gateway), "--json", "--quiet").json
    out = tmp_path / "out"
    assert (report["status"], report["answered"], report["unsent"]) == ("finished", 120, 0)
    assert gateway.bill()["bodies"]["extra_payments"] == 0
    assert one(out, "results", "count(distinct request_key)") == 120
    assert Decimal(report["cost_usd"]) == spent(out, "results")
    writers = {path.name.split(".")[0].rsplit("-", 1)[1] for path in (out / "results").rglob("*.parquet")}
    assert {"w1", "w2"} <= writers
    assert not segments(out)
    assert not list((out / "_plan").iterdir())
    assert one(out, "runs", "answered") == 120


def test_processes_continue_a_killed_run_of_threads(tmp_path, gateway):
    gateway.reset()
    run = start("run", job_of(tmp_path, gateway, 200, runner="threads", limits={"*": {"concurrency": 2}}))
    wait_for(lambda: gateway.bill()["billed_calls"] > 20)
    kill(run)
    report = mavi("run", job_of(tmp_path, gateway, 200), "--json", "--quiet").json
    assert report["answered"] + report["already_answered"] == 200
    assert report["already_answered"] >= 18
    assert gateway.bill()["bodies"]["extra_payments"] <= 2


def test_a_killed_worker_costs_no_more_than_its_calls_in_flight(tmp_path, gateway):
    gateway.reset()
    job = job_of(tmp_path, gateway, 400, limits={"*": {"concurrency": 8, "requests_per_minute": 6000}})
    run = start("run", job, "--json", "--quiet")
    worker = a_worker(run)
    wait_for(lambda: gateway.bill()["billed_calls"] > 60)
    worker.kill()
    report, out = ended(run).json, tmp_path / "out"
    in_doubt = one(out, "attempts", "count(*)", "outcome = 'in_doubt'")
    assert (report["status"], report["answered"], report["unsent"]) == ("finished", 400, 0)
    assert one(out, "results", "count(*)") == one(out, "results", "count(distinct request_key)") == 400
    assert gateway.bill()["bodies"]["extra_payments"] <= in_doubt <= 4  # its half of the concurrency
    assert Decimal(report["cost_usd"]) == spent(out, "attempts")


def test_an_interrupted_run_ends_its_workers_and_the_next_one_goes_on(tmp_path, gateway):
    gateway.reset()
    job = job_of(tmp_path, gateway, 300, limits={"*": {"concurrency": 4}})
    run = start("run", job, "--json", "--quiet")
    wait_for(lambda: gateway.bill()["billed_calls"] > 30)
    workers_then = psutil.Process(run.pid).children()
    run.send_signal(signal.SIGINT)
    first = ended(run)
    assert first.code == 130
    assert first.json["answered"] == one(tmp_path / "out", "results", "count(*)")
    assert not any(worker.is_running() for worker in workers_then)
    second = mavi("run", job, "--json", "--quiet").json
    assert second["answered"] + second["already_answered"] == 300
    assert gateway.bill()["bodies"]["extra_payments"] == 0


def test_what_stops_one_worker_stops_the_run(tmp_path, gateway):
    gateway.reset()
    gateway.faults(script=["ok"] * 30, rules=[{"kind": "http_401"}])
    stopped = mavi("run", job_of(tmp_path, gateway, limits={"*": {"concurrency": 4}}), "--json", "--quiet")
    gateway.faults()
    assert stopped.code == 4, stopped.err
    assert stopped.json["stop_reason"] == "unauthorized"
    assert (stopped.json["answered"], stopped.json["unsent"], stopped.json["failed"]) == (30, 90, 0)


def test_a_pilot_is_sent_by_the_parent_and_the_rest_by_its_workers(tmp_path, gateway):
    gateway.reset()
    report = mavi("run", job_of(tmp_path, gateway), "--pilot", "10", "--yes", "--json", "--quiet").json
    assert (report["answered"], report["unsent"]) == (120, 0)
    assert gateway.bill()["bodies"]["extra_payments"] == 0


def test_two_models_and_rows_that_share_an_answer_come_out_as_in_one_process(tmp_path, gateway):
    both = ["gemini:gemini-2.5-flash", "qwen:qwen3-vl-flash"]
    counted = []
    for runner in ("threads", "processes"):
        job = url_job(
            tmp_path / runner, 60, gateway.base_url, models=both, runner=runner, workers=3, shard_size=7
        )
        items = tmp_path / runner / "items.csv"
        items.write_text(items.read_text() + "twin,https://media.example/1.jpg\n")
        report = mavi("run", job, "--json", "--quiet").json
        counted.append([(m["model"], m["requests"], m["answered"], m["cost_usd"]) for m in report["models"]])
    assert counted[0] == counted[1]
    assert all(answered == 61 for _, _, answered, _ in counted[0])


# -- shared limits


def test_workers_together_stay_within_a_configured_concurrency_and_rate(tmp_path):
    with serving("--latency-s", "0.05") as served:
        limits = {"*": {"concurrency": 5, "requests_per_minute": 6000}}
        job = job_of(tmp_path, served, 150, gateway={"base_url": served.base_url}, workers=2, limits=limits)
        assert mavi("run", job, "--json", "--quiet").json["answered"] == 150
        stats = served.stats()
    assert stats["in_flight_max"] <= 5
    assert stats["max_per_s"] <= 120


def test_workers_together_never_spend_more_than_the_budget(tmp_path, gateway):
    gateway.reset()
    small = {"max_url_image_px": 1024}
    job = job_of(tmp_path, gateway, 120, budget_usd="0.008", workers=3, media=small)
    stopped = mavi("run", job, "--json", "--quiet")
    assert stopped.code == 4, stopped.err
    assert stopped.json["stop_reason"] == "budget"
    bill = Decimal(gateway.bill()["total_usd"])
    assert Decimal("0.005") < bill <= Decimal("0.008")
    assert Decimal(stopped.json["cost_usd"]) == bill
    assert stopped.json["unsent"] > 0


def test_an_unreachable_store_stops_the_run_before_anything_is_sent(tmp_path, gateway):
    gateway.reset()
    job = job_of(tmp_path, gateway, shared_limits="redis")
    wrong = mavi("run", job, "--quiet", MAVI_REDIS_URL="here:sk-secret")
    assert wrong.code == 2
    assert "MAVI_REDIS_URL must be a URL" in wrong.err
    assert "sk-secret" not in wrong.err
    out = mavi("run", job, "--json", "--quiet", MAVI_REDIS_URL="redis://127.0.0.1:1/0")
    assert out.code == 4, out.err
    assert (out.json["stop_reason"], out.json["unsent"]) == ("store", 120)
    assert gateway.bill()["calls"] == 0


def test_a_cluster_needs_prefect(tmp_path, gateway):
    refused = mavi("run", job_of(tmp_path, gateway, runner="dask"), "--no-prefect", "--quiet")
    assert refused.code == 2
    assert "dask needs Prefect" in refused.err


def test_a_remote_cluster_needs_a_store_that_its_machines_share(tmp_path, gateway, monkeypatch):
    from mavi_tasks.errors import InputError
    from mavi_tasks.flows import task_runners

    monkeypatch.setenv("MAVI_DASK_ADDRESS", "tcp://10.0.0.7:8786")
    job = load_job(job_of(tmp_path, gateway, runner="dask"))
    runner = task_runners.task_runner(job, 2)
    with pytest.raises(InputError, match="shared_limits: file is for one machine"), runner:
        pass


# -- a shard in a worker of a cluster


@pytest.fixture
def planned(tmp_path, gateway):
    """A planned run and the settings of its workers."""
    gateway.reset()
    job = load_job(job_of(tmp_path, gateway, 40, runner="dask"))
    endpoint = Endpoint("sandbox", gateway.base_url, SANDBOX_KEY)
    options = job.media
    context = open_context(job, endpoint, options=options)
    run = Run.prepare(context, lambda: make_plan(context))
    yield run, WorkerConfig.of(run).without_key()
    run.locks.close()
    run.plan.discard()


def run_shards(setting, shards):
    (model,) = shards
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda shard: send_shard(setting, model, shard), shards[model]))


def test_a_shard_that_is_run_again_sends_nothing(planned, gateway):
    run, setting = planned
    first, second = run_shards(setting, run.plan.shards), run_shards(setting, run.plan.shards)
    assert [result.counts["answered"] for result in first] == [20, 20]
    assert [result.counts["calls"] for result in second] == [0, 0]
    run.context.dataset.publish()
    third = run_shards(setting, run.plan.shards)  # from the published parts, no longer from the journal
    assert [result.counts["calls"] for result in third] == [0, 0]
    assert gateway.bill()["bodies"]["extra_payments"] == 0


def test_shards_in_one_process_share_one_journal_and_leave_none_open(planned):
    run, setting = planned
    run_shards(setting, run.plan.shards)
    assert not list(run.context.dataset.journal.glob("*.jsonl"))
    writers = {path.name.split(".")[0] for path in run.context.dataset.journal.glob("*.sealed")}
    assert len(writers) <= 2  # one, unless the first shard ended before the second began


def test_a_setting_travels_without_the_key(planned):
    _, setting = planned
    assert setting.endpoint.api_key is None
    assert SANDBOX_KEY not in repr(setting)


# -- counting


def test_the_parts_of_a_run_count_what_the_run_counted(tmp_path, gateway):
    report = mavi("run", job_of(tmp_path, gateway, 30, runner="threads"), "--json", "--quiet").json
    (counters,) = run_totals.all_counters(tmp_path / "out", report["run_id"]).values()
    (model,) = report["models"]
    assert (counters.answered, counters.calls, counters.input_tokens) == (30, 30, model["input_tokens"])
    assert Decimal(counters.cost_pico) / 10**12 == Decimal(report["cost_usd"])
    assert counters.latencies.quantile(0.5) == pytest.approx(model["latency_p50_s"], abs=1e-4)


def test_reports_of_a_worker_add_up_to_its_last_one():
    total, of_worker = ModelCounters("m", answered=5), ModelCounters("m")
    before = None
    for answered in (3, 7, 7):
        of_worker.answered, of_worker.errors = answered, {"timeout": (answered, "slow")}
        now = CounterSnapshot.from_json(CounterSnapshot.of(of_worker, StopSignal()).to_json())
        now.add_to(total, previous=before)
        before = now
    assert total.answered == 12
    assert total.errors == {"timeout": (7, "slow")}


# -- a cluster


def test_a_dask_cluster_writes_the_same_dataset(tmp_path, gateway, prefect_server):
    gateway.reset()
    job = job_of(tmp_path, gateway, 60, runner="dask", budget_usd="1.00")
    report = mavi("run", job, "--json", "--quiet", PREFECT_API_URL=prefect_server).json
    out = tmp_path / "out"
    assert (report["status"], report["answered"], report["unsent"]) == ("finished", 60, 0)
    assert gateway.bill()["bodies"]["extra_payments"] == 0
    assert len(rows(out)) == 60
    assert Decimal(report["cost_usd"]) == spent(out, "results")
