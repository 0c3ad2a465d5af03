"""What a model is sent: images as they are or made to fit, videos inline or as frames, URLs untouched."""

import base64
import hashlib
import random
import struct
from pathlib import Path

import pytest
from PIL import Image

from mavi_tasks.media import Delivery, MediaOptions, Refusal, identify
from mavi_tasks.providers.base import Route
from tests.support.media_files import (
    EVERYTHING,
    IMAGE_MIMES,
    IMAGES_ONLY,
    URL_VIDEOS,
    Family,
    clip,
    deliver,
    found,
    image_bytes,
    image_file,
    opened,
    photo,
)


def delivered(outcome: object) -> Delivery:
    assert isinstance(outcome, Delivery), outcome
    return outcome


def refused(outcome: object) -> str:
    assert isinstance(outcome, Refusal), outcome
    return outcome.code


def small_family(max_bytes: int, mimes=IMAGE_MIMES) -> Family:
    return Family("small", image=Route("/iu", url=True, inline=True, max_inline_bytes=max_bytes, mimes=mimes))


def test_a_url_is_sent_with_its_signature_and_nothing_is_read():
    url = "https://host.com/a.jpg?X-Amz-Signature=s"
    done = delivered(deliver([found(identify(url))], EVERYTHING))
    assert [part.url for part in done.parts] == [url]
    assert (done.input_mode, done.media_bytes, done.sha256, done.width) == ("url", None, None, None)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_an_image_that_fits_is_sent_byte_for_byte(tmp_path, form):
    path = image_file(tmp_path / "a", form, (80, 60))
    done = delivered(deliver([identify(path)], EVERYTHING))
    content = Path(path).read_bytes()
    assert base64.b64decode(done.parts[0].data) == content
    assert done.parts[0].mime == f"image/{form.lower()}"
    assert (done.media_bytes, done.width, done.height) == (len(content), 80, 60)
    assert done.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("form", "mime"),
    [("GIF", "image/png"), ("TIFF", "image/jpeg"), ("BMP", "image/jpeg"), ("AVIF", "image/jpeg")],
)
def test_an_image_of_a_type_that_is_not_taken_is_converted(tmp_path, form, mime):
    path = image_file(tmp_path / "a", form, (80, 60))
    done = delivered(deliver([identify(path)], EVERYTHING))
    assert done.parts[0].mime == mime
    assert opened(done.parts[0].data).size == (80, 60)
    assert done.sha256 == found(identify(path)).sha256  # of the original


def test_an_image_too_large_in_bytes_is_shrunk_until_it_fits(tmp_path):
    path = image_file(tmp_path / "a.jpg", "JPEG", (1600, 1200), quality=95)
    assert Path(path).stat().st_size > 60_000
    done = delivered(deliver([identify(path)], small_family(60_000)))
    image = opened(done.parts[0].data)
    assert done.media_bytes <= 60_000
    assert image.size == (done.width, done.height)
    assert image.width / image.height == pytest.approx(4 / 3, abs=0.02)


def test_an_image_over_the_longest_side_is_shrunk_and_keeps_its_type(tmp_path):
    path = image_file(tmp_path / "a.webp", "WEBP", (400, 300))
    done = delivered(deliver([identify(path)], EVERYTHING, options=MediaOptions(max_image_px=100)))
    assert (done.parts[0].mime, done.width, done.height) == ("image/webp", 100, 75)


def test_a_photo_saved_as_png_becomes_jpeg_before_it_becomes_small(tmp_path):
    path = tmp_path / "a.png"
    Image.frombytes("RGB", (300, 200), random.Random(1).randbytes(180_000)).save(path)
    done = delivered(deliver([identify(str(path))], small_family(120_000)))
    assert (done.parts[0].mime, done.width) == ("image/jpeg", 300)


