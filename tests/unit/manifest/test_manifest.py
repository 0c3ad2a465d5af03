"""What manifests promise: every format is read as one stream of items, in flat memory."""

import gzip
import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mavi_tasks import manifest
from mavi_tasks.common.key_set import Seen
from mavi_tasks.errors import InputError
from mavi_tasks.manifest import Item
from mavi_tasks.manifest.columns import Columns
from tests.support.gateways import REPOSITORY

URL = "https://a.example/"


def written(folder, name, data):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def items(source, **kwargs):
    columns = kwargs.pop("columns", None)
    columns = Columns(**columns) if isinstance(columns, dict) else columns
    return [item for batch in manifest.read(source, columns, **kwargs) for item in batch]


def problems(source, **kwargs):
    with pytest.raises(InputError) as caught:
        items(source, **kwargs)
    return caught.value.problems


# ---- tables ----


def test_csv_row_becomes_an_item(tmp_path):
    path = written(tmp_path, "pets.csv", f"item_id,media_url,title,truth,prompt\na,{URL}a.jpg,A cat,cat,\n")
    assert items(path) == [
        Item("a", (f"{URL}a.jpg",), None, "cat", {"title": "A cat"}, "pets.csv:2"),
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"),
        lambda text: text.rstrip(b"\n"),
        lambda text: text.replace(b"\n", b"\n\n"),
        lambda text: text.replace(b"item_id,media_url", b" item_id , media_url"),
    ],
    ids=["plain", "BOM", "CRLF", "BOM and CRLF", "no last line end", "blank lines", "spaces in the header"],
)
def test_csv_of_every_dialect_reads_the_same(tmp_path, change):
    text = f'item_id,media_url,title\na,{URL}a.jpg,"Käse, ""reif""\nzwei"\nb,{URL}b.jpg,\n'.encode()
    found = items(written(tmp_path, "pets.csv", change(text)))
    assert [item.item_id for item in found] == ["a", "b"]
    assert found[0].variables["title"].replace("\r", "").replace("\n\n", "\n") == 'Käse, "reif"\nzwei'
    assert found[1].variables == {"title": ""}


def test_line_of_a_row_is_where_it_begins(tmp_path):
    path = written(tmp_path, "p.csv", f'media_url,t\n{URL}a,"x\ny\nz"\n{URL}b,x\n')
    assert [item.where for item in items(path)] == ["p.csv:2", "p.csv:5"]


