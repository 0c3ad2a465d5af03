"""Tries what an attacker, a lying gateway, a broken disk or a hostile manifest would, and counts what held.

    python -m tests.bench.hostile [--only WORD] [--json-only]

Each module of this package is a topic with a list CASES. Each case runs in a process of its own, so that a
hang, a crash or a gigabyte of memory is seen and ends only that case. Prints one row per topic and a line for
each case that did not hold, then one JSON line. The expected number of cases that did not hold is 0.
"""

import argparse
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench import hostile
from tests.bench.hostile.case import Case
from tests.support.gateways import REPOSITORY, environment

NOT_TOPICS = ("__main__", "case")


@dataclass(frozen=True)
class Trial:
    """What became of one case; `problem` is None when mavi held."""

    topic: str
    name: str
    problem: str | None
    took_s: float
    peak_mb: float


def topics() -> list[str]:
    names = sorted(module.name for module in pkgutil.iter_modules(hostile.__path__))
    return [name for name in names if name not in NOT_TOPICS]


def cases_of(topic: str) -> list[Case]:
    cases: list[Case] = importlib.import_module(f"tests.bench.hostile.{topic}").CASES
    return cases


def outlines(topic: str) -> list[Case]:
    """The cases of a topic without what they try.

    Read by another process: a case's peak memory would begin at that of this one, and topics may be large.
    """
    command = [sys.executable, "-m", "tests.bench.hostile", "--list", topic]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment(), stdout=subprocess.PIPE, check=True)
    return [Case(name, _never, longest_s, most_mb) for name, longest_s, most_mb in json.loads(done.stdout)]


def _never(_: Path) -> str | None:
    raise AssertionError("an outline is not tried")


def attempt(topic: str, name: str) -> int:
    """Run one case here: the exit status of its process."""
    case = next(case for case in cases_of(topic) if case.name == name)
    with tempfile.TemporaryDirectory(prefix="mavi-hostile-") as folder:
        problem = case.attempt(Path(folder))
    if problem is not None:
        print(problem, file=sys.stderr)
    return 0 if problem is None else 1


def measure(topic: str, case: Case) -> Trial:
    """Run one case in a process of its own, killed with its children when it takes too long."""
    command = [sys.executable, "-m", "tests.bench.hostile", "--topic", topic, "--case", case.name]
    with tempfile.TemporaryFile() as output:
        started = time.monotonic()
        process = subprocess.Popen(
            command, stdout=output, stderr=output, cwd=REPOSITORY, env=environment(), start_new_session=True
        )
        usage = None
        while usage is None and time.monotonic() - started < case.longest_s:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                usage = used
                process.returncode = os.waitstatus_to_exitcode(status)
            else:
                time.sleep(0.01)
        took_s = time.monotonic() - started
        if usage is None:
            os.killpg(process.pid, signal.SIGKILL)
            _, _, usage = os.wait4(process.pid, 0)
            process.returncode = -signal.SIGKILL
            problem: str | None = f"still running after {case.longest_s:g} s"
        else:
            output.seek(0)
            lines = output.read().decode("utf-8", "replace").strip().splitlines()
            problem = (
                None if process.returncode == 0 else (lines or [f"exit status {process.returncode}"])[-1]
            )
    peak_mb = usage.ru_maxrss / 1024  # KiB on Linux
    if problem is None and peak_mb > case.most_mb:
        problem = f"used {peak_mb:.0f} MB of memory, more than {case.most_mb}"
    return Trial(topic, case.name, problem, took_s, peak_mb)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.hostile")
    parser.add_argument("--only", default="", help="only topics and cases whose name contains this")
    parser.add_argument("--json-only", action="store_true")
    parser.add_argument("--topic", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--list", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.list:
        print(json.dumps([(case.name, case.longest_s, case.most_mb) for case in cases_of(arguments.list)]))
        return 0
    if arguments.case:
        return attempt(arguments.topic, arguments.case)
    trials: list[Trial] = []
    if not arguments.json_only:
        print(f"{'topic':<14} {'tried':>6} {'held':>6} {'peak MB':>8} {'longest s':>10}")
    for topic in topics():
        chosen = [case for case in outlines(topic) if arguments.only in f"{topic} {case.name}"]
        here = [measure(topic, case) for case in chosen]
        trials += here
        if here and not arguments.json_only:
            held = sum(trial.problem is None for trial in here)
            peak, longest = max(trial.peak_mb for trial in here), max(trial.took_s for trial in here)
            print(f"{topic:<14} {len(here):>6} {held:>6} {peak:>8.0f} {longest:>10.1f}", flush=True)
            for trial in here:
                if trial.problem is not None:
                    print(f"    {trial.name}: {trial.problem}", flush=True)
    failed = [asdict(trial) for trial in trials if trial.problem is not None]
    print(json.dumps({"tried": len(trials), "held": len(trials) - len(failed), "not_held": failed}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
