"""What a budget holds back for is never less than what an independent bill counts: the sandbox's formulas."""

import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mavi_tasks import estimate
from mavi_tasks.estimate import FrameSampling, UnknownMedia
from mavi_tasks.sandbox.families import FAMILIES
from mavi_tasks.sandbox.ledger import PRICES
from mavi_tasks.sandbox.media import MediaInput

MODELS = [f"{family}:{name}" for family in FAMILIES for name in PRICES[family]]
GEMINI = "gemini:gemini-2.5-flash"
SIDES = st.one_of(st.integers(1, 8000), st.sampled_from([384, 385, 512, 767, 768, 769, 1024, 2048, 8000]))
SECONDS = st.one_of(st.floats(2, 600), st.floats(600, 3600))


@dataclass(frozen=True, slots=True)
class Seen:
    """A media with its true size; `unknown` is the same as a budget sees it behind a URL."""

    kind: str
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None

    @property
    def unknown(self):
        return Seen(self.kind)


def billed(model, media):
    """Tokens on the sandbox's bill, which shares no code with the estimates."""
    family, _, name = model.partition(":")
    one = MediaInput("f", media.kind, None, "url", "i", media.width, media.height, media.duration_s)
    return FAMILIES[family].media_tokens(name, one)


def held(model, *media_items, **options):
    return estimate.request_tokens(model, media_items, 0, **options).at_most


def shaped(seen):
    """Not thinner than 20 to 1: providers refuse strips."""
    return max(seen.width, seen.height) <= 20 * min(seen.width, seen.height)


images = st.builds(Seen, st.just("image"), SIDES, SIDES).filter(shaped)
videos = st.builds(Seen, st.just("video"), SIDES, SIDES, SECONDS).filter(shaped)


@given(st.sampled_from(MODELS), images)
@example(GEMINI, Seen("image", 8000, 8000))
@example("gpt:gpt-4o-mini", Seen("image", 768, 2048))
@settings(max_examples=400)
def test_no_picture_is_billed_more_tokens_than_are_held_back_known_or_not(model, picture):
    assert billed(model, picture) <= held(model, picture)
    assert billed(model, picture) <= held(model, picture.unknown)


@given(st.sampled_from([m for m in MODELS if not m.startswith("gpt")]), videos)
@settings(max_examples=400)
def test_no_video_is_billed_more_tokens_than_are_held_back_known_or_not(model, clip):
    assert billed(model, clip) <= held(model, clip)
    assert billed(model, clip) <= held(model, clip.unknown)
    longest = UnknownMedia(video_s=math.ceil(clip.duration_s))
    assert billed(model, clip) <= held(model, clip.unknown, unknown=longest)


@given(
    st.sampled_from(MODELS),
    SIDES,
    SIDES,
    st.floats(0.5, 200),
    st.sampled_from([512, 1024, 2048]),
    st.integers(1, 40),
)
@settings(max_examples=300)
def test_no_frames_are_billed_more_tokens_than_are_held_back(
    model, width, height, duration_s, frame_px, most
):
    sampling = FrameSampling(fps=1.0, max_frames=most, frame_px=frame_px)
    scale = min(1.0, frame_px / max(width, height))
    frame = Seen("image", max(1, round(width * scale)), max(1, round(height * scale)))
    sent = min(most, math.ceil(duration_s))
    for clip in (Seen("video", width, height, duration_s), Seen("video", None, None, None)):
        assert sent * billed(model, frame) <= held(model, clip, sampling=sampling)


def test_both_rules_of_geminis_documents_are_held_back_for():
    """960 x 540: tiles of 360 px by the second rule, so 3 x 2 of them and not 2 x 1."""
    assert held(GEMINI, Seen("image", 960, 540)) >= 6 * 258


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("gemini:gemini-3-pro-preview", 1120),
        ("gpt:gpt-4o-mini", 48_169),  # 2833 + 5667 * 4 * 2 tiles
        ("gpt:gpt-5-mini", 2_489),  # 1536 patches * 1.62
        ("qwen:qwen3-vl-plus", 2_562),  # 2,621,440 px in cells of 1,024, and 2
        ("nova:us.amazon.nova-lite-v1:0", 2_600),
        (GEMINI, 121 * 258),  # 8,000 x 8,000 in tiles of 768
    ],
)
def test_an_unknown_picture_is_held_at_the_most_its_model_counts_for_any(model, tokens):
    assert tokens <= held(model, Seen("image")) <= 2 * tokens


def test_the_largest_picture_behind_a_url_is_the_users_to_say():
    small = held(GEMINI, Seen("image"), unknown=UnknownMedia(image_px=1536))
    assert 4 * 258 <= small < held(GEMINI, Seen("image")) / 10


def test_nothing_is_held_back_beyond_what_the_model_reads_at_all():
    long = Seen("video", 1280, 720, 3 * 3600.0)
    assert held(GEMINI, long) == held(GEMINI, *[long.unknown] * 3) == 1_048_576


@given(st.text(max_size=200))
def test_a_text_is_held_at_a_token_a_byte(text):
    most = estimate.request_tokens(GEMINI, (), 0, text_bytes=estimate.text_bytes(text, None)).at_most
    assert most >= len(text.encode())


def test_known_sizes_are_used_as_they_are():
    clip = Seen("video", 640, 360, 10.0)
    assert held(GEMINI, clip) < held(GEMINI, replace(clip, duration_s=None)) / 100
