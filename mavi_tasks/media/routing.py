"""Decides how a media is sent, by family, kind and place. Nothing is read, nothing is opened."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final
from urllib.parse import quote

from mavi_tasks.media.addresses import is_private_host
from mavi_tasks.media.local_files import size_text
from mavi_tasks.media.optional import has_heif, has_pyav
from mavi_tasks.media.options import DEFAULTS, MediaOptions
from mavi_tasks.media.types import (
    MAX_REQUEST_BYTES,
    DeliveryPlan,
    DeliveryStep,
    InputMode,
    Media,
    MediaCapabilities,
    Refusal,
    Unit,
)
from mavi_tasks.media.urls import host_of
from mavi_tasks.providers.base import Route


@dataclass(frozen=True, slots=True)
class _Request:
    """What decides the route of each media, besides the media itself."""

    family: MediaCapabilities
    options: MediaOptions
    count: int
    frames: int | None
    fps: float | None
    force_inline: bool


def route_for(
    media_items: Sequence[Unit],
    family: MediaCapabilities,
    *,
    frames: int | None = None,
    fps: float | None = None,
    equalise: bool = False,
    options: MediaOptions = DEFAULTS,
    force_inline: bool = False,
) -> DeliveryPlan | Refusal:
    """How one request's media reach one family, or why they cannot. Reads nothing: fit for planning.

    frames, fps: given for this model; its videos are then sent as images, whatever else it takes.
    equalise: the same for every family, `options.default_frames` when no number is given.
    force_inline: for a second attempt, after the gateway could not fetch the URL.
    """
    if equalise and frames is None and fps is None:
        frames = options.default_frames
    request = _Request(family, options, len(media_items), frames, fps, force_inline)
    steps = []
    for media in media_items:
        step = media if isinstance(media, Refusal) else _step(media, request)
        if isinstance(step, Refusal):
            return step
        steps.append(step)
    return _plan(tuple(steps), family) if steps else _without_media(family)


def equal_frames(families: Sequence[MediaCapabilities], wanted: int) -> int:
    """The number of frames that each of these families takes in one request, at most `wanted`."""
    return min([wanted, *(f.routes["image"].max_items for f in families if "image" in f.routes)])


def _step(media: Media, request: _Request) -> DeliveryStep | Refusal:
    if media.kind == "video" and (request.frames is not None or request.fps is not None):
        return _frames(media, request)
    route = request.family.routes.get(media.kind)
    if route is None:
        return _not_taken(media, request)
    if media.duration_s is not None and media.duration_s > request.options.max_video_s:
        return _too_long(media, request.options)
    refusals = []
    for make_step in _TRANSPORTS[_origin(media, request)]:
        step = make_step(media, route, request)
        if isinstance(step, DeliveryStep):
            return step
        if step is not None:
            refusals.append(step)
    return refusals[0] if refusals else _no_transport(media, request)


def _origin(media: Media, request: _Request) -> str:
    if media.place != "url":
        return media.place
    private = not request.options.allow_private_urls and is_private_host(host_of(media.source))
    origin = "private" if private else "public"
    return origin + " inlined" if request.force_inline else origin


def _as_url(media: Media, route: Route, request: _Request) -> DeliveryStep | Refusal | None:
    if not route.url:
        return None
    if route.mimes and media.mime not in route.mimes:
        return _wrong_mime(media, request)
    return DeliveryStep(media, "url", media.source)


def _as_public_url(media: Media, route: Route, request: _Request) -> DeliveryStep | Refusal | None:
    url = public_url(media.source, request.options) if route.url else None
    if url is None:
        return None
    if route.mimes and media.mime not in route.mimes:
        return _wrong_mime(media, request)
    return DeliveryStep(media, "url", url)


def _presigned(media: Media, route: Route, request: _Request) -> DeliveryStep | Refusal | None:
    if not route.url:
        return None
    if route.mimes and media.mime not in route.mimes:
        return _wrong_mime(media, request)
    return DeliveryStep(media, "presign")


def _inline(media: Media, route: Route, request: _Request) -> DeliveryStep | Refusal | None:
    if not route.inline:
        return None
    equal_part = _request_bytes(route) // request.count
    limit = min(equal_part, route.max_inline_bytes or equal_part)
    refusal = (
        _image_refusal(media, route, request)
        if media.kind == "image"
        else _video_refusal(media, route, request, limit)
    )
    return refusal or DeliveryStep(media, "inline", mimes=route.mimes, max_bytes=limit)


def _request_bytes(route: Route) -> int:
    """Raw bytes that one body may carry: what is left of the payload without its text, before base64."""
    if route.max_payload_bytes is None:
        return MAX_REQUEST_BYTES
    return min(MAX_REQUEST_BYTES, (route.max_payload_bytes - _TEXT_BYTES) * 3 // 4)


_TEXT_BYTES: Final = 256_000  # left for prompt, system and schema


def _downloaded(media: Media, route: Route, request: _Request) -> DeliveryStep | Refusal | None:
    if not route.inline:
        return None
    return _no_download(media, request) or _inline(media, route, request)


# The transports for each origin, in order of preference. The first that works is taken.
_MakeStep = Callable[[Media, Route, _Request], DeliveryStep | Refusal | None]
_TRANSPORTS: Final[dict[str, tuple[_MakeStep, ...]]] = {
    "public": (_as_url, _downloaded),
    "private": (_downloaded,),
    "public inlined": (_downloaded,),
    "private inlined": (_downloaded,),
    "local": (_inline, _as_public_url),
    "data": (_inline,),
    "s3": (_presigned, _inline),
}


def public_url(path: str, options: MediaOptions) -> str | None:
    """The public URL of a local file under `options.root`, or None when it has none."""
    if options.base_url is None or options.root is None:
        return None
    try:
        relative = PurePath(path).relative_to(os.path.abspath(options.root))
    except ValueError:
        return None
    return options.base_url.rstrip("/") + "/" + quote(relative.as_posix())


def _frames(media: Media, request: _Request) -> DeliveryStep | Refusal:
    route = request.family.routes.get("image")
    if route is None or not route.inline:
        return Refusal(
            "media_not_taken", f"{request.family.name} takes no images, so no frames of a video either"
        )
    if not has_pyav():
        return Refusal(
            "video_needs_extra", "taking frames out of a video needs: pip install 'mavi-tasks[video]'"
        )
    if media.duration_s is not None and media.duration_s > request.options.max_video_s:
        return _too_long(media, request.options)
    if media.place == "url" and (refusal := _no_download(media, request)):
        return refusal
    most = max(1, route.max_items // request.count)
    if request.frames is not None and request.frames > most:
        return Refusal(
            "media_too_many",
            f"{request.family.name} takes at most {route.max_items} images at once: "
            f"set frames: {most} or fewer",
        )
    equal_part = _request_bytes(route) // request.count
    limit = min(equal_part, most * (route.max_inline_bytes or equal_part))
    return DeliveryStep(
        media,
        "frames",
        mimes=route.mimes,
        max_bytes=limit,
        frames=request.frames,
        fps=request.fps,
        max_frames=min(most, request.options.max_frames),
    )


def _plan(steps: tuple[DeliveryStep, ...], family: MediaCapabilities) -> DeliveryPlan | Refusal:
    """The plan of all steps, or why they do not go into one request."""
    kinds = ["image" if step.transport == "frames" else step.media.kind for step in steps]
    routes = {kind: family.routes[kind] for kind in dict.fromkeys(kinds)}
    endpoints = {route.endpoint for route in routes.values()}
    if len(endpoints) > 1:
        return Refusal(
            "media_mixed",
            f"{family.name} takes images at {routes['image'].endpoint} and videos at "
            f"{routes['video'].endpoint}, not both in one request: split the item, or set frames: 8 to send "
            "the video as images",
        )
    for kind, route in routes.items():
        same_kind = [step for step, one in zip(steps, kinds, strict=True) if one == kind]
        if refusal := _too_many(same_kind, kind, route, family):
            return refusal
    transports = {step.transport for step in steps}
    mode: InputMode = "frames" if "frames" in transports else "inline" if "inline" in transports else "url"
    return DeliveryPlan(endpoints.pop(), mode, steps)


def _too_many(
    steps: list[DeliveryStep], kind: str, route: Route, family: MediaCapabilities
) -> Refusal | None:
    count = sum(step.frames or 1 for step in steps)
    by_url = sum(step.transport in ("url", "presign") for step in steps)
    most_by_url = route.max_items if route.max_url_items is None else route.max_url_items
    if count <= route.max_items and by_url <= most_by_url:
        return None
    most, many = (most_by_url, by_url) if by_url > most_by_url else (route.max_items, count)
    how = " by URL" if by_url > most_by_url else ""
    return Refusal(
        "media_too_many",
        f"{family.name} takes at most {most} {kind}(s){how} in a request, and these are {many}",
    )


def _without_media(family: MediaCapabilities) -> DeliveryPlan | Refusal:
    route = family.routes.get("text")
    if route is None:
        return Refusal("text_not_taken", f"the item has no media, and {family.name} takes no text alone")
    return DeliveryPlan(route.endpoint, "text", ())


def _not_taken(media: Media, request: _Request) -> Refusal:
    if media.kind == "video" and "image" in request.family.routes:
        return Refusal(
            "video_needs_frames",
            f"{request.family.name} takes images only: "
            "set frames: 8 on the model to send 8 frames of the video",
        )
    return Refusal("media_not_taken", f"{request.family.name} takes no {media.kind}s")


def _no_transport(media: Media, request: _Request) -> Refusal:
    """What to do when neither a URL nor base64 can carry it."""
    name, where = request.family.name, "private" if media.place == "url" else media.place
    if media.kind == "image":
        return Refusal("media_not_taken", f"{name} does not take an image that is {where}")
    return Refusal(
        "video_needs_url",
        f"{name} takes videos by public URL only, and this one is {where}: set media.root and media.base_url "
        "to where the files are public, or put it on s3:// (a presigned URL is made), or set frames: 8 to "
        "send it as images, or use a nova model, which takes videos inline",
    )


def _no_download(media: Media, request: _Request) -> Refusal | None:
    """Why a remote media may not be read here, or None when it may."""
    options = request.options
    if media.place != "url":
        return None
    private = is_private_host(host_of(media.source))
    if not options.download and private and not options.allow_private_urls:
        return Refusal(
            "media_private_url",
            f"{media.uri} is on a private network, where the gateway cannot fetch it: set media.download and "
            "media.allow_private to read and inline it, or give a public URL",
        )
    if not options.download:
        return Refusal(
            "download_off",
            f"{media.uri} must be read here for {request.family.name}: set media.download: true",
        )
    if private and not options.allow_private:
        return Refusal(
            "download_private", f"{media.uri} is on a private network: set media.allow_private: true"
        )
    if not options.allow_http and media.source.startswith("http:"):
        return Refusal(
            "download_insecure", f"{media.uri} is plain http: use https, or set media.allow_http: true"
        )
    return None


def _image_refusal(media: Media, route: Route, request: _Request) -> Refusal | None:
    """An image can be converted to what the route takes, unless it cannot be read here."""
    unreadable = media.mime == "image/jxl" or (media.mime == "image/heic" and not has_heif())
    return (
        _wrong_mime(media, request) if unreadable and route.mimes and media.mime not in route.mimes else None
    )


def _video_refusal(media: Media, route: Route, request: _Request, limit: int) -> Refusal | None:
    if route.mimes and media.mime not in route.mimes:
        return _wrong_mime(media, request)
    return _too_large(media, request, limit) if (media.bytes or 0) > limit else None


def _wrong_mime(media: Media, request: _Request) -> Refusal:
    remedy = "convert it to MP4, or set frames: 8" if media.kind == "video" else "convert it to JPEG or PNG"
    if media.mime == "image/heic" and media.place in ("local", "data"):
        remedy = "convert it to JPEG, or pip install pillow-heif to have it converted here"
    return Refusal("media_format", f"{request.family.name} does not take {media.mime}: {remedy}")


def _too_large(media: Media, request: _Request, limit: int) -> Refusal:
    return Refusal(
        "media_too_large",
        f"the {media.kind} has {size_text(media.bytes or 0)}, {request.family.name} takes "
        f"{size_text(limit)} inline: give a public URL, a smaller file, or set frames: 8",
    )


def _too_long(media: Media, options: MediaOptions) -> Refusal:
    return Refusal(
        "media_too_long",
        f"the video lasts {(media.duration_s or 0) / 60:,.0f} minutes, more than the "
        f"{options.max_video_s / 60:,.0f} of media.max_video_s",
    )
