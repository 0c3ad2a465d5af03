"""kill -9 at random moments, writers and publishers, and what is left of the answers and the money.

    python -m tests.bench.kill [--kills 200] [--seed 1] [--json-only]

A run is started, killed at a random moment, started again; every third victim only publishes what the one
before it left. Every second run seals and publishes its segments all the time, as a long run does now and
then. After each kill the dataset is read by pandas and DuckDB, and what was recorded is looked for. A run
that gets to its end closes the dataset's books, and the next one begins.

The victims are forks of one process that has imported everything, so that a kill costs no import. The strict
sandbox in another process keeps the bill.
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
    """What a loop of kills came to."""

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


def nest() -> None:
    """Reads one victim a line from stdin; forks it, tells its pid, waits for its end, tells how it ended."""
    from mavi_tasks.execution import run
    from mavi_tasks.reports.terminal import run as screen  # noqa: F401 - imported once, for all forks
    from mavi_tasks.storage import journal

    for line in sys.stdin:
        told = json.loads(line)
        pid = os.fork()
        if pid == 0:
            if told["restless"]:  # seals and publishes all the time
                run.PUBLISH_EVERY_S = 0.02
                journal.Journal.__init__.__kwdefaults__["roll_after_s"] = 0.05
            os._exit(_live(told["argv"], told["publish"]))
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _live(argv: list[str], publish: str | None) -> int:
    from mavi_tasks.cli import main as cli
    from mavi_tasks.storage.publish import Dataset

    if publish is not None:
        Dataset(Path(publish)).publish()
        return 0
    with contextlib.redirect_stdout(sys.stderr):
        return cli.main(argv)


class Nest:
    def __init__(self, log: Path) -> None:
        command = [sys.executable, "-m", "tests.bench.kill", "--nest"]
        pipe = subprocess.PIPE
        self._log = log.open("w")
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=self._log, text=True, cwd=REPOSITORY, env=environment()
        )

    def live(self, life_s: float | None, *, argv: list[str] = (), publish: Path | None = None,
             restless: bool = False) -> int:  # fmt: skip
        """The exit status of one victim: killed after `life_s`, never when that is None."""
        assert self._process.stdin is not None and self._process.stdout is not None
        told = {"argv": argv, "publish": publish and str(publish), "restless": restless}
        self._process.stdin.write(json.dumps(told) + "\n")
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
    """Kill so often, going from dataset to dataset; each is brought to its end."""
    found, chance = Figures(), random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    nest = Nest(folder / "victims.log")
    try:
        with remote_sandbox(latency_s=0.01) as gateway:
            while found.kills < kills:
                gateway.reset()
                _one_dataset(
                    folder / f"set{found.datasets_finished}", kills, nest, gateway, chance, found, requests
                )
    finally:
        nest.close()
    return found


def _one_dataset(
    folder: Path,
    kills: int,
    nest: Nest,
    gateway: Remote,
    chance: random.Random,
    found: Figures,
    requests: int,
) -> None:
    limits = {"*": {"concurrency": chance.choice([4, 16, 64])}}
    job = url_job(folder, requests, gateway.base_url, prompts={"p": "{{ item_id }}?"}, limits=limits)
    out, argv = folder / "out", ["run", str(job), "--quiet"]
    seen: set[str] = set()
    status = -signal.SIGKILL
    while status != 0:
        if found.kills >= kills:
            status = nest.live(None, argv=argv)
        elif found.kills % 3 == 2 and (out / "_journal").is_dir():
            status = (
                nest.live(chance.uniform(0, 0.03), publish=out) or -1
            )  # a publisher's end is not the run's
            found.kills_of_publishers += status == -signal.SIGKILL
        else:
            life_s = chance.uniform(0.02, LONGEST_LIFE_S)
            status = nest.live(life_s, argv=argv, restless=bool(chance.getrandbits(1)))
        found.kills += status == -signal.SIGKILL
        if status not in (0, -1, -signal.SIGKILL):
            found.problems.append(f"{folder.name}: a run ended with {status}")
            return
        _look(out, seen, found)
    _close_the_books(out, gateway, requests, found)
    found.datasets_finished += 1


def _look(out: Path, seen: set[str], found: Figures) -> None:
    """The dataset reads, nothing is there twice, and whatever was recorded before is still recorded."""
    with _told_when_unreadable(out, found):
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
    found.answers_lost += len(seen - now)
    seen |= now


@contextlib.contextmanager
def _told_when_unreadable(out: Path, found: Figures) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        found.unreadable_reads += 1
        found.problems.append(f"{out.parent.name}: {type(error).__name__}: {error}"[:300])


def recorded(out: Path) -> set[str]:
    """The keys of all answers that are in the journal or in a part."""
    if not out.is_dir():
        return set()
    keys = set()
    for _, row in tables.unpublished(out):
        if row.status == "answered":
            keys.add(row.request_key)
    return keys | {
        row["request_key"] for row in rows(out, columns="request_key", where="status = 'answered'")
    }


def _close_the_books(out: Path, gateway: Remote, requests: int, found: Figures) -> None:
    """Everything is answered, once; what was paid beyond the answers was in flight at a kill, and is told."""
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
    parser.add_argument("--nest", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.nest:
        nest()
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
