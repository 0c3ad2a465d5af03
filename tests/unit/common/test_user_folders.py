"""What mavi keeps for a user lies where no other user can have put something, or can change it."""

import os
import stat
from pathlib import Path

import pytest

from mavi_tasks.api.manifest import write_manifest
from mavi_tasks.common import user_folders
from mavi_tasks.errors import InputError

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has no modes")


@pytest.fixture
def env(tmp_path):
    return {"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_CONFIG_HOME": str(tmp_path / "config")}


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_follow_the_variables_and_lie_at_home_without_them(env, tmp_path):
    assert user_folders.state_folder(env) == tmp_path / "state" / "mavi"
    assert user_folders.config_folder(env) == tmp_path / "config" / "mavi"
    assert user_folders.state_folder({}) == Path.home() / ".local" / "state" / "mavi"
    assert user_folders.config_folder({}) == Path.home() / ".config" / "mavi"


def test_a_new_folder_is_closed_to_others_whatever_the_umask(env):
    before = os.umask(0)
    try:
        folder = user_folders.private_state(env, "limits", "here")
    finally:
        os.umask(before)
    assert {mode(folder), mode(folder.parent), mode(folder.parent.parent)} == {0o700}


def test_a_folder_that_others_can_read_is_closed_to_them(tmp_path):
    (tmp_path / "a").mkdir(mode=0o755)
    assert mode(user_folders.private(tmp_path / "a")) == 0o700


@pytest.mark.parametrize("rights", [0o770, 0o702, 0o1777, 0o775])
def test_a_folder_that_others_can_change_is_refused(tmp_path, rights):
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(rights)
    with pytest.raises(InputError, match=r"can be changed by other users: look at .* chmod go-rwx"):
        user_folders.private(tmp_path / "a")


def test_a_folder_of_another_user_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    if os.geteuid() == 0:
        os.chown(tmp_path / "a", 1234, 1234)
    other = os.geteuid() + 1
    with pytest.raises(InputError, match=rf"belongs to another user \(uid \d+, not {other}\)"):
        user_folders.private(tmp_path / "a", user=other)


@pytest.mark.parametrize("made", ["link", "dead link", "file", "pipe"])
def test_what_is_planted_in_place_of_a_folder_is_refused(tmp_path, made):
    (tmp_path / "theirs").mkdir()
    path = tmp_path / "mavi"
    if made in ("link", "dead link"):
        path.symlink_to(tmp_path / ("theirs" if made == "link" else "nowhere"))
    elif made == "file":
        path.touch()
    else:
        os.mkfifo(path)
    with pytest.raises(InputError, match="remove it"):
        user_folders.private_state({"XDG_STATE_HOME": str(tmp_path)}, "limits")
    assert not list((tmp_path / "theirs").iterdir())


def test_a_file_is_replaced_as_a_whole_and_for_the_user_alone(tmp_path):
    (tmp_path / "other").write_text("kept")
    (tmp_path / "a").symlink_to(tmp_path / "other")
    user_folders.write_private(tmp_path / "a", b"new")
    assert (tmp_path / "other").read_text() == "kept"
    assert user_folders.read_private(tmp_path / "a") == "new"
    assert mode(tmp_path / "a") == 0o600


def test_a_file_that_others_could_have_written_is_not_read(tmp_path):
    path = tmp_path / "a"
    assert user_folders.read_private(path) is None
    path.write_text("x")
    path.chmod(0o666)
    with pytest.raises(InputError, match="can be changed by other users"):
        user_folders.read_private(path)
    path.unlink()
    path.symlink_to(tmp_path / "b")
    with pytest.raises(InputError, match="is a link"):
        user_folders.read_private(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match="not a regular file"):
        user_folders.read_private(path)


def test_a_folder_that_cannot_be_made_says_what_to_set(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(InputError, match="set XDG_STATE_HOME"):
        user_folders.private(tmp_path / "a" / "mavi")


def test_rows_for_a_dataset_in_a_bucket_become_a_manifest_in_the_state_folder(env, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", env["XDG_STATE_HOME"])
    path = write_manifest(["https://h.example/a.jpg"], "s3://b/x", "media_url", "item_id")
    assert path.is_relative_to(user_folders.state_folder(env) / "manifests")
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
