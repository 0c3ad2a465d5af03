"""Other users of the machine, jobs of other people, and working folders full of planted modules."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from mavi_tasks.errors import InputError, MaviError
from mavi_tasks.flows.tasks import JobParameter
from mavi_tasks.job import Gateway, job_of, load_job
from mavi_tasks.job.endpoint import resolve_endpoint
from mavi_tasks.limits.shared.factory import rate_lease_store
from tests.bench.hostile.case import Case
from tests.support.gateways import KEY, environment, remote_sandbox, url_job, write_job

MODEL = "gemini:gemini-2.5-flash"
STOLEN = "import os\nopen(os.environ['LOOT'], 'a').write(__name__ + '\\n')\nraise ImportError(__name__)\n"
# Modules that Python, Dask, Prefect and mavi load at their start, or soon after it.
SHADOWED = (
    "base64", "runpy", "multiprocessing", "sitecustomize", "usercustomize", "json", "asyncio", "pickle",
    "ssl", "uvicorn", "prefect", "distributed", "dask", "orjson", "pydantic", "pyarrow", "mavi", "encodings",
    "uuid", "_strptime", "readline", "httpx", "anyio", "cloudpickle", "msgpack", "tornado", "yaml", "logging",
)  # fmt: skip
CLASS = """
from pathlib import Path
from pydantic import BaseModel
Path(__file__).with_name("ran").touch()
class Pet(BaseModel):
    animal: str
