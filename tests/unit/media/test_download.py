"""Downloads stay within their limits and out of private networks; buckets are signed or read."""

import base64
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from mavi_tasks.media import Delivery, MediaOptions, Refusal, identify
from mavi_tasks.media.download import fetched
from mavi_tasks.media.local_files import RefusedError
from tests.support.media_files import (
    EVERYTHING,
    IMAGES_ONLY,
    URL_VIDEOS,
    clip,
    deliver,
    found,
    image_bytes,
    served,
)

PHOTO = image_bytes("JPEG")
OPEN = MediaOptions(download=True, allow_http=True, allow_private=True, download_timeout_s=5)


def delivered(outcome: object) -> Delivery:
    assert isinstance(outcome, Delivery), outcome
    return outcome


def refused(outcome: object) -> str:
    assert isinstance(outcome, Refusal), outcome
    return outcome.code


def inlined(url: str, options: MediaOptions = OPEN) -> Delivery | Refusal:
    return deliver([identify(url)], EVERYTHING, options=options, force_inline=True)


def test_a_remote_image_is_read_and_inlined_after_the_gateway_could_not_fetch_it():
    with served({"/a.jpg": lambda h: h.reply(PHOTO)}) as (base, seen):
        done = delivered(inlined(base + "/a.jpg?Signature=s"))
    assert base64.b64decode(done.parts[0].data) == PHOTO
    assert (done.input_mode, done.media_bytes, done.width) == ("inline", len(PHOTO), 64)
    assert done.sha256 is not None
    assert seen[0][0] == "/a.jpg?Signature=s"
    assert seen[0][1]["Accept-Encoding"] == "identity"


def test_a_remote_video_gives_frames_to_a_family_of_images(tmp_path):
    film = Path(clip(tmp_path / "a.mp4")).read_bytes()
    with served({"/a.mp4": lambda h: h.reply(film)}) as (base, _):
        done = delivered(deliver([identify(base + "/a.mp4")], IMAGES_ONLY, frames=3, options=OPEN))
    assert (done.frames_sent, done.duration_s) == (3, 4.0)


def test_login_in_a_url_is_sent_to_its_own_host_only_and_stored_nowhere():
    with served({"/a.jpg": lambda h: h.reply(b"", 302, Location=f"http://127.0.0.2:{h.server.server_address[1]}/b.jpg"),
                 "/b.jpg": lambda h: h.reply(PHOTO)}) as (base, seen):  # fmt: skip
        url = base.replace("//", "//user:p%40ss@") + "/a.jpg"
        assert "user" not in found(identify(url)).uri
        delivered(inlined(url))
    assert seen[0][1]["Authorization"] == "Basic " + base64.b64encode(b"user:p@ss").decode()
    assert "Authorization" not in seen[1][1]


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (lambda h: h.reply(b"gone", 404), "download_failed"),
        (lambda h: h.reply(b"<html>please log in</html>"), "media_kind_unknown"),
        (lambda h: h.reply(b""), "media_empty"),
        (lambda h: h.reply(b"x", Content_Length=str(10**12)), "media_too_large"),
        (lambda h: h.reply(PHOTO, Content_Encoding="gzip"), "download_failed"),
        (lambda h: h.reply(PHOTO, Content_Length=str(len(PHOTO) + 9)), "download_failed"),
        (lambda h: h.wfile.write(b"not http at all\r\n\r\n"), "download_failed"),
        (lambda h: h.reply(b"", 302, Location="/a.jpg"), "download_failed"),
        (lambda h: h.reply(b"", 302, Location="file:///etc/passwd"), "download_failed"),
        (lambda h: h.reply(b"", 302, Location="http://[bad"), "download_failed"),
        (lambda h: h.reply(b"", 302), "download_failed"),
        (lambda h: h.reply(PHOTO[:300]), "media_broken"),
    ],
)
def test_whatever_a_server_answers_ends_in_a_refusal_without_secrets(reply, code):
    with served({"/a.jpg": reply}) as (base, _):
        outcome = deliver([identify(base + "/a.jpg?sig=SECRET")], EVERYTHING, force_inline=True,
                          options=MediaOptions(**{**_open(), "max_image_px": 10}))  # fmt: skip
    assert refused(outcome) == code
    assert "SECRET" not in outcome.reason


