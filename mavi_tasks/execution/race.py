"""A race of a job's models: runs over ever more media, of the models that are still in it.

Each look is an ordinary run (local.py) of a selection: the media since the look before, with the models that
are left. So nothing is paid twice, and a race that was killed goes on where it was: its decisions stand in
`race.json`, its answers in the dataset. compare/race_decisions.py has the method.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from mavi_tasks.common.money import exact_text, pico, usd
from mavi_tasks.compare import race_decisions, race_scores
from mavi_tasks.compare.race_record import (
    RaceDrop,
    RaceLook,
    RaceRecord,
    Status,
    read_record,
    write_record,
)
from mavi_tasks.compare.sheet import Unit as Question
from mavi_tasks.errors import InputError
from mavi_tasks.execution import local
from mavi_tasks.execution.local import SILENT, RunCallbacks
from mavi_tasks.execution.race_items import RaceItems, read_items
from mavi_tasks.execution.race_labels import FILE, Labels, read_labels, write_labels
from mavi_tasks.execution.race_spend import spent_before_pico
from mavi_tasks.execution.run_report import EXIT_STOPPED, RunReport
from mavi_tasks.job import Job
from mavi_tasks.job.endpoint import resolve_endpoint
from mavi_tasks.job.sections import Race
from mavi_tasks.planning.selection import Selection
from mavi_tasks.storage.publish import Dataset

OnLook = Callable[[RaceRecord], None]
COLUMN_TRUTH: Final = "column truth"
BY_LABELS: Final = "labels"
# Of what is left, a look may plan with so much: a call is only sent when its largest possible cost is there.
PLANNED_SHARE: Final = Decimal("0.8")


@dataclass(frozen=True, slots=True)
class RaceReport:
    """How a race ended here. runs: those of this command; stop_reason: None when it need not go on."""

    record: RaceRecord
    runs: tuple[RunReport, ...]
    output: str
    cost_pico: int  # of the whole race, in doubt included
    stop_reason: str | None
    message: str | None

    @property
    def exit_status(self) -> int:
        worst = max((run.exit_status for run in self.runs), default=0)
        return worst if worst >= EXIT_STOPPED or self.stop_reason is None else EXIT_STOPPED

    def to_json(self) -> dict[str, Any]:
        """What `mavi run --race --json` prints; dollars are text."""
        counts = ("requests", "answered", "failed", "invalid", "skipped", "unsent", "already_answered")
        stopped = self.stop_reason is not None
        return {
            "run_ids": [run.run_id for run in self.runs],
            "status": self.runs[-1].status if self.runs and self.runs[-1].status != "finished"
            else "stopped" if stopped else "finished",
            "stop_reason": self.stop_reason,
            "message": self.message,
            **{name: sum(run.total(name) for run in self.runs) for name in counts},
            "cost_usd": exact_text(sum(run.cost_pico for run in self.runs)),
            "exposure_usd": exact_text(sum(run.exposure_pico for run in self.runs)),
            "wall_s": round(sum(run.wall_s for run in self.runs), 3),
            "race": self.record.to_json() | {"spent_usd": exact_text(self.cost_pico)},
            "output": self.output,
        }  # fmt: skip


def race(
    job: Job,
    env: Mapping[str, str],
    callbacks: RunCallbacks = SILENT,
    *,
    on_look: OnLook = lambda record: None,
    pay_again: bool = False,
    labels: Path | None = None,
) -> RaceReport:
    """Run a job as a race, or go on with the one its dataset holds; blocks as `local.execute` does.

    on_look: called after each look. labels: a CSV of what people say is right, for a manifest without
    expected answers; None = the file in the dataset that the race itself asks to fill in. Raises InputError
    before anything is sent when the job cannot race, or when its dataset holds another race.
    """
    rules = job.race or Race()
    root = _root(job, rules)
    dataset = Dataset(root)
    dataset.create()
    dataset.publish()  # what a killed race has paid for
    items = read_items(job, rules.seed, needs_truth=rules.reference is None)
    by_labels = rules.reference is None and not items.with_truth
    if labels is not None and not by_labels:
        raise InputError(f"--truth {labels}: this race has a reference or a column of expected answers")
    record = _begun(job, rules, items, read_record(root))
    to_label = (labels or root / FILE) if by_labels else None
    known = read_labels(to_label) if to_label is not None and (labels or to_label.exists()) else {}
    people = None if to_label is None else _People(root / FILE, known)
    running = _Running(job, env, callbacks, rules, items, record, root, pay_again, people)
    return running.to_the_end(on_look)


def _root(job: Job, rules: Race) -> Path:
    """The dataset's folder. Raises InputError when the job cannot race."""
    where, names = job.source or job.name, [spec.model for spec in job.models]
    problems = []
    if "://" in job.output:
        problems.append(f"{where}: output {job.output!r}: a race needs a local folder")
    if rules.reference is not None and rules.reference not in names:
        problems.append(
            f"{where}: race.reference {rules.reference!r}: not a model of this job, {', '.join(names)}"
        )
    elif len(_contestants(job, rules)) < 2:
        problems.append(f"{where}: a race needs at least 2 models beside a reference; without: --no-race")
    if problems:
        raise InputError(problems)
    return Path(job.output)


