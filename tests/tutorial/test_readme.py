"""The README cannot drift: every command in it is one that the program takes, every file in it is there."""

import re
import shlex
from pathlib import Path

import pytest

from mavi_tasks.cli.main import parser
from tests.support.gateways import REPOSITORY

ROOT = REPOSITORY
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
LINES = [line.split("  #")[0].strip() for block in SHELL for line in block.splitlines()]
COMMANDS = [part for line in LINES for part in line.split(" && ") if re.match(r"(\.venv/bin/)?mavi ", part)]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_readme_is_taken(command):
    parser().parse_args(shlex.split(command)[1:])


def test_the_readme_has_commands_to_try():
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([\w./-]+)\)", README))))
def test_every_file_the_readme_links_to_is_there(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("command", re.findall(r"`python -m (tests\.bench\.\w+)", README))
def test_every_figure_can_be_made_again(command):
    assert (ROOT / Path(*command.split("."))).with_suffix(".py").exists()


def test_every_command_of_the_program_is_in_the_readme():
    from mavi_tasks.cli.main import COMMANDS as known

    assert [name for name, *_ in known if f"mavi {name}" not in README] == []
