"""The `.env` of a folder gives keys, and nothing that a hostile folder could use."""

import os
import stat

import pytest

from mavi_tasks.errors import InputError
from mavi_tasks.job import env_file, trusted_hosts

SECRET = "sk-mavi-secret-0123456789"


@pytest.fixture
def env(tmp_path):
    return {"XDG_CONFIG_HOME": str(tmp_path / "config")}


@pytest.fixture
def written(tmp_path):
    """Write a `.env`, readable by its owner only unless other rights are given."""

    def write(text, mode=0o600):
        path = tmp_path / ".env"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return tmp_path

    return write


def test_a_folder_without_one_changes_nothing(tmp_path, env):
    before = dict(env)
    assert env_file.load(tmp_path, env) == ()
    assert env == before


@pytest.mark.parametrize(
    "line",
    [
        f"MAVI_API_KEY={SECRET}",
        f"export MAVI_API_KEY='{SECRET}'",
        f'MAVI_API_KEY = "{SECRET}"  # mine',
        f"\ufeffMAVI_API_KEY={SECRET}\r\n",
    ],
)
def test_a_key_is_taken(written, env, line):
    assert env_file.load(written(line), env) == ()
    assert env["MAVI_API_KEY"] == SECRET


def test_the_environment_wins(written, env):
    env |= {"THEIR_API_KEY": "mine", "MEMORIES_API_KEY": "mine too"}
    env_file.load(written(f"THEIR_API_KEY=x\nMEMORIES_API_KEY=x\nMAVI_API_KEY={SECRET}\n"), env)
    assert env["THEIR_API_KEY"] == "mine"
    assert "MAVI_API_KEY" not in env  # it would go before MEMORIES_API_KEY


@pytest.mark.parametrize(
    "name",
    [
        "MAVI_TRUSTED_HOSTS", "MAVI_TRUSTED_MODULES", "MAVI_DASK_ADDRESS", "MAVI_DASK_PLAIN", 
        "MAVI_REDIS_URL", "MAVI_SPOOL", "MAVI_LEASE_S",
    ],
)  # fmt: skip
def test_what_decides_where_things_go_is_not_taken_and_said(written, env, name):
    folder = written(f"\n{name}=evil.example\n")
    (warning,) = env_file.load(folder, env)
    assert name not in env
    assert warning == f"{folder}/.env:2: {name} is not taken from a file of a folder: export it"


def test_other_programs_variables_are_left_alone(written, env):
    assert env_file.load(written("AWS_SECRET_ACCESS_KEY=x\nPATH=/evil\nLD_PRELOAD=/evil.so\n"), env) == ()
    assert set(env) == {"XDG_CONFIG_HOME"}


def test_a_value_is_never_made_of_other_variables(written, env):
    env["AWS_SECRET_ACCESS_KEY"] = "aws"
    env_file.load(written("THEIR_API_KEY=${AWS_SECRET_ACCESS_KEY}\n"), env)
    assert env["THEIR_API_KEY"] == "${AWS_SECRET_ACCESS_KEY}"


def test_a_hostile_base_url_stops_the_run(written, env):
    folder = written("MAVI_BASE_URL=https://evil.example/v2\nMAVI_TRUSTED_HOSTS=evil.example\n")
    with pytest.raises(InputError, match=r"\.env: MAVI_BASE_URL: .*--trust-host evil\.example") as raised:
        env_file.load(folder, env)
    assert "MAVI_BASE_URL" not in env
    assert "sk-" not in str(raised.value)


@pytest.mark.parametrize("url", ["http://gateway.example/v2", "https://a:b@gateway.example", "nonsense"])
def test_a_base_url_that_is_unsafe_or_none_stops_the_run(written, env, url):
    trusted_hosts.trust("gateway.example", env)
    with pytest.raises(InputError, match="MAVI_BASE_URL"):
        env_file.load(written(f"MAVI_BASE_URL={url}\n"), env)


def test_a_base_url_of_a_trusted_host_or_of_this_machine_is_taken(written, env):
    trusted_hosts.trust("gateway.example", env)
    for url in ("https://gateway.example/v2", "http://127.0.0.1:8787"):
        env.pop("MAVI_BASE_URL", None)
        assert env_file.load(written(f"MAVI_BASE_URL={url}\n"), env) == ()
        assert env["MAVI_BASE_URL"] == url


needs_rights = pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX rights")


@needs_rights
def test_a_file_that_all_can_read_is_warned_of(written, env):
    (warning,) = env_file.load(written(f"MAVI_API_KEY={SECRET}\n", 0o644), env)
    assert "chmod 600" in warning
    assert SECRET not in warning
    assert env["MAVI_API_KEY"] == SECRET


@needs_rights
def test_a_file_without_keys_is_not_warned_of(written, env):
    assert env_file.load(written("TITLE=x\n", 0o644), env) == ()


@needs_rights
def test_a_file_that_all_can_change_is_left_alone(written, env):
    (warning,) = env_file.load(written(f"MAVI_API_KEY={SECRET}\n", 0o666), env)
    assert "can be changed by every user" in warning
    assert "MAVI_API_KEY" not in env


@needs_rights
def test_a_file_of_another_user_is_left_alone(written, env):
    folder = written(f"MAVI_API_KEY={SECRET}\n")
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(folder / ".env", 1234, 1234)
    (warning,) = env_file.load(folder, env)
    assert "belongs to another user (uid 1234)" in warning
    assert "MAVI_API_KEY" not in env


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"X_API_KEY=\xff\n", "is not UTF-8"),
        (b"X_API_KEY=" + b"x" * 65_536, "is larger than 65,536 bytes"),
        (f"TITLE=x\n{SECRET}\n\n".encode(), ".env:2: is no NAME=value"),
        (f"X_API_KEY='{SECRET}\n".encode(), ".env:1: is no NAME=value"),
        (b"X_API_KEY=a\0b\n", ".env:1: is no NAME=value"),
    ],
)
def test_a_broken_file_is_told_without_its_content(written, env, content, said):
    (warning,) = env_file.load(written(content), env)
    assert said in warning
    assert SECRET not in warning
    assert "X_API_KEY" not in env


def test_neither_a_folder_nor_a_pipe_holds_it_up(tmp_path, env):
    (tmp_path / ".env").mkdir()  # an old virtual environment, often
    assert "nothing is taken" in env_file.load(tmp_path, env)[0]
    (tmp_path / ".env").rmdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / ".env")
        assert stat.S_ISFIFO((tmp_path / ".env").lstat().st_mode)
        assert "nothing is taken" in env_file.load(tmp_path, env)[0]


def test_no_value_is_in_a_repr(written, env):
    assert SECRET not in repr(env_file.read(written(f"MAVI_API_KEY={SECRET}\n"), env))
