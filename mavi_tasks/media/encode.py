"""Carries a delivery plan out: reads, shrinks, samples, signs. Blocking; loader.py does it in threads."""

import base64
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Final

from mavi_tasks.media.identify import data_of
from mavi_tasks.media.local_files import RefusedError, content, opened
from mavi_tasks.media.options import MediaOptions
from mavi_tasks.media.sniff import HEAD_BYTES, described, kind_of, mime_of
from mavi_tasks.media.types import (
    MAX_FILE_BYTES,
    MAX_IMAGE_PIXELS,
    MAX_REQUEST_BYTES,
    Delivery,
    DeliveryPlan,
    DeliveryStep,
    Encoded,
    Media,
    Refusal,
    Transport,
)
from mavi_tasks.providers.base import Part


def encode(step: DeliveryStep, options: MediaOptions) -> Encoded | Refusal:
    """One media as it is sent, or why not. Never raises."""
    try:
        return _ENCODERS[step.transport](step, options)
    except RefusedError as refused:
        return refused.refusal
    except MemoryError:
        return Refusal("media_too_large", f"there is not enough memory for {step.media.uri}")
    except OSError as error:  # the folder for temporary files: full, or not writable
        return Refusal("media_missing", f"{step.media.uri} could not be kept while read: {error.strerror}")


def as_url(step: DeliveryStep) -> Encoded:
    """A media that travels as a URL; nothing is read."""
    media = step.media
    part = Part(media.kind, media.mime, url=step.url)
    return Encoded((part,), None, media.width, media.height, media.duration_s, media.sha256)


def assemble(plan: DeliveryPlan, done: Sequence[Encoded]) -> Delivery:
    """The delivery of a request whose media are all encoded, in the order of the plan."""
    if len(done) == 1:  # nearly every request
        one = done[0]
        return Delivery(
            one.parts,
            plan.endpoint,
            plan.input_mode,
            one.frames,
            one.bytes,
            one.width,
            one.height,
            one.duration_s,
            one.sha256,
        )
    sizes = [one.bytes for one in done if one.bytes is not None]
    counts = [one.frames for one in done if one.frames is not None]
    return Delivery(
        tuple(part for one in done for part in one.parts),
        plan.endpoint,
        plan.input_mode,
        frames_sent=sum(counts) if counts else None,
        media_bytes=sum(sizes) if sizes else None,
        width=done[0].width if done else None,
        height=done[0].height if done else None,
        duration_s=next((one.duration_s for one in done if one.duration_s is not None), None),
        sha256=_sha256_of_all([one.sha256 for one in done]),
    )


def _sha256_of_all(hashes: list[str | None]) -> str | None:
    known = [one for one in hashes if one is not None]
    if not known or len(known) < len(hashes):
        return None
    return sha256("\n".join(known).encode()).hexdigest()


def _presigned(step: DeliveryStep, options: MediaOptions) -> Encoded:
    from mavi_tasks.media.download import presigned_url  # fsspec, only for buckets

    url = presigned_url(step.media.source, options)
    return Encoded((Part(step.media.kind, step.media.mime, url=url),))


def _inlined(step: DeliveryStep, options: MediaOptions) -> Encoded:
    data = _bytes_of(step.media, options)
    digest, mime = _verified(step.media, data)
    limit = step.max_bytes or MAX_REQUEST_BYTES
    if step.media.kind == "video":
        if len(data) > limit:
            raise RefusedError("media_too_large", f"the video has {len(data):,} bytes, more than {limit:,}")
        part = Part("video", mime, data=_text(data))
        media = step.media
        return Encoded((part,), len(data), media.width, media.height, media.duration_s, digest)
    from mavi_tasks.media import images

    picture = images.fitted(
        data,
        mime,
        mimes=step.mimes,
        max_bytes=limit,
        max_px=options.max_image_px,
        max_pixels=MAX_IMAGE_PIXELS,
    )
    part = Part("image", picture.mime, data=_text(picture.data))
    return Encoded((part,), len(picture.data), picture.width, picture.height, None, digest)


def _sampled(step: DeliveryStep, options: MediaOptions) -> Encoded:
    from mavi_tasks.media import video

    how = video.Sampling(
        frames=step.frames,
        fps=step.fps,
        max_frames=step.max_frames or options.max_frames,
        max_px=min(options.frame_px, options.max_image_px),
        max_bytes=step.max_bytes or MAX_REQUEST_BYTES,
    )
    with _file_of(step.media, options) as file:
        digest, mime = _verified_file(step.media, file)
        seen = video.frames_of(file, mime, how, options)
    parts = tuple(Part("image", one.mime, data=_text(one.data)) for one in seen.pictures)
    first = seen.pictures[0]
    total = sum(len(one.data) for one in seen.pictures)
    return Encoded(parts, total, first.width, first.height, seen.duration_s, digest, len(parts))


_ENCODERS: Final[dict[Transport, Callable[[DeliveryStep, MediaOptions], Encoded]]] = {
    "url": lambda step, options: as_url(step),
    "presign": _presigned,
    "inline": _inlined,
    "frames": _sampled,
}


def _bytes_of(media: Media, options: MediaOptions) -> bytes:
    if media.place == "local":
        return content(media.source, MAX_FILE_BYTES)
    if media.place == "data":
        return data_of(media.source, MAX_FILE_BYTES)
    with _file_of(media, options) as file:
        return file.read()


@contextmanager
def _file_of(media: Media, options: MediaOptions) -> Iterator[IO[bytes]]:
    """The content as a file that can be sought in; remote media go through a temporary file."""
    if media.place == "local":
        with opened(media.source, MAX_FILE_BYTES) as (local, _):
            yield local
    elif media.place == "data":
        yield io.BytesIO(data_of(media.source, MAX_FILE_BYTES))
    else:
        from mavi_tasks.media.download import fetched

        with tempfile.TemporaryDirectory(prefix="mavi-") as folder:
            path = fetched(media, Path(folder) / "media", options)
            with path.open("rb") as file:
                yield file


def _verified(media: Media, data: bytes) -> tuple[str, str]:
    """SHA-256 and MIME type of what is about to be sent; RefusedError when it is not what was planned."""
    return _agreed(media, sha256(data).hexdigest(), data[:HEAD_BYTES])


def _verified_file(media: Media, file: IO[bytes]) -> tuple[str, str]:
    digest = sha256()
    head = b""
    file.seek(0)
    while chunk := file.read(1 << 20):
        head = head or chunk[:HEAD_BYTES]
        digest.update(chunk)
    return _agreed(media, digest.hexdigest(), head)


def _agreed(media: Media, digest: str, head: bytes) -> tuple[str, str]:
    if media.sha256 is not None and digest != media.sha256:
        raise RefusedError("media_changed", f"{media.uri} changed after the run was planned; run again")
    mime = mime_of(head)
    if mime is None:
        raise RefusedError(
            "media_kind_unknown", f"{media.uri} holds {described(head)}, not an image or a video"
        )
    if kind_of(mime) != media.kind:
        raise RefusedError(
            "media_kind_unknown",
            f"{media.uri} is {mime}, but was taken for {media.kind}: correct its media_kind",
        )
    return digest, mime


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
