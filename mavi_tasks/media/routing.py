"""The one decision: family x kind x place -> how a media travels. Nothing is read, nothing is opened."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final
from urllib.parse import quote

from mavi_tasks.media.local_files import size_words
from mavi_tasks.media.optional import has_heif, has_pyav
from mavi_tasks.media.types import (
    DEFAULTS,
    DeliveryPlan,
    InputMode,
    Media,
    MediaCapabilities,
    MediaOptions,
    Refusal,
    Step,
    Unit,
)
from mavi_tasks.media.urls import host_of, is_private_host
from mavi_tasks.providers.base import Route


@dataclass(frozen=True, slots=True)
class _Want:
    """What the request asks for, beside its media."""

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

    frames, fps: asked for this model; its videos are then sent as images, whatever else it takes.
    equalise: the same for every family, `options.default_frames` when no number is given.
    force_inline: for a second try, after the gateway could not fetch the URL.
    """
    if equalise and frames is None and fps is None:
        frames = options.default_frames
    want = _Want(family, options, len(media_items), frames, fps, force_inline)
    steps = []
    for media in media_items:
        step = media if isinstance(media, Refusal) else _step(media, want)
        if isinstance(step, Refusal):
            return step
        steps.append(step)
    return _together(tuple(steps), family) if steps else _without_media(family)


def equal_frames(families: Sequence[MediaCapabilities], wanted: int) -> int:
    """The number of frames that every one of these families takes in one request, at most `wanted`."""
    return min([wanted, *(f.routes["image"].max_items for f in families if "image" in f.routes)])


def _step(media: Media, want: _Want) -> Step | Refusal:
    if media.kind == "video" and (want.frames is not None or want.fps is not None):
        return _frames(media, want)
    route = want.family.routes.get(media.kind)
    if route is None:
        return _not_taken(media, want)
    if media.duration_s is not None and media.duration_s > want.options.max_video_s:
        return _too_long(media, want.options)
    refusals = []
    for way in _WAYS[_where(media, want)]:
        step = way(media, route, want)
        if isinstance(step, Step):
            return step
        if step is not None:
            refusals.append(step)
    return refusals[0] if refusals else _no_way(media, want)


def _where(media: Media, want: _Want) -> str:
    if media.place != "url":
        return media.place
    private = not want.options.allow_private_urls and is_private_host(host_of(media.source))
    where = "private" if private else "public"
    return where + " inlined" if want.force_inline else where


def _as_url(media: Media, route: Route, want: _Want) -> Step | Refusal | None:
    if not route.url:
        return None
    if route.mimes and media.mime not in route.mimes:
        return _wrong_mime(media, want)
    return Step(media, "url", media.source)


def _mapped(media: Media, route: Route, want: _Want) -> Step | Refusal | None:
    url = public_url(media.source, want.options) if route.url else None
    if url is None:
        return None
    if route.mimes and media.mime not in route.mimes:
        return _wrong_mime(media, want)
    return Step(media, "url", url)


def _presigned(media: Media, route: Route, want: _Want) -> Step | Refusal | None:
    if not route.url:
        return None
    if route.mimes and media.mime not in route.mimes:
        return _wrong_mime(media, want)
    return Step(media, "presign")


def _inline(media: Media, route: Route, want: _Want) -> Step | Refusal | None:
    if not route.inline:
        return None
    share = _request_bytes(route, want) // want.count
    limit = min(share, route.max_inline_bytes or share)
    unfit = (
        _image_unfit(media, route, want) if media.kind == "image" else _video_unfit(media, route, want, limit)
    )
    return unfit or Step(media, "inline", mimes=route.mimes, max_bytes=limit)


