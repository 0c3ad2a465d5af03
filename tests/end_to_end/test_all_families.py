"""The main job against a strict gateway in another process: nothing refused, every cent accounted for."""

from decimal import Decimal

import duckdb
import pandas as pd
import polars as pl
import pyarrow.compute as pc
import pytest
from PIL import Image

from mavi_tasks.schema import RESULTS
from mavi_tasks.storage.tables import open_table
from tests.support.gateways import ALL_FAMILIES, mavi, one, remote_sandbox, rows, spent, write_job
from tests.support.media_files import clip

LOCAL, LINKED, CLIPS = 300, 120, 80  # items; four families each
ENDPOINT = {"gemini": "/vu", "qwen": "/vu", "nova": "/iu", "gpt": "/iu"}  # of images


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """2,000 requests over all families: local images, linked images, videos by URL or as frames."""
    folder = tmp_path_factory.mktemp("e2e")
    media = folder / "media"
    media.mkdir()
    for n in range(8):
        Image.new("RGB", (40 + n, 30), (n * 30, 0, 255 - n * 30)).save(media / f"{n}.jpg")
    clip(media / "clip.mp4", seconds=2)
    with remote_sandbox(media_root=media) as gateway:
        lines = ["item_id,media_url,truth"]
        lines += [f"local{n},media/{n % 8}.jpg,cat" for n in range(LOCAL)]
        lines += [f"linked{n},{gateway.media_url}/{n % 8}.jpg,dog" for n in range(LINKED)]
        lines += [f"clip{n},media/clip.mp4,bird" for n in range(CLIPS)]
        (folder / "items.csv").write_text("\n".join(lines))
        job = write_job(
            folder,
            name="job.yaml",
            manifest="items.csv",
            prompts={"kind": "What is in {{ item_id }}, this {{ media.kind }}?"},
            models=[*ALL_FAMILIES[:3], {"model": ALL_FAMILIES[3], "frames": 2}],
            params={"temperature": 0, "max_tokens": 60},
            gateway={"name": "sandbox", "base_url": gateway.base_url},
            media={"base_url": gateway.media_url, "root": "media"},
            output="out",
        )
        ended = mavi("run", job, "--json", "--quiet")
        yield folder / "out", ended, gateway.bill(bodies=True)


def test_every_request_is_answered_and_the_strict_gateway_refuses_nothing(run):
    _, ended, bill = run
    assert ended.code == 0, ended.err
    assert (ended.json["answered"], ended.json["requests"]) == (2000, 2000)
    assert (bill["rejected"], bill["errored"], bill["throttled"]) == ({}, {}, 0), bill["rejections"]


def test_results_attempts_and_the_gateway_agree_to_the_last_digit(run):
    out, ended, bill = run
    assert bill["billed_calls"] == 2000
    assert spent(out, "results") == spent(out, "attempts") == Decimal(bill["total_usd"])
    assert Decimal(ended.json["cost_usd"]) == Decimal(bill["total_usd"])
    for model, charged in bill["models"].items():
        assert one(out, "results", "sum(cost_usd)", f"model = '{model}'") == Decimal(charged["usd"])


def test_every_row_is_priced_from_its_own_tokens(run):
    out, _, _ = run
    unlike = "cost_usd is null or cost_usd <> input_cost_usd + output_cost_usd or price_id is null"
    assert rows(out, where=unlike) == []
    flash = f"model = '{ALL_FAMILIES[0]}'"
    pico = one(out, "results", "sum(input_tokens) * 300000 + sum(output_tokens) * 2500000", flash)
    # $0.30 and $2.50 for a million tokens in and out
    assert one(out, "results", "sum(cost_usd)", flash) == Decimal(pico).scaleb(-12)


def test_each_family_gets_its_media_the_way_it_takes_them(run):
    out, _, bill = run
    modes = {
        (row["family"], row["media_kind"], row["input_mode"], row["endpoint"]): row["n"]
        for row in rows(
            out, columns="family, media_kind, input_mode, endpoint, count(*) n", where="true group by all"
        )
    }
    assert modes == {
        **{(family, "image", "inline", ENDPOINT[family]): LOCAL for family in ENDPOINT},
        **{(family, "image", "url", ENDPOINT[family]): LINKED for family in ENDPOINT},
        ("gemini", "video", "url", "/vu"): CLIPS,
        ("qwen", "video", "url", "/vu"): CLIPS,
        ("nova", "video", "inline", "/vu"): CLIPS,
        ("gpt", "video", "frames", "/iu"): CLIPS,
    }
    assert sum(bill["spellings"].values()) == 2000 + CLIPS  # two frames stand for each of gpt's videos


def test_all_readers_see_the_same_types_rows_and_sums(run):
    out, _, bill = run
    folder, expected_usd = out / "results", Decimal(bill["total_usd"])
    frame = pd.read_parquet(folder)
    assert (len(frame), frame["cost_usd"].sum()) == (2000, expected_usd)
    lazy = pl.scan_parquet(folder / "**/*.parquet", hive_partitioning=True).collect()
    assert (len(lazy), lazy["cost_usd"].sum(), lazy["cost_usd"].dtype) == (
        2000,
        expected_usd,
        pl.Decimal(18, 12),
    )
    columns = "count(*), sum(cost_usd), any_value(typeof(cost_usd)), any_value(typeof(started_at))"
    found = duckdb.sql(f"select {columns} from '{folder}/**/*.parquet'").fetchall()[0]
    assert found == (2000, expected_usd, "DECIMAL(18,12)", "TIMESTAMP WITH TIME ZONE")
    table = open_table(out, "results").to_table()
    assert (table.num_rows, pc.sum(table["cost_usd"]).as_py()) == (2000, expected_usd)
    assert table.schema.names == [*RESULTS.names, "run_date"] == list(frame.columns) == lazy.columns
    assert str(lazy["started_at"].dtype) == "Datetime(time_unit='us', time_zone='UTC')"
    assert frame["input_tokens"].sum() == lazy["input_tokens"].sum() == pc.sum(table["input_tokens"]).as_py()


def test_the_rows_say_what_the_models_saw(run):
    out, _, _ = run
    assert rows(out, where="status <> 'answered' or answer is null or prompt is null or truth is null") == []
    assert rows(out, where="latency_s is null or started_at > finished_at or attempts <> 1") == []
    assert rows(out, where="input_mode = 'inline' and (media_sha256 is null or media_bytes is null)") == []
    assert rows(out, where="input_mode = 'frames' and frames_sent <> 2") == []
