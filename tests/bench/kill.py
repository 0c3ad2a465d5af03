"""Measures what is lost or paid twice when runs and publishers are killed (kill -9) at random moments.

    python -m tests.bench.kill [--kills 200] [--seed 1] [--json-only]

A run is started, killed at a random moment, and started again; every third process only publishes the results
of the one before. About half of the runs seal and publish their segments very often. After each kill, pandas
and DuckDB read the dataset, and all recorded answers must still be in it. When a run finishes, the dataset is
compared with the bill of the gateway, and a new dataset begins. The expected number of losses is 0.

The processes are forks of one process that has imported everything, so that a start is quick. The gateway is
the strict sandbox in another process. Prints a table, then one JSON line.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from mavi_tasks.storage import tables
from mavi_tasks.storage.answered_index import AnsweredIndex
from tests.support.gateways import REPOSITORY, Remote, environment, one, remote_sandbox, rows, spent, url_job

REQUESTS = 1500  # of one dataset
LONGEST_LIFE_S = 0.8


@dataclass
class Figures:
    """The counts of a loop of kills."""

    kills: int = 0
    kills_of_publishers: int = 0
    datasets_finished: int = 0
    answers: int = 0
    answers_lost: int = 0
    rows_twice: int = 0
    calls_in_flight_at_kills: int = 0
    calls_paid_twice: int = 0
    unreadable_reads: int = 0
    reads: int = 0
    problems: list[str] = field(default_factory=list)


# -- the victims


def serve_victims() -> None:
    """For each command line on stdin: fork a process, print its pid, wait for it, print its exit status."""
    from mavi_tasks.execution import run
    from mavi_tasks.reports.terminal import run as screen  # noqa: F401 - imported once, for all forks
    from mavi_tasks.storage import journal

    for line in sys.stdin:
        command = json.loads(line)
        pid = os.fork()
        if pid == 0:
            if command["frequent_publish"]:  # seal and publish very often
                run.PUBLISH_EVERY_S = 0.02
                journal.Journal.__init__.__kwdefaults__["roll_after_s"] = 0.05
            os._exit(_run_victim(command["argv"], command["publish"]))
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run_victim(argv: list[str], publish: str | None) -> int:
    from mavi_tasks.cli import main as cli
    from mavi_tasks.storage.publish import Dataset

    if publish is not None:
        Dataset(Path(publish)).publish()
        return 0
    with contextlib.redirect_stdout(sys.stderr):
        return cli.main(argv)


class VictimServer:
    def __init__(self, log: Path) -> None:
        arguments = [sys.executable, "-m", "tests.bench.kill", "--victims"]
        pipe = subprocess.PIPE
        self._log = log.open("w")
        self._process = subprocess.Popen(
            arguments, stdin=pipe, stdout=pipe, stderr=self._log, text=True, cwd=REPOSITORY, env=environment()
        )

    def run(self, life_s: float | None, *, argv: list[str] = (), publish: Path | None = None,
             frequent_publish: bool = False) -> int:  # fmt: skip
        """The exit status of one process, killed after `life_s`; None = not killed."""
        assert self._process.stdin is not None and self._process.stdout is not None
        command = {"argv": argv, "publish": publish and str(publish), "frequent_publish": frequent_publish}
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        if life_s is not None:
            time.sleep(life_s)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()


# -- the loop


def kill_loop(folder: Path, kills: int, *, seed: int = 1, requests: int = REQUESTS) -> Figures:
    """Kill `kills` times, with one dataset after another; each dataset is finished."""
    found, rng = Figures(), random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    victims = VictimServer(folder / "victims.log")
    try:
        with remote_sandbox(latency_s=0.01) as gateway:
            while found.kills < kills:
                gateway.reset()
                _one_dataset(
                    folder / f"set{found.datasets_finished}", kills, victims, gateway, rng, found, requests
                )
    finally:
        victims.close()
    return found


def _one_dataset(
    folder: Path,
    kills: int,
    victims: VictimServer,
    gateway: Remote,
    rng: random.Random,
    found: Figures,
    requests: int,
) -> None:
    limits = {"*": {"concurrency": rng.choice([4, 16, 64])}}
    job = url_job(folder, requests, gateway.base_url, prompts={"p": "{{ item_id }}?"}, limits=limits)
    out, argv = folder / "out", ["run", str(job), "--quiet"]
    known: set[str] = set()
    status = -signal.SIGKILL
    while status != 0:
        if found.kills >= kills:
            status = victims.run(None, argv=argv)
        elif found.kills % 3 == 2 and (out / "_journal").is_dir():
            status = (
                victims.run(rng.uniform(0, 0.03), publish=out) or -1
            )  # the end of a publisher is not the end of the run
            found.kills_of_publishers += status == -signal.SIGKILL
        else:
            life_s = rng.uniform(0.02, LONGEST_LIFE_S)
            status = victims.run(life_s, argv=argv, frequent_publish=bool(rng.getrandbits(1)))
        found.kills += status == -signal.SIGKILL
        if status not in (0, -1, -signal.SIGKILL):
            found.problems.append(f"{folder.name}: a run ended with {status}")
            return
        _check_readable(out, known, found)
    _check_finished(out, gateway, requests, found)
    found.datasets_finished += 1


def _check_readable(out: Path, known: set[str], found: Figures) -> None:
    """Check that the dataset is readable, has no duplicates, and has all answers recorded before."""
    with _count_unreadable(out, found):
        pieces = list((out / "results").rglob("*.parquet"))
        if pieces:
            frame = pd.read_parquet(out / "results")
            count, distinct = duckdb.sql(
                f"select count(*), count(distinct request_key) from '{out}/results/**/*.parquet'"
            ).fetchall()[0]
            assert len(frame) == count
            found.rows_twice += count - distinct
        found.reads += 1
    now = recorded(out)
    found.answers_lost += len(known - now)
    known |= now


@contextlib.contextmanager
def _count_unreadable(out: Path, found: Figures) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        found.unreadable_reads += 1
        found.problems.append(f"{out.parent.name}: {type(error).__name__}: {error}"[:300])


def recorded(out: Path) -> set[str]:
    """The keys of all answers in the journal or in a part."""
    if not out.is_dir():
        return set()
    keys = set()
    for _, row in tables.unpublished(out):
        if row.status == "answered":
            keys.add(row.request_key)
    return keys | {
        row["request_key"] for row in rows(out, columns="request_key", where="status = 'answered'")
    }


def _check_finished(out: Path, gateway: Remote, requests: int, found: Figures) -> None:
    """Check: all is answered once; extra payments were in flight at a kill, and are reported."""
    bill = gateway.bill()
    crashed = one(out, "attempts", "count(*)", "outcome = 'in_doubt' and error_code = 'crashed'")
    found.calls_in_flight_at_kills += crashed
    found.calls_paid_twice += bill["bodies"]["extra_payments"]
    found.answers += one(out, "results", "count(*)")
    answered = one(out, "results", "count(distinct request_key)", "status = 'answered'")
    indexed = len(AnsweredIndex.read(out))
    unknown = float(bill["total_usd"]) - float(spent(out, "attempts"))
    checks: dict[str, Any] = {
        f"{answered} of {requests} are answered": answered == requests,
        f"the index holds {indexed}": indexed == requests,
        "the results are paid otherwise than the attempts": spent(out, "results") == spent(out, "attempts"),
        "the exposure is less than what was paid unseen": 0 <= unknown <= one(
            out, "attempts", "coalesce(sum(exposure_usd), 0)::double"
        ) + 1e-9,
        "paid twice more often than in flight": bill["bodies"]["extra_payments"] <= crashed,
        "a journal is left": not list((out / "_journal").glob("*.jsonl")),
        "a plan is left": not list((out / "_plan").glob("*/")),
        "something is left in staging": not [p for p in (out / "_staging").glob("*") if p.suffix != ".run"],
    }  # fmt: skip
    found.problems += [f"{out.parent.name}: {what}" for what, good in checks.items() if not good]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json-only", action="store_true")
    parser.add_argument("--victims", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.victims:
        serve_victims()
        return
    with tempfile.TemporaryDirectory() as folder:
        found = kill_loop(Path(folder), options.kills, seed=options.seed)
    if not options.json_only:
        for name, value in asdict(found).items():
            print(f"{name.replace('_', ' '):>26}  {value}")
    print(json.dumps({"bench": "kill", **asdict(found)}))
    sys.exit(bool(found.problems or found.answers_lost or found.rows_twice or found.unreadable_reads))


if __name__ == "__main__":
    main()
