"""label_media(job): plan -> shards of completions per model -> publish -> artifacts.

python -m flows.label JOB.yaml
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from prefect import flow

from mavi_tasks import tasks
from mavi_tasks.job import Job, load_job


@flow(name="label-media", flow_run_name="label {job.name}")
async def label_media(job: Job) -> dict[str, Any]:
    """Ask every model of a job about every item; returns what `mavi run --json` prints."""
    async with tasks.run_of(job) as run:
        await tasks.plan(run.run_id)
        async with run.working():
            await tasks.ask_all(run)
            run.share()
        ended = await tasks.publish(run.run_id)
        await tasks.show(run, ended)
    return ended


if __name__ == "__main__":
    asyncio.run(label_media(load_job(Path(sys.argv[1]))))
