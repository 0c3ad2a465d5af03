"""Runs whose dataset is in a bucket, on one machine and on two (two spools): nothing is paid twice."""

import shutil

import duckdb
import pytest

from tests.support.gateways import ended, kill, mavi, remote_sandbox, start, url_job, wait_for
from tests.support.s3_server import s3_server

RUN = ("run", "--json", "--quiet")


@pytest.fixture(scope="module")
def s3():
    with s3_server() as server:
        yield server


@pytest.fixture(scope="module")
def gateway():
    with remote_sandbox(latency_s=0.02) as remote:
        yield remote


@pytest.fixture
def place(s3, gateway, tmp_path, request):
    """A bucket of one's own for the output; the gateway's bill begins at nothing."""
    gateway.reset()
    name = "b" + "".join(c for c in request.node.name.lower() if c.isalnum())[-50:]
    return s3.bucket(name) + "/out"


@pytest.fixture
def on(s3, tmp_path):
    """The environment of a machine, by its name."""
    return lambda name, **more: {**s3.env, "MAVI_SPOOL": str(tmp_path / name), **more}


def exported(place, tmp_path, env, query):
    """One value of a query over all results, read as another machine would."""
    file = tmp_path / "all.parquet"
    assert mavi("export", place, "--to", file, **{**env, "MAVI_SPOOL": str(tmp_path / "reader")}).code == 0
    return duckdb.connect().execute(f"select {query} from '{file}'").fetchone()


def calls(gateway):
    return gateway.bill()["calls"]


def test_a_run_ends_in_the_bucket_and_is_not_paid_again_from_any_machine(place, on, gateway, tmp_path, s3):
    job = url_job(tmp_path, 120, gateway.base_url, output=place)
    first = mavi(*RUN, job, **on("a"))
    assert (first.code, first.json["answered"], first.json["output"]) == (0, 120, place)
    for name in ("a", "b"):
        again = mavi(*RUN, job, **on(name))
        assert (again.code, again.json["already_answered"], again.err) == (0, 120, "")
    assert calls(gateway) == 120
    assert exported(place, tmp_path, on("a"), "count(*), count(distinct request_key)") == (120, 120)
    assert not [key for key in s3.keys(place) if "_claims/run-" in key]


def test_every_reading_command_takes_the_bucket(place, on, gateway, tmp_path, s3):
    job = url_job(tmp_path, 30, gateway.base_url, output=place)
    assert mavi(*RUN, job, **on("a")).code == 0
    other = on("b")
    assert mavi("status", place, "--json", **other).json["answered"] == 30
    assert mavi("plan", job, "--json", **other).json["already_answered"] == 30
    assert mavi("compare", place, "--json", **other).json["models"][0]["n"] == 30
    assert mavi("costs", place, "--json", **other).json["groups"][0]["calls"] == 30
    to = place.rpartition("/")[0] + "/one.csv"
    assert mavi("export", place, "--to", to, **other).out == f"30 rows -> {to}\n"
    assert s3.keys(to) == ["one.csv"]


@pytest.mark.slow
def test_a_killed_run_goes_on_and_pays_again_at_most_what_was_in_flight(place, on, gateway, tmp_path):
    job = url_job(tmp_path, 600, gateway.base_url, output=place, limits={"*": {"concurrency": 8}})
    kills = 0
    for wanted in (100, 250, 400):
        process = start(*RUN, job, **on("a"))
        wait_for(lambda wanted=wanted, life=process: calls(gateway) >= wanted or life.poll() is not None)
        kills += process.poll() is None
        kill(process)
    last = mavi(*RUN, job, **on("a"))
    assert (last.code, kills) == (0, 3)
    assert calls(gateway) <= 600 + 8 * kills
    assert exported(place, tmp_path, on("a"), "count(*), count(distinct request_key)") == (600, 600)


@pytest.mark.slow
def test_two_machines_at_the_same_time_share_the_work_and_pay_for_nothing_twice(place, on, gateway, tmp_path):
    job = url_job(
        tmp_path, 800, gateway.base_url, output=place, shard_size=50, limits={"*": {"concurrency": 8}}
    )
    both = [start(*RUN, job, **on(name)) for name in ("a", "b")]
    told = [ended(process) for process in both]
    assert [one.code for one in told] == [0, 0]
    assert calls(gateway) == 800
    assert sum(one.json["answered"] for one in told) == 800
    assert min(one.json["answered"] for one in told) > 0
    assert exported(place, tmp_path, on("a"), "count(*), count(distinct request_key)") == (800, 800)


@pytest.mark.slow
def test_another_machine_takes_over_from_one_whose_disk_is_gone(place, on, gateway, tmp_path):
    limits = {"*": {"concurrency": 8}}
    job = url_job(
        tmp_path, 400, gateway.base_url, output=place, shard_size=50, limits=limits, ship_every_s=0.2
    )
    env = on("a", MAVI_LEASE_S="1")
    process = start(*RUN, job, **env)
    wait_for(lambda: calls(gateway) >= 150)
    kill(process)
    paid = calls(gateway)
    shutil.rmtree(env["MAVI_SPOOL"])
    other = mavi(*RUN, job, **on("b", MAVI_LEASE_S="1"))
    assert other.code == 0
    assert "taking over from" in other.err
    rate_per_s = 8 / 0.02
    assert calls(gateway) <= 400 + 8 + rate_per_s * (0.2 + 0.5)  # a ship interval, and shipping itself
    assert other.json["already_answered"] > 0
    assert paid < 400
    assert exported(place, tmp_path, on("b"), "count(distinct request_key)") == (400,)