def test_transparency_is_kept_as_png_and_white_where_only_jpeg_is_taken(tmp_path):
    path = tmp_path / "a.tiff"
    Image.new("RGBA", (40, 30), (255, 0, 0, 0)).save(path)
    assert delivered(deliver([identify(str(path))], EVERYTHING)).parts[0].mime == "image/png"
    done = delivered(deliver([identify(str(path))], small_family(9_999, frozenset({"image/jpeg"}))))
    assert opened(done.parts[0].data).getpixel((5, 5)) == (255, 255, 255)


def test_a_turned_photo_is_upright_after_shrinking(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    path = image_file(tmp_path / "a.jpg", "JPEG", (400, 200), exif=exif)
    done = delivered(deliver([identify(path)], EVERYTHING, options=MediaOptions(max_image_px=100)))
    assert (done.width, done.height) == (50, 100)
    assert opened(done.parts[0].data).getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "I;16", "LA", "F", "YCbCr"])
def test_every_colour_mode_is_converted(tmp_path, mode):
    path = tmp_path / "a.tiff"
    if mode == "I;16":
        Image.frombytes("I;16", (20, 20), struct.pack("<H", 32768) * 400).save(path)
    else:
        photo(20, 20).convert(mode).save(path)
    done = delivered(deliver([identify(str(path))], EVERYTHING))
    image = opened(done.parts[0].data)
    assert image.size == (20, 20)
    if mode == "I;16":
        assert abs(image.convert("L").getpixel((3, 3)) - 128) <= 2


def test_of_an_animation_the_first_picture_is_sent(tmp_path):
    first, second = photo(40, 30), Image.new("RGB", (40, 30), "red")
    takes_gif = small_family(99_999, frozenset({"image/gif", "image/png"}))
    first.save(tmp_path / "moves.gif", save_all=True, append_images=[second])
    first.save(tmp_path / "still.gif")
    assert delivered(deliver([identify(str(tmp_path / "moves.gif"))], takes_gif)).parts[0].mime == "image/png"
    assert delivered(deliver([identify(str(tmp_path / "still.gif"))], takes_gif)).parts[0].mime == "image/gif"


