"""Runs that have not ended are found with what they last reported, and whether their process lives."""

import json
from types import SimpleNamespace

import pytest

from mavi_tasks.storage import run_progress
from mavi_tasks.storage.run_progress import ModelProgress, ProgressFile, RunProgress

NOW_US = 1_790_000_000_000_000
MODEL = ModelProgress("m", 100, 0, 0, 20, 4.0, "0.10", None)


def progress(*models, updated_us=NOW_US):
    return RunProgress("run", "pets", NOW_US - 5_000_000, updated_us, None, models)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """The moment of every test is NOW_US, however long the tests before it took."""
    monkeypatch.setattr(
        run_progress, "time", SimpleNamespace(time=lambda: NOW_US / 1e6, time_ns=lambda: NOW_US * 1000)
    )


@pytest.fixture
def file(tmp_path):
    return ProgressFile(tmp_path, "run")


def test_what_is_written_is_read_while_its_process_lives(tmp_path, file):
    file.write(progress(MODEL))
    assert run_progress.read(tmp_path) == [progress(MODEL)]
    file.close()
    assert run_progress.read(tmp_path) == []
    assert list((tmp_path / "_progress").iterdir()) == []


def test_a_run_whose_lock_is_free_is_gone_and_is_swept(tmp_path, file):
    file.write(progress(MODEL))
    file._lock.release()  # as the system does when a process is killed
    assert [one.state for one in run_progress.read(tmp_path)] == ["gone"]
    run_progress.sweep(tmp_path)
    assert list((tmp_path / "_progress").iterdir()) == []


def test_a_run_that_lives_is_not_swept(tmp_path, file):
    file.write(progress(MODEL))
    run_progress.sweep(tmp_path)
    assert len(run_progress.read(tmp_path)) == 1


def test_a_run_that_lives_and_has_not_reported_for_long_is_silent(tmp_path, file):
    file.write(progress(MODEL, updated_us=NOW_US - 200_000_000))
    assert [one.state for one in run_progress.read(tmp_path)] == ["silent"]


def test_a_run_that_reads_a_long_manifest_is_not_silent(tmp_path, file):
    file.write(progress(updated_us=NOW_US - 200_000_000))
    (found,) = run_progress.read(tmp_path)
    assert (found.state, found.planned) == ("running", False)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '{"updated_us": 1}', '{"models": [3]}'])
def test_a_file_of_another_form_is_passed_over(tmp_path, file, text):
    (tmp_path / "_progress" / "run.json").write_text(text)
    assert run_progress.read(tmp_path) == []


def test_a_run_is_done_when_its_slowest_model_is(tmp_path):
    slow = ModelProgress("s", 100, 0, 0, 50, 0.5, "0", None)
    assert progress(MODEL).done_at_us == NOW_US + 20_000_000  # 80 left, 4 a second
    assert progress(MODEL, slow).done_at_us == NOW_US + 100_000_000  # 50 left, one in 2 s


def test_the_end_is_not_known_while_a_model_stands_still():
    held = ModelProgress("h", 100, 0, 0, 50, 0.0, "0", "held for 9 s")
    ready = ModelProgress("r", 100, 0, 0, 100, 0.0, "0", None)
    assert progress(MODEL, held).done_at_us is None
    assert progress(MODEL, ready).done_at_us == NOW_US + 20_000_000


def test_the_file_is_whole_at_any_moment(tmp_path, file):
    for number in range(50):
        file.write(progress(*[MODEL] * (number % 7 + 1)))
        assert json.loads((tmp_path / "_progress" / "run.json").read_bytes())["run_id"] == "run"


def test_no_room_for_the_file_does_not_end_the_run(tmp_path, file):
    (tmp_path / "_progress" / "run.new").mkdir()
    file.write(progress(MODEL))
    assert run_progress.read(tmp_path) == []
