"""Resolves a media reference: base64 that matches its mime type, a file served here, or a foreign URL."""

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from . import probe
from .refusal import Refusal
from .validators import refuse

Kind = Literal["image", "video"]
Spelling = Literal["url", "data_url", "raw"]


@dataclass(frozen=True, slots=True)
class MediaRef:
    """One media part of a message.

    mime: the mime type that the part states, None = its format has no such key. shape: `string` or `object`,
    where a format allows both.
    """

    field: str
    kind: Kind
    value: str
    mime: str | None = None
    shape: str | None = None


@dataclass(frozen=True, slots=True)
class MediaInput:
    """One media as input of a model; sizes are measured, or the configured defaults for a foreign URL."""

    field: str
    kind: Kind
    mime: str | None
    spelling: Spelling
    identity: str
    width: int
    height: int
    duration_s: float | None = None
    size_bytes: int | None = None
    data: bytes | None = None
    path: Path | None = None
    shape: str | None = None


@dataclass(frozen=True, slots=True)
class MediaRules:
    """The media that a family accepts; sizes in bytes (a provider's MB is 10**6 bytes)."""

    image_mimes: frozenset[str]
    video_mimes: frozenset[str]
    inline_video: bool = False
    max_image_bytes: int | None = None
    max_base64_chars: int | None = None
    max_image_side_px: int | None = None
    max_images: int | None = None
    max_inline_images: int | None = None
    max_videos: int | None = None
    max_url_video_bytes: int | None = None
    min_video_s: float = 0.0
    max_video_s: float | None = None
    max_body_bytes: int | None = None
    animated: bool = True


@dataclass(frozen=True, slots=True)
class MediaSources:
    """Where media are: `local(url)` is the path of a URL served here, None for a foreign URL."""

    local: Callable[[str], Path | None]
    default_image_px: tuple[int, int]
    default_video_px: tuple[int, int]
    default_video_s: float


DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w.+=-]+)*;base64,(.*)", re.DOTALL)


def resolve(ref: MediaRef, rules: MediaRules, sources: MediaSources) -> MediaInput:
    """The media of a reference. Raises Refusal if it is not valid, or does not match its mime type."""
    if ref.value.startswith(("http://", "https://")):
        return _resolve_url(ref, rules, sources)
    if ref.kind == "video" and not rules.inline_video:
        raise Refusal(f"{ref.field}: video must be an http(s) URL; base64 video is not supported")
    if ref.value.startswith("data:"):
        return _resolve_data_url(ref, rules)
    return _resolve_inline(ref, ref.value, ref.mime, "raw", rules)


def _resolve_data_url(ref: MediaRef, rules: MediaRules) -> MediaInput:
    found = DATA_URL.fullmatch(ref.value)
    if not found:
        raise refuse(ref.field, ref.value, "data:<mime>;base64,<text>")
    if ref.mime is not None and ref.mime != found[1]:
        raise Refusal(f"{ref.field}: the data URL says {found[1]}, mime_type says {ref.mime}")
    return _resolve_inline(ref, found[2], found[1], "data_url", rules)


def _resolve_inline(
    ref: MediaRef, text: str, mime: str | None, spelling: Spelling, rules: MediaRules
) -> MediaInput:
    if rules.max_base64_chars is not None and len(text) > rules.max_base64_chars:
        raise Refusal(f"{ref.field}: {len(text)} base64 characters, at most {rules.max_base64_chars}")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(f"{ref.field}: neither an http(s) URL nor valid base64 ({error})") from error
    found = probe.sniff(data)
    if found is None:
        raise Refusal(f"{ref.field}: the base64 text is no known image or video")
    if mime is not None and not probe.same_container(mime, found):
        raise Refusal(f"{ref.field}: says {mime}, its bytes are {found}")
    _check_mime(ref, mime or found, rules)
    identity = sha256(data).hexdigest()
    measured = _measure_bytes(identity, found, data)
    return _media_input(ref, mime or found, spelling, identity, measured, len(data), rules, data=data)


def _resolve_url(ref: MediaRef, rules: MediaRules, sources: MediaSources) -> MediaInput:
    parts = _split(ref)
    if ref.mime is not None:
        _check_mime(ref, ref.mime, rules)
    path = sources.local(ref.value)
    if path is not None:
        return _resolve_file(ref, path, rules)
    width, height, length_s = _stated(parts.path, sources, ref.kind)
    duration_s = length_s if ref.kind == "video" else None
    # Without the query: it changes with each signature, the media does not.
    identity = f"{parts.scheme}://{parts.netloc}{parts.path}"
    return MediaInput(
        ref.field, ref.kind, ref.mime, "url", identity, width, height, duration_s, shape=ref.shape
    )


STATED_PX = re.compile(r"/(\d{1,5})x(\d{1,5})(?=[/.])")
STATED_S = re.compile(r"/(\d{1,6})s(?=[/.])")


