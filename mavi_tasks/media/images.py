"""Images: their size, and their bytes in a form and size that a model takes. Pillow, used with strict bounds.

Each file is given to the one reader that its magic bytes name, never to Pillow's guessing; the number of
pixels is checked before any is decoded.
"""

import io
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Final

from PIL import Image, ImageOps

from mavi_tasks.media.local_files import RefusedError, size_text
from mavi_tasks.media.mp4 import is_whole
from mavi_tasks.media.optional import has_heif
from mavi_tasks.media.sniff import IMAGE_FORMATS
from mavi_tasks.media.types import MB

_WRITES: Final = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
_MAX_BYTES: Final = 150 * MB
_MAX_DECODED_PIXELS: Final = (
    50_000_000  # 150 to 200 MB in memory; larger JPEGs are decoded at half their size
)
_MIN_PX: Final = 32
_JPEG_QUALITY: Final = 88
_ATTEMPTS: Final = 8
_SCAN: Final = b"\xff\xda"
_MAX_SCANS: Final = 200  # progressive photos have about 10; each costs a pass over all pixels


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as it is sent."""

    data: bytes
    mime: str
    width: int | None
    height: int | None


def can_read(mime: str) -> bool:
    """Whether an image of this type can be decoded here."""
    return _reader(mime) is not None


def size_of(file: IO[bytes], mime: str, max_pixels: int) -> tuple[int, int] | None:
    """Width and height from the header, as stored; None for a format that cannot be read here.

    Raises RefusedError for a broken header, a file that is cut short, or too many pixels. Nothing is decoded.
    """
    if file.seek(0, os.SEEK_END) > _MAX_BYTES:
        raise RefusedError(
            "media_too_large", f"an image of more than {size_text(_MAX_BYTES)} is not read here"
        )
    if not _WHOLE.get(mime, _any)(file):
        raise RefusedError("media_broken", "the image is cut short: it was copied only in part")
    file.seek(0)
    if not can_read(mime):
        return None
    image = _open(file, mime, max_pixels)
    if mime == "image/tiff":
        _check_strips(image, file.seek(0, os.SEEK_END))
    if mime == "image/gif" and image.width * image.height <= _MAX_DECODED_PIXELS:
        _load(image)  # one byte is the only sign of its end
    return image.size


def fitted(
    data: bytes, mime: str, *, mimes: frozenset[str], max_bytes: int, max_px: int | None, max_pixels: int
) -> Picture:
    """The image as it is when the route takes it, else converted and shrunk until it fits.

    A converted image has its EXIF turn applied and its other metadata left out. Only the first picture of an
    animation is kept when it has to be converted. Raises RefusedError when it cannot be made to fit.
    """
    taken = not mimes or mime in mimes
    if not can_read(mime):
        if taken and len(data) <= max_bytes:
            return Picture(data, mime, None, None)
        raise RefusedError(
            "media_format", f"{mime} cannot be converted or shrunk here; save it as JPEG or PNG"
        )
    image = _open(io.BytesIO(data), mime, max_pixels)
    width, height = image.size
    taken = taken and not _moves(image)
    if taken and len(data) <= max_bytes and (max_px is None or max(width, height) <= max_px):
        return Picture(data, mime, width, height)
    if mime == "image/jpeg" and data.count(_SCAN) > _MAX_SCANS:
        raise RefusedError(
            "media_too_large", f"the JPEG has {data.count(_SCAN):,} scans: it would take too long to decode"
        )
    target = _target(mime, mimes, image)
    longest = min(max(width, height), max_px or max(width, height))
    if mime == "image/jpeg" and width * height > _MAX_DECODED_PIXELS:
        longest = min(longest, max(width, height) // 2)
    if mime == target == "image/jpeg":  # the bytes of a photo tell how much smaller it must be
        longest = min(longest, max(_MIN_PX, int(max(width, height) * _shrinkage(max_bytes, len(data)))))
    upright = _decoded(image, target, longest if mime == "image/jpeg" else None)
    return _written(upright, target, longest, max_bytes, mimes)


def jpeg(image: Image.Image, max_px: int) -> Picture:
    """A decoded picture (a video's frame) as JPEG, its longest side at most `max_px`."""
    small = _scaled(image, max_px)
    return Picture(_save(small, "image/jpeg", 85), "image/jpeg", *small.size)


def _reader(mime: str) -> str | None:
    if mime == "image/heic" and has_heif():
        return "HEIF"
    return IMAGE_FORMATS.get(mime)


def _open(file: IO[bytes], mime: str, max_pixels: int) -> Image.Image:
    """The image with its header read. Pillow's readers raise whatever they like on hostile bytes."""
    factory = _factory(_reader(mime) or "")
    try:
        image = factory(file, "")
    except Exception as error:
        raise _broken(error) from error
    width, height = image.size
    if width * height > max_pixels:
        raise RefusedError(
            "media_too_large", f"{width:,} x {height:,} pixels is more than the {max_pixels:,} allowed here"
        )
    return image


def _factory(name: str) -> Callable[[IO[bytes], str], Image.Image]:
    """Pillow's reader of one format. Image.open would try them all, and warn of sizes that are fine here."""
    if name == "HEIF":
        from pillow_heif import register_heif_opener  # type: ignore[import-not-found, unused-ignore]

        register_heif_opener()
    elif name not in Image.OPEN:
        Image.init()
    return Image.OPEN[name][0]


def _decoded(image: Image.Image, target: str, draft_px: int | None) -> Image.Image:
    try:
        if draft_px is not None:  # JPEG can be decoded at an eighth to a half of its size
            factor = min(1.0, draft_px / max(image.size))
            image.draft(None, (math.ceil(image.width * factor), math.ceil(image.height * factor)))
        if image.width * image.height > _MAX_DECODED_PIXELS:
            raise Image.DecompressionBombError(f"{image.width:,} x {image.height:,} pixels")
        ImageOps.exif_transpose(image, in_place=True)
        return _in_mode(image, target)
    except Exception as error:
        raise _broken(error) from error


def _in_mode(image: Image.Image, target: str) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    if target == "image/jpeg":
        return image if image.mode in ("RGB", "L") else _on_white(image)
    return (
        image if image.mode in ("RGB", "RGBA", "L") else image.convert("RGBA" if _has_alpha(image) else "RGB")
    )


def _on_white(image: Image.Image) -> Image.Image:
    """Without transparency, which JPEG has not: what is see-through becomes white, not black."""
    if not _has_alpha(image):
        return image.convert("RGB")
    layer = image.convert("RGBA")
    ground = Image.new("RGB", layer.size, "white")
    ground.paste(layer, mask=layer.getchannel("A"))
    return ground


def _moves(image: Image.Image) -> bool:
    """Whether it is an animation; no family documents what it makes of one."""
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception as error:
        raise _broken(error) from error


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _target(mime: str, mimes: frozenset[str], image: Image.Image) -> str:
    """The type to write: the same when it can be, PNG for what is see-through or drawn, else JPEG."""
    drawn = _has_alpha(image) or image.mode in ("P", "1")
    wanted = (mime, "image/png", "image/jpeg") if drawn else (mime, "image/jpeg", "image/png")
    for candidate in wanted:
        if candidate in _WRITES and (not mimes or candidate in mimes):
            return candidate
    raise RefusedError("media_format", f"{mime} is not taken, and neither are JPEG or PNG")


def _shrinkage(max_bytes: int, count: int) -> float:
    """The factor for both sides that makes `count` bytes fit, with a little to spare."""
    return min(1.0, 0.93 * math.sqrt(max_bytes / count))


def _written(image: Image.Image, target: str, longest: int, max_bytes: int, mimes: frozenset[str]) -> Picture:
    for _ in range(_ATTEMPTS):
        small = _scaled(image, longest)
        data = _save(small, target, _JPEG_QUALITY)
        if len(data) <= max_bytes:
            return Picture(data, target, *small.size)
        if target != "image/jpeg" and not _has_alpha(image) and (not mimes or "image/jpeg" in mimes):
            target, image = "image/jpeg", _on_white(image)  # a photograph as PNG: JPEG before smaller
            continue
        longest = max(_MIN_PX, int(longest * min(0.9, _shrinkage(max_bytes, len(data)))))
    raise RefusedError("media_too_large", f"it cannot be shrunk to {size_text(max_bytes)}")


def _scaled(image: Image.Image, longest: int) -> Image.Image:
    factor = longest / max(image.size)
    if factor >= 1:
        return image
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _save(image: Image.Image, mime: str, quality: int) -> bytes:
    out = io.BytesIO()
    profile = image.info.get("icc_profile")
    try:
        image.save(out, _WRITES[mime], quality=quality, icc_profile=profile)
    except Exception as error:
        raise _broken(error) from error
    return out.getvalue()


def _jpeg_is_whole(file: IO[bytes]) -> bool:
    """Whether the end marker follows the picture; a camera may have put more behind it."""
    file.seek(0)
    data = file.read()
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != 0xDA:
        filler = data[position + 1] == 0xFF
        position += 1 if filler else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return data.find(b"\xff\xd9", position) >= 0


def _png_is_whole(file: IO[bytes]) -> bool:
    file.seek(max(0, file.seek(0, os.SEEK_END) - 65536))
    return b"IEND" in file.read()


def _webp_is_whole(file: IO[bytes]) -> bool:
    size = file.seek(0, os.SEEK_END)
    file.seek(4)
    return int.from_bytes(file.read(4), "little") + 8 <= size + 1  # some writers leave out the last pad byte


def _bmp_is_whole(file: IO[bytes]) -> bool:
    size = file.seek(0, os.SEEK_END)
    file.seek(2)
    return int.from_bytes(file.read(4), "little") <= size


def _check_strips(image: Image.Image, size: int) -> None:
    """RefusedError when pixels of a TIFF lie behind the end of the file."""
    tags = getattr(image, "tag_v2", {})
    for starts, counts in ((273, 279), (324, 325)):  # strips, tiles
        ends = [
            start + count for start, count in zip(tags.get(starts, ()), tags.get(counts, ()), strict=False)
        ]
        if ends and max(ends) > size:
            raise RefusedError("media_broken", "the image is cut short: it was copied only in part")


def _load(image: Image.Image) -> None:
    try:
        image.load()
    except Exception as error:
        raise _broken(error) from error


def _any(file: IO[bytes]) -> bool:
    return True


# Formats that say where they end. A photo cut short would otherwise be sent and paid for.
_WHOLE: Final[dict[str, Callable[[IO[bytes]], bool]]] = {
    "image/jpeg": _jpeg_is_whole,
    "image/png": _png_is_whole,
    "image/bmp": _bmp_is_whole,
    "image/webp": _webp_is_whole,
    "image/avif": is_whole,
    "image/heic": is_whole,
}


def _broken(error: Exception) -> RefusedError:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning | MemoryError):
        return RefusedError("media_too_large", f"the image is too large to decode: {error}")
    return RefusedError("media_broken", f"the image cannot be read: {error or type(error).__name__}")
