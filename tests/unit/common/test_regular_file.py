"""A named pipe where a file should be is refused at once, by whatever reads what users name."""

import os
from pathlib import Path

import pytest

from mavi_tasks import manifest
from mavi_tasks.common import regular_file
from mavi_tasks.costs import invoice_csv
from mavi_tasks.errors import InputError
from mavi_tasks.flows import serve
from mavi_tasks.job import job_of, load_job
from mavi_tasks.media import Refusal, identify
from mavi_tasks.pricing.book import load_prices

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


def with_schema(path: Path) -> None:
    (path.parent / "items.csv").write_text("media_url\nhttps://h.example/a.jpg\n")
    job_of(
        manifest=path.parent / "items.csv",
        models=["gemini:gemini-2.5-flash"],
        prompt="x",
        answer_schema=str(path),
    )


READERS = {
    "a manifest": (".csv", lambda path: list(manifest.read(str(path)))),
    "a packed manifest": (".jsonl.gz", lambda path: list(manifest.read(str(path)))),
    "a manifest in Parquet": (".parquet", lambda path: list(manifest.read(str(path)))),
    "a job": (".yaml", load_job),
    "a schema": (".json", with_schema),
    "prices": (".toml", lambda path: load_prices(path)),
    "an invoice": (".csv", lambda path: invoice_csv.read_bill(path)),
    "deployments": (".yaml", lambda path: serve.deployments(path)),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", READERS)
def test_a_pipe_instead_of_a_file_is_refused_at_once(tmp_path, name):
    suffix, read = READERS[name]
    path = tmp_path / f"pipe{suffix}"
    os.mkfifo(path)
    with pytest.raises((InputError, ValueError), match="pipe, socket or device"):
        read(path)


@pytest.mark.timeout(20)
def test_a_pipe_among_the_media_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    refusal = identify(str(tmp_path / "a.jpg"))
    assert isinstance(refusal, Refusal) and refusal.code == "media_not_a_file"


def test_a_file_behind_a_link_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfa\r\nb")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert regular_file.read_bytes(tmp_path / "b") == b"\xef\xbb\xbfa\r\nb"
    assert regular_file.read_text(tmp_path / "b", "utf-8-sig") == "a\nb"


def test_a_folder_is_told_apart_from_a_pipe(tmp_path):
    with pytest.raises(IsADirectoryError):
        regular_file.read_bytes(tmp_path)
