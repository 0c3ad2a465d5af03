"""`mavi init`: a first job, ready to run. Asks on a terminal for what no flag gives."""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mavi_tasks.common.screen import say
from mavi_tasks.errors import InputError

if TYPE_CHECKING:
    from mavi_tasks.job import Job

MODEL: Final = "gemini:gemini-2.5-flash"
BUDGET_USD: Final = "1.00"
SAMPLE: Final = "sample.csv"
SAMPLE_MEDIA: Final = "sample"
FIELD: Final = "NAME[:TYPE]"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", metavar="DIR", nargs="?", default=".", help="where to write; default: here")
    parser.add_argument(
        "--manifest", metavar="FILE", help="your media: a table, a folder or a glob; default: samples"
    )
    parser.add_argument("--prompt", metavar="TEXT", help="what to ask of every item; may use {{ columns }}")
    parser.add_argument(
        "--field",
        action="append",
        metavar=FIELD,
        help="a typed column: text, integer, number, boolean, list, or choices as calm|lively; repeat",
    )
    parser.add_argument("--model", action="append", metavar="FAMILY:NAME", help="repeat for several")
    parser.add_argument("--budget-usd", metavar="X", help="never spend more than this")
    parser.add_argument(
        "--gateway", metavar="G", default="sandbox", help="sandbox (default), mavi or a base URL"
    )
    parser.add_argument(
        "--yes", action="store_true", help="ask nothing: take the default of what is not given"
    )
    parser.add_argument("--force", action="store_true", help="replace files that are there already")


def command(args: argparse.Namespace) -> int:
    from mavi_tasks.job import starter

    folder = Path(args.dir)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{args.dir}: is a file; give a folder")
    if not args.force:
        _refuse_existing(folder, (starter.JOB, starter.JOB_SCHEMA))
    choices = Choices.of_args(args, folder)
    if sys.stdin.isatty() and not args.yes:
        _ask(choices)
    files = _files(choices.job(), choices)
    if not args.force:
        _refuse_existing(folder, files)
    for name, content in files.items():
        _write(folder / name, content, force=args.force)
        say(str(folder / name))
    job = shlex.quote(str(folder / starter.JOB))
    say(f"Next: mavi plan {job}\n      mavi run {job}")
    return 0


@dataclass(slots=True)
class Choices:
    """What the user wants; None = not said."""

    folder: Path
    gateway: str
    manifest: str | None
    prompt: str | None
    fields: list[str] | None
    models: list[str] | None
    budget_usd: str | None

    @staticmethod
    def of_args(args: argparse.Namespace, folder: Path) -> "Choices":
        given = (args.manifest, args.prompt, args.field, args.model, args.budget_usd)
        return Choices(folder, args.gateway, *given)

    def job(self) -> "Job":
        """The job of these choices, with defaults for what was not said. Raises InputError."""
        from mavi_tasks.job import job_of, starter

        fields = self.fields or []
        name = "".join(c for c in self.folder.resolve().name if c.isprintable()).strip()
        return job_of(
            name=name or "job",
            manifest=self.manifest or str(_sample() / SAMPLE),
            prompt=starter.question(fields) if self.prompt is None else self.prompt,
            models=[starter.spec(model) for model in self.models or [MODEL]],
            answer_schema=starter.answer_schema(fields) if fields else None,
            budget_usd=self.budget_usd or BUDGET_USD,
            gateway=self.gateway,
        )


def _sample() -> Path:
    return Path(str(resources.files("mavi_tasks.cli") / "sample"))


# -- questions


def _ask(choices: Choices) -> None:
    """Ask for what is None; a wrong answer is asked again."""
    from mavi_tasks.job import starter

    def put(name: str, text: str, default: str, value_of: Callable[[str], Any]) -> None:
        if getattr(choices, name) is None:
            _answer(choices, name, f"{text} [{default}]: ", value_of)

    put("manifest", "Your media: a table, a folder or a glob", "three sample photos", str)
    put("fields", "Columns to fill, such as animal, legs:integer, mood:calm|lively", "none: text", _parts)
    put("prompt", "Question", starter.question(choices.fields or []), str)
    put("models", "Models, with commas between them", MODEL, _parts)
    put("budget_usd", "Budget in dollars", BUDGET_USD, str)


def _answer(choices: Choices, name: str, text: str, value_of: Callable[[str], Any]) -> None:
    while True:
        say(text, stderr=True, end="")
        line = sys.stdin.readline()
        if not line:
            raise InputError("no answer: nothing was written; give flags, or --yes for the defaults")
        if not line.strip():
            return
        setattr(choices, name, value_of(line.strip()))
        try:
            choices.job()
        except InputError as error:
            setattr(choices, name, None)
            say("\n".join(error.problems), stderr=True)
        else:
            return


def _parts(line: str) -> list[str]:
    return [part.strip() for part in line.split(",") if part.strip()]


# -- files


def _files(job: "Job", choices: Choices) -> dict[str, bytes]:
    """Every file by its name in the folder, the job last: when it is there, all is."""
    from mavi_tasks.job import starter
    from mavi_tasks.job.json_schema import job_schema

    files = {} if choices.manifest else _sample_files()
    if job.answer_schema is not None:
        files[starter.ANSWER_SCHEMA] = _json(job.answer_schema)
    files[starter.JOB_SCHEMA] = _json(job_schema())
    manifest = _seen_from(choices.folder, job.manifest) if choices.manifest else SAMPLE
    files[starter.JOB] = starter.job_text(job, manifest).encode()
    return files


def _sample_files() -> dict[str, bytes]:
    media = sorted((_sample() / SAMPLE_MEDIA).iterdir())
    photos = {f"{SAMPLE_MEDIA}/{path.name}": path.read_bytes() for path in media}
    return {SAMPLE: (_sample() / SAMPLE).read_bytes(), **photos}


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _seen_from(folder: Path, manifest: str) -> str:
    """A manifest as the job in the folder names it: relative where that is possible."""
    if "://" in manifest:
        return manifest
    try:
        return Path(os.path.relpath(manifest, folder.resolve())).as_posix()
    except ValueError:  # another drive
        return manifest


def _refuse_existing(folder: Path, names: Any) -> None:
    there = [folder / name for name in names if os.path.lexists(folder / name)]
    if there:
        raise InputError([f"{path}: is there already; --force replaces it" for path in there])


def _write(path: Path, content: bytes, *, force: bool) -> None:
    """Write a file that is not there; with force, put it in the place of what is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    target = path.with_name(f".{path.name}.{os.getpid()}") if force else path
    with target.open("xb") as file:
        file.write(content)
    if force:
        target.replace(path)
