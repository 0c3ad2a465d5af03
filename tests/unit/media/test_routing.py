"""The one decision: family, kind and place say how a media travels; nothing is read for it."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from mavi_tasks import providers
from mavi_tasks.media import (
    DeliveryPlan,
    Media,
    MediaOptions,
    Refusal,
    equal_frames,
    identify,
    public_url,
    route_for,
)
from tests.support.media_files import EVERYTHING, IMAGES_ONLY, TWO_ENDPOINTS, URL_VIDEOS, Family, found


def local(kind="image", mime=None, size=1000, **known):
    mime = mime or {"image": "image/jpeg", "video": "video/mp4"}[kind]
    path = f"/data/deep/a b.{kind}"
    return Media(path, path, "local", kind, mime, "sha256:ab", size, "ab", **known)


PHOTO = local()
FILM = local("video")
PHOTO_URL = found(identify("https://host.com/a.jpg"))
FILM_URL = found(identify("https://host.com/a.mp4"))
PRIVATE_FILM = found(identify("http://192.168.1.5/a.mp4"))
PRIVATE_PHOTO = found(identify("http://localhost:8000/a.jpg"))
S3_FILM = found(identify("s3://bucket/a.mp4"))
DATA_PHOTO = PHOTO._replace(place="data")
DATA_FILM = FILM._replace(place="data")
READS = MediaOptions(download=True, allow_http=True, allow_private=True)

# One table of what is promised: family, media -> endpoint and way, or the code of the refusal.
TABLE = [
    (EVERYTHING, PHOTO_URL, {}, "/vu url"),
    (EVERYTHING, PHOTO, {}, "/vu inline"),
    (EVERYTHING, DATA_PHOTO, {}, "/vu inline"),
    (EVERYTHING, FILM_URL, {}, "/vu url"),
    (EVERYTHING, FILM, {}, "/vu inline"),
    (EVERYTHING, S3_FILM, {}, "/vu presign"),
    (URL_VIDEOS, FILM_URL, {}, "/vu url"),
    (URL_VIDEOS, FILM, {}, "video_needs_url"),
    (URL_VIDEOS, DATA_FILM, {}, "video_needs_url"),
    (URL_VIDEOS, FILM, {"frames": 8}, "/vu frames"),
    (URL_VIDEOS, FILM, {"fps": 0.5}, "/vu frames"),
    (URL_VIDEOS, FILM, {"equalise": True}, "/vu frames"),
    (URL_VIDEOS, S3_FILM, {}, "/vu presign"),
    (IMAGES_ONLY, FILM_URL, {}, "video_needs_frames"),
    (IMAGES_ONLY, FILM, {}, "video_needs_frames"),
    (IMAGES_ONLY, FILM, {"frames": 8}, "/iu frames"),
    (IMAGES_ONLY, FILM_URL, {"frames": 8}, "download_off"),
    (IMAGES_ONLY, FILM_URL, {"frames": 8, "options": READS}, "/iu frames"),
    (IMAGES_ONLY, S3_FILM, {"frames": 8}, "/iu frames"),
    (IMAGES_ONLY, FILM, {"frames": 11}, "media_too_many"),
    (TWO_ENDPOINTS, PHOTO, {}, "/iu inline"),
    (TWO_ENDPOINTS, FILM, {}, "/vu inline"),
    (TWO_ENDPOINTS, FILM, {"frames": 4}, "/iu frames"),
    (TWO_ENDPOINTS, local("video", size=60_000), {}, "media_too_large"),
    (TWO_ENDPOINTS, local("video", "video/x-msvideo"), {}, "media_format"),
    (EVERYTHING, local(size=50_000_000), {}, "/vu inline"),  # an image can be shrunk
    (EVERYTHING, local(mime="image/tiff"), {}, "/vu inline"),  # and converted
    (EVERYTHING, local(mime="image/heic"), {}, "media_format"),
    (EVERYTHING, PHOTO_URL._replace(mime="image/tiff"), {}, "media_format"),
    (EVERYTHING, PHOTO_URL._replace(mime="image/tiff"), {"options": READS}, "/vu inline"),
    (EVERYTHING, PRIVATE_FILM, {}, "media_private_url"),
    (EVERYTHING, PRIVATE_PHOTO, {}, "media_private_url"),
    (EVERYTHING, PRIVATE_PHOTO, {"options": READS}, "/vu inline"),
    (EVERYTHING, PRIVATE_PHOTO, {"options": MediaOptions(download=True)}, "download_private"),
    (
        EVERYTHING,
        PRIVATE_PHOTO,
        {"options": MediaOptions(download=True, allow_private=True)},
        "download_insecure",
    ),
    (EVERYTHING, PRIVATE_PHOTO, {"options": MediaOptions(allow_private_urls=True)}, "/vu url"),
    (URL_VIDEOS, PRIVATE_FILM, {"options": READS}, "video_needs_url"),
    (EVERYTHING, PHOTO_URL, {"force_inline": True}, "download_off"),
    (EVERYTHING, PHOTO_URL, {"force_inline": True, "options": READS}, "/vu inline"),
    (URL_VIDEOS, FILM_URL, {"force_inline": True, "options": READS}, "video_needs_url"),
    (EVERYTHING, local("video", duration_s=36_000.0), {}, "media_too_long"),
    (EVERYTHING, local("video", duration_s=36_000.0), {"frames": 4}, "media_too_long"),
]


@pytest.mark.parametrize(("family", "media", "asked", "expected"), TABLE)
def test_each_media_travels_as_the_table_says(family, media, asked, expected):
    plan = route_for([media], family, **asked)
    if isinstance(plan, Refusal):
        assert plan.code == expected, plan
        return
    assert f"{plan.endpoint} {plan.steps[0].transport}" == expected


def test_every_refusal_of_a_video_names_a_way_out():
    for family in (URL_VIDEOS, IMAGES_ONLY):
        assert "frames: 8" in route_for([FILM], family).reason
    assert "base_url" in route_for([FILM], URL_VIDEOS).reason


def test_a_local_video_goes_by_its_public_url_where_the_files_are_published():
    options = MediaOptions(base_url="https://cdn.me/x/", root="/data")
    plan = route_for([FILM], URL_VIDEOS, options=options)
    assert plan.steps[0].url == "https://cdn.me/x/deep/a%20b.video"
    assert not plan.reads
    assert public_url("/elsewhere/a.mp4", options) is None


def test_a_large_local_video_goes_by_its_public_url_where_it_does_not_fit_inline():
    options = MediaOptions(base_url="https://cdn.me", root="/data")
    plan = route_for([local("video", size=60_000)], TWO_ENDPOINTS, options=options)
    assert (plan.input_mode, plan.steps[0].transport) == ("url", "url")


def test_all_media_of_an_item_go_into_one_request():
    plan = route_for([PHOTO_URL, PHOTO, PHOTO], IMAGES_ONLY)
    assert [step.transport for step in plan.steps] == ["url", "inline", "inline"]
    assert plan.input_mode == "inline"


def test_several_media_share_the_bytes_of_one_request():
    image = replace(IMAGES_ONLY.routes["image"], max_payload_bytes=1_456_000)  # 900,000 raw bytes and text
    plan = route_for([PHOTO, PHOTO, PHOTO], Family("small", image=image))
    assert [step.max_bytes for step in plan.steps] == [300_000] * 3


def test_an_image_and_a_video_go_together_only_where_one_endpoint_takes_both():
    assert isinstance(route_for([PHOTO, FILM_URL], URL_VIDEOS), DeliveryPlan)
    refusal = route_for([PHOTO, FILM], TWO_ENDPOINTS)
    assert refusal.code == "media_mixed"
    assert isinstance(route_for([PHOTO, FILM], TWO_ENDPOINTS, frames=2), DeliveryPlan)  # as images


def test_more_media_than_a_request_takes_are_refused():
    assert route_for([PHOTO] * 11, IMAGES_ONLY).code == "media_too_many"
    assert route_for([FILM_URL, FILM_URL], URL_VIDEOS).code == "media_too_many"
    assert route_for([PHOTO] * 4 + [FILM], TWO_ENDPOINTS, frames=2).code == "media_too_many"


def test_urls_may_be_limited_more_than_inline_images():
    gemini = providers.FAMILIES["gemini"]
    assert isinstance(route_for([PHOTO_URL] * 10, gemini), DeliveryPlan)
    assert route_for([PHOTO_URL] * 11, gemini).code == "media_too_many"
    assert isinstance(route_for([PHOTO] * 11, gemini), DeliveryPlan)


def test_a_refused_media_refuses_its_item():
    refusal = Refusal("media_empty", "a.jpg is empty (0 bytes)")
    assert route_for([PHOTO, refusal], IMAGES_ONLY) is refusal


def test_an_item_without_media_is_text_where_the_family_takes_text():
    plan = route_for([], URL_VIDEOS)
    assert (plan.input_mode, plan.endpoint, plan.steps) == ("text", "/vu", ())
    assert route_for([], IMAGES_ONLY).code == "text_not_taken"


def test_equal_frames_is_what_every_family_takes():
    assert equal_frames([IMAGES_ONLY, TWO_ENDPOINTS, URL_VIDEOS], 8) == 5
    assert equal_frames([IMAGES_ONLY, URL_VIDEOS], 8) == 8


@pytest.mark.parametrize("name", ["gemini", "qwen", "nova", "gpt"])
def test_every_real_family_takes_photos_from_everywhere_and_videos_as_frames(name):
    family = providers.FAMILIES[name]
    for media in (PHOTO, PHOTO_URL, DATA_PHOTO):
        assert isinstance(route_for([media], family), DeliveryPlan)
    assert isinstance(route_for([FILM], family, frames=5), DeliveryPlan)


def test_the_documented_ways_of_a_local_video():
    codes = {}
    for name, family in providers.FAMILIES.items():
        plan = route_for([FILM], family)
        codes[name] = plan.code if isinstance(plan, Refusal) else plan.input_mode
    assert codes == {
        "gemini": "video_needs_url",
        "qwen": "video_needs_url",
        "nova": "inline",
        "gpt": "video_needs_frames",
        "openai": "video_needs_frames",
    }


def test_null_keeps_the_default_of_an_option_and_a_misspelt_one_is_an_error():
    assert MediaOptions(download=True, max_video_s=None) == MediaOptions(download=True)
    with pytest.raises(ValidationError, match="max_vido_s"):
        MediaOptions(max_vido_s=5)