def _stated(path: str, sources: MediaSources, kind: Kind) -> tuple[int, int, float]:
    """The true size of a foreign media, if its URL states it (`/4000x3000/`, `/90s/`); else the defaults."""
    size, length = STATED_PX.search(path), STATED_S.search(path)
    default = sources.default_image_px if kind == "image" else sources.default_video_px
    width, height = (int(size[1]), int(size[2])) if size else default
    return max(1, width), max(1, height), float(length[1]) if length else sources.default_video_s


def _split(ref: MediaRef) -> SplitResult:
    try:
        parts = urlsplit(ref.value)
        named = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a bracket left open, a port out of range
        named = False
    if not named or re.search(r"\s", ref.value):
        raise refuse(ref.field, ref.value, "an http(s) URL")
    return parts


def _resolve_file(ref: MediaRef, path: Path, rules: MediaRules) -> MediaInput:
    stat = path.stat()
    identity, found, measured = _measure_file(path, stat.st_mtime_ns, stat.st_size)
    if found is None:
        raise Refusal(f"{ref.field}: the URL holds no known image or video")
    if ref.mime is not None and not probe.same_container(ref.mime, found):
        raise Refusal(f"{ref.field}: mime_type says {ref.mime}, the URL holds {found}")
    _check_mime(ref, ref.mime or found, rules)
    if (
        ref.kind == "video"
        and rules.max_url_video_bytes is not None
        and stat.st_size > rules.max_url_video_bytes
    ):
        raise Refusal(
            f"{ref.field}: video of {stat.st_size} bytes, at most {rules.max_url_video_bytes} by URL"
        )
    return _media_input(ref, ref.mime or found, "url", identity, measured, stat.st_size, rules, path=path)


def _check_mime(ref: MediaRef, mime: str, rules: MediaRules) -> None:
    allowed = rules.image_mimes if ref.kind == "image" else rules.video_mimes
    if mime not in allowed:
        raise Refusal(f"{ref.field}: {mime} is not taken as {ref.kind}; taken: {', '.join(sorted(allowed))}")


def _media_input(
    ref: MediaRef,
    mime: str,
    spelling: Spelling,
    identity: str,
    measured: probe.Measured | None,
    size_bytes: int,
    rules: MediaRules,
    data: bytes | None = None,
    path: Path | None = None,
) -> MediaInput:
    if measured is None:
        raise Refusal(f"{ref.field}: the {ref.kind} cannot be decoded")
    _check_size(ref, measured, size_bytes, rules)
    return MediaInput(
        field=ref.field,
        kind=ref.kind,
        mime=mime,
        spelling=spelling,
        identity=identity,
        width=measured.width,
        height=measured.height,
        duration_s=measured.duration_s if ref.kind == "video" else None,
        size_bytes=size_bytes,
        data=data,
        path=path,
        shape=ref.shape,
    )


def _check_size(ref: MediaRef, measured: probe.Measured, size_bytes: int, rules: MediaRules) -> None:
    if ref.kind == "image":
        if rules.max_image_bytes is not None and size_bytes > rules.max_image_bytes:
            raise Refusal(f"{ref.field}: image of {size_bytes} bytes, at most {rules.max_image_bytes}")
        if (
            rules.max_image_side_px is not None
            and max(measured.width, measured.height) > rules.max_image_side_px
        ):
            raise Refusal(
                f"{ref.field}: {measured.width}x{measured.height} px, at most {rules.max_image_side_px} each"
            )
        if measured.frames > 1 and not rules.animated:
            raise Refusal(f"{ref.field}: an animated image is not taken")
        return
    if measured.duration_s < rules.min_video_s:
        raise Refusal(f"{ref.field}: video of {measured.duration_s:g} s, at least {rules.min_video_s:g} s")
    if rules.max_video_s is not None and measured.duration_s > rules.max_video_s:
        raise Refusal(f"{ref.field}: video of {measured.duration_s:g} s, at most {rules.max_video_s:g} s")


def check_counts(media: list[MediaInput], rules: MediaRules) -> None:
    """Raise Refusal if there are more media than the provider accepts in one request."""
    images = [one for one in media if one.kind == "image"]
    inline = [one for one in images if one.spelling != "url"]
    videos = len(media) - len(images)
    for what, count, most in (
        ("images", len(images), rules.max_images),
        ("base64 images", len(inline), rules.max_inline_images),
        ("videos", videos, rules.max_videos),
    ):
        if most is not None and count > most:
            raise Refusal(f"messages: {count} {what} in one request, at most {most}")


_measured: dict[str, probe.Measured | None] = {}


def _measure_bytes(identity: str, mime: str, data: bytes) -> probe.Measured | None:
    if identity not in _measured:
        if len(_measured) >= 4096:
            _measured.clear()
        _measured[identity] = probe.measure(data, mime)
    return _measured[identity]


@lru_cache(maxsize=1024)
def _measure_file(path: Path, mtime_ns: int, size: int) -> tuple[str, str | None, probe.Measured | None]:
    with path.open("rb") as file:
        head = file.read(4096)
        file.seek(0)
        digest = sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    mime = probe.sniff(head)
    return digest.hexdigest(), mime, None if mime is None else probe.measure(path, mime)
