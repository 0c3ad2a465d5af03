"""Tokens before anything is paid: the vendors' examples, by hand."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mavi_tasks import estimate
from mavi_tasks.estimate import FrameSampling
from mavi_tasks.estimate.token_formulas import DATA, FORMULAS, size_bucket
from mavi_tasks.pricing.book import load_prices


@dataclass(frozen=True, slots=True)
class Seen:
    kind: str
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None


def image(width=None, height=None):
    return Seen("image", width, height)


def video(duration_s=None, width=1280, height=720):
    return Seen("video", width, height, duration_s)


@pytest.mark.parametrize(
    ("model", "media", "tokens"),
    [
        ("gemini:gemini-2.5-flash", image(384, 384), 258),
        ("gemini:gemini-2.5-flash", image(385, 100), 258),  # one tile
        ("gemini:gemini-2.5-flash", image(1024, 768), 516),  # 2 x 1 tiles
        ("gemini:gemini-2.5-flash", image(1920, 1080), 1548),  # 3 x 2 tiles
        ("gemini:gemini-2.5-flash", video(60), 17_400),  # 60 * (258 + 32); the docs' reply says 16,983
        ("gemini:gemini-3-pro-preview", image(4000, 3000), 1120),
        ("gemini:gemini-3-flash-preview", video(60), 5_700),  # 60 * (70 + 25)
        ("qwen:qwen3-vl-plus", image(1024, 768), 770),  # 32 * 24 + 2
        ("qwen:qwen3-vl-plus", image(1000, 700), 684),  # 31 * 22 + 2
        ("qwen:qwen3-vl-plus", image(10, 10), 6),  # never under 4, + 2
        ("qwen:qwen3-vl-plus", video(30), 17_822),  # 60 frames, 2 a step: 30 * (33 * 18) + 2
        ("qwen:qwen-vl-max", image(4000, 3000), 1232),  # 1,310,720 px at most: 41 * 30 + 2
        ("qwen:qwen-vl-max-2025-04-08", image(1024, 768), 1001),  # 28-pixel cells: 37 * 27 + 2
        ("nova:us.amazon.nova-lite-v1:0", image(900, 450), 800),
        ("nova:us.amazon.nova-pro-v1:0", image(900, 900), 1300),
        ("nova:us.amazon.nova-pro-v1:0", image(1300, 1300), 2600),
        ("nova:us.amazon.nova-2-lite-v1:0", image(1400, 900), 1600),
        ("nova:us.amazon.nova-lite-v1:0", video(10), 2_880),
        ("nova:us.amazon.nova-lite-v1:0", video(30), 8_640),
        ("nova:us.amazon.nova-lite-v1:0", video(16 * 60), 276_480),
        ("nova:us.amazon.nova-lite-v1:0", video(3600), 276_480),  # 960 frames at most
        ("nova:us.amazon.nova-premier-v1:0", video(3600), 921_600),  # 3,200 frames at most
        ("gpt:gpt-4o", image(1024, 1024), 765),  # 85 + 4 * 170
        ("gpt:gpt-4o", image(2048, 4096), 1105),  # 85 + 6 * 170
        ("gpt:gpt-4o-mini", image(1024, 1024), 25_501),  # 2833 + 4 * 5667
        ("gpt:o1", image(1024, 1024), 675),  # 75 + 4 * 150
        ("gpt:gpt-5", image(1024, 1024), 630),  # 70 + 4 * 140
        ("gpt:gpt-5-mini", image(1024, 1024), 1_659),  # 1024 patches * 1.62
        ("gpt:gpt-5-mini", image(1800, 2400), 2_353),  # shrunk to 1452 patches * 1.62
        ("gpt:gpt-4.1-nano", image(320, 320), 246),  # 100 patches * 2.46
    ],
)
def test_a_documented_size_counts_its_documented_tokens(model, media, tokens):
    assert estimate.input_tokens(model, [media], 0) == tokens


def test_unknown_sizes_count_as_a_common_photo_and_half_a_minute():
    assert estimate.input_tokens("gpt:gpt-4o", [image()], 0) == 765  # 1024 x 768
    assert estimate.input_tokens("nova:us.amazon.nova-lite-v1:0", [video(None, None, None)], 0) == 8_640


def test_frames_count_as_images():
    assert estimate.input_tokens("gpt:gpt-4o", [video(30, 1024, 1024)], 0, frames=5) == 5 * 765
    assert estimate.input_tokens("gemini:gemini-2.5-flash", [video(30, 384, 384)], 0, frames=8) == 8 * 258


def test_a_model_that_takes_only_images_gets_eight_frames_of_a_video():
    assert estimate.input_tokens("gpt:gpt-4o", [video(30, 1024, 1024)], 0) == 8 * 765


def test_a_frame_is_counted_as_small_as_it_is_sent():
    # 1920 x 1080 goes out as 1024 x 576: 2 x 2 tiles
    assert estimate.input_tokens("gpt:gpt-4o", [video(30, 1920, 1080)], 0, frames=3) == 3 * 765
    assert estimate.input_tokens("gpt:gpt-4o", [video(30, 1920, 1080)], 0) == 8 * 765


def test_text_counts_a_token_for_four_characters_and_more_for_cjk():
    assert estimate.input_tokens("gpt:gpt-4o", [], estimate.text_chars("a" * 400)) == 100
    assert estimate.text_chars("ab", None, "猫") == 2 + 3
    assert estimate.text_chars("größe") == 5


def test_an_unlisted_model_takes_its_familys_default_and_says_so():
    formula = estimate.formula_of("gemini:gemini-9-ultra")
    assert formula.family_default
    assert formula.image_spread >= 2
    assert not estimate.formula_of("gemini:gemini-2.5-pro").family_default


def test_an_unknown_family_has_no_tokens_rather_than_zero():
    assert estimate.input_tokens("acme:seer-1", [image(10, 10)], 40) is None


def test_what_a_budget_holds_back_is_bounded_where_nothing_is_known():
    gemini, picture = "gemini:gemini-2.5-flash", [image(10, 10)]
    assert estimate.request_tokens("openai:llava:7b", picture, 40).at_most > 16_384
    eight = FrameSampling(frames=8)
    clip = [video(30, 100, 100)]
    assert estimate.request_tokens("openai:llava:7b", clip, 40, sampling=eight).at_most > 8 * 16_384
    ten_minutes = estimate.UnknownMedia(video_s=600.0)
    unknown, known = video(None, None, None), video(600.0, None, None)
    held, most = (
        estimate.request_tokens(gemini, [one], 40, unknown=ten_minutes).at_most for one in (unknown, known)
    )
    assert held == most < estimate.request_tokens(gemini, [unknown], 40).at_most / 5


def test_frames_a_second_are_counted_as_they_are_sent():
    # 60 frames of 1024 x 576 to a model that takes images only: 2 x 2 tiles of 170 and 85 each, and the text
    sampling = FrameSampling(fps=1, max_frames=64)
    tokens = estimate.request_tokens("gpt:gpt-4o", [video(60, 1280, 720)], 400, sampling=sampling)
    assert tokens.expected == 60 * 765 + 100
    assert tokens.at_most >= tokens.expected


@pytest.mark.parametrize(
    ("sampling", "duration_s", "media_count", "expected", "at_most"),
    [
        (FrameSampling(), 60, 1, None, None),
        (FrameSampling(frames=8, max_frames=4), 60, 1, 8, 8),
        (FrameSampling(fps=0.5), 59, 1, 30, 30),
        (FrameSampling(fps=1, max_frames=64), 600, 1, 64, 64),
        (FrameSampling(fps=1, max_frames=64, max_images=5), 600, 1, 5, 5),
        (FrameSampling(fps=1, max_frames=64, max_images=50), 600, 2, 25, 25),
        (FrameSampling(fps=1, max_frames=64), None, 1, 30, 64),  # unknown: 30 s are expected
    ],
)
def test_frames_of_a_video_are_those_that_are_sent(sampling, duration_s, media_count, expected, at_most):
    assert sampling.count(30.0 if duration_s is None else duration_s, media_count) == expected
    assert sampling.at_most(duration_s, media_count) == at_most


def test_every_priced_model_has_a_formula_of_a_known_family():
    models = [row.model for row in load_prices().models(on=DATA["text"]["checked"])]
    assert len(models) == 60
    assert [model for model in models if estimate.formula_of(model) is None] == []


def test_every_rule_names_its_source_and_a_spread():
    assert all(rule["source"] and rule["checked"] for rule in DATA["rule"])
    assert all(formula.image_spread > 1 and formula.video_spread > 1 for formula in FORMULAS)


SIDE = st.integers(1, 12_000)


@given(st.sampled_from(FORMULAS), SIDE, SIDE, st.floats(0, 40_000))
def test_any_size_has_a_positive_number_of_tokens(formula, width, height, duration_s):
    assert formula.media_tokens(image(width, height)) > 0
    assert formula.media_tokens(video(duration_s, width, height)) > 0


@given(SIDE, SIDE, st.integers(0, 10_000))
def test_the_upper_estimate_is_never_under_the_estimate(width, height, chars):
    for model in ("gemini:gemini-2.5-pro", "qwen:qwen3-vl-flash", "nova:x", "gpt:gpt-5.2"):
        media_items = [image(width, height)]
        most = estimate.request_tokens(model, media_items, chars).at_most
        assert most >= estimate.input_tokens(model, media_items, chars) - 1


@given(st.floats(0, 10_000), st.floats(0, 10_000))
def test_longer_videos_are_never_in_a_smaller_bucket(one, other):
    assert (size_bucket(video(min(one, other)))) <= size_bucket(video(max(one, other)))


# ---- answers


def test_an_answer_without_schema_is_bounded_by_max_tokens():
    assert estimate.output_tokens(50) == (30, 50, 50)
    low, middle, high = estimate.output_tokens(None)
    assert low < middle < high <= 1000


def test_a_larger_schema_promises_a_longer_answer():
    small = {"type": "object", "properties": {"label": {"enum": ["cat", "dog"]}}}
    large = {
        "type": "object",
        "properties": {name: {"type": "array", "items": {"type": "string"}} for name in ("tags", "people")},
    }
    assert estimate.output_tokens(1000, small)[1] < 20 < estimate.output_tokens(1000, large)[1]


def test_a_schema_that_refers_to_itself_ends():
    node = {"$ref": "#/$defs/node"}
    schema = {
        "$defs": {"node": {"type": "object", "properties": {"next": node}}},
        "type": "object",
        "properties": {"first": node},
    }
    assert estimate.output_tokens(1000, schema)[1] < 200


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "properties", "items", "enum", "anyOf", "$ref", "minItems", "a"]), inner
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["type", "properties", "items", "anyOf", "enum"]), JSON_VALUES))
def test_whatever_stands_in_a_schema_gives_a_size(schema):
    low, middle, high = estimate.output_tokens(500, schema)
    assert 1 <= low <= middle <= high <= 500