def _request_bytes(route: Route, want: _Want) -> int:
    """Raw bytes that one body may carry: what is left of the payload without its text, before base64."""
    if route.max_payload_bytes is None:
        return want.options.max_request_bytes
    return min(want.options.max_request_bytes, (route.max_payload_bytes - _TEXT_BYTES) * 3 // 4)


_TEXT_BYTES: Final = 256_000  # left for prompt, system and schema


def _downloaded(media: Media, route: Route, want: _Want) -> Step | Refusal | None:
    if not route.inline:
        return None
    return _no_download(media, want) or _inline(media, route, want)


# By where it lies, the ways in order of preference. The first that works is taken.
_Way = Callable[[Media, Route, _Want], Step | Refusal | None]
_WAYS: Final[dict[str, tuple[_Way, ...]]] = {
    "public": (_as_url, _downloaded),
    "private": (_downloaded,),
    "public inlined": (_downloaded,),
    "private inlined": (_downloaded,),
    "local": (_inline, _mapped),
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


def _frames(media: Media, want: _Want) -> Step | Refusal:
    route = want.family.routes.get("image")
    if route is None or not route.inline:
        return Refusal(
            "media_not_taken", f"{want.family.name} takes no images, so no frames of a video either"
        )
    if not has_pyav():
        return Refusal(
            "video_needs_extra", "taking frames out of a video needs: pip install 'mavi-tasks[video]'"
        )
    if media.duration_s is not None and media.duration_s > want.options.max_video_s:
        return _too_long(media, want.options)
    if media.place == "url" and (refusal := _no_download(media, want)):
        return refusal
    most = max(1, route.max_items // want.count)
    if want.frames is not None and want.frames > most:
        return Refusal(
            "media_too_many",
            f"{want.family.name} takes at most {route.max_items} images at once: set frames: {most} or fewer",
        )
    share = _request_bytes(route, want) // want.count
    limit = min(share, most * (route.max_inline_bytes or share))
    return Step(
        media,
        "frames",
        mimes=route.mimes,
        max_bytes=limit,
        frames=want.frames,
        fps=want.fps,
        max_frames=min(most, want.options.max_frames),
    )


def _together(steps: tuple[Step, ...], family: MediaCapabilities) -> DeliveryPlan | Refusal:
    """The plan of all steps, or why they do not go into one request."""
    kinds = ["image" if step.way == "frames" else step.media.kind for step in steps]
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
        ours = [step for step, one in zip(steps, kinds, strict=True) if one == kind]
        if refusal := _too_many(ours, kind, route, family):
            return refusal
    ways = {step.way for step in steps}
    mode: InputMode = "frames" if "frames" in ways else "inline" if "inline" in ways else "url"
    return DeliveryPlan(endpoints.pop(), mode, steps)


def _too_many(steps: list[Step], kind: str, route: Route, family: MediaCapabilities) -> Refusal | None:
    count = sum(step.frames or 1 for step in steps)
    by_url = sum(step.way in ("url", "presign") for step in steps)
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
        return Refusal("media_missing", "the item has no media")
    return DeliveryPlan(route.endpoint, "text", ())


def _not_taken(media: Media, want: _Want) -> Refusal:
    if media.kind == "video" and "image" in want.family.routes:
        return Refusal(
            "video_needs_frames",
            f"{want.family.name} takes images only: set frames: 8 on the model to send 8 frames of the video",
        )
    return Refusal("media_not_taken", f"{want.family.name} takes no {media.kind}s")


def _no_way(media: Media, want: _Want) -> Refusal:
    """What to do when neither a URL nor base64 can carry it."""
    name, where = want.family.name, "private" if media.place == "url" else media.place
    if media.kind == "image":
        return Refusal("media_not_taken", f"{name} does not take an image that is {where}")
    return Refusal(
        "video_needs_url",
        f"{name} takes videos by public URL only, and this one is {where}: set media.root and media.base_url "
        "to where the files are public, or put it on s3:// (a presigned URL is made), or set frames: 8 to "
        "send it as images, or ask a nova model, which takes videos inline",
    )


def _no_download(media: Media, want: _Want) -> Refusal | None:
    """Why a remote media may not be read here, or None when it may."""
    options = want.options
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
            "download_off", f"{media.uri} must be read here for {want.family.name}: set media.download: true"
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


def _image_unfit(media: Media, route: Route, want: _Want) -> Refusal | None:
    """Everything can be converted to what the route takes, but for what cannot be read here."""
    unreadable = media.mime == "image/jxl" or (media.mime == "image/heic" and not has_heif())
    return _wrong_mime(media, want) if unreadable and route.mimes and media.mime not in route.mimes else None


def _video_unfit(media: Media, route: Route, want: _Want, limit: int) -> Refusal | None:
    if route.mimes and media.mime not in route.mimes:
        return _wrong_mime(media, want)
    return _too_large(media, want, limit) if (media.bytes or 0) > limit else None


def _wrong_mime(media: Media, want: _Want) -> Refusal:
    remedy = "convert it to MP4, or set frames: 8" if media.kind == "video" else "convert it to JPEG or PNG"
    if media.mime == "image/heic" and media.place in ("local", "data"):
        remedy = "convert it to JPEG, or pip install pillow-heif to have it converted here"
    return Refusal("media_format", f"{want.family.name} does not take {media.mime}: {remedy}")


def _too_large(media: Media, want: _Want, limit: int) -> Refusal:
    return Refusal(
        "media_too_large",
        f"the {media.kind} has {size_words(media.bytes or 0)}, {want.family.name} takes {size_words(limit)} "
        "this way: give a public URL, a smaller file, or set frames: 8",
    )


def _too_long(media: Media, options: MediaOptions) -> Refusal:
    return Refusal(
        "media_too_long",
        f"the video lasts {(media.duration_s or 0) / 60:,.0f} minutes, more than the "
        f"{options.max_video_s / 60:,.0f} of media.max_video_s",
    )
