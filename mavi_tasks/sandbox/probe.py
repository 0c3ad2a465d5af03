"""The type of media bytes (from magic numbers) and their size: pixels, frames, seconds."""

import io
import struct
from dataclasses import dataclass
from pathlib import Path

IMAGES_ISO = {b"heic": "image/heic", b"heix": "image/heic", b"mif1": "image/heif", b"avif": "image/avif"}
MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"FLV\x01", "video/x-flv"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-wmv"),
    (b"\0\0\x01\xba", "video/mpeg"),
    (b"\0\0\x01\xb3", "video/mpeg"),
)
# Mime types of the same container: a .mov is often called mp4, WebM is Matroska.
CONTAINERS = (
    frozenset({"video/mp4", "video/quicktime", "video/mov", "video/3gpp", "video/x-m4v"}),
    frozenset({"video/webm", "video/x-matroska"}),
    frozenset({"video/mpeg", "video/mpg", "video/mpegs"}),
    frozenset({"video/x-flv", "video/flv"}),
    frozenset({"video/x-ms-wmv", "video/wmv"}),
    frozenset({"video/x-msvideo", "video/avi"}),
    frozenset({"image/heic", "image/heif"}),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """Width and height in pixels; frames > 1 only for an animated image; seconds only for a video."""

    width: int
    height: int
    duration_s: float = 0.0
    frames: int = 1


def sniff(data: bytes) -> str | None:
    """The mime type of the first bytes, None when it is unknown."""
    if data[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"AVI ": "video/x-msvideo"}.get(data[8:12])
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        if brand in IMAGES_ISO:
            return IMAGES_ISO[brand]
        return "video/quicktime" if brand == b"qt  " else "video/3gpp" if brand[:2] == b"3g" else "video/mp4"
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return "video/webm" if b"webm" in data[:64] else "video/x-matroska"
    return next((mime for magic, mime in MAGIC if data.startswith(magic)), None)


def same_container(claimed: str, found: str) -> bool:
    """Whether two mime types name the same container, so that a stated type can be correct."""
    return claimed == found or any(claimed in names and found in names for names in CONTAINERS)


def measure(source: bytes | Path, mime: str) -> Measured | None:
    """The size of an image or a video, None when it cannot be decoded."""
    return _measure_image(source) if mime.startswith("image/") else _measure_video(source)


def _measure_image(source: bytes | Path) -> Measured | None:
    from PIL import Image, UnidentifiedImageError

    opened = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with Image.open(opened) as image:
            return Measured(image.width, image.height, frames=getattr(image, "n_frames", 1))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None


def _measure_video(source: bytes | Path) -> Measured | None:
    try:
        import av
    except ImportError:
        return measure_mp4(source)
    opened = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    try:
        with av.open(opened, "r") as container:
            stream = container.streams.video[0]
            length = container.duration or 0  # in av.time_base, microseconds
            return Measured(stream.width, stream.height, length / 1e6)
    except (av.FFmpegError, IndexError, ValueError):
        return None


def measure_mp4(source: bytes | Path) -> Measured | None:
    """The size an MP4's own header states, read without a video library; None for other containers."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    moov = _box(data, b"moov")
    header = _box(moov, b"mvhd") if moov else None
    if moov is None or header is None or len(header) < 32:
        return None
    scale, length = struct.unpack_from(">IQ" if header[0] else ">II", header, 20 if header[0] else 12)
    width, height = _largest_track(moov)
    return Measured(width, height, length / scale) if width and scale else None


def _largest_track(moov: bytes) -> tuple[int, int]:
    sizes = [(0, 0)]
    for kind, body in _boxes(moov):
        track = _box(body, b"tkhd") if kind == b"trak" else None
        if track and len(track) >= 8:
            width, height = struct.unpack(">II", track[-8:])  # 16.16 fixed point
            sizes.append((width >> 16, height >> 16))
    return max(sizes)


def _box(data: bytes, name: bytes) -> bytes | None:
    return next((body for kind, body in _boxes(data) if kind == name), None)


def _boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    found, offset = [], 0
    while offset + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, offset)
        header_size = 8
        if size == 1 and offset + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, offset + 8)
            header_size = 16
        size = size or len(data) - offset  # 0 = to the end
        if size < header_size:
            break
        found.append((kind, data[offset + header_size : offset + size]))
        offset += size
    return found