"""


# -- the state folder


def state_of(folder: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}


def lease(env: dict[str, str]) -> None:
    """Take a lease of a limit that the runs of this machine share."""
    store = rate_lease_store("file", env)
    asyncio.run(store.lease("mavi-x", 1.0))


def planted(name: str, plant: Callable[[Path], Any]) -> Case:
    """What another user has put in place of a state folder is refused, and nothing is written to it."""

    def attempt(folder: Path) -> str | None:
        theirs = folder / "theirs"
        theirs.mkdir()
        plant(folder)
        try:
            lease(state_of(folder))
        except MaviError as error:
            text = str(error)
            if not any(word in text for word in ("remove it", "look at", "set XDG_STATE_HOME", "is a link")):
                return f"does not say what to do: {text}"
            return "something was written" if any(theirs.iterdir()) else None
        return "it was used"

    return Case(f"state folder: {name}", attempt)


def made(path: Path, mode: int = 0o700, owner: int | None = None) -> None:
    """A folder with these rights; of another owner where this user may give files away."""
    path.mkdir(parents=True)
    path.chmod(mode)
    if owner is not None:
        os.chown(path, owner, owner)


def machine_file(folder: Path) -> Path:
    """The file of the lease, after one was taken."""
    lease(state_of(folder))
    return next((folder / "mavi" / "limits").glob("*/mavi-x"))


def replaced_by_link(folder: Path) -> None:
    path = machine_file(folder)
    path.unlink()
    path.symlink_to(folder / "theirs" / "x")


PLANTED: dict[str, Callable[[Path], Any]] = {
    "a link": lambda folder: (folder / "mavi").symlink_to(folder / "theirs"),
    "a link that leads nowhere": lambda folder: (folder / "mavi").symlink_to(folder / "nowhere"),
    "a link in it": lambda folder: (
        made(folder / "mavi"),
        (folder / "mavi/limits").symlink_to(folder / "theirs"),
    ),
    "a file": lambda folder: (folder / "mavi").touch(),
    "a pipe": lambda folder: os.mkfifo(folder / "mavi"),
    "a link in place of a lease": replaced_by_link,
    **{
        f"mode {mode:o}": lambda folder, mode=mode: made(folder / "mavi", mode)
        for mode in (0o777, 0o1777, 0o770)
    },
    "mode 777 in it": lambda folder: (made(folder / "mavi"), made(folder / "mavi/limits", 0o777)),
}
if os.geteuid() == 0:
    PLANTED["of another user"] = lambda folder: made(folder / "mavi", owner=4321)
    PLANTED["of another user, in it"] = lambda folder: (
        made(folder / "mavi"),
        made(folder / "mavi/limits", owner=4321),
    )


def trust_written_by_others(folder: Path) -> str | None:
    made(folder / "mavi")
    path = folder / "mavi" / "trusted_hosts"
    path.write_text("evil.example\n")
    path.chmod(0o666)
    try:
        resolve_endpoint(Gateway(base_url="https://evil.example"), {"MAVI_API_KEY": KEY, **state_of(folder)})
    except InputError:
        return None
    return "the key goes to evil.example"


def nothing_in_tmp(folder: Path) -> str | None:
    """No file with a name that can be foreseen is left or used in the temporary folder."""
    temporary = folder / "tmp"
    temporary.mkdir()
    with remote_sandbox() as gateway:
        job = url_job(
            folder, 20, gateway.base_url, runner="processes", workers=2, limits={"*": {"concurrency": 4}}
        )
        for command in ("plan", "run"):
            done = run_mavi(command, job, cwd=folder, TMPDIR=str(temporary), **state_of(folder / "state"))
            if done.returncode:
                return done.stderr.strip()[-200:]
    left = [path.name for path in temporary.rglob("*")]
    return f"left in the temporary folder: {left}" if left else None


# -- modules in the working folder


def run_mavi(*arguments: object, cwd: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    """`mavi` as its script starts it: without the current folder among the places of modules."""
    command = [sys.executable, "-P", "-m", "mavi_tasks", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment(**more), capture_output=True, text=True)


def shadowed(name: str, *options: str, **fields: Any) -> Case:
    """A run in a folder full of planted modules: none of them is run, everything is answered."""

    def attempt(folder: Path) -> str | None:
        here, loot = folder / "here", folder / "loot"
        here.mkdir()
        for module in SHADOWED:
            (here / f"{module}.py").write_text(STOLEN)
        with remote_sandbox() as gateway:
            job = url_job(folder / "job", 20, gateway.base_url, **fields)
            home = {"PREFECT_HOME": str(folder / "prefect"), "DO_NOT_TRACK": "1"}
            done = run_mavi("run", job, "--quiet", *options, cwd=here, LOOT=str(loot), **home)
        if loot.exists():
            return f"run: {loot.read_text().split()}"
        return done.stderr.strip()[-300:] if done.returncode else None

    return Case(f"planted modules: {name}", attempt, longest_s=200)


# -- code named by jobs and parameters


def job_folder(folder: Path) -> dict[str, Any]:
    (folder / "items.csv").write_text("media_url\nhttps://h.example/a.jpg\n")
    (folder / "pets.py").write_text(CLASS)
    (folder / "package").mkdir()
    (folder / "package" / "pets.py").write_text(CLASS)
    return {"manifest": str(folder / "items.csv"), "models": [MODEL], "prompts": "x"}


def unrun(name: str, use: Callable[[Path, dict[str, Any]], Any]) -> Case:
    """A job or a parameter that names code is refused, and the code is not run."""

    def attempt(folder: Path) -> str | None:
        os.environ["XDG_CONFIG_HOME"] = str(folder / "config")
        before = set(sys.modules)
        fields = job_folder(folder)
        try:
            use(folder, fields)
        except MaviError as error:
            if list(folder.rglob("ran")) or {"this", "antigravity"} & (set(sys.modules) - before):
                return "the code was run"
            return None if "Traceback" not in str(error) else str(error)
        return "it was taken"

    return Case(f"code: {name}", attempt)


def parameter(**more: str) -> Callable[[Path, dict[str, Any]], Any]:
    def use(folder: Path, fields: dict[str, Any]) -> Any:
        given = {name: value.replace("FOLDER", str(folder)) for name, value in more.items()}
        return TypeAdapter(JobParameter).validate_python({**fields, **given})

    return use


def in_a_file(schema: str) -> Callable[[Path, dict[str, Any]], Any]:
    return lambda folder, fields: load_job(write_job(folder, answer_schema=schema, **fields))


SCHEMAS = (
    "pets:Pet", "package.pets:Pet", "antigravity:Pet", "this:Pet", "os:PathLike", "__main__:Pet", "json:Pet",
    "mavi_tasks.job:Job", "pets.x:Pet",
)  # fmt: skip
CODE: dict[str, Callable[[Path, dict[str, Any]], Any]] = {
    **{f"a parameter with answer_schema {one}": parameter(answer_schema=one) for one in SCHEMAS},
    "a parameter with source and class": parameter(source="FOLDER/job.yaml", answer_schema="pets:Pet"),
    "a parameter with source": parameter(source="FOLDER/job.yaml"),
    **{f"a job file with answer_schema {one}": in_a_file(one) for one in SCHEMAS},
    "the path of a job file as a parameter": lambda folder, fields: TypeAdapter(JobParameter).validate_python(
        str(write_job(folder, answer_schema="pets:Pet", **fields))
    ),
    "a job made in Python": lambda folder, fields: job_of(
        **fields, answer_schema="pets:Pet", source=str(folder / "job.yaml")
    ),
}

CASES = [
    *(planted(name, plant) for name, plant in PLANTED.items()),
    Case("trusted_hosts that others could have written", trust_written_by_others),
    Case("a run leaves nothing in the temporary folder", nothing_in_tmp, longest_s=90),
    shadowed("threads", "--no-prefect"),
    shadowed("processes", "--no-prefect", runner="processes", workers=2),
    shadowed("a Prefect flow with its own server", "--prefect"),
    shadowed("a Dask cluster", runner="dask", workers=2),
    *(unrun(name, use) for name, use in CODE.items()),
]
