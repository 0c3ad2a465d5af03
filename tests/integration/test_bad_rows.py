"""Rows that cannot be asked are skipped, each with a code, and counted the same by everything that counts."""

import json

import duckdb
import pytest

from mavi_tasks.cli import main
from tests.support.gateways import ALL_FAMILIES, KEY, Ended, mavi, remote_sandbox
from tests.support.media_files import clip, image_bytes

GEMINI, QWEN, NOVA, GPT = ALL_FAMILIES
LATEST = """
    select model, status, error_code, count(*) from (
        select * from '{}/results/**/*.parquet' qualify row_number() over (
            partition by request_key
            order by status = 'answered' desc, status = 'invalid' desc, finished_at desc) = 1)
    group by all
"""


@pytest.fixture(scope="module")
def sandbox():
    with remote_sandbox() as gateway:
        yield gateway


@pytest.fixture
def gateway(sandbox):
    sandbox.reset()
    return sandbox


@pytest.fixture
def call(tmp_path, gateway, monkeypatch, capsys):
    """Runs a command in an empty folder, against a gateway that answers."""
    monkeypatch.chdir(tmp_path)
    for name in ("MEMORIES_API_KEY", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MAVI_API_KEY", KEY)
    monkeypatch.setenv("MAVI_BASE_URL", gateway.base_url)

    def run(*argv):
        try:
            code = main.main([str(word) for word in argv])
        except SystemExit as stopped:  # argparse
            code = stopped.code
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return run


def write(folder, rows, header="item_id,media_url,title", **fields):
    """A job over these rows; two pictures, an empty, a damaged and a no file, and a clip lie beside it."""
    (folder / "cat.png").write_bytes(image_bytes("PNG"))
    (folder / "dog.jpg").write_bytes(image_bytes("JPEG", size=(31, 17)))
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "broken.png").write_bytes(image_bytes("PNG")[:40])
    (folder / "items.csv").write_text("\n".join([header, *rows]) + "\n")
    given = {
        "manifest": "items.csv",
        "prompts": {"p": "What is on {{ title }}?"},
        "models": [GEMINI],
        "output": "out",
        "retry": {"base_s": 0.001, "cap_s": 0.002},
        **fields,
    }
    (folder / "job.yaml").write_text(json.dumps(given))


def rows_of(folder):
    rows = duckdb.sql(f"select * from '{folder}/out/results/**/*.parquet'").fetchall()
    columns = [
        name for name, *_ in duckdb.sql(f"describe from '{folder}/out/results/**/*.parquet'").fetchall()
    ]
    return {row["item_id"]: row for row in (dict(zip(columns, one, strict=True)) for one in rows)}