def _open() -> dict[str, object]:
    return {"download": True, "allow_http": True, "allow_private": True, "download_timeout_s": 5}


def test_a_body_without_a_length_is_cut_off_at_the_limit():
    def endless(handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        with pytest.raises(OSError):  # noqa: PT011  # the client hangs up, in whatever way
            while True:
                handler.wfile.write(PHOTO + b"\x00" * 60_000)

    with served({"/a.jpg": endless}) as (base, _):
        outcome = inlined(base + "/a.jpg", MediaOptions(**{**_open(), "max_download_bytes": 300_000}))
    assert refused(outcome) == "media_too_large"


def dripped(text: bytes, before: bytes = b"") -> Callable[[Any], None]:
    """A reply whose `text` comes a byte at a time, for a second in all; then a good photo."""

    def reply(handler) -> None:
        handler.wfile.write(before)
        with suppress(OSError):  # the client has hung up
            for number in range(len(text)):
                handler.wfile.write(text[number : number + 1])
                time.sleep(1 / len(text))
            handler.wfile.write(b"Content-Length: %d\r\n\r\n" % len(PHOTO) + PHOTO)

    return reply


OK = b"HTTP/1.1 200 OK\r\n"
DRIPS = {
    "the status line": dripped(OK),
    "a header": dripped(b"X-Long: " + b"a" * 40 + b"\r\n", OK),
    "many headers": dripped(b"A: b\r\n" * 10, OK),
    "a reply before the reply": dripped(b"HTTP/1.1 100 Continue\r\n\r\n", b""),
    "the body": dripped(b"\xff" * 40, OK + b"Content-Length: 4000\r\n\r\n"),
    "a chunked body": dripped(b"1\r\nx\r\n" * 8, OK + b"Transfer-Encoding: chunked\r\n\r\n"),
    "the head of a redirect": dripped(b"Location: /b.jpg\r\n", b"HTTP/1.1 302 Found\r\n"),
}


@pytest.mark.parametrize("drip", DRIPS.values(), ids=DRIPS.keys())
def test_a_server_that_drips_is_given_up_at_the_deadline(drip):
    with served({"/a.jpg": drip, "/b.jpg": lambda h: h.reply(PHOTO)}) as (base, _):
        began = time.monotonic()
        outcome = inlined(base + "/a.jpg", MediaOptions(**{**_open(), "download_timeout_s": 0.2}))
        took_s = time.monotonic() - began
    assert refused(outcome) == "download_failed"
    assert took_s < 0.7


def test_redirects_share_one_deadline():
    def late(target: str) -> Callable[[Any], None]:
        def reply(handler) -> None:
            time.sleep(0.15)
            handler.reply(b"", 302, Location=target)

        return reply

    routes = {"/a.jpg": late("/b.jpg"), "/b.jpg": late("/c.jpg"), "/c.jpg": lambda h: h.reply(PHOTO)}
    with served(routes) as (base, _):
        outcome = inlined(base + "/a.jpg", MediaOptions(**{**_open(), "download_timeout_s": 0.2}))
    assert refused(outcome) == "download_failed"


def test_a_server_that_never_answers_is_given_up_at_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/a.jpg"
        outcome = inlined(url, MediaOptions(**{**_open(), "download_timeout_s": 0.05}))
    assert refused(outcome) == "download_failed"


def test_a_port_where_nobody_listens_and_a_name_that_does_not_exist_are_refusals():
    assert refused(inlined("http://127.0.0.1:9/a.jpg")) == "download_failed"
    assert refused(inlined("http://no-such-host.invalid/a.jpg")) == "download_failed"


def only_first_loopback(address: str) -> bool:
    return address == "127.0.0.1"  # stands for the internet; 127.0.0.2 for a private network


def test_a_redirect_into_a_private_network_is_not_followed(tmp_path):
    def inside(handler) -> None:
        handler.reply(b"", 302, Location=f"http://127.0.0.2:{handler.server.server_address[1]}/b.jpg")

    options = MediaOptions(download=True, allow_http=True)
    with served({"/a.jpg": inside, "/b.jpg": lambda h: h.reply(PHOTO)}) as (base, seen):
        media = found(identify(base + "/a.jpg"))
        with pytest.raises(RefusedError) as caught:
            fetched(media, tmp_path / "a", options, allowed=only_first_loopback)
    assert caught.value.refusal.code == "download_private"
    assert [path for path, _ in seen] == ["/a.jpg"]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_a_name_that_leads_into_a_private_network_is_not_connected_to(tmp_path, host):
    with served({"/a.jpg": lambda h: h.reply(PHOTO)}) as (base, seen):
        url = base.replace("127.0.0.1", host) + "/a.jpg"
        media = found(identify(url))
        with pytest.raises(RefusedError) as caught:
            fetched(media, tmp_path / "a", MediaOptions(download=True, allow_http=True))
    assert caught.value.refusal.code == "download_private"
    assert seen == []


def test_redirects_are_followed_three_times():
    def hop(number: int):
        return lambda h: h.reply(b"", 307, Location=f"/{number + 1}.jpg")

    routes = {f"/{number}.jpg": hop(number) for number in range(4)} | {"/4.jpg": lambda h: h.reply(PHOTO)}
    with served(routes) as (base, _):
        delivered(inlined(base + "/1.jpg"))
        assert refused(inlined(base + "/0.jpg")) == "download_failed"


def test_plain_http_is_not_read_unless_allowed():
    assert refused(inlined("http://example.com/a.jpg", MediaOptions(download=True))) == "download_insecure"


class Bucket(MemoryFileSystem):
    """A bucket store in memory that signs."""

    protocol = "s3"
    store: ClassVar[dict[str, object]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    can_sign: ClassVar[bool] = True

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + path.removeprefix("s3://").strip("/")

    def sign(self, path, expiration=100, **kwargs):
        if not self.can_sign:
            raise PermissionError("no credentials: AKIASECRET")
        return f"https://signed.example.com/{path.removeprefix('s3://')}?X-Amz-Expires={expiration}"


@pytest.fixture
def bucket():
    fsspec.register_implementation("s3", Bucket, clobber=True)
    yield Bucket()
    Bucket.store.clear()
    Bucket.can_sign = True
    _registry.pop("s3")  # the real one is found again


def test_a_bucket_object_is_sent_as_a_presigned_url_and_stored_without_it(bucket):
    media = found(identify("s3://films/a.mp4"))
    done = delivered(deliver([media], URL_VIDEOS, options=MediaOptions(sign_ttl_s=77)))
    assert done.parts[0].url == "https://signed.example.com/films/a.mp4?X-Amz-Expires=77"
    assert (media.uri, media.identity, done.input_mode) == ("s3://films/a.mp4", "s3://films/a.mp4", "url")


def test_a_bucket_video_gives_frames(bucket, tmp_path):
    bucket.pipe_file("s3://films/a.mp4", Path(clip(tmp_path / "a.mp4")).read_bytes())
    done = delivered(deliver([identify("s3://films/a.mp4")], IMAGES_ONLY, frames=2))
    assert done.frames_sent == 2
    assert refused(deliver([identify("s3://films/b.mp4")], IMAGES_ONLY, frames=2)) == "media_missing"


def test_a_store_that_cannot_sign_is_a_refusal_without_its_words(bucket):
    Bucket.can_sign = False
    outcome = deliver([identify("s3://films/a.mp4")], URL_VIDEOS)
    assert refused(outcome) == "sign_failed"
    assert "AKIASECRET" not in outcome.reason


@pytest.mark.skipif(find_spec("gcsfs") is not None, reason="it is installed here")
def test_a_missing_file_system_names_the_command():
    outcome = deliver([identify("gs://films/a.mp4")], URL_VIDEOS)
    assert refused(outcome) == "s3_needs_extra"
    assert "pip install gcsfs" in outcome.reason
