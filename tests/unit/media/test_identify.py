"""What a media reference is, told without sending anything."""

import base64
import hashlib
import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mavi_tasks.media import Media, MediaOptions, ProbeCache, Refusal, identify
from mavi_tasks.media.sniff import mime_of
from mavi_tasks.media.urls import host_of
from tests.support.media_files import clip, found, image_bytes, image_file

SIGNED = "https://b.s3.amazonaws.com/cats/a.jpg?X-Amz-Signature=abc&X-Amz-Credential=AKIA&versionId=7"


def refused(unit: object) -> str:
    assert isinstance(unit, Refusal), unit
    assert unit.reason
    return unit.code


def test_a_plain_url_is_known_by_its_suffix_and_is_its_own_identity():
    media = found(identify("https://cdn.example.com/a/photo.JPG"))
    assert (media.place, media.kind, media.mime) == ("url", "image", "image/jpeg")
    assert media.uri == media.source == media.identity == "https://cdn.example.com/a/photo.JPG"
    assert media.bytes is media.sha256 is media.width is None


def test_the_stored_form_and_the_identity_hold_no_signature_but_what_is_sent_does():
    media = found(identify(SIGNED))
    assert media.uri == media.identity == "https://b.s3.amazonaws.com/cats/a.jpg?versionId=7"
    assert media.source == SIGNED


@pytest.mark.parametrize(
    ("url", "stored"),
    [
        ("https://u:p@host.com/a.png", "https://host.com/a.png"),
        ("https://host.com/a.png?Expires=1&Signature=x&Key-Pair-Id=k", "https://host.com/a.png"),
        ("https://host.com/a.png?sv=2&se=3&sp=r&sig=x&page=2", "https://host.com/a.png?page=2"),
        ("https://host.com/a.png?se=3&page=2", "https://host.com/a.png?se=3&page=2"),  # no sig: not Azure's
        ("https://host.com/a.png?1700000000", "https://host.com/a.png?1700000000"),  # against caches
        ("https://host.com/a.mp4#t=10,20", "https://host.com/a.mp4#t=10,20"),
        ("https://host.com/a.png?v=dQw4w9WgXcQ&t=1m2s", "https://host.com/a.png?v=dQw4w9WgXcQ&t=1m2s"),
        ("s3://bucket/dt=2024-01-01/a%20b.png", "s3://bucket/dt=2024-01-01/a%20b.png"),
        ("https://host.com/a.png?X-Goog-Signature=x&alt=media", "https://host.com/a.png?alt=media"),
        ("https://host.com/a.png?token=secret&w=3", "https://host.com/a.png?w=3"),
        ("https://host.com/a%20b.png?name=a+b%2Bc", "https://host.com/a%20b.png?name=a+b%2Bc"),
    ],
)
def test_secrets_are_taken_out_of_what_is_stored_and_the_rest_stays_as_written(url, stored):
    media = found(identify(url))
    assert media.uri == media.identity == stored
    assert media.source == url


@pytest.mark.parametrize(
    ("url", "stored"),
    [  # the first 16 digits of the value's SHA-256
        (
            "https://h.com/a.png?w=3&auth_key=5ecret99",
            "https://h.com/a.png?w=3&auth_key=hidden-6edd9c807905941e",
        ),
        ("https://h.com/a.png?5ecret99", "https://h.com/a.png?hidden-6edd9c807905941e"),
        ("https://h.com/a.png#5ecret99", "https://h.com/a.png#hidden-6edd9c807905941e"),
        ("https://h.com/x;s=5ecret9/a.png", "https://h.com/x;hidden-52f6fed87a9dac02/a.png"),
        ("https://h.com/s--5ecret99--/a.png", "https://h.com/hidden-f7f070f3dab71ba8/a.png"),
    ],
)
def test_what_may_be_a_secret_is_stored_as_its_hash_and_stays_in_the_identity(url, stored):
    media = found(identify(url))
    assert media.uri == stored
    assert media.identity == media.source == url  # request keys are made of it: they must not change


def test_a_stored_url_is_not_sent_in_place_of_the_real_one():
    unit = identify("https://h.com/a.png?auth_key=hidden-6edd9c807905941e")
    assert refused(unit) == "media_bad_url"
    assert "take the URL from its manifest" in unit.reason


@pytest.mark.parametrize("login", ["me:pa/ss", "me:pa?ss", "me:pa#ss"])
def test_a_password_that_ends_the_host_is_refused_unshown(login):
    unit = identify(f"https://{login}word@host.com/a.png")
    assert refused(unit) == "media_bad_url"
    assert "ss" not in unit.reason.replace("password", "")