def test_heic_is_sent_as_it_is_where_taken_and_refused_with_words_elsewhere(tmp_path):
    path = tmp_path / "a.heic"
    path.write_bytes(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00heicmif1" + b"\x00\x00\x00\x08meta")
    taking = small_family(9_999, frozenset({"image/heic"}))
    assert delivered(deliver([identify(str(path))], taking)).parts[0].mime == "image/heic"
    outcome = deliver([identify(str(path))], IMAGES_ONLY)
    assert refused(outcome) == "media_format"
    assert "JPEG" in outcome.reason


def test_an_image_that_cannot_be_made_small_enough_is_refused(tmp_path):
    path = image_file(tmp_path / "a.jpg", size=(400, 300))
    assert refused(deliver([identify(path)], small_family(200))) == "media_too_large"


def test_a_jpeg_made_of_endless_scans_is_not_decoded(tmp_path):
    data = image_bytes("JPEG", (64, 64), progressive=True)
    at = data.rfind(b"\xff\xda")
    path = tmp_path / "scans.jpg"
    path.write_bytes(data[:at] + data[at:-2] * 500 + b"\xff\xd9")
    outcome = deliver([identify(str(path))], small_family(2_000))
    assert refused(outcome) == "media_too_large"
    assert "scans" in outcome.reason


def test_damage_behind_a_good_header_is_a_refusal(tmp_path):
    data = bytearray(image_bytes("PNG", (200, 200)))
    data[100:-12] = bytes(random.Random(2).randbytes(len(data) - 112))
    path = tmp_path / "a.png"
    path.write_bytes(data)
    outcome = deliver([identify(str(path))], EVERYTHING, options=MediaOptions(max_image_px=50))
    assert refused(outcome) == "media_broken"


def test_any_bytes_behind_a_good_start_end_in_a_delivery_or_a_refusal(tmp_path):
    chance = random.Random(3)
    video = Path(clip(tmp_path / "v.mp4", seconds=1)).read_bytes()
    good = [image_bytes(form, (40, 30)) for form in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")] + [
        video
    ]
    path = tmp_path / "fuzzed"
    for turn in range(240):
        data = bytearray(good[turn % len(good)])
        for _ in range(chance.choice((1, 3, 30))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data)
        outcome = deliver([identify(str(path))], IMAGES_ONLY, frames=2, options=MediaOptions(max_image_px=20))
        assert isinstance(outcome, Delivery | Refusal)


def test_a_file_that_changed_after_the_plan_is_refused(tmp_path):
    path = image_file(tmp_path / "a.jpg")
    media = identify(path)
    image_file(tmp_path / "a.jpg", size=(65, 48))
    assert refused(deliver([media], EVERYTHING)) == "media_changed"
    Path(path).unlink()
    assert refused(deliver([media], EVERYTHING)) == "media_missing"


def test_a_data_url_is_sent_like_a_file(tmp_path):
    data = image_bytes("PNG")
    media = identify("data:image/png;base64," + base64.b64encode(data).decode())
    assert base64.b64decode(delivered(deliver([media], EVERYTHING)).parts[0].data) == data


def test_several_images_go_in_order_and_are_counted_together(tmp_path):
    paths = [image_file(tmp_path / f"{i}.jpg", size=(30 + i, 20)) for i in range(3)]
    done = delivered(deliver([identify(path) for path in paths], EVERYTHING))
    assert [opened(part.data).width for part in done.parts] == [30, 31, 32]
    assert done.media_bytes == sum(Path(path).stat().st_size for path in paths)
    hashes = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths]
    assert done.sha256 == hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def test_of_url_and_file_together_the_hash_is_unknown(tmp_path):
    media_items = [identify("https://host.com/a.jpg"), identify(image_file(tmp_path / "a.jpg"))]
    done = delivered(deliver(media_items, EVERYTHING))
    assert (done.sha256, done.input_mode) == (None, "inline")


def test_a_video_is_sent_inline_byte_for_byte(tmp_path):
    path = clip(tmp_path / "a.mp4", seconds=2)
    done = delivered(deliver([identify(path)], EVERYTHING))
    assert base64.b64decode(done.parts[0].data) == Path(path).read_bytes()
    assert (done.parts[0].kind, done.parts[0].mime, done.input_mode) == ("video", "video/mp4", "inline")
    assert (done.width, done.height, done.duration_s) == (160, 120, 2.0)


def test_a_media_of_unknown_content_type_is_refused_when_it_is_not_what_its_row_says(tmp_path):
    media = found(identify(image_file(tmp_path / "a.jpg")))._replace(kind="video", mime="video/mp4")
    assert refused(deliver([media], EVERYTHING)) == "media_kind_unknown"


def test_the_same_deliveries_come_from_url_families(tmp_path):
    path = clip(tmp_path / "a.mp4", seconds=2)
    done = delivered(deliver([identify(path)], URL_VIDEOS, frames=3))
    assert (done.endpoint, done.input_mode, done.frames_sent, len(done.parts)) == ("/vu", "frames", 3, 3)


def test_a_giant_photo_is_decoded_at_half_its_size_and_a_giant_drawing_not_at_all(tmp_path):
    photo_path, drawing_path = tmp_path / "a.jpg", tmp_path / "a.png"
    Image.new("L", (9000, 6000)).save(photo_path)
    Image.new("1", (9000, 6000)).save(drawing_path)
    options = MediaOptions(max_image_px=4000)
    done = delivered(deliver([identify(str(photo_path))], EVERYTHING, options=options))
    assert (done.width, done.height) == (4000, 2667)
    assert refused(deliver([identify(str(drawing_path))], EVERYTHING, options=options)) == "media_too_large"
