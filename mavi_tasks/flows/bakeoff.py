"""bake_off(job): label_media's stages -> compare -> report; and a check for drift when a baseline is given.

A model is never paid twice for the same request, so a schedule that looks for drift needs a new dataset
each time: `period: week` puts each week's under the job's output (out/pets/2026-W47), and
`baseline: previous` compares it with the newest one before.
"""

import asyncio
from datetime import date
from pathlib import Path
from typing import Any, Final, Literal

from prefect import State, flow
from prefect.states import Completed, Failed

from mavi_tasks.common.clock import utc_today
from mavi_tasks.compare import Run, compare, compare_runs
from mavi_tasks.errors import InputError, MaviError
from mavi_tasks.flows import artifacts
from mavi_tasks.flows.label import FAIL_ABOVE, Fraction, label, problem, summary
from mavi_tasks.flows.tasks import JobParameter
from mavi_tasks.job import Job
from mavi_tasks.manifest.truth import of_manifests
from mavi_tasks.reports.html import compare_page, drift_page

PREVIOUS: Final = "previous"
Period = Literal["day", "week", "month"]


@flow(name="bake-off", flow_run_name="bake-off {job.name}")
async def bake_off(
    job: JobParameter,
    period: Period | None = None,
    baseline: str | None = None,
    fail_if_flips: Fraction | None = None,
    matching: dict[str, str] | None = None,
    fail_above: Fraction = FAIL_ABOVE,
) -> "State[Any]":
    """Send every item to all models of a job, compare the answers, and report drift.

    period: a dataset of its own for each day, week or month, under the job's output: everything is sent
    again. baseline: what to compare with for drift: a dataset, DIR@RUN_ID for one run of it, or "previous"
    for the newest dataset before this period's. fail_if_flips: the share of changed labels of any model above
    which the flow run fails. matching: how answer fields are compared, by name (exact, normalised, numeric,
    set). fail_above: as in label_media.
    """
    try:
        if "://" in job.output:
            raise InputError(f"output {job.output!r}: the pages of a bake-off need a local folder")
        job = job.model_copy(update={"output": str(folder_of(job, period, utc_today()))})
        before = _baseline(job, period, baseline)
        report = await label(job)
        reason = problem(report, fail_above)
        if reason is not None:
            return Failed(message=f"{reason} ({summary(report)})", data=report)
        await _compare(job, matching)
        if before is None:
            note = "; no dataset before this one to compare with" if baseline else ""
            return Completed(message=summary(report) + note, data=report)
        flipped, message = await _check_drift(job, before, fail_if_flips, matching)
    except MaviError as error:
        return Failed(message=str(error), data=error)
    return Failed(message=message, data=report) if flipped else Completed(message=message, data=report)


def folder_of(job: Job, period: Period | None, today: date) -> Path:
    """The dataset of today's period: DIR/2026-11-22, DIR/2026-W47 or DIR/2026-11; without a period, DIR."""
    return Path(job.output, today.strftime(_NAMES[period])) if period else Path(job.output)


_NAMES: Final[dict[str, str]] = {"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}


def _baseline(job: Job, period: Period | None, baseline: str | None) -> Path | Run | None:
    if baseline is None:
        return None
    if baseline == PREVIOUS:
        if period is None:
            raise InputError("baseline 'previous' needs a period, else there is only one dataset")
        return previous(Path(job.output))
    folder, found, run_id = baseline.rpartition("@")
    if found and not Path(baseline).exists():
        return Run(Path(folder), run_id)
    return Path(baseline)


def previous(folder: Path) -> Path | None:
    """The newest dataset beside this one whose name sorts before its own; None when it is the first."""
    others = [one.parent for one in folder.parent.glob("*/results") if any(one.rglob("*.parquet"))]
    return max((one for one in others if one.name < folder.name), default=None)


async def _compare(job: Job, matching: dict[str, str] | None) -> None:
    root = Path(job.output)
    truth = await asyncio.to_thread(of_manifests, [root])
    found = await asyncio.to_thread(compare, [root], fields=matching, truth=truth)
    page = await asyncio.to_thread(
        compare_page.write, found, root / "reports" / "bakeoff.html", title=f"Bake-off of {job.name}"
    )
    await artifacts.show_comparison(job.name, found, page)


async def _check_drift(
    job: Job, before: Path | Run, fail_if_flips: float | None, matching: dict[str, str] | None
) -> tuple[bool, str]:
    """Whether more flipped than is allowed, and the sentence that says so."""
    root = Path(job.output)
    truth = await asyncio.to_thread(of_manifests, [root])
    found = await asyncio.to_thread(compare_runs, before, root, fields=matching, truth=truth)
    page = await asyncio.to_thread(
        drift_page.write, found, root / "reports" / "drift.html", title=f"Drift of {job.name}"
    )
    await artifacts.show_drift(job.name, found, page)
    text = f"Since {found.before}: {drift_page.headline(found)}"
    if fail_if_flips is None:
        return False, text
    if found.flips is None:
        return True, f"Drift cannot be checked. {text} Free text has no labels: use an answer_schema."
    if found.exceeds(fail_if_flips):
        return True, f"Drift: {text} A model changed more than fail_if_flips {fail_if_flips:.1%}. See {page}"
    return False, text
