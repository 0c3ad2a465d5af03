"""Escape sequences from gateways, manifests, files, jobs and models, on every road to the screen.

Each case makes one command print a text of another person, and looks at all that the command wrote to stdout
and stderr: not one character may be there that a terminal obeys, and the text itself must be there.
"""

import contextlib
import io
import json
import logging
import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

from mavi_tasks.cli.main import main
from mavi_tasks.common.counters import ModelCounters
from mavi_tasks.common.screen import log_to_stderr
from mavi_tasks.flows import serve
from mavi_tasks.reports.terminal.console import open_console
from mavi_tasks.reports.terminal.progress import Progress
from tests.bench.hostile.case import Case
from tests.support.gateways import KEY, says, url_job, write_job

SEEN = "zq7"  # stands in every attack: a case whose text was not printed at all proves nothing
EVIL = f"{SEEN}\x1b]0;owned\x07\x1b[2J\x1b[1;1H\x9b31m\x1bPq\x1b\\\r\x08\x7f\u202egnp\u2066x\u2069"
FILE = EVIL.replace("/", "")  # a file may be called so
BIDI = set(map(chr, (0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))))
GOOD = {"status": "completed", "usage": {"input_tokens": 900, "output_tokens": 9}, "id": EVIL, "model": EVIL}

TABLE = "item_id,media_url\n1,https://a.example/x.jpg\n"
MISSING = "item_id,media_url\n1,nothing.jpg\n"
ITEM = f'item_id,media_url\n"{EVIL}",https://a.example/x.mp4\n'

Attack = Callable[[Path], None]


