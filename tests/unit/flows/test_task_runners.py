"""Nobody but the run talks to the Dask cluster that it makes; another cluster is spoken to by TLS."""

import asyncio
import os
import stat
import sys
import urllib.request
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

import distributed
import pytest
from distributed.comm import connect
from distributed.security import Security

from mavi_tasks.errors import InputError
from mavi_tasks.flows import task_runners
from mavi_tasks.job import job_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # Dask leaves them to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def job(tmp_path):
    (tmp_path / "items.csv").write_text("media_url\nhttps://h.example/a.jpg\n")
    return job_of(
        manifest=tmp_path / "items.csv",
        models=["gemini:gemini-2.5-flash"],
        prompt="x",
        gateway="sandbox",
        runner="dask",
        shared_limits="redis",
    )


def look():
    """What a worker shows of itself."""
    worker = distributed.get_worker()
    return {
        "folder": worker.local_directory,
        "path": sys.path,
        "safe": sys.flags.safe_path,
        "address": worker.address,
        "http": worker.http_server.port,
    }


def page(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
            return reply.status
    except HTTPError as error:
        return error.code


async def answers(address: str, **options) -> bool:
    """Whether somebody without the run's certificate gets through to an address of the cluster."""
    try:
        comm = await connect(address, timeout=2, **options)
    except (OSError, ValueError, TypeError):
        return False
    comm.abort()
    return True


def test_the_cluster_of_a_run_talks_to_nobody_else(job, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    for name in ("runpy", "multiprocessing", "base64"):
        (tmp_path / "here" / f"{name}.py").write_text("raise SystemExit('planted')")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    with task_runners.task_runner(job, 1) as runner:
        client = runner.client
        found = client.submit(look, pure=False).result(timeout=60)
        scheduler = client.scheduler.address
        ports = (found["http"], client.cluster.scheduler.http_server.port)
        paths = ("/health", "/info/main/workers.html", "/json/identity.json", "/metrics")
        pages = [page(port, path) for port in ports for path in paths]
        others = Security.temporary().get_connection_args("client")
        reached = [
            asyncio.run(answers(address, **options))
            for address in (scheduler, found["address"])
            for options in ({}, others)
        ]
        plain = asyncio.run(answers(scheduler.replace("tls://", "tcp://")))
        mode = stat.S_IMODE(Path(found["folder"]).parents[1].stat().st_mode)
    assert {urlsplit(address).scheme for address in (scheduler, found["address"])} == {"tls"}
    assert (reached, plain) == ([False] * 4, False)
    assert set(pages) == {404}
    assert found["safe"] and "" not in found["path"]
    assert mode == 0o700 and Path(found["folder"]).parents[1].name.startswith("mavi-dask-")
    assert not Path(found["folder"]).parents[1].exists()
    assert "PYTHONSAFEPATH" not in os.environ, "other children of this process are started as before"


def entered(job, monkeypatch, address, **environment):
    for name, value in {"MAVI_DASK_ADDRESS": address, **environment}.items():
        monkeypatch.setenv(name, value)
    return task_runners._address(job)


@pytest.mark.parametrize(
    "address", ["tcp://10.0.0.7:8786", "10.0.0.7:8786", "tcp://cluster.example:8786", "ws://h:1"]
)
def test_a_cluster_beyond_this_machine_is_not_spoken_to_without_tls(job, monkeypatch, address):
    with pytest.raises(InputError, match=r"read their key: use tls://, or say MAVI_DASK_PLAIN=1"):
        entered(job, monkeypatch, address)


@pytest.mark.parametrize(
    ("address", "more"),
    [("tcp://127.0.0.1:8786", {}), ("localhost:8786", {}), ("tcp://10.0.0.7:8786", {"MAVI_DASK_PLAIN": "1"})],
)
def test_a_cluster_without_tls_that_may_be_used_is_warned_about(job, monkeypatch, caplog, address, more):
    assert entered(job, monkeypatch, address, **more) == address
    assert "can run code in the workers and read their key" in caplog.text


def test_a_host_whose_name_only_begins_like_this_machine_is_another_one(job, monkeypatch):
    with pytest.raises(InputError, match="MAVI_DASK_PLAIN"):
        entered(job, monkeypatch, "tcp://127.0.0.1.evil.example:8786")


def test_tls_without_a_certificate_says_what_to_set(job, monkeypatch):
    with pytest.raises(InputError, match="DASK_DISTRIBUTED__COMM__TLS__CA_FILE"):
        entered(job, monkeypatch, "tls://cluster.example:8786")