TABLES = {
    "t.csv": b"item_id,media_url,title\na,https://a.example/a.jpg,x\n",
    "t.tsv": b"item_id\tmedia_url\ttitle\na\thttps://a.example/a.jpg\tx\n",
    "t.jsonl": b'{"item_id": "a", "media_url": "https://a.example/a.jpg", "title": "x"}\n',
    "t.ndjson": b'\n{"title": "x", "item_id": "a", "media_url": ["https://a.example/a.jpg"]}',
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", TABLES)
def test_every_text_format_gives_the_same_item(tmp_path, name, packed):
    data = TABLES[name]
    path = written(tmp_path, name + ".gz" * packed, gzip.compress(data) if packed else data)
    (item,) = items(path)
    assert (item.item_id, item.media, item.variables) == ("a", ("https://a.example/a.jpg",), {"title": "x"})


def test_parquet_gives_lists_numbers_and_nulls_as_they_are(tmp_path):
    table = pa.table(
        {
            "item_id": pa.array([1, 2]),
            "media_url": pa.array([[URL + "a", URL + "b"], [URL + "c"]]),
            "score": pa.array([0.5, float("nan")]),
            "seen": pa.array([datetime(2026, 1, 1), None], pa.timestamp("ns")),
            "thumb": pa.array([b"x", b"y"]),
            "truth": pa.array([{"a": 1}, None]),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=1)
    one, two = items(tmp_path / "t.parquet")
    assert (one.item_id, one.media, one.truth) == ("1", (URL + "a", URL + "b"), '{"a":1}')
    assert one.variables == {"score": 0.5, "seen": datetime(2026, 1, 1)}
    assert (two.where, two.variables["score"], two.truth) == ("t.parquet:2", None, None)


def test_parquet_text_may_be_a_dictionary(tmp_path):
    pq.write_table(pa.table({"media_url": pa.array([URL + "a"]).dictionary_encode()}), tmp_path / "t.parquet")
    assert items(tmp_path / "t.parquet")[0].media == (URL + "a",)


def test_list_of_references_is_a_manifest(tmp_path):
    written(tmp_path, "cat.jpg", "x")
    path = written(tmp_path, "list.txt", f"# mine\n{URL}a.jpg?sig=1\n\n  cat.jpg  \n")
    assert [(item.item_id, item.media[0], item.where) for item in items(path)] == [
        (f"{URL}a.jpg", f"{URL}a.jpg?sig=1", "list.txt:2"),
        ("cat.jpg", str(tmp_path / "cat.jpg"), "list.txt:4"),
    ]


@pytest.mark.parametrize(
    ("truth", "kept"),
    [('"cat"', "cat"), ("3", "3"), ("true", "true"), ("[1, 2]", "[1,2]"), ('{"a": "b"}', '{"a":"b"}'),
     ("null", None), ('" "', None)],
)  # fmt: skip
def test_truth_is_kept_as_text_or_json_and_never_a_variable(tmp_path, truth, kept):
    path = written(tmp_path, "t.jsonl", f'{{"media_url": "{URL}a", "label": {truth}, "truth": "other"}}')
    (item,) = items(path, columns={"truth": "label"})
    assert item.truth == kept
    assert "label" not in item.variables


def test_own_prompt_of_a_row_and_none(tmp_path):
    path = written(tmp_path, "t.csv", f"media_url,ask\n{URL}a,Who?\n{URL}b,\n")
    assert [item.prompt for item in items(path, columns={"prompt": "ask"})] == ["Who?", None]


# ---- columns ----


@pytest.mark.parametrize("name", ["media", "image", "video", "url", "path"])
def test_media_column_of_another_name_is_found(tmp_path, name):
    path = written(tmp_path, "t.csv", f"{name},x\n{URL}a,1\n")
    assert items(path)[0].media == (URL + "a",)


def test_several_media_stand_in_numbered_columns_or_a_list(tmp_path):
    header = "media_url_10,media_url,media_url_2,media_url_x"
    path = written(tmp_path, "t.csv", f'{header}\n{URL}3,{URL}1,{URL}2,n\n,"[""{URL}1"", ""{URL}2""]",,\n')
    assert [item.media for item in items(path)] == [(URL + "1", URL + "2", URL + "3"), (URL + "1", URL + "2")]


def test_items_without_media_only_when_said(tmp_path):
    path = written(tmp_path, "t.csv", "item_id,question\na,Why?\n")
    (item,) = items(path, columns={"media": None})
    assert (item.media, item.variables) == ((), {"question": "Why?"})


# ---- ids ----


def test_missing_ids_are_the_references_without_signatures_and_repeated_ones_numbered(tmp_path):
    refs = [
        f"{URL}a.jpg?X-Amz-Signature=s&X-Amz-Date=1", f"{URL}a.jpg", f"{URL}watch?v=1", f"{URL}watch?v=2",
        f"{URL}a.jpg", "data:image/png;base64,AAAA", "https://user:pw@h.example/a.jpg",
    ]  # fmt: skip
    rows = "".join(f'"{ref}"\n' for ref in refs)
    found = [item.item_id for item in items(written(tmp_path, "t.csv", "media_url\n" + rows))]
    assert found[:5] == [
        f"{URL}a.jpg",
        f"{URL}a.jpg#2",
        f"{URL}watch?v=1",
        f"{URL}watch?v=2",
        f"{URL}a.jpg#3",
    ]
    assert found[5].startswith("data:") and len(found[5]) == 21
    assert found[6] == "https://h.example/a.jpg"


def test_an_id_that_is_the_signed_media_itself_holds_no_secret(tmp_path):
    path = written(tmp_path, "t.csv", f"media_url\n{URL}a.jpg?w=3&auth_key=5ecret99\n")
    (item,) = items(path, columns={"id": "media_url"})
    assert item.item_id == f"{URL}a.jpg?w=3&auth_key=hidden-6edd9c807905941e"  # sha256 of 5ecret99
    assert item.media == (f"{URL}a.jpg?w=3&auth_key=5ecret99",)


def test_id_given_twice_names_both_lines_however_far_apart(tmp_path):
    rows = "".join(f"i{n},{URL}{n}\n" for n in range(70_000))
    path = written(tmp_path, "t.csv", "item_id,media_url\n" + rows + f"i7,{URL}x\ni69999,{URL}y\n")
    assert problems(path) == (
        "t.csv:70002: duplicate item_id 'i7' (first on line 9)",
        "t.csv:70003: duplicate item_id 'i69999' (first on line 70001)",
    )


def test_seen_finds_every_repetition_and_nothing_else():
    seen = Seen()
    names = [f"n{n}" for n in range(200_000)]
    for at in range(0, len(names), 1000):
        assert seen.add(names[at : at + 1000]) == []
    assert seen.add(["new", "n0", "n199999", "new", "n131072"]) == [1, 2, 3, 4]


# ---- local files ----


def test_local_paths_are_relative_to_the_manifest(tmp_path, monkeypatch):
    written(tmp_path, "in/a b.jpg", "x")
    written(tmp_path, "c.jpg", "x")
    path = written(
        tmp_path, "in/t.csv", f"path\na b.jpg\n../c.jpg\n{tmp_path / 'c.jpg'}\nfile://{tmp_path}/c.jpg\n"
    )
    monkeypatch.chdir("/")
    assert [item.media[0] for item in items(path)] == [str(tmp_path / "in/a b.jpg")] + 3 * [
        str(tmp_path / "c.jpg")
    ]
    assert items(path)[1].item_id == "../c.jpg"


# ---- folders, globs, buckets ----


@pytest.fixture
def library(tmp_path):
    for name in [
        "b.jpg",
        "a/2.PNG",
        "a/10.mp4",
        "a/notes.md",
        ".hidden/x.jpg",
        "a/.x.jpg",
        "z/deep/er/c.webp",
    ]:
        written(tmp_path, "lib/" + name, "x")
    for day, name in enumerate(["a/2.PNG", "b.jpg", "z/deep/er/c.webp", "a/10.mp4"], 1):
        os.utime(tmp_path / "lib" / name, (day * 86_400, day * 86_400))
    return tmp_path / "lib"


def test_folder_is_read_with_its_subfolders_in_order(library):
    found = items(library)
    assert [item.item_id for item in found] == ["a/10.mp4", "a/2.PNG", "b.jpg", "z/deep/er/c.webp"]
    assert found[0].media == (str(library / "a/10.mp4"),)
    assert found[0].variables == {"name": "10.mp4", "folder": "a"}


def test_folders_name_may_be_the_expected_answer(library):
    found = items(library, columns={"truth": "folder"})
    assert [item.truth for item in found] == ["a", "a", None, "er"]
    assert found[0].variables == {"name": "10.mp4"}


def test_newest_first_and_only_what_is_new(library):
    found = items(library, order="newest", since=datetime(1970, 1, 2, 12, tzinfo=UTC))
    assert [item.item_id for item in found] == ["a/10.mp4", "z/deep/er/c.webp", "b.jpg"]
    assert items(library, since=datetime(2030, 1, 1, tzinfo=UTC)) == []


def test_glob_takes_media_or_what_it_names(library):
    assert [item.item_id for item in items(f"{library}/**/*")] == [
        "a/10.mp4", "a/2.PNG", "b.jpg", "z/deep/er/c.webp",
    ]  # fmt: skip
    assert [item.item_id for item in items(f"{library}/*/*.md")] == ["a/notes.md"]


def test_one_media_file_is_a_manifest(library):
    assert [item.item_id for item in items(library / "b.jpg")] == ["b.jpg"]


def test_folder_that_links_to_itself_ends(library):
    (library / "z" / "round").symlink_to(library, target_is_directory=True)
    assert len(items(library)) == 4


@pytest.fixture
def bucket():
    """s3:// as fsspec's own in-memory store."""
    from fsspec.implementations.memory import MemoryFileSystem
    from fsspec.registry import _registry, register_implementation

    class Bucket(MemoryFileSystem):
        protocol = ("s3",)
        store = {}  # noqa: RUF012  (fsspec's own way)
        pseudo_dirs = [""]  # noqa: RUF012

    known = _registry.get("s3")
    register_implementation("s3", Bucket, clobber=True)
    fs = Bucket(skip_instance_cache=True)
    for name in ["b/in/2.jpg", "b/in/1.jpg", "b/in/x/3.mp4", "b/in/readme.md", "b/in/.t/4.jpg"]:
        fs.pipe_file("s3://" + name, b"x")
    fs.pipe_file("s3://b/list.csv", f"media_url\nin/1.jpg\n{URL}a.jpg\n".encode())
    yield fs
    _registry.pop("s3", None)
    if known is not None:
        register_implementation("s3", known, clobber=True)


def test_bucket_prefix_is_listed(bucket):
    found = items("s3://b/in/")
    assert [item.item_id for item in found] == ["1.jpg", "2.jpg", "x/3.mp4"]
    assert found[2].media == ("s3://b/in/x/3.mp4",)


def test_manifest_in_a_bucket_is_read_and_its_paths_lie_beside_it(bucket):
    assert [item.media[0] for item in items("s3://b/list.csv")] == ["s3://b/in/1.jpg", f"{URL}a.jpg"]


def test_missing_manifest_in_a_bucket_is_told(bucket):
    assert problems("s3://b/none.csv") == (
        "manifest not found, or no permission to read it: s3://b/none.csv",
    )
    assert "holds no media" in problems("s3://b/empty/")[0]


def test_missing_file_system_names_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['gcsfs'] = None\nfrom mavi_tasks import manifest\n"
        "from mavi_tasks.errors import InputError\n"
        "try:\n    manifest.check('gs://b/in/')\nexcept InputError as e:\n    print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "gs://b/in/: gs:// needs more: pip install gcsfs\n"


# ---- the stream ----


def test_limit_takes_the_first_items_and_reads_no_further(tmp_path):
    path = written(tmp_path, "t.csv", f"media_url\n{URL}a\n{URL}b\n{URL}c\nftp://bad\n")
    assert [len(batch) for batch in manifest.read(path, batch_rows=2, limit=3)] == [2, 1]
    assert manifest.check(written(tmp_path, "u.csv", f"media_url\n{URL}a\n")) == 1


@pytest.mark.parametrize("bad", [False, True], ids=["good rows", "bad rows"])
def test_memory_is_flat_however_many_rows(tmp_path, bad):
    scheme = "ftp" if bad else "https"
    for name, rows in (("small.csv", 20_000), ("large.csv", 300_000)):
        with (tmp_path / name).open("w") as file:
            file.write("item_id,media_url,title\n")
            file.writelines(f"item-{n},{scheme}://a.example/{n}.jpg,Title {n}\n" for n in range(rows))
    code = (
        "import resource, sys\nimport numpy\nfrom mavi_tasks import manifest\n"
        "for batch in manifest.read(sys.argv[1], problems=manifest.Problems()): pass\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(peak if sys.platform == 'darwin' else peak * 1024)"
    )
    small, large = (
        int(
            subprocess.run(
                [sys.executable, "-c", code, tmp_path / name], capture_output=True, check=True
            ).stdout
        )
        for name in ("small.csv", "large.csv")
    )
    assert large < small + 20_000_000  # 64 Ki recent ids in a set, the others at 8 bytes; not 280,000 rows


def test_large_parquet_is_read_group_by_group(tmp_path):
    with pq.ParquetWriter(tmp_path / "t.parquet", pa.schema([("media_url", pa.string())])) as writer:
        for group in range(5):
            writer.write_table(pa.table({"media_url": [f"{URL}{group}/{n}" for n in range(1000)]}))
    assert [len(batch) for batch in manifest.read(tmp_path / "t.parquet", batch_rows=500)] == [500] * 10


def test_json_lines_may_have_keys_of_their_own(tmp_path):
    rows = [{"media_url": URL + "a", "t": 1}, {"t": 2, "media_url": URL + "b", "u": {"v": [1]}}]
    path = written(tmp_path, "t.jsonl", "\n".join(map(json.dumps, rows)))
    assert [item.variables for item in items(path)] == [{"t": 1}, {"t": 2, "u": {"v": [1]}}]


def test_examples_are_whole():
    for path in (REPOSITORY / "manifests").glob("*.csv"):
        columns = Columns(truth="subject") if path.stem == "bakeoff" else Columns()
        assert manifest.check(path, columns) > 2
