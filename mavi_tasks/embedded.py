"""The sandbox inside this process, for jobs that name it as their gateway."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mavi_tasks.job import Job
from mavi_tasks.media import MediaOptions
from mavi_tasks.settings import Endpoint


@contextmanager
def gateway(job: Job, endpoint: Endpoint) -> Iterator[tuple[Endpoint, MediaOptions]]:
    """The endpoint to use and the media options that go with it, while the block lasts.

    The sandbox serves the manifest's folder on loopback, so that local videos have a URL there.
    """
    options = MediaOptions.of(job.media)
    if not endpoint.is_sandbox:
        yield endpoint, options
        return
    options = replace(options, allow_private_urls=True)
    if endpoint.base_url is not None:
        yield endpoint, options
        return
    from mavi_tasks.sandbox import Sandbox

    with Sandbox() as sandbox:
        folder = _folder(job.manifest)
        if options.base_url is None and folder is not None:
            options = replace(options, base_url=sandbox.media_url(folder), root=str(folder))
        yield replace(endpoint, base_url=sandbox.base_url), options


def _folder(manifest: str) -> Path | None:
    """The local folder that a manifest's media lie in; None for a remote manifest."""
    if "://" in manifest:
        return None
    path = Path(manifest.split("*", 1)[0])
    return path if path.is_dir() else path.parent
