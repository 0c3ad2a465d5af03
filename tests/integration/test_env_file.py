"""A `.env` in the current folder, through the command line."""

from tests.support.gateways import mavi, one, remote_sandbox, url_job

SECRET = "sk-mavi-secret-0123456789"


def run(folder, *arguments, **more):
    """Run a command in a folder, with no key in the environment and settings of its own."""
    given = {"XDG_CONFIG_HOME": str(folder / "config"), "MAVI_API_KEY": None, **more}
    return mavi(*arguments, cwd=folder, **given)


def test_a_run_takes_its_key_from_the_folder(tmp_path):
    with remote_sandbox() as gateway:
        job = url_job(tmp_path, 2, gateway.base_url, gateway={"base_url": gateway.base_url})
        without = run(tmp_path, "run", job)
        assert without.code == 2
        assert "MAVI_API_KEY is not set" in without.err
        (tmp_path / ".env").write_text(f"MAVI_API_KEY={SECRET}\n")
        (tmp_path / ".env").chmod(0o644)
        done = run(tmp_path, "run", job)
    assert done.code == 0, done.err
    assert "chmod 600 .env" in done.err
    assert SECRET not in done.out + done.err
    assert one(tmp_path / "out", "results", "count(*)", "status = 'answered'") == 2


def test_a_folder_from_someone_else_cannot_send_your_key_elsewhere(tmp_path):
    """Nothing is sent, not even planned for the other gateway, until the user trusts its host."""
    job = url_job(tmp_path, 2, "http://127.0.0.1:9", gateway="mavi")
    (tmp_path / ".env").write_text("MAVI_BASE_URL=https://evil.example/v2\nMAVI_TRUSTED_HOSTS=evil.example\n")
    for command in ("run", "plan"):
        ended = run(tmp_path, command, job, MAVI_API_KEY=SECRET)
        assert ended.code == 2
        assert "MAVI_BASE_URL: the key in MAVI_API_KEY is not sent to evil.example" in ended.err
    assert not (tmp_path / "out" / "results").exists()


def test_the_doctor_names_the_file_and_what_is_wrong_with_it(tmp_path):
    file = tmp_path / ".env"
    file.write_text(f"MAVI_API_KEY={SECRET}\nTHEIR_API_KEY={SECRET}\n")
    file.chmod(0o600)
    checks = {check["name"]: check for check in run(tmp_path, "doctor", "--json").json["checks"]}
    assert checks["env file"]["text"] == f"{file}: gives MAVI_API_KEY, THEIR_API_KEY (no value is shown)"
    assert checks["key"]["ok"]
    file.write_text("MAVI_BASE_URL=https://evil.example/v2\n")
    ended = run(tmp_path, "doctor", "--json", MAVI_API_KEY=SECRET)
    checks = {check["name"]: check for check in ended.json["checks"]}
    assert not checks["env file"]["ok"]
    assert "evil.example" in checks["env file"]["text"]
    assert "evil.example" not in checks["gateway"]["text"]
    assert SECRET not in ended.out + ended.err
