"""Videos: what the header says, and frames by time. PyAV (extra `video`), used with strict bounds.

Each file is given to the one demuxer that its magic bytes name, as an open file and not as a path, so that
a playlist or a reference inside a file never makes FFmpeg open another file or a URL. Every loop has a
deadline; a single call of a decoder cannot be interrupted.
"""

import errno
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Final

from mavi_tasks.media import mp4
from mavi_tasks.media.images import Picture, jpeg
from mavi_tasks.media.local_files import RefusedError
from mavi_tasks.media.mp4 import Header
from mavi_tasks.media.optional import has_pyav
from mavi_tasks.media.options import MediaOptions
from mavi_tasks.media.sniff import VIDEO_FORMATS
from mavi_tasks.media.types import MAX_IMAGE_PIXELS

_ISO: Final = frozenset(("video/mp4", "video/quicktime", "video/3gpp"))
_SEEK_GAP_S: Final = 5.0  # nearer targets are reached by decoding on
_PROBE_OPTIONS: Final = {"probesize": "10000000", "analyzeduration": "10000000"}

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames of a video, in order, and how long it really lasts."""

    pictures: tuple[Picture, ...]
    duration_s: float | None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How many frames: `frames`, or `fps` up to `max_frames`; their longest side; their bytes together."""

    frames: int | None
    fps: float | None
    max_frames: int
    max_px: int
    max_bytes: int


def header_of(file: IO[bytes], mime: str, options: MediaOptions) -> Header:
    """Size and duration as the file says. Raises RefusedError when broken or without a video track."""
    if mime in _ISO and not mp4.is_whole(file):
        raise RefusedError("media_broken", "the video is cut short: it was copied or recorded only in part")
    if not has_pyav():
        return mp4.header_of(file) if mime in _ISO else Header()
    with _opened(file, mime, options) as (container, stream):
        _first_packet(container, stream)
        codec = stream.codec_context
        return Header(codec.width or None, codec.height or None, _stated_duration(container, stream))


def frames_of(
    file: IO[bytes], mime: str, how: Sampling, options: MediaOptions, clock: Clock = time.monotonic
) -> Frames:
    """Frames evenly spread over the real length, each the one shown in the middle of its part.

    Fewer when the video has fewer. Raises RefusedError when none can be decoded in time.
    """
    deadline = clock() + options.decode_timeout_s

    def on_time() -> None:
        if clock() > deadline:
            raise RefusedError(
                "media_timeout",
                f"decoding took more than the {options.decode_timeout_s:g} s of decode_timeout_s",
            )

    with _opened(file, mime, options) as (container, stream):
        length_s = _real_length(container, stream, on_time)
        if length_s is not None and length_s > options.max_video_s:
            raise RefusedError("media_too_long", f"the video lasts {length_s / 60:,.0f} minutes")
        times = _times(how, length_s)
        pictures = _pictures(container, stream, times, how, on_time)
    return Frames(pictures, length_s)


def _times(how: Sampling, length_s: float | None) -> list[float]:
    if length_s is None:
        return [0.0]
    count = how.frames or min(how.max_frames, max(1, math.ceil(length_s * (how.fps or 1.0))))
    return [(index + 0.5) * length_s / count for index in range(count)]


def _pictures(
    container: Any, stream: Any, times: list[float], how: Sampling, on_time: Callable[[], None]
) -> tuple[Picture, ...]:
    """The frames as JPEG; smaller when they are too many bytes together."""
    max_px = how.max_px
    for _ in range(4):
        pictures = tuple(jpeg(image, max_px) for image in _images(container, stream, times, max_px, on_time))
        if not pictures:
            raise RefusedError("media_broken", "not one frame of the video can be decoded")
        total = sum(len(picture.data) for picture in pictures)
        if total <= how.max_bytes:
            return pictures
        max_px = max(64, int(max_px * min(0.8, 0.9 * math.sqrt(how.max_bytes / total))))
    raise RefusedError("media_too_large", f"{len(times)} frames do not fit into one request; ask for fewer")


def _images(
    container: Any, stream: Any, times: list[float], max_px: int, on_time: Callable[[], None]
) -> Iterator[Any]:
    """Pillow images of the frames shown at `times`, one at a time; the same frame is given once."""
    walk = _Walk(container, stream, on_time)
    last = None
    for moment in times:
        frame = walk.shown_at(moment)
        if frame is None or (last is not None and frame.pts == last):
            continue
        last = frame.pts
        yield _image(frame, max_px)