def test_two_media_that_only_their_tokens_tell_apart_stay_two():
    first = found(identify("https://host.com/get?token=A&type=x&format=jpg"))
    second = found(identify("https://host.com/get?token=B&type=x&format=jpg"))
    assert first.uri == second.uri == "https://host.com/get?type=x&format=jpg"
    assert first.identity != second.identity
    assert "token=A" not in first.identity


def test_a_url_with_spaces_and_letters_of_other_languages_is_sent_escaped():
    media = found(identify("https://host.com/Fotos/Größe 1.jpg"))
    assert media.source == "https://host.com/Fotos/Gr%C3%B6%C3%9Fe%201.jpg"


@pytest.mark.parametrize(
    ("url", "mime"),
    [
        ("https://host.com/x?mime=video/mp4", "video/mp4"),
        ("https://host.com/x?response-content-type=image%2Fpng", "image/png"),
        ("https://host.com/x?filename=holiday.MOV", "video/quicktime"),
        ("https://host.com/x?format=webp&name=large", "image/webp"),
        (
            "https://host.com/x?response-content-disposition=attachment%3B%20filename%3D%22a.mkv%22",
            "video/x-matroska",
        ),
        ("https://www.youtube.com/watch?v=abc", "video/mp4"),
        ("s3://bucket/deep/key.webm", "video/webm"),
        ("gs://bucket/key.png", "image/png"),
    ],
)
def test_the_query_or_the_host_tells_the_kind_where_the_path_does_not(url, mime):
    assert found(identify(url)).mime == mime


def test_a_url_that_tells_nothing_needs_a_kind_from_the_manifest_or_the_job():
    url = "https://host.com/media/12345"
    unit = identify(url)
    assert refused(unit) == "media_kind_unknown"
    assert "media_kind" in unit.reason
    assert found(identify(url, kind="video")).mime == "video/mp4"
    assert found(identify(url, MediaOptions(default_kind="image"))).mime == "image/jpeg"


def test_the_manifests_kind_wins_over_a_suffix():
    assert found(identify("https://host.com/a.jpg", kind="video")).kind == "video"


@pytest.mark.parametrize(
    "url", ["https://", "https:///a.jpg", "http://?a", "https://[::1/a.jpg", "https://u@/a.jpg"]
)
def test_a_url_without_a_host_is_refused_with_words(url):
    assert refused(identify(url)) == "media_bad_url"


@pytest.mark.parametrize("ref", ["ftp://host/a.jpg", "mailto:a@b.c", "javascript:alert(1)"])
def test_other_schemes_are_refused_with_the_ones_that_work(ref):
    unit = identify(ref)
    assert refused(unit) == "media_scheme"
    assert "s3://" in unit.reason


def test_a_scheme_in_capitals_is_the_same_scheme():
    assert found(identify("HTTPS://host.com/a.jpg")).place == "url"


@pytest.mark.parametrize(
    ("form", "mime"),
    [
        ("JPEG", "image/jpeg"),
        ("PNG", "image/png"),
        ("GIF", "image/gif"),
        ("WEBP", "image/webp"),
        ("BMP", "image/bmp"),
        ("TIFF", "image/tiff"),
        ("AVIF", "image/avif"),
    ],
)
def test_an_image_is_known_by_its_content_whatever_its_name(tmp_path, form, mime):
    path = image_file(tmp_path / "wrong.mp4", form, (70, 50))
    media = found(identify(path))
    content = Path(path).read_bytes()
    assert (media.kind, media.mime, media.width, media.height) == ("image", mime, 70, 50)
    assert media.sha256 == hashlib.sha256(content).hexdigest()
    assert media.identity == "sha256:" + media.sha256
    assert media.bytes == len(content)
    assert media.uri == media.source == path


@pytest.mark.parametrize(
    ("suffix", "codec", "mime"),
    [
        ("mp4", "mpeg4", "video/mp4"),
        ("mov", "mpeg4", "video/quicktime"),
        ("mkv", "mpeg4", "video/x-matroska"),
        ("webm", "libvpx", "video/webm"),
        ("avi", "mpeg4", "video/x-msvideo"),
        ("ts", "mpeg2video", "video/mp2t"),
        ("flv", "flv", "video/x-flv"),
        ("wmv", "wmv2", "video/x-ms-wmv"),
    ],
)
def test_a_video_is_known_by_its_content_and_tells_its_size_and_length(tmp_path, suffix, codec, mime):
    made = clip(tmp_path / f"a.{suffix}", seconds=2, fps=25, codec=codec)
    path = tmp_path / "wrong.jpg"
    os.rename(made, path)
    media = found(identify(str(path)))
    assert (media.kind, media.mime, media.width, media.height) == ("video", mime, 160, 120)
    assert media.duration_s == pytest.approx(2, abs=0.1)