def _contestants(job: Job, rules: Race) -> tuple[str, ...]:
    return tuple(spec.model for spec in job.models if spec.model != rules.reference)


def _begun(job: Job, rules: Race, items: RaceItems, held: RaceRecord | None) -> RaceRecord:
    """The race of this job, as far as it has come. Raises InputError when the dataset holds another."""
    if not items.order:
        raise InputError(f"{job.manifest}: has no item that can be asked")
    fixed = {
        "margin": rules.margin,
        "seed": rules.seed,
        "reference": rules.reference,
        "match": dict(rules.match),
        "models": list(_contestants(job, rules)),
        "prompts": dict(job.prompts),
        "media": items.fingerprint,
    }
    if held is None:
        truth = rules.reference or (COLUMN_TRUTH if items.with_truth else BY_LABELS)
        return RaceRecord(fixed, len(items.order), truth, _contestants(job, rules))
    changed = [name for name, value in fixed.items() if held.rules.get(name) != value]
    if changed:
        raise InputError(
            f"{job.output}/race.json: this race began with other {', '.join(changed)}, which must be fixed "
            "before looking. Go on with the first, or start anew with another --out"
        )
    return held


@dataclass(frozen=True, slots=True)
class _People:
    """In a race by labels: where people are asked, and what they have said."""

    path: Path
    known: Labels