def obeyed(text: str) -> list[str]:
    """The characters of a text that a terminal obeys."""
    return [c for c in text if c in BIDI or (unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t")]


@contextlib.contextmanager
def screen() -> Iterator[io.StringIO]:
    """All that is written to stdout and stderr, with a key in the environment and no Prefect."""
    shown = io.StringIO()
    os.environ.update(MAVI_API_KEY=KEY)
    os.environ.pop("PREFECT_API_URL", None)
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        yield shown


def attempt(attack: Attack, folder: Path) -> str | None:
    with screen() as shown, contextlib.suppress(SystemExit):
        attack(folder)
    text = shown.getvalue()
    if found := obeyed(text):
        return f"{len(found)} control characters reached the screen, the first is {found[0]!r}"
    return None if SEEN in text else f"the text was not printed, only {text[-200:]!r}"


def reply(**fields: object) -> bytes:
    return json.dumps({**GOOD, **fields}).encode()


def answer(text: str = EVIL) -> bytes:
    return reply(choices=[{"text": text, "finish_reason": "stop"}])


def run(
    folder: Path, body: bytes, *arguments: str, status: int = 200, job_name: str = "job", **fields: object
) -> None:
    with says(body, status) as url:
        job = url_job(folder, 2, url, retry={"attempts": 1, "base_s": 0.001, "cap_s": 0.002}, **fields)
        written = json.loads(job.read_text())
        job.write_text(json.dumps({"name": job_name, **written}))
        main(["run", str(job), *arguments])


def refused(message: str, status: int, code: str = "X") -> Attack:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    return lambda folder: run(folder, body, status=status)


def made(folder: Path, *command: str) -> None:
    """A command on the dataset of a job, an output folder and answers with these texts."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        run(folder, answer(), "--quiet", job_name=EVIL, output=str(folder / FILE))
    if command:
        main([part.replace("DIR", str(folder / FILE)).replace("FOLDER", str(folder)) for part in command])


def failed(folder: Path, *command: str) -> None:
    """A command on the dataset of a run whose every call was refused with this text."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        refused(EVIL, 400)(folder)
    main([part.replace("DIR", str(folder / "out")) for part in command])


def only(folder: Path) -> None:
    """A run of the rows of a file that names no model of the job."""
    (folder / "rows.csv").write_text(
        f'item_id,model,prompt_id\ni1,"{EVIL}",p\n', encoding="utf-8", newline=""
    )
    run(folder, answer(), "--only", str(folder / "rows.csv"))


def rows(folder: Path, text: str, *arguments: str, name: str = "items.csv", **fields: object) -> None:
    """A plan of a manifest with this text."""
    (folder / name).write_text(text, encoding="utf-8", newline="")
    job = write_job(
        folder,
        **{
            "manifest": name,
            "prompts": {"p": "?"},
            "models": ["gpt:gpt-4o-mini"],
            "gateway": "sandbox",
            "output": str(folder / "out"),
            **fields,
        },
    )
    main(["plan", str(job), *arguments])


def progress(folder: Path) -> None:
    counters = ModelCounters(EVIL)
    counters.requests, counters.stopped = 10, EVIL
    shown = Progress([counters], {}, quiet=False)
    open_console(stderr=True).print(shown._table())


def log(folder: Path) -> None:
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        log_to_stderr()
        logging.getLogger("mavi").warning("%s cannot be read", EVIL)
        try:
            raise ValueError(EVIL)
        except ValueError:
            logging.getLogger("another.library").exception("failed: %r", EVIL)
    finally:
        root.handlers = handlers


def json_line(folder: Path) -> None:
    """What --json prints is the same text, escaped."""
    made(folder)
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        main(["costs", str(folder / FILE), "--by", "job", "--json"])
    print(shown.getvalue(), end="")
    if json.loads(shown.getvalue())["groups"][0]["job"] != EVIL:
        print("\x1b the text was changed")


def deployments(folder: Path) -> None:
    (folder / "prefect.yaml").write_text("deployments: [{name: a, entrypoint: b}]")
    serve.main([str(folder / "prefect.yaml"), "--only", EVIL])


ATTACKS: dict[str, Attack] = {
    "a gateway's error message": refused(EVIL, 400),
    "a gateway's error code": refused("no", 200, EVIL),
    "a message that stops the run": refused(EVIL, 402),
    "a message that stops the model": refused(EVIL, 404, "model_not_found"),
    "a page that is no JSON": lambda folder: run(folder, f"<html>{EVIL}".encode()),
    "a finish reason": lambda folder: run(folder, reply(choices=[{"text": "", "finish_reason": EVIL}])),
    "an answer shown by a pilot": lambda folder: run(folder, answer(), "--pilot", "1", "--yes"),
    "an answer that is invalid": lambda folder: run(
        folder,
        answer('{"a": 1}'),
        answer_schema={"type": "object", "properties": {"a": {"enum": [EVIL]}}},
        repair=False,
    ),
    "a job's name in the report": lambda folder: run(folder, answer(), job_name=EVIL),
    "an output folder in the report": lambda folder: run(folder, answer(), output=str(folder / FILE)),
    "status": lambda folder: made(folder, "status", "DIR"),
    "status of failures": lambda folder: failed(folder, "status", "DIR"),
    "failed rows": lambda folder: failed(folder, "status", "DIR", "--failed"),
    "failed rows as JSON": lambda folder: failed(folder, "status", "DIR", "--failed", "--json"),
    "only a file of rows": lambda folder: only(folder),
    "costs --json": json_line,
    "compare": lambda folder: made(folder, "compare", "DIR", "--html", f"FOLDER/{FILE}.html"),
    "compare with a reference": lambda folder: made(folder, "compare", "DIR", "--reference", EVIL),
    "costs": lambda folder: made(folder, "costs", "DIR", "--by", "job"),
    "costs --what-if": lambda folder: made(folder, "costs", "DIR", "--what-if", EVIL),
    "costs --html": lambda folder: made(folder, "costs", "DIR", "--html", f"FOLDER/{FILE}.html"),
    "export": lambda folder: made(folder, "export", "DIR", "--to", f"FOLDER/{FILE}.csv"),
    "a manifest's item id": lambda folder: rows(folder, ITEM),
    "a manifest's media": lambda folder: rows(folder, f'item_id,media_url\n1,"ftp://{EVIL}"\n'),
    "a manifest's file name": lambda folder: rows(folder, MISSING, name=f"{FILE}.csv"),
    "a manifest's columns": lambda folder: rows(folder, f'item_id,"{EVIL}"\n1,https://a.example/x.jpg\n'),
    "a column that is not there": lambda folder: rows(folder, TABLE, columns={"media": EVIL}),
    "a prompt's name": lambda folder: rows(folder, TABLE, prompts={EVIL: "{{ nothing }}"}),
    "a job that is not there": lambda folder: main(["plan", str(folder / f"{FILE}.yaml")]) and None,
    "a job's model": lambda folder: main(["run", str(folder), "--model", EVIL, "--prompt", "?"]) and None,
    "a job's unknown key": lambda folder: main(["plan", str(write_job(folder, **{EVIL: 1}))]) and None,
    "price": lambda folder: main(["price", EVIL, "--input", "1", "--output", "1"]) and None,
    "an unknown option": lambda folder: main(["models", f"--{EVIL}"]) and None,
    "a command that is not there": lambda folder: main([EVIL]) and None,
    "an option's value": lambda folder: main(["costs", "x", "--since", EVIL]) and None,
    "the log": log,
    "the progress table": progress,
    "serve": deployments,
}  # fmt: skip


def _case(name: str, attack: Attack) -> Case:
    return Case(name, lambda folder: attempt(attack, folder))


def styled(folder: Path) -> str | None:
    """On a terminal, rich writes escape sequences of its own; those of the text must not be among them."""
    shown = io.StringIO()
    console = open_console()
    console.file, console._force_terminal = shown, True
    console.print(EVIL, style="bold red")
    text = re.sub(r"\x1b\[[\d;]*m", "", shown.getvalue())
    return f"{obeyed(text)[0]!r} reached the terminal" if obeyed(text) else None


CASES = [*(_case(name, attack) for name, attack in ATTACKS.items()), Case("a terminal with colours", styled)]
