"""The environment of a flow run: its key may come from Prefect's Secret block."""

import os
from collections.abc import Mapping
from typing import Any, Final

from prefect.blocks.system import Secret

from mavi_tasks.job import Job
from mavi_tasks.job import endpoint as settings

KEY_SECRET: Final = "mavi-api-key"  # noqa: S105 - the name of a Secret block, read when the environment has no key


async def environment(job: Job) -> Mapping[str, str]:
    """The environment; a MAVI key that is not in it comes from the Secret block, if there is one."""
    if not settings.takes_the_mavi_key(job.gateway) or any(map(os.environ.get, settings.MAVI_KEYS)):
        return os.environ
    try:
        secret: Any = await Secret.aload(KEY_SECRET)
    except ValueError:  # there is no such block
        return os.environ
    return {**os.environ, "MAVI_API_KEY": str(secret.get())}
