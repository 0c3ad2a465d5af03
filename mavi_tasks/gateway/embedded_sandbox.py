"""The sandbox inside this process, for jobs whose gateway is the sandbox."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mavi_tasks.errors import InputError
from mavi_tasks.job import Job
from mavi_tasks.job.endpoint import Endpoint
from mavi_tasks.media import MediaOptions

if TYPE_CHECKING:
    from mavi_tasks.sandbox.vision import Vision

log = logging.getLogger("mavi")


@contextmanager
def gateway(job: Job, endpoint: Endpoint) -> Iterator[tuple[Endpoint, MediaOptions]]:
    """The endpoint to use and the media options that go with it, while the block lasts.

    The sandbox serves the manifest's folder on loopback, so that local videos have a URL there. With the
    extra `vision` a local classifier answers, else the answers are simulated; see `answers()`.
    """
    options = job.media
    if not endpoint.is_sandbox:
        yield endpoint, options
        return
    options = options.model_copy(update={"allow_private_urls": True})
    if endpoint.base_url is not None:
        yield endpoint, options
        return
    from mavi_tasks.sandbox import Sandbox

    classifier = answerer()
    with Sandbox(answerer=classifier) as sandbox:
        folder = _folder(job.manifest)
        if options.base_url is None and folder is not None:
            options = options.model_copy(update={"base_url": sandbox.media_url(folder), "root": str(folder)})
        yield replace(endpoint, base_url=sandbox.base_url, answers=answers()), options
    for remark in classifier.remarks() if classifier is not None else ():
        log.warning("local classifier: %s", remark)


def answers() -> str:
    """Whether a local classifier answers in the sandbox, as a short text for the screen."""
    from mavi_tasks.sandbox import vision

    return "answers: local classifier" if vision.available() else "simulated answers"


def answerer() -> "Vision | None":
    """The local classifier, None when its weights are not installed."""
    from mavi_tasks.sandbox import vision

    if not vision.available():
        return None
    try:
        return vision.Vision()
    except vision.WeightsError as error:
        raise InputError(f"gateway sandbox: {error}") from error


def _folder(manifest: str) -> Path | None:
    """The local folder of a manifest's media; None for a remote manifest."""
    if "://" in manifest:
        return None
    path = Path(manifest.split("*", 1)[0])
    return path if path.is_dir() else path.parent
