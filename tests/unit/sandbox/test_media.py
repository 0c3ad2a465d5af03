"""Local media get a URL on loopback, read-only, and are measured where a request refers to them."""

import base64
import socket

import av
import httpx
import numpy as np
import pytest

from mavi_tasks.sandbox import Sandbox
from mavi_tasks.sandbox.probe import Measured, measure_mp4
from tests.support.sandbox_cases import KEY, file, gemini, nova, picture, qwen, send, video


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder with a clip of three seconds, one of one second, a picture and a hidden one."""
    folder = tmp_path_factory.mktemp("media")
    for name, frames in (("clip.mp4", 30), ("short.mp4", 10)):
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
            for shade in range(frames):
                frame = av.VideoFrame.from_ndarray(np.full((240, 320, 3), shade, np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    (folder / "a picture.jpg").write_bytes(picture(1000, 500))
    (folder / ".hidden.jpg").write_bytes(picture())
    return folder


@pytest.fixture(scope="module")
def sandbox(clips):
    with Sandbox(latency_s=0, media_root=clips) as running:
        yield running


@pytest.fixture(scope="module")
def client():
    with httpx.Client(headers={"Authorization": KEY}, timeout=10) as made:
        yield made


def test_a_folder_is_served_with_ranges_and_heads(client, sandbox, clips):
    url, body = f"{sandbox.media_url(clips)}/clip.mp4", (clips / "clip.mp4").read_bytes()
    whole = client.get(url)
    assert (whole.content, whole.headers["Content-Type"]) == (body, "video/mp4")
    part = client.get(url, headers={"Range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, body[2:6])
    assert part.headers["Content-Range"] == f"bytes 2-5/{len(body)}"
    assert client.get(url, headers={"Range": f"bytes={len(body)}-"}).status_code == 416
    head = client.head(url)
    assert (head.content, head.headers["Content-Length"]) == (b"", str(len(body)))
    assert client.get(f"{sandbox.origin}/media/a%20picture.jpg").status_code == 200
    assert client.put(url).status_code == 405


def test_nothing_outside_the_folder_is_served(sandbox, clips, tmp_path):
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(picture())
    inside = tmp_path / "served"
    inside.mkdir()
    (inside / "link.jpg").symlink_to(secret)
    (inside / "own.jpg").write_bytes(picture())
    (inside / "own-link.jpg").symlink_to(inside / "own.jpg")
    base = sandbox.media_url(inside).removeprefix(sandbox.origin)
    escapes = [
        "link.jpg",
        "../secret.jpg",
        "%2e%2e/secret.jpg",
        "..%2fsecret.jpg",
        f"/{secret}",
        "a%00b",
        "",
        ".",
    ]
    host, port = sandbox.origin.removeprefix("http://").split(":")
    for escape in escapes:
        with socket.create_connection((host, int(port))) as raw:  # clients normalise paths; this one does not
            raw.sendall(f"GET {base}/{escape} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert raw.recv(65536).split()[1] in (b"404", b"400"), escape
    assert httpx.get(f"{sandbox.origin}/media/.hidden.jpg").status_code == 404
    assert httpx.get(f"{sandbox.origin}/media/~000000000000/own.jpg").status_code == 404
    assert httpx.get(f"{sandbox.origin}{base}/own-link.jpg").status_code == 200
    with pytest.raises(NotADirectoryError):
        sandbox.media_url(tmp_path / "nowhere")


def test_media_served_here_are_measured(client, sandbox, clips):
    url = sandbox.media_url(clips)
    clip = send(client, sandbox, "/vu", gemini(file(f"{url}/clip.mp4", "video/mp4"))).json()
    assert clip["usage"]["input_tokens"] == 853  # 3 s x 283, and 13 characters of text
    assert "320x240 px, 3.0 s" in clip["choices"][0]["text"]
    still = send(client, sandbox, "/vu", gemini(file(f"{url}/a%20picture.jpg"))).json()
    assert still["usage"]["input_tokens"] == 520  # 2 x 1 tiles
    inline = base64.b64encode((clips / "clip.mp4").read_bytes()).decode()
    assert send(client, sandbox, "/vu", nova(video(inline))).json()["usage"]["prompt_tokens"] == 868


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda url: qwen({"video": f"{url}/short.mp4"}), "video of 1 s, at least 2 s"),
        (
            lambda url: gemini(file(f"{url}/clip.mp4", "image/jpeg")),
            "mime_type says image/jpeg, the URL holds video/mp4",
        ),
        (lambda url: qwen({"video": f"{url}/a%20picture.jpg"}), "image/jpeg is not taken as video"),
        (lambda url: nova(video(f"{url}/gone.mp4")), "Cannot fetch content"),
    ],
)
def test_served_media_must_be_what_the_request_says(client, sandbox, clips, body, message):
    reply = send(client, sandbox, "/vu", body(sandbox.media_url(clips)))
    assert reply.status_code == 400
    assert message in reply.json()["msg"]


def test_media_that_cannot_be_fetched_error_under_200_for_gemini(client, sandbox, clips):
    reply = send(
        client, sandbox, "/vu", gemini(file(f"{sandbox.media_url(clips)}/gone.mp4", "video/mp4"))
    ).json()
    assert (reply["status"], reply["error"]["code"]) == ("errored", "INVALID_ARGUMENT")
    assert sandbox.bill()["errored"] == {"INVALID_ARGUMENT": 1}


def test_an_mp4_is_measured_without_a_video_library(clips):
    measured = measure_mp4(clips / "clip.mp4")
    assert measured == Measured(320, 240, pytest.approx(3.0, abs=0.11))
    assert measure_mp4(b"\0\0\0\x08free") is None


@pytest.mark.parametrize(
    ("body", "url", "tokens"),
    [
        (gemini, "https://media.example/8000x8000/1.jpg", 121 * 258),  # 11 x 11 tiles
        (gemini, "https://media.example/300x300.jpg", 258),
        (gemini, "https://media.example/1.jpg", 4 * 258),  # 1024 x 1024 unless stated
    ],
)
def test_a_foreign_picture_is_billed_by_the_size_its_url_states(client, body, url, tokens):
    with Sandbox(latency_s=0) as own:
        assert send(client, own, "/vu", body(file(url))).status_code == 200
        (bill,) = own.bill()["models"].values()
    assert bill["input_tokens"] == tokens + 4  # "What is this?"


def test_a_foreign_video_is_billed_by_the_length_its_url_states(client):
    with Sandbox(latency_s=0) as own:
        one = video("https://media.example/90s/1.mp4")
        assert send(client, own, "/vu", nova(one)).status_code == 200
        (bill,) = own.bill()["models"].values()
    assert bill["input_tokens"] == 90 * 288 + 4