def test_heic_is_recognised_though_it_cannot_be_read(tmp_path):
    path = tmp_path / "a.heic"
    path.write_bytes(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00heicmif1" + b"\x00\x00\x00\x08meta")
    media = found(identify(str(path)))
    assert (media.kind, media.mime, media.width) == ("image", "image/heic", None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"just some words", "text"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"%PDF-1.7\x00", "PDF"),
        (b"ID3\x04\x00\x00\x00", "audio"),
        (b"\x00\x01\x02\x03" * 99, "an unknown format"),
        (b"<svg xmlns=''>", "SVG"),
        (b"\x00\x00\x00\x18ftypM4A \x00\x00\x00\x00M4A isom", "audio"),
    ],
)
def test_other_files_are_refused_by_what_they_are(tmp_path, content, words):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    unit = identify(str(path))
    assert refused(unit) == "media_kind_unknown"
    assert words in unit.reason


def test_what_is_no_regular_file_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert refused(identify(str(tmp_path / "pipe.jpg"))) == "media_not_a_file"
    assert refused(identify(str(tmp_path))) == "media_not_a_file"
    assert refused(identify("/dev/zero")) == "media_not_a_file"
    assert refused(identify(str(tmp_path / "nothing.jpg"))) == "media_missing"
    assert refused(identify("a\x00b.jpg")) == "media_missing"


