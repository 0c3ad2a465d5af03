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


def thumbnail(path: Path) -> bytes | None:
    """Return a WebP of at most 160 x 160 px, of a video its first picture; None when it cannot be read."""
    try:
        if path.stat().st_size <= BIGGEST_PICTURE_BYTES and (made := _of_picture(path)):
            return made
    except OSError:
        return None
    return _of_video(path)


def _of_picture(path: Path) -> bytes | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                opened.draft("RGB", (2 * WIDTH_PX, 2 * WIDTH_PX))  # a JPEG is decoded small
                return _webp(ImageOps.exif_transpose(opened))
    except (UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
    except (OSError, ValueError, SyntaxError):  # what Pillow raises on a damaged file
        return None


def _of_video(path: Path) -> bytes | None:
    try:
        import av
    except ImportError:
        return None  # the extra `video` is not installed: the item goes without a picture
    try:
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0), None)
            return None if frame is None else _webp(Image.fromarray(frame.to_ndarray(format="rgb24")))
    except (av.error.FFmpegError, IndexError, ValueError, OSError):
        return None


def _webp(image: Image.Image) -> bytes:
    small = image.convert("RGB")
    small.thumbnail((WIDTH_PX, WIDTH_PX))
    out = io.BytesIO()
    small.save(out, "WEBP", quality=QUALITY, method=4)
    return out.getvalue()


def shown(uri: str | None) -> str | None:
    """Return a media's reference as a page shows it: of a local file only its folder and its name."""
    if uri is None or uri.startswith("data:") or ("://" in uri and not uri.startswith("file:")):
        return uri
    return "/".join(PurePath(unquote(uri.removeprefix("file://"))).parts[-2:]).lstrip("/")
