"""A folder of whatever people have, through all four families: nothing is refused, every file has a row.

60 files: the openly licensed photos and clips of manifests/media, those of scikit-learn, pictures and videos
in every format that Pillow and PyAV write, and broken ones.
"""

import json
import os
import shutil
from pathlib import Path

import duckdb
import pytest

from mavi_tasks.cli.main import main
from mavi_tasks.sandbox import Sandbox
from tests.support.gateways import REPOSITORY
from tests.support.media_files import clip, image_bytes, image_file

MEDIA = REPOSITORY / "manifests" / "media"
MODELS = [
    "gemini:gemini-2.5-flash",
    "qwen:qwen3-vl-flash",
    "nova:us.amazon.nova-lite-v1:0",
    {"model": "gpt:gpt-4o-mini", "frames": 4},
]
PICTURES = {
    "JPEG": "jpg",
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "TIFF": "tiff",
    "BMP": "bmp",
    "AVIF": "avif",
}
VIDEOS = {"mp4": "mpeg4", "mov": "mpeg4", "mkv": "mpeg4", "webm": "libvpx"}
BROKEN = 14


def broken(folder):
    """Files that no model can be shown, each for another reason."""
    whole = image_bytes("PNG")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("this is no picture")
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "noise.png").write_bytes(whole[:60] + os.urandom(200))
    (folder / "noise.mp4").write_bytes(os.urandom(5000))
    (folder / "page.html.jpg").write_text("<html><script>alert(1)</script></html>")
    (folder / "head.mp4").write_bytes((MEDIA / "bunny.mp4").read_bytes()[:300])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "bomb.png").write_bytes(bomb())
    for number in range(BROKEN - 9):
        (folder / f"zeros{number}.jpg").write_bytes(bytes(1000 + number))


def bomb():
    """A PNG that says it is 60,000 pixels wide and high."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    for path in MEDIA.iterdir():
        if path.suffix in (".jpg", ".mp4"):
            shutil.copy(path, folder)
    import sklearn.datasets

    for path in (Path(sklearn.datasets.__file__).parent / "images").glob("*.jpg"):
        shutil.copy(path, folder / f"sk-{path.name}")
    for form, suffix in PICTURES.items():
        image_file(folder / f"picture.{suffix}", form)
        image_file(folder / f"misnamed-{suffix}.jpg", form, (320, 200))
    for suffix, codec in VIDEOS.items():
        clip(folder / f"video.{suffix}", codec=codec)
    broken(folder)
    while len(list(folder.iterdir())) < 60:
        number = len(list(folder.iterdir()))
        image_file(folder / f"more{number}.jpg", size=(200 + number, 150))
    return folder


@pytest.fixture(scope="module")
def answered(library, tmp_path_factory):
    """One run over the folder against a strict sandbox that serves it: (its bill, the dataset)."""
    folder = tmp_path_factory.mktemp("mixed")
    with Sandbox(latency_s=0, media_root=library) as sandbox:
        job = {
            "manifest": str(library),
            "prompts": {"p": "What is this {{ media.kind }}?"},
            "models": MODELS,
            "max_bad_share": 1,
            "gateway": {"name": "sandbox", "base_url": sandbox.base_url},
            "media": {"base_url": sandbox.media_url(library), "root": str(library)},
            "output": str(folder / "out"),
        }
        (folder / "job.yaml").write_text(json.dumps(job))
        status = main(["run", str(folder / "job.yaml"), "--quiet"])
        return status, sandbox.bill(), folder / "out"


def rows(dataset, what, where="true"):
    return duckdb.sql(f"select {what} from '{dataset}/results/**/*.parquet' where {where}").fetchall()


def test_nothing_the_strict_gateway_was_sent_was_refused(answered):
    status, bill, _ = answered
    assert status == 0
    assert bill["rejected"] == {} or not bill["rejected"]
    assert bill["calls"] == bill["billed_calls"] > 100


def test_every_file_is_accounted_for_with_every_model(answered, library):
    _, _, dataset = answered
    (count,) = rows(dataset, "count(*)")[0]
    assert count == len(MODELS) * len(list(library.iterdir())) == 240
    assert {status for (status,) in rows(dataset, "distinct status")} == {"answered", "skipped"}


def test_what_is_broken_is_skipped_with_a_reason(answered):
    _, _, dataset = answered
    skipped = rows(
        dataset, "item_id, error_code, error_message", "status = 'skipped' and media_uri is not null"
    )
    assert len({item for item, *_ in skipped}) == BROKEN
    assert len(skipped) == BROKEN * len(MODELS)
    assert all(code.startswith("media_") and message for _, code, message in skipped)


def test_the_audit_columns_say_what_each_model_saw_of_one_video(answered):
    _, _, dataset = answered
    saw = {
        model: (mode, frames, size is not None)
        for model, mode, frames, size in rows(
            dataset, "model, input_mode, frames_sent, media_bytes", "item_id like '%bunny.mp4'"
        )
    }
    assert saw == {
        "gemini:gemini-2.5-flash": ("url", None, False),
        "qwen:qwen3-vl-flash": ("url", None, False),
        "nova:us.amazon.nova-lite-v1:0": ("inline", None, True),
        "gpt:gpt-4o-mini": ("frames", 4, True),
    }


def test_answered_rows_have_kind_hash_and_size(answered):
    _, _, dataset = answered
    wrong = (
        "media_sha256 is null or width is null or cost_usd is null or media_kind not in ('image', 'video')"
    )
    assert rows(dataset, "item_id, model", f"status = 'answered' and ({wrong})") == []