class _Running:
    """A race that goes on: look after look."""

    def __init__(
        self,
        job: Job,
        env: Mapping[str, str],
        callbacks: RunCallbacks,
        rules: Race,
        items: RaceItems,
        record: RaceRecord,
        root: Path,
        pay_again: bool,
        people: _People | None,
    ) -> None:
        self._job, self._env, self._callbacks, self._rules = job, env, callbacks, rules
        self._items, self._record, self._root, self._pay_again = items, record, root, pay_again
        self._gateway = resolve_endpoint(job.gateway, env, sends=False).identity
        self._before_pico = spent_before_pico(root, items.fingerprint)
        self._people = people
        self._runs: list[RunReport] = []

    def to_the_end(self, on_look: OnLook) -> RaceReport:
        if self._record.status in ("out of money", "needs labels"):
            self._record = replace(self._record, status="running")  # perhaps there is more by now
        while self._record.status == "running":
            end, short = self._next()
            if end == self._record.done:
                return self._out_of_money()
            report = self._run(end)
            self._runs.append(report)
            if report.status != "finished" or report.total("unsent"):
                return self._stopped(report)
            waiting = self._look(end, report)
            if waiting:
                return self._needs_labels(waiting)
            on_look(self._record)
            if short and self._record.status == "running":
                return self._out_of_money()
        return self._report(None, None)

    # -- money

    @property
    def _spent_pico(self) -> int:
        return self._before_pico + self._spent_here_pico

    @property
    def _spent_here_pico(self) -> int:
        return sum(run.cost_pico + run.exposure_pico for run in self._runs)

    def _money_pico(self) -> int | None:
        """What the next look may spend: what is left of the race's dollars and of the job's; None = any."""
        left = []
        if self._rules.max_usd is not None:
            left.append(pico(self._rules.max_usd) - self._spent_pico)
        if self._job.budget_usd is not None:
            left.append(pico(self._job.budget_usd) - self._spent_here_pico)
        return min(left, default=None)

    def _next(self) -> tuple[int, bool]:
        """After how many media the next look is, and whether money makes it earlier than planned.

        The place is chosen before anything of it is asked: so its media are as random as all others.
        """
        record, money = self._record, self._money_pico()
        planned = next(
            size for size in race_decisions.look_sizes(len(self._items.order)) if size > record.done
        )
        if money is None:
            return planned, False
        if money <= 0:
            return record.done, True
        costs = [record.costs_usd.get(name) for name in record.left]
        if not record.looks or None in costs:
            return planned, False
        each = sum((Decimal(str(cost)) for cost in costs if cost is not None), Decimal(0)) * self._questions()
        if not each or usd(money) * PLANNED_SHARE >= each * (planned - record.done):
            return planned, False
        return record.done + int(usd(money) * PLANNED_SHARE / each), True

    def _questions(self) -> Decimal:
        """How many questions a medium has, on average."""
        return Decimal(sum(map(len, self._items.units.values()))) / len(self._items.order)

    # -- one look

    def _run(self, end: int) -> RunReport:
        record, money = self._record, self._money_pico()
        units = self._items.between(record.done, end)
        asked = [*record.left, *([record.reference] if record.reference else [])]
        every = {spec.model: units if spec.model in asked else set() for spec in self._job.models}
        selection = Selection(f"race: {end:,} media", every, {})
        job = self._job.model_copy(update={"race": None, "budget_usd": None if money is None else usd(money)})
        facts = {"race": {"media": self._items.fingerprint, "look": len(record.looks) + 1, "to": end}}
        return local.execute(
            job, self._env, self._callbacks, pay_again=self._pay_again, only=selection, part_of=facts
        )

    def _look(self, end: int, report: RunReport) -> Sequence[Question]:
        """Decide, and write that down; or return what must be labelled first."""
        record = self._record
        seen = race_scores.scores(
            self._root,
            record.models,
            self._items.between(0, end),
            gateway=self._gateway,
            reference=record.reference,
            fields=self._rules.match,
            left=record.left,
            labelled=None if self._people is None else self._people.known,
        )
        if seen.waiting:
            return seen.waiting
        if not record.looks:
            costs = {name: _known(cost) for name, cost in zip(record.models, seen.costs, strict=True)}
            record = replace(record, costs_usd=costs)
        at = {name: place for place, name in enumerate(record.models)}
        given = {at[name]: points / 100 for name, points in record.given_points().items()}
        level = race_decisions.level_of_look(record.done, end, len(self._items.order))
        found = race_decisions.look(
            seen.right,
            seen.judged,
            seen.clusters,
            [_cost(record.costs_usd[name]) for name in record.models],
            [at[name] for name in record.left],
            allowed=self._rules.margin / 100,
            level=level,
            given=given,
        )
        look = self._as_record(record, found, seen, end, report)
        self._record = record.with_look(look, self._status(look, end))
        write_record(self._root, self._record)
        return ()

    def _as_record(
        self,
        record: RaceRecord,
        found: race_decisions.Look,
        seen: race_scores.Scores,
        end: int,
        report: RunReport,
    ) -> RaceLook:
        names = record.models
        left = tuple(names[model] for model in found.left)
        return RaceLook(
            media=end,
            items=found.items,
            level=found.level,
            left=left,
            drops=tuple(
                RaceDrop(names[one.model], names[one.by], one.why, round(100 * one.points, 3))
                for one in found.drops
            ),
            behind_points=dict(zip(left, (round(100 * value, 3) for value in found.behind), strict=True)),
            right={
                # only items that models answer differently are labelled: no share of right answers
                name: None if self._people is not None else seen.accuracy(at)
                for at, name in enumerate(names)
                if name in record.left
            },
            run_id=report.run_id,
            cost_usd=exact_text(self._spent_pico),
        )

    def _status(self, look: RaceLook, end: int) -> Status:
        if len(look.left) == 1:
            return "decided"
        return "undecided" if end == len(self._items.order) else "running"

    # -- the end

    def _stopped(self, report: RunReport) -> RaceReport:
        reason = report.stop_reason or "unsent"
        if reason == "budget":
            return self._out_of_money()
        stopped = [f"{model.model}: {model.stopped}" for model in report.models if model.stopped]
        message = "; ".join(stopped) or report.message or f"{report.total('unsent'):,} requests were not sent"
        return self._report(reason, f"the look was not completed, so it decides nothing: {message}")

    def _needs_labels(self, waiting: Sequence[Question]) -> RaceReport:
        assert self._people is not None
        write_labels(self._people.path, self._people.known, waiting)
        self._record = replace(self._record, status="needs labels")
        write_record(self._root, self._record)
        which = "1 item" if len(waiting) == 1 else f"{len(waiting):,} items"
        return self._report(
            "labels",
            f"label {which}, which the models answer differently: fill in the column truth of "
            f"{self._people.path}",
        )

    def _out_of_money(self) -> RaceReport:
        self._record = replace(self._record, status="out of money")
        write_record(self._root, self._record)
        return self._report("budget", "the race's dollars are spent")

    def _report(self, reason: str | None, message: str | None) -> RaceReport:
        runs: Sequence[RunReport] = self._runs
        return RaceReport(self._record, tuple(runs), self._job.output, self._spent_pico, reason, message)


def _known(cost: float) -> float | None:
    return None if cost == float("inf") else cost


def _cost(cost: float | None) -> float:
    return float("inf") if cost is None else cost
