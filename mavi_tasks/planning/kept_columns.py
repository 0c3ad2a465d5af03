"""The job's `keep_columns`: columns of the manifest that stand in results and labels, and are never sent."""

from collections.abc import Sequence

import orjson

from mavi_tasks import manifest
from mavi_tasks.common.suggest import nearest
from mavi_tasks.errors import InputError
from mavi_tasks.job import Job
from mavi_tasks.manifest import Item


def of(item: Item, names: Sequence[str]) -> str | None:
    """These columns of an item as a JSON object; null where its row has none."""
    if not names:
        return None
    return orjson.dumps({name: item.variables.get(name) for name in names}, default=str).decode()


def check(job: Job) -> None:
    """Raise InputError for each name that is no column of the manifest, or is in results anyway.

    Of JSON lines each row has columns of its own: what a row lacks is null.
    """
    if not job.keep_columns:
        return
    columns = job.columns
    known = {
        columns.media: "media_uri",
        columns.id: "item_id",
        columns.prompt: "prompt",
        columns.truth: "truth",
    }
    names = manifest.column_names(job.manifest)
    problems = []
    for name in job.keep_columns:
        if name in known:
            problems.append(f"keep_columns: {name!r} is in results already, as {known[name]}")
        elif names is not None and name not in names:
            near = nearest(name, names)
            hint = f"did you mean {near}?" if near else f"the columns are {', '.join(names)}"
            problems.append(f"keep_columns: {job.manifest} has no column {name!r}; {hint}")
    if problems:
        raise InputError(problems)
