"""Keys go where the user sends them, never where a job wants them: who gets which key, and over what."""

import pytest

from mavi_tasks.errors import InputError
from mavi_tasks.job import Gateway, endpoint, trusted_hosts

KEY = "sk-mavi-1"


@pytest.fixture
def env(tmp_path):
    return {"MAVI_API_KEY": KEY, "THEIRS_API_KEY": "abc", "XDG_CONFIG_HOME": str(tmp_path)}


def key(env, base_url=None, **gateway):
    return endpoint.resolve_endpoint(Gateway(base_url=base_url, **gateway), env).api_key


@pytest.mark.parametrize(
    "base_url",
    [None, endpoint.MAVI_BASE_URL, "http://127.0.0.1:9/v2", "http://localhost:9", "http://[::1]:9/v2"],
)
def test_mavi_and_this_machine_get_the_mavi_key(env, base_url):
    assert key(env, base_url) == KEY


def test_the_host_of_mavi_base_url_gets_the_mavi_key(env):
    env["MAVI_BASE_URL"] = "https://gateway.example/v2"
    assert key(env) == KEY
    assert key(env, "https://gateway.example/v3") == KEY


@pytest.mark.parametrize(
    "base_url",
    [
        "https://other.example",
        "https://mavi-backend.memories.ai.evil.example",
        "https://localhost.evil.example",
    ],
)
def test_a_host_that_a_job_names_does_not_get_the_mavi_key(env, base_url):
    with pytest.raises(InputError, match="--trust-host"):
        key(env, base_url)


@pytest.mark.parametrize("variable", [None, "THEIRS_API_KEY"])
def test_no_key_leaves_this_machine_unencrypted_whatever_is_trusted(env, variable):
    env["MAVI_TRUSTED_HOSTS"] = "other.example,other.example=THEIRS_API_KEY"
    with pytest.raises(InputError, match="unencrypted; use https"):
        key(env, "http://other.example", api_key_env=variable)


def test_mavi_itself_over_plain_http_is_refused(env):
    env["MAVI_BASE_URL"] = "http://mavi-backend.memories.ai/serve/api/v2"
    with pytest.raises(InputError, match="unencrypted"):
        key(env)


def test_a_trusted_host_is_remembered(env):
    trusted_hosts.trust("Other.example", env)
    trusted_hosts.trust("Other.example", env)
    assert key(env, "https://other.example/v2") == KEY
    with pytest.raises(InputError, match=r"other\.example=THEIRS_API_KEY"):
        key(env, "https://other.example/v2", api_key_env="THEIRS_API_KEY")


def test_a_list_of_hosts_that_another_user_could_have_written_is_not_believed(env, tmp_path):
    trusted_hosts.trust("other.example", env)
    (tmp_path / "mavi" / "trusted_hosts").chmod(0o666)
    with pytest.raises(InputError, match="can be changed by other users"):
        key(env, "https://other.example/v2")


@pytest.mark.parametrize("dialect", ["mavi", "openai"])
def test_a_key_goes_only_to_the_host_it_was_named_for(env, dialect):
    given = {"api_key_env": "THEIRS_API_KEY", "dialect": dialect}
    with pytest.raises(InputError, match=r"--trust-host api\.example=THEIRS_API_KEY"):
        key(env, "https://api.example/v1", **given)
    trusted_hosts.trust("api.example=THEIRS_API_KEY", env)
    assert key(env, "https://api.example/v1", **given).endswith("abc")
    with pytest.raises(InputError, match=r"not sent to elsewhere\.example"):
        key(env, "https://elsewhere.example/v1", **given)


def test_a_key_of_somebody_else_does_not_go_to_mavi(env):
    with pytest.raises(InputError, match="not sent to mavi-backend"):
        key(env, api_key_env="THEIRS_API_KEY")


def test_a_second_mavi_account_goes_to_mavi(env):
    env["MAVI_TEAM_B_API_KEY"] = "sk-mavi-2"
    assert key(env, api_key_env="MAVI_TEAM_B_API_KEY") == "sk-mavi-2"


def test_a_variable_that_is_no_api_key_is_never_sent():
    with pytest.raises(ValueError, match="must end in _API_KEY"):
        Gateway(base_url="https://h.example", api_key_env="AWS_SECRET_ACCESS_KEY")


@pytest.mark.parametrize("entry", ["", "https://h.example", "h.example=AWS_SECRET_ACCESS_KEY", "a b", "h/x"])
def test_what_is_no_host_is_not_remembered(env, entry):
    with pytest.raises(InputError, match="must be a host"):
        trusted_hosts.trust(entry, env)
