"""What a file is, by its first bytes; and what a name claims to be, for remote media that are not read."""

from typing import Final

from mavi_tasks.media.types import Kind

HEAD_BYTES: Final = 1024

IMAGE_FORMATS: Final = {  # MIME -> the Pillow reader, None = Pillow has none
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/gif": "GIF",
    "image/webp": "WEBP",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
    "image/avif": "AVIF",
    "image/heic": None,
    "image/jxl": None,
}

VIDEO_FORMATS: Final = {  # MIME -> the FFmpeg demuxer
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/3gpp": "mp4",
    "video/x-matroska": "matroska",
    "video/webm": "matroska",
    "video/x-msvideo": "avi",
    "video/x-flv": "flv",
    "video/mpeg": "mpeg",
    "video/mp2t": "mpegts",
    "video/x-ms-wmv": "asf",
    "video/ogg": "ogg",
}

SUFFIXES: Final = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "jpe": "image/jpeg",
    "jfif": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "bmp": "image/bmp",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "avif": "image/avif",
    "heic": "image/heic",
    "heif": "image/heic",
    "jxl": "image/jxl",
    "mp4": "video/mp4",
    "m4v": "video/mp4",
    "mov": "video/quicktime",
    "qt": "video/quicktime",
    "3gp": "video/3gpp",
    "3g2": "video/3gpp",
    "mkv": "video/x-matroska",
    "webm": "video/webm",
    "avi": "video/x-msvideo",
    "flv": "video/x-flv",
    "mpg": "video/mpeg",
    "mpeg": "video/mpeg",
    "ts": "video/mp2t",
    "m2ts": "video/mp2t",
    "mts": "video/mp2t",
    "wmv": "video/x-ms-wmv",
    "asf": "video/x-ms-wmv",
    "ogv": "video/ogg",
}

_ALIASES: Final = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/heif": "image/heic",
    "image/x-ms-bmp": "image/bmp",
    "video/x-m4v": "video/mp4",
    "video/mov": "video/quicktime",
    "video/avi": "video/x-msvideo",
    "video/mpg": "video/mpeg",
    "video/wmv": "video/x-ms-wmv",
    "video/x-mpeg": "video/mpeg",
    "video/3gpp2": "video/3gpp",
}

_STARTS: Final = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"\xff\x0a", "image/jxl"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "image/jxl"),
    (b"FLV\x01", "video/x-flv"),
    (b"\x00\x00\x01\xba", "video/mpeg"),
    (b"\x00\x00\x01\xb3", "video/mpeg"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-wmv"),
)

_RIFF: Final = {b"WEBP": "image/webp", b"AVI ": "video/x-msvideo"}

_HEIF_BRANDS: Final = frozenset((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"))
_AUDIO_BRANDS: Final = frozenset((b"M4A ", b"M4B ", b"M4P "))
_OLD_QUICKTIME: Final = frozenset((b"moov", b"mdat", b"wide", b"pnot"))


def mime_of(head: bytes) -> str | None:
    """The MIME type of an image or a video by its first bytes (`HEAD_BYTES` are plenty), or None."""
    for start, mime in _STARTS:
        if head.startswith(start):
            return mime
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _iso_media(head)
    if head[4:8] in _OLD_QUICKTIME:
        return "video/quicktime"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "video/webm" if b"webm" in head[:64] else "video/x-matroska"
    return _weak_signs(head)


def kind_of(mime: str) -> Kind | None:
    """`image` or `video`, None for a MIME type that is neither."""
    if mime in IMAGE_FORMATS:
        return "image"
    return "video" if mime in VIDEO_FORMATS else None


def mime_of_name(name: str) -> str | None:
    """What the suffix of a file name claims, or None."""
    return SUFFIXES.get(name.rpartition(".")[2].lower()) if "." in name else None


def mime_said(text: str) -> str | None:
    """A MIME type as headers and queries spell it, in the one spelling used here; None when not a media."""
    mime = text.partition(";")[0].strip().lower()
    mime = _ALIASES.get(mime, mime)
    return mime if kind_of(mime) else None


def described(head: bytes) -> str:
    """What the first bytes look like when they are no media, for an error message."""
    start = head[:64].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if start.startswith((b"<?xml", b"<svg")):
        return "XML or SVG"
    if head.startswith(b"%PDF"):
        return "a PDF"
    if head[4:8] == b"ftyp" and head[8:12] in _AUDIO_BRANDS:
        return "audio"
    if head.startswith((b"ID3", b"fLaC", b"OggS")) or (head[:4] == b"RIFF" and head[8:12] == b"WAVE"):
        return "audio"
    return "text" if b"\x00" not in head and _is_utf8(head) else "an unknown format"


def _iso_media(head: bytes) -> str | None:
    """ISO base media: the major brand decides, then the compatible ones."""
    size = int.from_bytes(head[:4], "big")
    major = head[8:12]
    brands = {head[at : at + 4] for at in range(8, min(size, len(head), 256), 4)}
    if major in (b"avif", b"avis") or (major in (b"mif1", b"msf1") and b"avif" in brands):
        return "image/avif"
    if major in _HEIF_BRANDS:
        return "image/heic"
    if major in _AUDIO_BRANDS:
        return None
    if major == b"qt  ":
        return "video/quicktime"
    return "video/3gpp" if major.startswith(b"3g") else "video/mp4"


def _weak_signs(head: bytes) -> str | None:
    """Formats whose first bytes alone are too common to trust."""
    if (
        head[:2] == b"BM"
        and len(head) >= 18
        and head[14:18] in (b"\x28\0\0\0", b"\x0c\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0")
    ):
        return "image/bmp"
    if len(head) > 376 and head[0] == head[188] == head[376] == 0x47:
        return "video/mp2t"
    if len(head) > 388 and head[4] == head[196] == head[388] == 0x47:  # the 192-byte packets of cameras
        return "video/mp2t"
    return "video/ogg" if head.startswith(b"OggS") and b"\x80theora" in head else None


def _is_utf8(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4  # cut in the middle of a letter
    return True
