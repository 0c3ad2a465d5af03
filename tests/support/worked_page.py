"""A page whose commands are run, in one folder, and whose outputs are compared with what they print.

A step is a block ```sh followed by a block ```text. Make the outputs of a page again:
python -m tests.support.worked_page docs/getting-started.md
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.gateways import environment

STEP = re.compile(
    r"^```sh\n(?P<commands>[^`]*)```\n\n```text\n(?P<output>(?:(?!```$).*\n)*)```$", re.MULTILINE
)
HOME = "/home/you"
BOX = re.compile(r"[┏━┳┓┡╇┩└─┴┘┃│]")
# What is another in each run: ids, times, and the spaces by which a table fits them.
VOLATILE = (
    (re.compile(r"\d{8}T\d{6}-[0-9a-f]{6}"), "RUN"),
    (re.compile(r"\b\d+(\.\d+)? m?s\b"), "TIME"),
    (re.compile(r'"(latency_\w+|wall_s|started_at|finished_at)": [^,}]+'), r'"\1": TIME'),
    (re.compile(r"\s+"), " "),
)


def steps(page: Path) -> list[tuple[list[str], str]]:
    """The commands of each step, and the output that the page shows for them."""
    found = STEP.finditer(page.read_text("utf-8"))
    return [(one["commands"].splitlines(), one["output"]) for one in found]


def run(commands: list[str], folder: Path) -> str:
    """Run commands one after the other; what they print on both streams, without the folder's name."""
    program = [
        f'mavi() {{ "{sys.executable}" -m mavi_tasks "$@"; }}',
        f'python() {{ "{sys.executable}" "$@"; }}',
    ]
    done = subprocess.run(
        ["bash", "-e", "-c", "\n".join([*program, *commands])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=environment(MAVI_API_KEY=None, XDG_CONFIG_HOME=str(folder / ".config")),
    )
    assert done.returncode == 0, done.stdout
    lines = done.stdout.replace(str(folder), HOME).splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)


def comparable(output: str) -> list[str]:
    """The lines of an output without what differs from run to run; answers come in any order."""
    lines = [BOX.sub(" ", line) for line in output.splitlines()]
    for pattern, text in VOLATILE:
        lines = [pattern.sub(text, line).strip() for line in lines]
    return sorted(filter(None, lines))


def renew(page: Path) -> None:
    """Write today's outputs into a page."""
    with tempfile.TemporaryDirectory() as folder:

        def with_output(step: re.Match[str]) -> str:
            output = run(step["commands"].splitlines(), Path(os.path.realpath(folder)))
            return f"```sh\n{step['commands']}```\n\n```text\n{output}```"

        page.write_text(STEP.sub(with_output, page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    renew(Path(sys.argv[1]))
