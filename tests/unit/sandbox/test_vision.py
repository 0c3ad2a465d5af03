"""The sandbox's local classifier: the numbers of its reference, and its answers in plain words."""

import base64
import json
import os
import pickle
import subprocess
import sys
import sysconfig
import zlib
from pathlib import Path

import httpx
import jsonschema
import numpy as np
import pytest
from PIL import Image

from mavi_tasks.sandbox import MediaInput, Question, Sandbox
from mavi_tasks.sandbox.vision import Vision, WeightsError, weights
from mavi_tasks.sandbox.vision.facts import MARK
from mavi_tasks.sandbox.vision.levels import level_of
from mavi_tasks.sandbox.vision.network import Network
from mavi_tasks.sandbox.vision.vocabulary import CLASSES, vocabulary
from tests.support.gateways import REPOSITORY, mavi, rows
from tests.support.sandbox_cases import KEY, b64, file, gemini, gpt, image, nova, qwen, send

MEDIA = REPOSITORY / "manifests" / "media"
REFERENCE = json.loads((Path(__file__).parent / "vision_reference.json").read_text())["pictures"]
PLAIN = "gemini:gemini-2.5-flash"


@pytest.fixture(scope="module")
def vision():
    return Vision()


@pytest.fixture(scope="module")
def network():
    return Network(weights.load())


def media_of(path, kind="image", **rest):
    size = (1, 1)
    if kind == "image":
        with Image.open(path) as opened:
            size = opened.size
    return MediaInput("media", kind, None, "url", str(path), *size, path=Path(path), **rest)


def answer_to(vision, prompt, *names, model=PLAIN, **rest):
    return vision.answer(Question(model, prompt, "", **rest), [media_of(MEDIA / name) for name in names])


# ---- weights and network ----


@pytest.mark.parametrize("picture", REFERENCE, ids=lambda picture: picture["name"])
def test_logits_are_those_of_the_reference(network, picture):
    pixels = np.frombuffer(zlib.decompress(base64.b64decode(picture["pixels"])), np.uint8)
    enlarged = pixels.reshape(56, 56, 3).repeat(4, 0).repeat(4, 1).astype(np.float32)
    logits = network.logits(enlarged)
    np.testing.assert_allclose(logits, picture["logits"], atol=1e-3)