@pytest.mark.slow
def test_worker_processes_write_to_the_bucket_too(place, on, gateway, tmp_path):
    job = url_job(tmp_path, 200, gateway.base_url, output=place, shard_size=20, runner="processes", workers=2)
    told = mavi(*RUN, job, **on("a"))
    assert (told.code, told.json["answered"]) == (0, 200)
    assert mavi(*RUN, job, **on("b")).json["already_answered"] == 200
    assert calls(gateway) == 200


@pytest.mark.slow
def test_a_run_whose_store_goes_away_stops_and_loses_nothing(gateway, tmp_path):
    gateway.reset()
    env = {"MAVI_SPOOL": str(tmp_path / "spool"), "MAVI_LEASE_S": "2"}
    with s3_server() as first:
        place = first.bucket("goes-away") + "/out"
        job = url_job(tmp_path, 1_000, gateway.base_url, output=place, limits={"*": {"concurrency": 4}})
        process = start(*RUN, job, **first.env, **env)
        wait_for(lambda: calls(gateway) >= 50)
    told = ended(process)
    paid = calls(gateway)
    assert told.code == 4
    assert "cannot be reached" in told.err
    assert paid < 1_000
    port = first.url.rpartition(":")[2]
    with s3_server(port) as second:
        second.bucket("goes-away")
        again = mavi(*RUN, job, **second.env, **env)
    assert again.code == 0
    assert calls(gateway) == 1_000


# -- what is wrong is told before anything is sent


def test_a_missing_bucket_ends_with_words_and_nothing_sent(on, gateway, tmp_path):
    gateway.reset()
    job = url_job(tmp_path, 5, gateway.base_url, output="s3://nobody-made-this/out")
    told = mavi(*RUN, job, **on("a"))
    assert (told.code, told.err) == (2, "mavi: s3://nobody-made-this: there is no such bucket\n")
    assert calls(gateway) == 0


def test_missing_credentials_end_with_words_and_nothing_sent(place, on, gateway, tmp_path):
    job = url_job(tmp_path, 5, gateway.base_url, output=place)
    env = {name: value for name, value in on("a").items() if not name.startswith("AWS_SECRET")}
    told = mavi(*RUN, job, **{**env, "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""})
    assert told.code == 2
    assert "no credentials were found: set AWS_ACCESS_KEY_ID" in told.err
    assert calls(gateway) == 0


def test_wrong_credentials_end_with_words_and_nothing_sent(gateway, tmp_path):
    gateway.reset()
    with s3_server(INITIAL_NO_AUTH_ACTION_COUNT="1") as strict:
        place = strict.bucket("locked") + "/out"
        job = url_job(tmp_path, 5, gateway.base_url, output=place)
        told = mavi(*RUN, job, **strict.env, MAVI_SPOOL=str(tmp_path / "a"))
    assert told.code == 2
    assert "the store does not know this access key" in told.err
    assert calls(gateway) == 0


def test_a_store_out_of_reach_ends_with_words_and_nothing_sent(place, on, gateway, tmp_path):
    job = url_job(tmp_path, 5, gateway.base_url, output=place)
    told = mavi(*RUN, job, **{**on("a"), "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    assert told.code == 4
    assert "the store cannot be reached" in told.err
    assert calls(gateway) == 0


def test_a_reader_of_a_missing_dataset_is_told_so(place, on):
    told = mavi("status", place + "/typo", **on("a"))
    assert (told.code, told.err) == (
        2,
        f"mavi: {place}/typo: no dataset lies there; give the output of a run\n",
    )


def test_another_machine_sees_how_far_a_run_is_and_what_failed(place, on, tmp_path):
    env = on("a", MAVI_LEASE_S="2")
    with remote_sandbox(latency_s=0.1) as slow:
        slow.faults(script=["errored_filter"] * 3)
        limits = {"*": {"concurrency": 4}}
        job = url_job(tmp_path, 3000, slow.base_url, output=place, limits=limits, ship_every_s=1)
        process = start(*RUN, job, **env)
        try:
            run = wait_for(lambda: (found := live_from(place, on("b"))) and found["rate_per_s"] > 0 and found)
            assert (run["state"], run["requests"]) == ("running", 3000)
            wait_for(lambda: mavi("status", place, "--json", **on("b")).json["failed"] == 3)
            target = tmp_path / "failed.csv"
            assert mavi("status", place, "--failed", "--to", target, **on("b")).code == 0
        finally:
            kill(process)
        assert mavi("status", place, "--json", **on("a")).json["live"][0]["state"] == "gone"
        again = mavi(*RUN, job, "--only", target, **on("a"))
        assert (again.code, again.json["requests"], again.json["answered"]) == (0, 3, 3)


def live_from(place, env):
    found = mavi("status", place, "--json", **env)
    runs = found.json["live"] if found.code == 0 else []
    return runs[0] if runs and runs[0]["stage"] == "sending" else None