class _Walk:
    """Goes through a video towards growing times, seeking over long gaps."""

    def __init__(self, container: Any, stream: Any, on_time: Callable[[], None]) -> None:
        self._container, self._stream, self._on_time = container, stream, on_time
        self._start_s = float((stream.start_time or 0) * stream.time_base)
        self._now: Any = None  # shown at the time asked for last
        self._ahead: Any = None  # decoded already, shown later
        self._frames: Iterator[Any] | None = None

    def shown_at(self, moment_s: float) -> Any:
        """The frame on show at a time, the last one past the end; None when nothing decodes there."""
        moment_s += self._start_s
        if self._frames is None or moment_s - self._time(self._ahead or self._now) > _SEEK_GAP_S:
            self._seek(moment_s)
        while self._ahead is None or self._time(self._ahead) <= moment_s:
            if self._ahead is not None:
                self._now = self._ahead
            self._ahead = self._next()
            if self._ahead is None:
                return self._now
        return self._now or self._ahead

    def _seek(self, moment_s: float) -> None:
        if self._frames is not None or moment_s > _SEEK_GAP_S:
            try:
                self._container.seek(
                    int(moment_s / self._stream.time_base), stream=self._stream, backward=True
                )
                self._ahead = None
            except Exception:  # FFmpeg's many errors: a file without an index is walked through instead
                if self._frames is not None:
                    return
        self._frames = iter(self._container.decode(self._stream))

    def _next(self) -> Any:
        """The next frame with a time, None at the end. A damaged packet is stepped over."""
        for _ in range(1000):
            self._on_time()
            try:
                frame = next(self._frames or iter(()), None)
            except Exception as error:
                if _is_end(error):
                    return None
                self._frames = iter(self._container.decode(self._stream))
                continue
            if frame is None or frame.pts is not None:
                return frame
        return None

    def _time(self, frame: Any) -> float:
        return float(frame.pts * self._stream.time_base) if frame is not None else -math.inf


def _is_end(error: Exception) -> bool:
    import av

    return isinstance(error, av.error.EOFError) or not isinstance(error, av.error.FFmpegError)


def _image(frame: Any, max_px: int) -> Any:
    """One frame as a Pillow image: square pixels, upright, no larger than max_px."""
    ratio = float(getattr(frame, "sample_aspect_ratio", None) or 1) or 1.0
    width, height = frame.width * (ratio if 0.1 < ratio < 10 else 1.0), float(frame.height)
    factor = min(1.0, max_px / max(width, height))
    size = {"width": max(1, round(width * factor)), "height": max(1, round(height * factor))}
    image = frame.to_image(**size)
    turn = getattr(frame, "rotation", 0) or 0
    return image.rotate(turn, expand=True) if turn else image


def _real_length(container: Any, stream: Any, on_time: Callable[[], None]) -> float | None:
    """How long the video lasts: what the header says, unless the packets end earlier; None when unknown."""
    stated = _stated_duration(container, stream)
    real = _last_packet_end(container, stream, stated, on_time)
    if real is None:
        return stated
    return real if stated is None or real < stated * 0.95 else stated


def _last_packet_end(
    container: Any, stream: Any, stated: float | None, on_time: Callable[[], None]
) -> float | None:
    """Where the last packet ends, reading from the last key frame on, or all when that cannot be found."""
    base = stream.time_base
    start = stream.start_time or 0
    for moment in (stated, 0.0) if stated else (0.0,):
        end = None
        try:
            container.seek(start + int((moment or 0.0) / base), stream=stream, backward=True)
            for packet in container.demux(stream):
                on_time()
                if packet.pts is not None:
                    end = max(end or 0.0, float((packet.pts + (packet.duration or 0) - start) * base))
        except RefusedError:
            raise
        except Exception:  # noqa: S110  # a damaged end: what was read so far counts
            pass
        if end:
            container.seek(start, stream=stream, backward=True)
            return end
    return None


def _stated_duration(container: Any, stream: Any) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1_000_000 if container.duration else None


def _first_packet(container: Any, stream: Any) -> None:
    packet = next(iter(container.demux(stream)), None)
    if packet is None or not packet.size:
        raise RefusedError("media_broken", "the video has no frames")


class _Readable:
    """A file as FFmpeg reads it. A seek to nowhere, as broken indexes ask for, is a number and not an error:
    PyAV would print the traceback of an error."""

    def __init__(self, file: IO[bytes]) -> None:
        self.read, self.tell, self._seek = file.read, file.tell, file.seek

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -errno.EINVAL


@contextmanager
def _opened(file: IO[bytes], mime: str, options: MediaOptions) -> Iterator[tuple[Any, Any]]:
    """The container and its first video track, decoding in one thread. Every error becomes a RefusedError."""
    import av

    file.seek(0)
    try:
        # FFmpeg's errors are many, and hostile headers also make ValueError, MemoryError and the like.
        with av.open(
            _Readable(file),
            format=VIDEO_FORMATS[mime],
            container_options=_PROBE_OPTIONS,
            options={"max_pixels": str(MAX_IMAGE_PIXELS)},
        ) as container:
            yield container, _video_track(container, options)
    except RefusedError:
        raise
    except Exception as error:
        raise _broken(error) from error


def _video_track(container: Any, options: MediaOptions) -> Any:
    if not container.streams.video:
        raise RefusedError("media_kind_unknown", "the file has sound but no video track")
    stream = container.streams.video[0]
    codec = stream.codec_context
    if codec is None:
        raise RefusedError("media_format", "the video's codec is not known to FFmpeg")
    if codec.width * codec.height > MAX_IMAGE_PIXELS:
        raise RefusedError("media_too_large", f"{codec.width:,} x {codec.height:,} pixels are too many")
    codec.thread_count = 1  # the threads of the media stage are the only parallelism
    return stream


def _broken(error: Exception) -> RefusedError:
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return RefusedError("media_broken", f"the video cannot be read: {why}")
