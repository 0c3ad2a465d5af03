"""The report on spend: totals, groups and what follows from them; frozen and exact."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal

from mavi_tasks.common.money import pico
from mavi_tasks.costs import anomaly
from mavi_tasks.costs import projection as project
from mavi_tasks.costs import sources as read
from mavi_tasks.costs.aggregate import build
from mavi_tasks.costs.arrow_columns import UNKNOWN, zone_of
from mavi_tasks.costs.cell import SpendCell, Sums, add, empty, total
from mavi_tasks.costs.cube import Cube, Key
from mavi_tasks.costs.unit_costs import Unit
from mavi_tasks.errors import InputError

DIMENSIONS: Mapping[str, Callable[[Cube, Key], str]] = {
    "day": lambda cube, key: date.fromordinal(key[0]).isoformat(),
    "week": lambda cube, key: "{}-W{:02}".format(*date.fromordinal(key[0]).isocalendar()[:2]),
    "month": lambda cube, key: f"{date.fromordinal(key[0]):%Y-%m}",
    "model": lambda cube, key: cube.models.strings[key[1]],
    "family": lambda cube, key: cube.models.strings[key[1]].partition(":")[0],
    "job": lambda cube, key: cube.run(key[2]).job,
    "gateway": lambda cube, key: cube.run(key[2]).gateway,
    "run": lambda cube, key: cube.runs.strings[key[2]],
    "dataset": lambda cube, key: cube.datasets.get(cube.runs.strings[key[2]], UNKNOWN),
    "prompt": lambda cube, key: cube.prompts.strings[key[3]],
}


@dataclass(frozen=True, slots=True)
class Group:
    """One line of a summary: the values of its dimensions, and its sums."""

    keys: tuple[str, ...]
    spend: SpendCell


@dataclass(frozen=True, slots=True)
class RunBudget:
    """A run that had a budget of its own, and what was spent of it."""

    run_id: str
    job: str
    status: str | None
    budget_pico: int
    spent_pico: int


@dataclass(frozen=True, slots=True)
class CostReport:
    """Spend over datasets. `total` and all that follows are real spend; sandbox spend stands apart.

    Only when there is no real call at all, `total` is the sandbox's and `is_sandbox` says so.
    """

    paths: tuple[str, ...]
    by: tuple[str, ...]
    tz: str
    since: date | None
    until: date | None
    made_at: datetime
    is_sandbox: bool
    total: SpendCell
    sandbox: SpendCell
    groups: tuple[Group, ...]
    sandbox_groups: tuple[Group, ...]
    units: tuple[Unit, ...]
    jobs: tuple[Group, ...]
    unpriced: tuple[Group, ...]
    run_budgets: tuple[RunBudget, ...]
    projection: project.Projection | None
    projection_note: str
    burn: project.Burn | None
    anomalies: tuple[anomaly.Anomaly, ...]
    anomaly_rule: str
    notes: tuple[str, ...]
    cube: Cube = field(repr=False, compare=False)

    def grouped(self, *by: str) -> tuple[Group, ...]:
        """The same spend (of `total`) by other dimensions."""
        return _grouped(self.cube, by, sandbox=self.is_sandbox)

    def daily(self) -> dict[date, int]:
        """Whole pico-dollars billed on each day that had a call."""
        return {date.fromisoformat(group.keys[0]): group.spend.cost_pico for group in self.grouped("day")}


def cost_report(
    dirs: Sequence[str],
    *,
    by: Sequence[str] = ("day", "model"),
    tz: str = "UTC",
    since: date | None = None,
    until: date | None = None,
    budget_usd: Decimal | None = None,
    anomaly_usd: Decimal = Decimal(1),
    now: datetime | None = None,
) -> CostReport:
    """What was spent, on what, and what it bought; the sums are exact to the last digit.

    `dirs` are dataset folders, local or any URL of fsspec (s3://...). Days are cut in `tz`; `since` and
    `until` are days there, both included. `budget_usd` is a budget per calendar month; `now` (aware) sets
    today.
    Raises InputError on an unknown dimension or zone, a folder that is no dataset, or one counted twice.
    """
    names = _dimensions(by)
    period = read.Period(tz, since, until)
    made_at = now or datetime.now(UTC)
    sources = read.open_sources([str(path) for path in dirs])
    cube = build(sources, period, with_prompts="prompt" in names)
    real, sandbox = _section(cube, sandbox=False), _section(cube, sandbox=True)
    is_sandbox = not (real.calls or real.rows) and bool(sandbox.calls or sandbox.rows)
    daily = _daily(cube, is_sandbox)
    today = made_at.astimezone(zone_of(tz)).date()
    projection, note = project.project(daily, today)
    by_model = _grouped(cube, ("model",), sandbox=is_sandbox)
    least_pico = pico(anomaly_usd)
    return CostReport(
        paths=tuple(source.path for source in sources),
        by=names,
        tz=tz,
        since=since,
        until=until,
        made_at=made_at,
        is_sandbox=is_sandbox,
        total=sandbox if is_sandbox else real,
        sandbox=sandbox,
        groups=_grouped(cube, names, sandbox=is_sandbox),
        sandbox_groups=_grouped(cube, names, sandbox=True),
        units=_units(cube, by_model, is_sandbox),
        jobs=_by_cost_descending(_grouped(cube, ("job",), sandbox=is_sandbox)),
        unpriced=tuple(group for group in by_model if group.spend.unpriced_calls),
        run_budgets=_run_budgets(cube, is_sandbox),
        projection=projection,
        projection_note=note,
        burn=None if budget_usd is None else project.burn(daily, today, pico(budget_usd)),
        anomalies=anomaly.find(_histories(cube, is_sandbox), least_pico),
        anomaly_rule=anomaly.rule(least_pico),
        notes=_notes(cube, sources, real, sandbox, is_sandbox),
        cube=cube,
    )


def _dimensions(by: Sequence[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in by if name.strip()))
    wrong = [name for name in names if name not in DIMENSIONS]
    if wrong:
        known = ", ".join(DIMENSIONS)
        raise InputError([f"by: '{name}' is not a dimension; wanted one of {known}" for name in wrong])
    return names


def _section(cube: Cube, *, sandbox: bool) -> SpendCell:
    return total(sums for key, sums in cube.cells.items() if cube.is_sandbox(key[2]) == sandbox)


def _grouped(cube: Cube, by: Sequence[str], *, sandbox: bool) -> tuple[Group, ...]:
    """Cells added up by the dimensions, sorted by them."""
    read_keys = [DIMENSIONS[name] for name in by]
    made: dict[tuple[str, ...], Sums] = {}
    for key, sums in cube.cells.items():
        if cube.is_sandbox(key[2]) == sandbox:
            keys = tuple(read_key(cube, key) for read_key in read_keys)
            if keys not in made:
                made[keys] = empty()
            add(made[keys], sums)
    return tuple(Group(keys, SpendCell(*made[keys])) for keys in sorted(made))


def _by_cost_descending(groups: Iterable[Group]) -> tuple[Group, ...]:
    return tuple(sorted(groups, key=lambda group: (-group.spend.cost_pico, group.keys)))


def _daily(cube: Cube, sandbox: bool) -> dict[date, int]:
    days = _grouped(cube, ("day",), sandbox=sandbox)
    return {date.fromisoformat(group.keys[0]): group.spend.cost_pico for group in days}


def _histories(cube: Cube, sandbox: bool) -> Iterable[tuple[str, str, Mapping[date, int]]]:
    yield "total", "", _daily(cube, sandbox)
    for scope in ("model", "job"):
        named: dict[str, dict[date, int]] = {}
        for group in _grouped(cube, (scope, "day"), sandbox=sandbox):
            named.setdefault(group.keys[0], {})[date.fromisoformat(group.keys[1])] = group.spend.cost_pico
        yield from ((scope, name, daily) for name, daily in named.items())


def _units(cube: Cube, by_model: Sequence[Group], sandbox: bool) -> tuple[Unit, ...]:
    per_model = [Unit(g.keys[0], cube.items.get((sandbox, g.keys[0]), 0), g.spend) for g in by_model]
    whole = Unit(None, cube.items.get((sandbox, None), 0), _section(cube, sandbox=sandbox))
    return (whole, *per_model)


def _run_budgets(cube: Cube, sandbox: bool) -> tuple[RunBudget, ...]:
    spent = {group.keys[0]: group.spend.cost_pico for group in _grouped(cube, ("run",), sandbox=sandbox)}
    runs = [cube.about[run_id] for run_id in spent if run_id in cube.about]
    with_budget = [
        RunBudget(run.run_id, run.job, run.status, run.budget_pico, spent[run.run_id])
        for run in runs
        if run.budget_pico is not None
    ]
    return tuple(sorted(with_budget, key=lambda one: (-one.spent_pico, one.run_id)))


def _notes(
    cube: Cube, sources: Sequence[read.Source], real: SpendCell, sandbox: SpendCell, is_sandbox: bool
) -> tuple[str, ...]:
    """What a reader must know before trusting the sums."""
    shown = sandbox if is_sandbox else real
    waiting = {source.path: read.unpublished(source) for source in sources}
    possible = [
        (is_sandbox, "Nothing here is real spend: every call was answered by the embedded sandbox."),
        (
            not is_sandbox and sandbox.calls > 0,
            f"Sandbox calls ({sandbox.calls:,}) are not in these sums; they stand in a section of their own.",
        ),
        (
            shown.unpriced_calls > 0,
            f"Calls without a known price: {shown.unpriced_calls:,}. The true spend is higher.",
        ),
        (
            shown.retried_pico < 0,
            "Results cost more than the recorded attempts: attempts are missing from a dataset.",
        ),
    ]
    notes = [text for holds, text in possible if holds]
    notes += [
        f"{path}: journal segments not published yet: {count} (a run is going on, or was killed). "
        "Their spend is not in these sums."
        for path, count in waiting.items()
        if count
    ]
    return tuple(notes)
