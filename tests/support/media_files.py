"""Makes the media that tests need: small, real, and broken in every way."""

import base64
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image, ImageDraw

from mavi_tasks.media import DEFAULTS, Delivery, Media, MediaOptions, Refusal, route_for
from mavi_tasks.media.encode import assemble, encode
from mavi_tasks.providers.base import Route

IMAGE_MIMES = frozenset({"image/jpeg", "image/png", "image/webp"})
VIDEO_MIMES = frozenset({"video/mp4", "video/quicktime", "video/webm"})


class Family:
    """A family as far as media are concerned."""

    def __init__(self, name: str, **routes: Route) -> None:
        self.name = name
        self.routes = routes


EVERYTHING = Family(
    "everything",
    image=Route("/vu", url=True, inline=True, max_inline_bytes=1_000_000, max_items=10, mimes=IMAGE_MIMES),
    video=Route("/vu", url=True, inline=True, max_inline_bytes=1_000_000, mimes=VIDEO_MIMES),
)
URL_VIDEOS = Family(
    "url_videos",
    image=Route("/vu", url=True, inline=True, max_inline_bytes=1_000_000, max_items=20, mimes=IMAGE_MIMES),
    video=Route("/vu", url=True, inline=False),
    text=Route("/vu", url=False, inline=False, max_items=0),
)
IMAGES_ONLY = Family(
    "images_only",
    image=Route("/iu", url=True, inline=True, max_inline_bytes=1_000_000, max_items=10, mimes=IMAGE_MIMES),
)
TWO_ENDPOINTS = Family(
    "two_endpoints",
    image=Route("/iu", url=True, inline=True, max_inline_bytes=1_000_000, max_items=5, mimes=IMAGE_MIMES),
    video=Route("/vu", url=True, inline=True, max_inline_bytes=50_000, mimes=VIDEO_MIMES),
)


def photo(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    """A picture with some detail, different for each seed."""
    image = Image.effect_noise((max(2, width // 8), max(2, height // 8)), 90).resize((width, height))
    image = Image.merge("RGB", (image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), image))
    ImageDraw.Draw(image).rectangle((seed % width, 0, seed % width + 3, 3), fill=(seed % 256, 0, 255))
    return image


def image_bytes(form: str = "JPEG", size: tuple[int, int] = (64, 48), **save: Any) -> bytes:
    out = BytesIO()
    photo(*size).save(out, form, **save)
    return out.getvalue()


def image_file(path: Path, form: str = "JPEG", size: tuple[int, int] = (64, 48), **save: Any) -> str:
    path.write_bytes(image_bytes(form, size, **save))
    return str(path)


def clip(
    path: Path, seconds: float = 4, fps: int = 10, size: tuple[int, int] = (160, 120), codec: str = "mpeg4"
) -> str:
    """A video whose brightness grows from black to white, so that a frame tells its time."""
    import av

    count = round(seconds * fps)
    with av.open(str(path), "w") as container:
        fast = {"deadline": "realtime", "cpu-used": "8"} if codec == "libvpx" else {}
        stream = container.add_stream(codec, rate=fps, options=fast)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for index in range(count):
            grey = index * 255 // count
            image = Image.new("RGB", size, (grey, grey, grey))
            for packet in stream.encode(av.VideoFrame.from_image(image)):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return str(path)


def opened(data: str | None) -> Image.Image:
    """The image inside a part's base64 text."""
    assert data is not None
    return Image.open(BytesIO(base64.b64decode(data)))


def found(unit: object) -> Media:
    assert isinstance(unit, Media), unit
    return unit


def deliver(
    media_items: Sequence[Media | Refusal], family: Family, *, options: MediaOptions = DEFAULTS, **asked: Any
) -> Delivery | Refusal:
    """One request's media as parts, or why not; `asked` goes to `route_for`."""
    plan = route_for(media_items, family, options=options, **asked)
    if isinstance(plan, Refusal):
        return plan
    done = []
    for step in plan.steps:
        encoded = encode(step, options)
        if isinstance(encoded, Refusal):
            return encoded
        done.append(encoded)
    return assemble(plan, done)


class _Handler(BaseHTTPRequestHandler):
    routes: ClassVar[dict[str, Callable[["_Handler"], None]]]
    seen: ClassVar[list[tuple[str, dict[str, str]]]]

    def do_GET(self) -> None:
        self.seen.append((self.path, dict(self.headers)))
        self.routes[self.path.partition("?")[0]](self)

    def reply(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(
    routes: dict[str, Callable[[Any], None]],
) -> Iterator[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """A real server on every loopback address; gives its base URL and the requests it saw."""
    handler = type("Handler", (_Handler,), {"routes": routes, "seen": []})
    server = ThreadingHTTPServer(("0.0.0.0", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler.seen  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
