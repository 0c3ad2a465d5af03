"""`mavi completion SHELL`: what a shell offers after mavi and Tab."""

import shutil
import subprocess

import pytest

from mavi_tasks.cli.main import COMMANDS, main
from tests.support.gateways import mavi


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The script for bash, in a file."""
    path = tmp_path_factory.mktemp("completion") / "mavi.bash"
    done = mavi("completion", "bash")
    assert done.code == 0, done.err
    path.write_text(done.out)
    return path


def offered(script, *words, cwd=None):
    """What bash offers for the last of these words."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    code = (
        f'source {script}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_mavi; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", code, "bash", *words], capture_output=True, text=True, cwd=cwd)
    return set(done.stdout.split())


def test_commands_are_offered(script):
    assert offered(script, "mavi", "pl") == {"plan"}
    assert {name for name, *_ in COMMANDS} <= offered(script, "mavi", "")


def test_flags_are_offered(script):
    assert offered(script, "mavi", "run", "--budg") == {"--budget-usd"}


def test_files_are_offered_for_a_job_and_folders_for_a_dataset(script, tmp_path):
    (tmp_path / "pets.yaml").write_text("")
    (tmp_path / "pets").mkdir()
    assert "pets.yaml" in offered(script, "mavi", "run", "pe", cwd=tmp_path)
    assert offered(script, "mavi", "status", "pe", cwd=tmp_path) == {"pets"}


@pytest.mark.parametrize("shell", ["zsh", "fish", "tcsh", "powershell"])
def test_other_shells_have_a_script_too(shell, capsys):
    assert main(["completion", shell]) == 0
    assert "mavi" in capsys.readouterr().out


def test_an_unknown_shell_is_told_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        main(["completion", "bsh"])
    assert "did you mean bash?" in capsys.readouterr().err