GOOD = ["a,cat.png,A", "b,dog.jpg,B"]
BAD = {
    "a missing file": ("x,gone.png,X", "x", "media_missing"),
    "an empty cell of media": ("x,,X", "x", "media_empty"),
    "an empty file": ("x,empty.jpg,X", "x", "media_empty"),
    "a damaged file": ("x,broken.png,X", "x", "media_broken"),
    "a folder": ("x,.,X", "x", "media_not_a_file"),
    "no media": ("x,job.yaml,X", "x", "media_kind_unknown"),
    "another scheme": ("x,ftp://h/x.jpg,X", "x", "media_scheme"),
    "no host": ("x,https://,X", "x", "media_bad_url"),
    "an id twice": ("a,https://media.example/x.jpg,X", "a#2", "duplicate_item_id"),
    "an empty id": (",cat.png,X", "items.csv:4", "item_id_empty"),
    "an id that is too long": (f"{'x' * 1001},cat.png,X", "items.csv:4", "item_id_bad"),
    "a cell too few": ("x,cat.png", "items.csv:4", "row_malformed"),
    "a cell too many": ("x,cat.png,X,Y", "items.csv:4", "row_malformed"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_a_skipped_row_with_a_code_and_the_others_are_asked(call, gateway, tmp_path, name):
    row, item_id, code = BAD[name]
    write(tmp_path, [*GOOD, row])
    done = call("run", "job.yaml", "--json", "--quiet")
    assert done.code == 0, done.err
    assert (done.json["requests"], done.json["answered"], done.json["skipped"]) == (3, 2, 1)
    assert gateway.bill()["calls"] == 2
    found = rows_of(tmp_path)[item_id]
    assert (found["status"], found["error_code"], found["cost_usd"]) == ("skipped", code, None)
    assert found["error_message"]


@pytest.mark.parametrize("name", BAD)
def test_stop_ends_the_run_at_any_bad_row_before_a_cent(call, gateway, tmp_path, name):
    row, *_ = BAD[name]
    write(tmp_path, [*GOOD, row], on_bad_row="stop")
    done = call("run", "job.yaml")
    assert done.code == 2
    assert "items.csv:4: " in done.err
    assert gateway.bill()["calls"] == 0


JSON_LINES = {
    "no JSON": ('{"item_id"', "row_malformed"),
    "no object": ("[1]", "row_malformed"),
    "a key twice": (
        '{"item_id": "x", "item_id": "y", "media_url": "cat.png", "title": "X"}',
        "row_malformed",
    ),
    "no media": ('{"item_id": "x", "title": "X"}', "row_malformed"),
    "media of another kind": ('{"item_id": "x", "media_url": {}, "title": "X"}', "media_bad_url"),
    "an id of another kind": ('{"item_id": [], "media_url": "cat.png", "title": "X"}', "item_id_bad"),
    "no variable": ('{"item_id": "x", "media_url": "cat.png"}', "prompt_failed"),
    "an empty variable": ('{"item_id": "x", "media_url": "cat.png", "title": null}', "prompt_failed"),
}


@pytest.mark.parametrize("name", JSON_LINES)
def test_a_bad_line_of_json_is_a_skipped_row(call, gateway, tmp_path, name):
    line, code = JSON_LINES[name]
    write(tmp_path, [], manifest="items.jsonl")
    good = [{"item_id": n, "media_url": f, "title": n} for n, f in (("a", "cat.png"), ("b", "dog.jpg"))]
    (tmp_path / "items.jsonl").write_text("\n".join([*map(json.dumps, good), line]) + "\n")
    done = call("run", "job.yaml", "--json", "--quiet")
    assert done.code == 0, done.err
    assert (done.json["answered"], done.json["skipped"]) == (2, 1)
    (skips,) = done.json["skips"]
    assert (skips["model"], skips["code"], skips["rows"]) == (GEMINI, code, 1)


def test_a_template_that_no_row_can_fill_still_stops_before_a_cent(call, gateway, tmp_path):
    write(tmp_path, GOOD, prompts={"p": "{{ titel }}"})
    done = call("run", "job.yaml")
    assert done.code == 2
    assert "titel" in done.err
    assert gateway.bill()["calls"] == 0


def test_an_open_quote_still_stops_because_it_hides_rows(call, gateway, tmp_path):
    write(tmp_path, [*GOOD, 'x,cat.png,"X', *(f"y{n},cat.png,Y" for n in range(50))])
    assert call("run", "job.yaml").code == 2
    assert gateway.bill()["calls"] == 0


def urls(count):
    return [f"i{n},https://media.example/{n}.jpg,T" for n in range(count)]


def gone(count):
    return [f"g{n},gone{n}.jpg,T" for n in range(count)]


SHARES = {
    "one of three": ([*urls(2), *gone(1)], {}, 0),
    "nine of eighteen": ([*urls(9), *gone(9)], {}, 0),
    "ten of a hundred and ninety": ([*urls(180), *gone(10)], {}, 2),
    "ten of two hundred": ([*urls(190), *gone(10)], {}, 0),
    "all of two": (gone(2), {}, 2),
    "more than the share of the job": ([*urls(80), *gone(20)], {"max_bad_share": 0.1}, 2),
    "within the share of the job": ([*urls(80), *gone(20)], {"max_bad_share": 0.2}, 0),
    "all are allowed to be bad": ([*urls(1), *gone(99)], {"max_bad_share": 1}, 0),
    "many of the first thousand, few of all": ([*gone(60), *urls(1940)], {}, 2),
    "few of the first thousand, many of all": ([*urls(1000), *gone(60)], {}, 2),
}


@pytest.mark.parametrize("name", SHARES)
def test_a_run_stops_at_a_larger_share_of_bad_rows_than_the_job_allows(call, gateway, tmp_path, name):
    rows, fields, code = SHARES[name]
    write(tmp_path, rows, **fields)
    done = call("plan", "job.yaml", "--json")
    assert done.code == code, done.err
    if code:
        assert "media_missing" in done.err
        assert "max_bad_share" in done.err


# -- one table, everywhere


def as_table(skips):
    return {(one["model"], one["code"]): one["rows"] for one in skips}


def mixed(folder, **fields):
    """Ten rows: three pictures under five names, one clip that only one model takes, four bad rows."""
    write(
        folder,
        [
            "a,cat.png,A", "a2,cat.png,A", "b,dog.jpg,B", "b2,dog.jpg,B",
            "v,clip.mp4,V", "v2,again.mp4,V",
            "e,empty.jpg,E", "e2,empty.jpg,E", "g,gone.jpg,G", "a,dog.jpg,D",
        ],
        models=[NOVA, GPT],
        **fields,
    )  # fmt: skip
    clip(folder / "clip.mp4")
    (folder / "again.mp4").write_bytes((folder / "clip.mp4").read_bytes())


BAD_ROWS = {"media_empty": 2, "media_missing": 1, "duplicate_item_id": 1}
EXPECTED = {
    **{(model, code): rows for model in (NOVA, GPT) for code, rows in BAD_ROWS.items()},
    (GPT, "video_needs_frames"): 2,
}


def counted_everywhere(call, folder):
    """What plan, status, compare and SQL count, by model and code."""
    plan, status = call("plan", "job.yaml", "--json").json, call("status", "out", "--json").json
    compare = call("compare", "out", "--json").json
    sql = duckdb.sql(LATEST.format(folder / "out")).fetchall()
    assert plan["skipped"] == status["skipped"] == sum(model["skipped"] for model in compare["models"])
    assert plan["skips"] == status["skips"] == compare["skips"]
    assert as_table(plan["skips"]) == {(m, code): n for m, status, code, n in sql if status == "skipped"}
    answered = sum(n for _, status, _, n in sql if status == "answered")
    assert answered == status["answered"] == sum(model["answered"] for model in compare["models"])
    return plan["skips"]


def test_plan_run_status_compare_and_sql_count_the_same(call, gateway, tmp_path):
    mixed(tmp_path)
    planned = call("plan", "job.yaml", "--json").json
    ran = call("run", "job.yaml", "--json", "--quiet").json
    assert as_table(planned["skips"]) == as_table(ran["skips"]) == EXPECTED
    assert planned["skips"] == ran["skips"] == counted_everywhere(call, tmp_path)
    assert (ran["requests"], ran["answered"], ran["skipped"], ran["unsent"]) == (20, 10, 10, 0)
    assert all(one["why"] and one["what_to_do"] for one in ran["skips"])


def test_a_second_run_and_another_order_add_no_rows(call, gateway, tmp_path):
    mixed(tmp_path)
    call("run", "job.yaml", "--quiet")
    before = len(duckdb.sql(f"from '{tmp_path}/out/results/**/*.parquet'").fetchall())
    header, *rows = (tmp_path / "items.csv").read_text().splitlines()
    (tmp_path / "items.csv").write_text("\n".join([header, *reversed(rows[:-1]), rows[-1]]) + "\n")
    ran = call("run", "job.yaml", "--json", "--quiet").json
    assert (ran["already_answered"], ran["skipped"], ran["unsent"]) == (10, 10, 0)
    assert as_table(ran["skips"]) == EXPECTED
    counted_everywhere(call, tmp_path)
    assert len(duckdb.sql(f"from '{tmp_path}/out/results/**/*.parquet'").fetchall()) == before


def test_worker_processes_count_skipped_rows_as_one_process_does(call, gateway, tmp_path):
    mixed(tmp_path, runner="processes", workers=2)
    ran = mavi("run", "job.yaml", "--json", "--quiet", cwd=tmp_path, MAVI_BASE_URL=gateway.base_url).json
    assert (as_table(ran["skips"]), ran["skipped"]) == (EXPECTED, 10)
    counted_everywhere(call, tmp_path)


def test_a_picture_that_breaks_while_it_is_sent_is_skipped_under_both_of_its_names(call, gateway, tmp_path):
    whole = image_bytes("PNG", size=(400, 400))
    write(tmp_path, ["a,cat.png,A", "x,cut.png,X", "y,cut2.png,X"], media={"max_image_px": 64})
    for name in ("cut.png", "cut2.png"):
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    ran = call("run", "job.yaml", "--json", "--quiet")
    assert ran.code == 0, ran.err
    assert (ran.json["answered"], ran.json["skipped"], ran.json["unsent"]) == (1, 2, 0)
    status, compare = call("status", "out", "--json").json, call("compare", "out", "--json").json
    assert ran.json["skips"] == status["skips"] == compare["skips"]
    assert as_table(status["skips"]) == {(GEMINI, "media_broken"): 2}


def test_a_row_that_was_mended_is_no_longer_counted_as_skipped(call, gateway, tmp_path):
    write(tmp_path, ["a,cat.png,A", "g,gone.png,G"])
    assert call("run", "job.yaml", "--json", "--quiet").json["skipped"] == 1
    (tmp_path / "gone.png").write_bytes(image_bytes("PNG", size=(5, 7)))
    ran = call("run", "job.yaml", "--json", "--quiet").json
    assert (ran["answered"], ran["already_answered"], ran["skipped"]) == (1, 1, 0)
    status, compare = call("status", "out", "--json").json, call("compare", "out", "--json").json
    assert (status["answered"], status["skipped"], status["skips"]) == (2, 0, [])
    assert [(m["answered"], m["skipped"]) for m in compare["models"]] == [(2, 0)]


def test_people_read_the_same_table_before_and_after_a_run(call, gateway, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    mixed(tmp_path)
    shown = [call("plan", "job.yaml"), call("run", "job.yaml"), call("status", "out"), call("compare", "out")]
    for done in shown:
        text = " ".join((done.out + done.err).split())
        assert "10 skipped" in text, text
        assert f"{GPT} video_needs_frames video needs frames set frames: 8 on the model 2" in text, text


# -- exit statuses


def test_a_run_in_which_nothing_was_answered_ends_with_3(call, gateway, tmp_path):
    write(tmp_path, ["v,clip.mp4,V"], models=[GPT])
    clip(tmp_path / "clip.mp4")
    done = call("run", "job.yaml")
    assert done.code == 3
    assert "Nothing was answered" in (done.out + done.err)
    assert call("run", "job.yaml").code == 3


def test_a_run_without_anything_new_ends_with_0(call, gateway, tmp_path):
    write(tmp_path, GOOD)
    assert [call("run", "job.yaml").code for _ in range(2)] == [0, 0]


def test_a_run_that_skipped_more_than_the_job_allows_ends_with_3_and_says_so(call, gateway, tmp_path):
    write(tmp_path, [*GOOD, "x,gone.png,X"], max_skipped_share=0.3)
    done = call("run", "job.yaml")
    assert done.code == 3
    assert "1 of 3 requests were skipped, more than max_skipped_share" in " ".join(
        (done.out + done.err).split()
    )
    write(tmp_path, [*GOOD, "x,gone.png,X"], max_skipped_share=0.4)
    assert call("run", "job.yaml").code == 0


def test_fail_on_skipped_ends_with_3_at_any_skipped_row(call, gateway, tmp_path):
    write(tmp_path, [*GOOD, "x,gone.png,X"])
    assert call("run", "job.yaml", "--fail-on-skipped").code == 3
    assert call("run", "job.yaml").code == 0
    write(tmp_path, GOOD)
    assert call("run", "job.yaml", "--fail-on-skipped").code == 0
