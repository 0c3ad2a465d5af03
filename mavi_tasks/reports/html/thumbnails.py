"""Small pictures of local media, for the items a page shows. Nothing is fetched: URLs are only linked."""

import io
import warnings
from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path, PurePath
from urllib.parse import unquote, urlsplit

from PIL import Image, ImageOps, UnidentifiedImageError

WIDTH_PX = 160
QUALITY = 55
MOST = 500  # pictures on a page
MOST_BYTES = 1_700_000  # of all pictures together, so that the page stays under 5 MB
BIGGEST_PICTURE_BYTES = 60_000_000


def embed(uris: Iterable[str | None]) -> dict[str, str]:
    """Return a data: URL per local medium that can be shown, in the order given, until the page is full."""
    made: dict[str, str] = {}
    room = MOST_BYTES
    for uri in dict.fromkeys(uris):
        if uri is None or (path := local(uri)) is None:
            continue
        if len(made) >= MOST or room <= 0:
            break
        picture = thumbnail(path)
        if picture is not None:
            room -= len(picture)
            made[uri] = f"data:image/webp;base64,{b64encode(picture).decode()}"
    return made


def local(uri: str) -> Path | None:
    """Return the file a reference names, or None when it is not local or not there."""
    if uri.startswith("file:"):
        uri = unquote(urlsplit(uri).path)
    elif "://" in uri or uri.startswith("data:"):
        return None
    try:
        path = Path(uri)
        return path if path.is_file() else None
    except (OSError, ValueError):  # a name too long, or with a NUL
        return None


def thumbnail(path: Path, width_px: int = WIDTH_PX) -> bytes | None:
    """Return a WebP of at most so many pixels each way, of a video its first picture; None when it cannot be
    read."""
    try:
        if path.stat().st_size <= BIGGEST_PICTURE_BYTES and (made := _of_picture(path, width_px)):
            return made
    except OSError:
        return None
    return _of_video(path, width_px)


def _of_picture(path: Path, width_px: int) -> bytes | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                opened.draft("RGB", (2 * width_px, 2 * width_px))  # a JPEG is decoded small
                return _webp(ImageOps.exif_transpose(opened), width_px)
    except (UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
    except (OSError, ValueError, SyntaxError):  # what Pillow raises on a damaged file
        return None


def _of_video(path: Path, width_px: int) -> bytes | None:
    try:
        import av
    except ImportError:
        return None  # the extra `video` is not installed: the item goes without a picture
    try:
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0), None)
            return (
                None if frame is None else _webp(Image.fromarray(frame.to_ndarray(format="rgb24")), width_px)
            )
    except (av.error.FFmpegError, IndexError, ValueError, OSError):
        return None


def _webp(image: Image.Image, width_px: int) -> bytes:
    small = image.convert("RGB")
    small.thumbnail((width_px, width_px))
    out = io.BytesIO()
    small.save(out, "WEBP", quality=QUALITY, method=4)
    return out.getvalue()


def shown(uri: str | None) -> str | None:
    """Return a media's reference as a page shows it: of a local file only its folder and its name."""
    if uri is None or uri.startswith("data:") or ("://" in uri and not uri.startswith("file:")):
        return uri
    return "/".join(PurePath(unquote(uri.removeprefix("file://"))).parts[-2:]).lstrip("/")