def test_weights_with_one_changed_bit_are_refused(tmp_path):
    raw = bytearray(weights.path().read_bytes())
    raw[-1] ^= 1
    (tmp_path / "changed.pth").write_bytes(raw)
    with pytest.raises(WeightsError, match="SHA-256"):
        weights.load(tmp_path / "changed.pth")


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def archive(tensors):
    """A legacy torch archive around any object."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, tensors, []]
    return b"".join(pickle.dumps(one, protocol=2) for one in head)


def test_a_file_of_weights_runs_no_code(tmp_path):
    with pytest.raises(WeightsError, match="mkdir is not allowed"):
        weights.read(archive({"w": Harm(tmp_path / "harm")}))
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("raw", [b"", b"PK\x03\x04", archive([]), archive({"w": 1}), b"\x80\x02."])
def test_a_file_that_is_no_archive_is_refused_in_words(raw):
    with pytest.raises(WeightsError):
        weights.read(raw)


# ---- the vocabulary ----


def test_every_class_has_a_name_and_superclasses():
    known = vocabulary()
    assert len(known.names) == 1860
    assert all(known.classes_of(known.names[index][0]) for index in range(CLASSES))
    assert len(known.classes_of("entity")) == CLASSES


@pytest.mark.parametrize(
    ("word", "same"),
    [("cats", "cat"), ("a dog", "dog"), ("wolves", "wolf"), ("People", "person"), ("buses", "bus"),
     ("frying_pan", "frying pan"), ("automobile", "car"), ("Vehicles", "vehicle")],
)  # fmt: skip
def test_articles_plurals_and_synonyms_are_the_same_word(word, same):
    assert vocabulary().classes_of(word) == vocabulary().classes_of(same) != frozenset()


def test_a_word_without_a_class_covers_nothing():
    assert vocabulary().classes_of("mars rover") == frozenset()


def test_an_espresso_is_a_drink_before_it_is_food():
    espresso = np.zeros(CLASSES, np.float32)
    espresso[sorted(vocabulary().classes_of("espresso"))] = 1.0
    assert vocabulary().masses(["food", "drink", "nonsense word"], espresso) == [0.0, 1.0, None]
    assert vocabulary().masses(["food"], espresso) == [1.0]


# ---- questions ----


def test_a_choice_is_answered_by_the_bare_word(vision):
    assert answer_to(vision, "What is it? One of: dog, cat or bird.", "cat.jpg") == "cat"
    assert answer_to(vision, "Which? One of: food, drink, tool.", "coffee.jpg") == "drink"


def test_what_none_of_the_words_fits_is_unknown_or_the_option_that_says_so(vision):
    assert answer_to(vision, "Which? One of: dog, bird.", "cat.jpg") == "unknown"
    assert answer_to(vision, "Which? One of: dog, bird, other.", "cat.jpg") == "other"


def test_words_outside_its_vocabulary_are_told():
    vision = Vision()
    assert vision.remarks() == []
    assert answer_to(vision, "Which? One of: mars rover, dog.", "cat.jpg") == "unknown"
    assert vision.remarks() == ["no class of its vocabulary matches: mars rover"]


def test_prose_begins_by_saying_who_speaks(vision):
    text = answer_to(vision, "Describe this picture.", "cat.jpg")
    assert text.startswith("[local classifier, no language model] Egyptian cat (")
    assert "does not count, read" in text


def test_an_open_question_without_half_of_the_probability_is_not_answered(vision):
    assert answer_to(vision, "Describe this picture.", "flower.jpg").startswith(
        MARK + "unknown: nothing reaches 50%"
    )


def test_without_a_picture_nothing_is_made_up(vision):
    assert "no picture came" in vision.answer(Question(PLAIN, "What is love?", ""), [])
    elsewhere = MediaInput("media", "image", None, "url", "https://h.example/a.jpg", 9, 9)
    assert vision.answer(Question(PLAIN, "One of: cat, dog.", ""), [elsewhere]) == "unknown"


def test_fields_named_in_words_are_answered_or_listed(vision):
    prompt = "Answer as JSON {label, confidence, colors, mood, width, has_cat, is_vehicle}"
    found = json.loads(answer_to(vision, prompt, "cat.jpg"))
    assert found.pop("confidence") == pytest.approx(0.79, abs=0.05)
    assert found == {
        "label": "Egyptian cat",
        "colors": ["gray", "brown"],
        "mood": None,
        "width": 448,
        "has_cat": True,
        "is_vehicle": False,
        "unanswered_fields": ["mood"],
    }


SCHEMA = {
    "type": "object",
    "properties": {
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "subject": {"enum": ["animal", "drink", "other"]},
        "drink": {"type": "object", "properties": {"kind": {"enum": ["espresso", "tea"]}}},
        "seen": {"type": "array", "items": {"enum": ["cup", "espresso", "dog"]}},
        "brightness": {"enum": ["dark", "medium", "bright"]},
        "orientation": {"type": "string"},
        "caption": {"type": "string", "maxLength": 60},
        "people": {"type": ["integer", "null"]},
        "price": {"type": "number"},
    },
    "required": ["subject", "confidence", "people"],
    "additionalProperties": False,
}


def test_a_schema_is_kept_and_what_cannot_be_answered_is_null_or_left_out(vision):
    found = json.loads(answer_to(vision, "Describe it.", "coffee.jpg", schema=SCHEMA))
    jsonschema.validate(found, SCHEMA)
    assert found["subject"] == "drink"
    assert found["confidence"] > 0.8
    assert found["drink"] == {"kind": "espresso"}
    assert found["seen"] == ["espresso"]
    assert (found["brightness"], found["orientation"]) == ("medium", "landscape")
    assert found["people"] is None
    assert "price" not in found
    assert found["caption"].startswith(MARK)


def test_a_required_number_it_cannot_know_is_null_and_so_invalid(vision):
    schema = {"type": "object", "properties": {"people": {"type": "integer"}}, "required": ["people"]}
    assert json.loads(answer_to(vision, "How many?", "cat.jpg", schema=schema)) == {"people": None}
    assert any("people" in remark for remark in vision.remarks())


# ---- pixels ----


@pytest.mark.parametrize(
    ("colour", "named"), [((200, 40, 40), "red"), ((5, 5, 5), "black"), ((60, 90, 180), "blue")]
)
def test_colours_and_brightness_are_computed(vision, tmp_path, colour, named):
    path = tmp_path / "one.png"
    Image.new("RGB", (30, 60), colour).save(path)
    prompt = "JSON {color, brightness, orientation, height}"
    found = json.loads(vision.answer(Question(PLAIN, prompt, ""), [media_of(path)]))
    luma = (0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]) / 255
    assert found["brightness"] == pytest.approx(luma, abs=0.002)
    assert (found["color"], found["orientation"], found["height"]) == (named, "portrait", 60)


def test_a_video_is_seen_by_its_frames(vision):
    bunny = media_of(MEDIA / "bunny.mp4", "video", duration_s=5.3)
    assert vision.answer(Question(PLAIN, "One of: animal, vehicle, drink.", ""), [bunny]) == "animal"
    assert json.loads(vision.answer(Question(PLAIN, "JSON {duration_s}", ""), [bunny])) == {"duration_s": 5.3}


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 no picture", b"\x89PNG\r\n\x1a\n"])
def test_a_broken_picture_is_not_seen(vision, tmp_path, content):
    (tmp_path / "broken.jpg").write_bytes(content)
    broken = MediaInput(
        "media", "image", None, "url", f"broken {content}", 9, 9, path=tmp_path / "broken.jpg"
    )
    assert vision.answer(Question(PLAIN, "One of: cat, dog.", ""), [broken]) == "unknown"


def test_what_was_seen_is_kept_by_content(vision, tmp_path):
    path = tmp_path / "short_lived.png"
    with Image.open(MEDIA / "cat.jpg") as cat:
        cat.save(path)
    media = media_of(path)
    first = vision.answer(Question(PLAIN, "What is it?", ""), [media])
    path.unlink()
    assert vision.answer(Question(PLAIN, "What is it?", ""), [media]) == first


# ---- models ----


@pytest.mark.parametrize(
    ("model", "level"),
    [
        ("gemini:gemini-2.5-flash", "plain"),  # "gemini" holds "mini", but not as a part
        ("gemini:gemini-2.5-flash-lite", "lite"),
        ("gemini:gemini-3-pro-preview", "pro"),
        ("qwen:qwen3-vl-flash", "plain"),
        ("qwen:qwen3-vl-plus", "pro"),
        ("nova:us.amazon.nova-lite-v1:0", "lite"),
        ("nova:us.amazon.nova-premier-v1:0", "pro"),
        ("gpt:gpt-4o-mini", "lite"),
        ("gpt:gpt-4o", "pro"),
        ("gpt:gpt-5-nano", "lite"),
    ],
)
def test_how_closely_a_model_looks_follows_from_its_name(model, level):
    assert level_of(model).name == level


def test_a_lite_model_overlooks_what_needs_resolution(vision):
    text = {
        model: answer_to(vision, "One of: espresso, dog.", "coffee.jpg", model=model)
        for model in ("gpt:gpt-4o-mini", "qwen:qwen3-vl-flash", "gpt:gpt-4o")
    }
    assert text == {
        "gpt:gpt-4o-mini": "unknown",
        "qwen:qwen3-vl-flash": "espresso",
        "gpt:gpt-4o": "espresso",
    }


# ---- in the sandbox ----


@pytest.fixture(scope="module")
def sandbox(vision):
    with Sandbox(answerer=vision, latency_s=0) as running:
        yield running


CAT = "data:image/jpeg;base64," + b64((MEDIA / "cat.jpg").read_bytes())
BODIES = {
    "gemini": ("/vu", gemini(file(CAT))),
    "qwen": ("/vu", qwen({"image": CAT})),
    "nova": ("/iu", nova({"type": "image_url", "image_url": CAT})),
    "gpt": ("/iu", gpt(image(CAT))),
}


@pytest.mark.parametrize("family", sorted(BODIES))
def test_replies_name_the_classifier_and_count_as_the_model_would(sandbox, family):
    endpoint, body = BODIES[family]
    with httpx.Client(headers={"Authorization": KEY}) as client:
        reply = send(client, sandbox, endpoint, body).json()
    choice = reply["choices"][0]
    assert (choice.get("text") or choice["message"]["content"]).startswith(MARK + "Egyptian cat")
    named = reply["meta"]["provider_model"] if "meta" in reply else reply["model"]
    assert named == "local/efficientnet-lite0"
    assert reply.get("system_fingerprint", "fp_efficientnet-lite0") == "fp_efficientnet-lite0"
    assert (reply["usage"].get("input_tokens") or reply["usage"]["prompt_tokens"]) > 100
    assert sandbox.bill()["answered_by"] == "local/efficientnet-lite0"


# ---- the quickstart ----


def test_the_quickstart_ends_with_accuracies_that_differ_as_the_models_look(tmp_path):
    ended = mavi("run", REPOSITORY / "manifests" / "quickstart.yaml", "--out", tmp_path / "out", "--json")
    assert ended.code == 0, ended.err
    assert (ended.json["answered"], ended.json["answers"]) == (64, "answers: local classifier")
    assert "no class of its vocabulary matches: skyscraper, windmill" in ended.err
    assert {row["provider_model"] for row in rows(tmp_path / "out")} == {"local/efficientnet-lite0"}
    found = json.loads(mavi("compare", tmp_path / "out", "--json").out.splitlines()[-1])
    right = {model["model"]: model["correct"] for model in found["models"]}
    assert right["gemini:gemini-2.5-flash-lite"] < right["qwen:qwen3-vl-flash"]
    assert right["qwen:qwen3-vl-flash"] <= right["nova:us.amazon.nova-pro-v1:0"]
    assert right["gpt:gpt-4o-mini"] == right["gemini:gemini-2.5-flash-lite"]  # both look alike


def test_without_the_extra_answers_are_simulated_and_say_so(tmp_path):
    """A site folder with everything but the weights, for an interpreter without its own."""
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith("efficientnet_lite0") and entry.suffix != ".pth":
            (tmp_path / entry.name).symlink_to(entry)
    command = [sys.executable, "-S", "-m", "mavi_tasks", "run", REPOSITORY / "manifests" / "quickstart.yaml"]
    paths = os.pathsep.join(map(str, (REPOSITORY, tmp_path)))
    done = subprocess.run(
        [*command, "--out", tmp_path / "out", "--limit", "2", "--json"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["answers"] == "simulated answers"
    assert all(row["answer"].startswith("[simulated] ") for row in rows(tmp_path / "out"))
