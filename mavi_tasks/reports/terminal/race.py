"""A race of models on the terminal: a line for each look, and what it came to."""

import shlex
from decimal import Decimal

from rich.console import Console
from rich.text import Text

from mavi_tasks.common.format import ledger_usd, usd
from mavi_tasks.compare.display_names import listed, short
from mavi_tasks.compare.race_record import RaceRecord
from mavi_tasks.compare.race_verdict import conclusion
from mavi_tasks.execution.race import RaceReport


def show_look(record: RaceRecord, console: Console) -> None:
    """What the last look decided, in one line and one more for each model that is out."""
    look, name = record.looks[-1], short(record.models)
    seen = f"{look.media:,} of {record.media:,} media, {usd(Decimal(look.cost_usd))} spent"
    console.print(
        Text(f"look {len(record.looks)}: {seen}; still in: {listed(name[one] for one in look.left)}")
    )
    for drop in look.drops:
        why = drop.sentence.format(by=name[drop.by])
        console.print(Text(f"  out: {name[drop.model]}, {why}", "dim"))


def show_race(report: RaceReport, job: str, console: Console) -> None:
    """Who won and how sure that is; else how far each may be behind, and what to do."""
    console.print(Text(conclusion(report.record), "bold" if report.record.choice else ""))
    if report.message is not None:
        console.print(Text(f"Stopped: {report.message}.", "yellow"))
    console.print(Text(f"Race: {ledger_usd(Decimal(report.cost_pico).scaleb(-12))} so far; {report.output}"))
    for line in next_steps(report, job):
        console.print(Text(line, "dim"))


def next_steps(report: RaceReport, job: str) -> list[str]:
    """The command to go on with."""
    record = report.record
    if record.choice is not None:
        return [f"label everything: mavi run {shlex.quote(job)} --no-race --model {record.choice}"]
    if report.stop_reason == "budget":
        return ["go on: raise race.max_usd or budget_usd, and run the same command again"]
    if report.stop_reason is not None:
        return ["go on: run the same command again"]
    margin = record.rules["margin"]
    return [
        f"All media are used, and these models are within {margin:g} points or too near to tell: "
        f"the cheapest is {record.left[0]}"
    ]
