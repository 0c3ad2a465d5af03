"""From a reference in a manifest to a Media: where it lies, what it is, what identifies it."""

import base64
import binascii
import io
import os
from collections.abc import Sequence
from hashlib import sha256
from typing import IO, Final
from urllib.parse import unquote_to_bytes

from mavi_tasks.media import urls
from mavi_tasks.media.local_files import RefusedError, hashed, opened, stamp
from mavi_tasks.media.options import DEFAULTS, MediaOptions
from mavi_tasks.media.probe_cache import Probe, ProbeCache
from mavi_tasks.media.sniff import HEAD_BYTES, SUFFIXES, described, kind_of, mime_of
from mavi_tasks.media.types import MAX_FILE_BYTES, MAX_IMAGE_PIXELS, Kind, Media, Place, Refusal, Unit

_DEFAULT_MIMES: Final[dict[Kind, str]] = {"image": "image/jpeg", "video": "video/mp4"}
_KINDS: Final[dict[str, Kind]] = {mime: kind for mime in SUFFIXES.values() if (kind := kind_of(mime))}
_PROBES: Final = ProbeCache()


def identify(
    ref: str, options: MediaOptions = DEFAULTS, cache: ProbeCache | None = None, kind: Kind | None = None
) -> Unit:
    """The media that a reference names, or why it is refused. Never raises; the network is never touched.

    Local files and data URLs: kind and identity by content, whatever the name says. Each local file is read
    once per (path, size, time), as `cache` remembers. Remote media: kind by `kind` (a manifest's media_kind
    column), else by the suffix or query, else `options.default_kind`, else refused.
    """
    if ref.startswith(("https://", "http://")):
        return _remote(ref, options, kind)
    scheme = urls.scheme_of(ref)
    try:
        if scheme is None or scheme == "file":
            return _local(_absolute(ref), options, cache or _PROBES)
        if scheme == "data":
            return _data(ref, options)
    except RefusedError as refused:
        return refused.refusal
    if scheme in ("s3", "gs", "gcs", "http", "https"):
        return _remote(scheme + ref[len(scheme) :], options, kind)
    return Refusal(
        "media_scheme", f"{scheme}:// is not read; a media is a path, http(s)://, s3://, gs:// or a data URL"
    )


def known(
    refs: Sequence[tuple[str, Kind | None]], options: MediaOptions = DEFAULTS, cache: ProbeCache | None = None
) -> list[Unit | None]:
    """`identify` for what needs no reading: URLs, refusals, local files that `cache` knows; else None."""
    units: list[Unit | None] = [None] * len(refs)
    local: list[tuple[int, str, tuple[int, int]]] = []
    for index, (ref, kind) in enumerate(refs):
        if ref.startswith(("https://", "http://")):
            units[index] = _remote(ref, options, kind)
        elif ref[:1] == "/" or urls.scheme_of(ref) in (None, "file"):
            try:
                path = _absolute(ref)
                mark = stamp(path, MAX_FILE_BYTES)
                local.append((index, path, (mark.size, mark.mtime_ns)))
            except RefusedError as refused:
                units[index] = refused.refusal
    probes = (cache or _PROBES).look_up([path for _, path, _ in local], [mark for *_, mark in local])
    for (index, path, (size, _)), probe in zip(local, probes, strict=True):
        if probe is not None:
            units[index] = _media(path, path, "local", size, probe)
    return units


def _absolute(ref: str) -> str:
    if ref[:1] == "/" == os.sep and "/." not in ref and "//" not in ref:
        return ref  # what abspath would return, in a tenth of its time
    return os.path.abspath(urls.path_of(ref))


def _remote(ref: str, options: MediaOptions, kind: Kind | None) -> Unit:
    place: Place = "url" if ref.startswith("http") else "s3"
    if kind is None and (mime := urls.plain_mime(ref)):  # most of a million rows: 3 us each
        return Media(ref, ref, place, _KINDS[mime], mime, ref)
    try:
        found = urls.remote(ref)
    except ValueError as error:
        return Refusal("media_bad_url", f"this is not a URL that can be read: {error}")
    mime = found.mime
    hinted = _KINDS[mime] if mime else None
    wanted = kind or hinted or options.default_kind
    if wanted is None:
        return Refusal(
            "media_kind_unknown",
            f"nothing in {found.uri} says whether it is an image or a video: "
            "add a media_kind column to the manifest, or set media.default_kind in the job",
        )
    if mime is None or wanted != hinted:
        mime = _DEFAULT_MIMES[wanted]
    return Media(found.uri, found.source, place, wanted, mime, found.identity)


def _local(path: str, options: MediaOptions, cache: ProbeCache) -> Unit:
    mark = stamp(path, MAX_FILE_BYTES)
    probe = cache.get(path, mark.size, mark.mtime_ns)
    if probe is None:
        with opened(path, MAX_FILE_BYTES) as (file, mark):
            head, digest = hashed(file, mark, path)
            file.seek(0)
            probe = _probed(file, head, digest, path, options)
        cache.put(path, mark.size, mark.mtime_ns, probe)
    return _media(path, path, "local", mark.size, probe)


def _data(ref: str, options: MediaOptions) -> Unit:
    data = data_of(ref, MAX_FILE_BYTES)
    probe = _probed(io.BytesIO(data), data[:HEAD_BYTES], sha256(data).hexdigest(), "the data URL", options)
    return _media(f"data:{probe.mime};sha256={probe.sha256}", ref, "data", len(data), probe)


def _media(uri: str, source: str, place: Place, size: int, probe: Probe) -> Media:
    return Media(
        uri=uri,
        source=source,
        place=place,
        kind=_KINDS[probe.mime],
        mime=probe.mime,
        identity="sha256:" + probe.sha256,
        bytes=size,
        sha256=probe.sha256,
        width=probe.width,
        height=probe.height,
        duration_s=probe.duration_s,
    )


def data_of(ref: str, max_bytes: int) -> bytes:
    """The content of a data URL. Raises RefusedError when it is malformed, empty or too large."""
    head, comma, text = ref.partition(",")
    if not comma:
        raise RefusedError("media_bad_url", "the data URL has no comma; it must be data:<mime>;base64,<text>")
    if len(text) > max_bytes * 4 // 3 + 4:
        raise RefusedError("media_too_large", "the data URL is larger than a media may be")
    try:
        # The slower reading takes what people paste: line breaks, the URL-safe alphabet, percent signs.
        data = _base64(text) if head.endswith(";base64") else unquote_to_bytes(text)
    except (binascii.Error, ValueError) as error:
        raise RefusedError("media_bad_url", f"the data URL is not base64: {error}") from error
    if not data:
        raise RefusedError("media_empty", "the data URL holds no bytes")
    return data


def _base64(text: str) -> bytes:
    if "%" in text:
        text = unquote_to_bytes(text).decode("ascii")
    text = "".join(text.split()).translate(str.maketrans("-_", "+/"))
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _probed(file: IO[bytes], head: bytes, digest: str, name: str, options: MediaOptions) -> Probe:
    mime = mime_of(head)
    if mime is None:
        raise RefusedError(
            "media_kind_unknown",
            f"{name} holds {described(head)}, not an image or a video, whatever its name says",
        )
    if kind_of(mime) == "image":
        from mavi_tasks.media import images  # Pillow is not loaded for manifests of URLs

        size = images.size_of(file, mime, MAX_IMAGE_PIXELS)
        return Probe(mime, digest, *(size or (None, None)))
    from mavi_tasks.media import video

    seen = video.header_of(file, mime, options)
    return Probe(mime, digest, seen.width, seen.height, seen.duration_s)