def test_a_symbolic_link_is_followed_and_a_loop_of_them_refused(tmp_path):
    image_file(tmp_path / "a.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    assert found(identify(str(tmp_path / "link.jpg"))).kind == "image"
    assert refused(identify(str(tmp_path / "loop.jpg"))) == "media_missing"


def test_empty_and_oversized_files_are_refused_unread(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    with (tmp_path / "huge.mp4").open("wb") as file:
        file.truncate(3_000_000_000)  # sparse: takes no disk
    assert refused(identify(str(tmp_path / "empty.jpg"))) == "media_empty"
    assert refused(identify(str(tmp_path / "huge.mp4"))) == "media_too_large"


@pytest.mark.parametrize(
    ("form", "cut"),
    [("JPEG", 0.6), ("PNG", 0.6), ("WEBP", 0.6), ("AVIF", 0.6), ("TIFF", 0.6), ("BMP", 0.6), ("GIF", 0.6)],
)
def test_an_image_cut_short_is_broken(tmp_path, form, cut):
    data = image_bytes(form, (300, 200))
    path = tmp_path / "cut"
    path.write_bytes(data[: int(len(data) * cut)])
    assert refused(identify(str(path))) == "media_broken"


def test_a_photo_with_a_thumbnail_in_its_header_is_not_taken_for_whole_by_the_thumbnails_end(tmp_path):
    data = image_bytes("JPEG", (300, 200))
    thumbnail = image_bytes("JPEG", (32, 24))
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole, cut = tmp_path / "whole.jpg", tmp_path / "cut.jpg"
    whole.write_bytes(data[:2] + segment + data[2:])
    cut.write_bytes(data[:2] + segment + data[2:-500])
    assert found(identify(str(whole))).width == 300
    assert refused(identify(str(cut))) == "media_broken"


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_a_video_cut_short_is_broken(tmp_path, suffix):
    path = Path(clip(tmp_path / f"a.{suffix}"))
    path.write_bytes(path.read_bytes()[:-2000])
    assert refused(identify(str(path))) == "media_broken"


def test_magic_bytes_with_nothing_behind_them_are_broken(tmp_path):
    for name, head in {
        "a": b"\xff\xd8\xff\xe0",
        "b": b"\x89PNG\r\n\x1a\n",
        "c": b"\x1a\x45\xdf\xa3",
        "d": b"FLV\x01",
    }.items():
        (tmp_path / name).write_bytes(head + b"\x00" * 40)
        assert refused(identify(str(tmp_path / name))) == "media_broken"


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path):
    data = bytearray(image_bytes("PNG"))
    data[16:24] = (60_000).to_bytes(4, "big") * 2  # IHDR says 60,000 x 60,000
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(data)
    unit = identify(str(tmp_path / "bomb.png"))
    assert refused(unit) == "media_too_large"
    assert "60,000 x 60,000" in unit.reason


def test_a_file_that_grows_while_it_is_read_is_refused_and_ends(tmp_path):
    path = tmp_path / "growing.ts"
    path.write_bytes((b"\x47" + b"\x00" * 187) * 100_000)
    stop = threading.Event()

    def grow() -> None:
        with path.open("ab") as file:
            while not stop.is_set():
                file.write(b"\x47" + b"\x00" * 187)
                file.flush()

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        unit = identify(str(path), cache=ProbeCache())
    finally:
        stop.set()
        writer.join()
    assert refused(unit) == "media_changed"


def test_a_file_is_read_once_until_it_changes(tmp_path):
    kept = {}

    class Store:
        def get(self, *key):
            return kept.get(key)

        def put(self, path, size, mtime_ns, probe):
            kept[path, size, mtime_ns] = probe

        def look_up(self, paths, stamps):
            return [kept.get((path, *stamp)) for path, stamp in zip(paths, stamps, strict=True)]

    path = tmp_path / "a.jpg"
    image_file(path, size=(64, 48))
    first = found(identify(str(path), cache=ProbeCache(Store())))
    stamp = path.stat()
    path.write_bytes(b"\x00" * stamp.st_size)  # same size and time: it is taken for the same, unread
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert identify(str(path), cache=ProbeCache(Store())) == first
    os.utime(path, ns=(1, 1))
    assert refused(identify(str(path), cache=ProbeCache(Store()))) == "media_kind_unknown"


@pytest.mark.parametrize("spelling", ["std", "urlsafe", "lines", "percent", "nopad"])
def test_a_data_url_is_known_by_its_content(spelling):
    data = image_bytes("PNG")
    text = base64.b64encode(data).decode()
    text = {
        "std": text,
        "urlsafe": base64.urlsafe_b64encode(data).decode(),
        "lines": "\n".join(text[i : i + 76] for i in range(0, len(text), 76)),
        "percent": text.replace("+", "%2B").replace("=", "%3D"),
        "nopad": text.rstrip("="),
    }[spelling]
    media = found(identify("data:image/jpeg;base64," + text))
    assert (media.place, media.kind, media.mime, media.bytes) == ("data", "image", "image/png", len(data))
    assert media.uri == f"data:image/png;sha256={media.sha256}"


@pytest.mark.parametrize(
    ("ref", "code"),
    [
        ("data:image/png;base64", "media_bad_url"),
        ("data:image/png;base64,!!!!", "media_bad_url"),
        ("data:image/png;base64,", "media_empty"),
        ("data:text/plain,hello", "media_kind_unknown"),
    ],
)
def test_a_malformed_data_url_is_refused(ref, code):
    assert refused(identify(ref)) == code


def test_a_file_url_is_a_path(tmp_path):
    image_file(tmp_path / "a b.jpg")
    assert found(identify("file://" + str(tmp_path).replace(" ", "%20") + "/a%20b.jpg")).place == "local"


def test_a_media_goes_through_json_and_back(tmp_path):
    for ref in (image_file(tmp_path / "a.png", "PNG"), SIGNED):
        media = found(identify(ref))
        assert Media.from_json(json.loads(json.dumps(media.to_json()))) == media


def test_the_host_of_a_url_is_not_fooled_by_login_port_or_brackets():
    assert host_of("https://good.com:8080/x") == "good.com"
    assert host_of("https://good.com@127.0.0.1/x") == "127.0.0.1"
    assert host_of("http://[::1]:80/x") == "::1"
    assert host_of("http://127.0.0.1?x=/good.com") == "127.0.0.1"
    assert host_of("http://127.0.0.1#@good.com/") == "127.0.0.1"


def test_any_first_bytes_are_a_kind_or_none():
    for count in range(0, 400, 7):
        for byte in (0x00, 0x47, 0xFF, 0x66):
            assert mime_of(bytes([byte]) * count) in (None, "video/mp2t", "image/jxl")


@settings(max_examples=300)
@given(st.one_of(st.text(), st.text().map(lambda s: "https://" + s), st.text().map(lambda s: "data:" + s)))
def test_any_text_is_a_media_or_a_refusal(ref):
    assert isinstance(identify(ref), Media | Refusal)
    assert isinstance(identify(ref, MediaOptions(default_kind="image")), Media | Refusal)


@given(
    st.text(alphabet="abc-_.~%20", min_size=12, max_size=20),
    st.sampled_from(["sig", "token", "X-Amz-Signature", "any_name"]) | st.text("abcdefgh", min_size=2),
)
def test_no_secret_of_a_query_or_a_login_is_in_the_stored_form(secret, key):
    secret = "Zz" + secret
    media = found(identify(f"https://me:{secret}@host.com/a.png?w=1&{key}={secret}"))
    assert secret not in media.uri
