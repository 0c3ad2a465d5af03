"""What is wrong with a manifest is told in words, with its line, all at once, and without secrets."""

import gzip
import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mavi_tasks import manifest
from mavi_tasks.errors import InputError
from mavi_tasks.manifest import Problems
from tests.unit.manifest.test_manifest import URL, problems, written

# ---- what is wrong with a file ----

BAD_FILES = {
    "empty": ("t.csv", "", "t.csv: is empty; its first line must name the columns"),
    "blank lines": ("t.csv", "\n\n", "t.csv: is empty"),
    "header only": ("t.csv", "media_url,x\n", "t.csv: has a header but no rows"),
    "header twice": ("t.csv", f"media_url,x,x\n{URL}a,1,2\n", "t.csv:1: duplicate column x; give each"),
    "semicolons": (
        "t.csv",
        f"item_id;media_url\n1;{URL}a\n",
        "separated by ';', not by commas; save it with commas",
    ),
    "tabs": ("t.csv", f"item_id\tmedia_url\n1\t{URL}a\n", "separated by a tab, not by commas; name it .tsv"),
    "commas": ("t.tsv", f"item_id,media_url\n1,{URL}a\n", "separated by a comma, not by tabs; name it .csv"),
    "no header": ("t.csv", f"{URL}a.jpg\n{URL}b.jpg\n", "t.csv: has no header; name it .txt"),
    "latin-1": (
        "t.csv",
        f"media_url,t\n{URL}a,K\xe4se\n".encode("latin-1"),
        "t.csv:2: byte 0xe4 is not UTF-8",
    ),
    "latin-1 with a remedy": ("t.csv", b"media_url,t\nx,\xe4\n", "iconv -f WINDOWS-1252 -t UTF-8 t.csv"),
    "utf-16": ("t.csv", "media_url\nx\n".encode("utf-16"), "t.csv: is UTF-16; convert it: iconv -f UTF-16"),
    "nul": ("t.csv", f"media_url\n{URL}a\n{URL}b\0\n", "t.csv:3: holds a NUL byte"),
    "latin-1 in JSON": (
        "t.jsonl",
        b'{"media_url": "https://h/a"}\n{"media_url": "\xe4"}\n',
        "t.jsonl:2: byte 0xe4",
    ),
    "utf-16 JSON": ("t.jsonl", '{"a": 1}'.encode("utf-16"), "t.jsonl: is UTF-16"),
    "a JSON array": (
        "t.jsonl",
        '[{"media_url": "x"}]',
        "is a JSON array; write one object per line: jq -c",
    ),
    "no lines": ("t.jsonl", "\n", "t.jsonl: is empty"),
    "a list of nothing": ("t.txt", "# none\n", "t.txt"),
    "not gzip": ("t.csv.gz", "media_url\nx\n", "t.csv.gz: is not a complete gzip file"),
    "half a gzip": (
        "t.csv.gz",
        gzip.compress(b"media_url\n" + os.urandom(9999))[:500],
        "is not a complete gzip file",
    ),
    "not parquet": ("t.parquet", "media_url\nx\n", "t.parquet: is not a complete Parquet file"),
    "half a parquet": ("t.parquet", b"PAR1" + b"x" * 100, "t.parquet: is not a complete Parquet file"),
    "excel": ("t.xlsx", "PK", "t.xlsx: is not a supported manifest (.csv, .tsv"),
    "excel, what to do": ("t.xlsx", "PK", "save it as CSV (UTF-8)"),
    "json": ("t.json", "[]", "write one object per line: jq -c"),
    "no suffix": ("manifest", "x", "is not a supported manifest"),
    "no media column": (
        "t.csv",
        "item_id,pic\na,b\n",
        "there is no column 'media_url' with the media; the columns are",
    ),
    "almost the media column": (
        "t.csv",
        "mediaurl,x\na,b\n",
        "did you mean mediaurl? the columns are mediaurl, x",
    ),
    "two media columns": (
        "t.csv",
        "image,video\na,b\n",
        "image and video may all be the media; name one with columns.",
    ),
    "an empty folder": ("lib/readme.md", "x", "holds no media"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_file_is_told_in_words(tmp_path, case):
    name, data, wanted = BAD_FILES[case]
    path = written(tmp_path, name, data)
    told = problems(path.parent if case == "an empty folder" else path)
    assert wanted in told[0], told
    assert len(told) == 1, told


@pytest.mark.parametrize("field", ["media", "id", "prompt", "truth"])
def test_named_column_must_be_there(tmp_path, field):
    path = written(tmp_path, "t.csv", f"media_url,label\n{URL}a,1\n")
    (told,) = problems(path, columns={field: "labell"})
    assert told == f"t.csv: columns.{field}: there is no column 'labell'; did you mean label? " + (
        "the columns are media_url, label"
    )


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("nowhere.csv", "manifest not found: "),
        ("nowhere", "manifest not found: "),
        ("nowhere/*.jpg", "holds no media"),
        ("http://h.example/list.csv?key=hunter2", "http://h.example/list.csv"),
        ("https://h.example/photos/?sig=hunter2", "a web server gives no list of its media"),
    ],
)
def test_manifest_that_is_not_there_is_told_without_secrets(tmp_path, monkeypatch, source, wanted):
    monkeypatch.chdir(tmp_path)
    told = problems(source)
    assert wanted in told[0]
    assert "hunter2" not in told[0]


def test_columns_null_for_a_list_of_media_is_told(tmp_path):
    assert (
        "columns.media cannot be null"
        in problems(written(tmp_path, "a.jpg", "x"), columns={"media": None})[0]
    )


def test_order_of_a_table_is_its_own(tmp_path):
    path = written(tmp_path, "t.csv", f"media_url\n{URL}a\n")
    assert "order and since are for folders" in problems(path, order="newest")[0]


# ---- what is wrong with a row ----

BAD_ROWS = {
    "too few": ("t.csv", "a", "t.csv:2: has 1 columns where the header has 3"),
    "too many": (
        "t.csv",
        f"a,{URL}a,b,c",
        "has 4 columns where the header has 3; put quotes around text that holds",
    ),
    "quote never closed": ("t.csv", f'a,{URL}a,"b\nc,d,e', 't.csv:2: a quote (") is opened and never closed'),
    "text after a quote": ("t.csv", f'a,{URL}a,"b"c', "t.csv:2: there is text after a closing quote"),
    "no id": ("t.csv", f" ,{URL}a,x", "t.csv:2: item_id is empty"),
    "endless id": ("t.csv", f"{'x' * 1001},{URL}a,x", "has more than 1000 characters"),
    "no media": ("t.csv", "a,  ,x", "t.csv:2: media_url is empty"),
    "wrong scheme": (
        "t.csv",
        "a,ftp://h/a.jpg,x",
        "media_url 'ftp://h/a.jpg' must be http(s), s3, gs or a local path",
    ),
    "no host": ("t.csv", "a,https:///a.jpg,x", "media_url 'https:///a.jpg' has no host"),
    "missing file": ("t.csv", "a,cat.jpg,x", "t.csv:2: media_url 'cat.jpg' not found: /"),
    "a folder": ("t.csv", "a,.,x", "media_url '.' is a folder, not a file"),
    "a path of NUL": ("t.jsonl", '{"media_url": "a\\u0000b"}', "not found: "),
    "two in a cell": (
        "t.csv",
        f'a,"{URL}a, {URL}b",x',
        "holds several references: write one per column (media_url, media_url_2",
    ),
    "half a data URL": ("t.csv", "a,data:image/png;base64,x", "must be a whole data URL"),
    "data of a text": ("t.csv", 'a,"data:text/plain,hello",x', "must be a data URL of an image or a video"),
    "file URL of a host": ("t.csv", "a,file://host/a.jpg,x", "must be a path, or file:///an/absolute/path"),
    "no JSON": ("t.jsonl", '{"media_url": ', "t.jsonl:1: is not valid JSON at column 14"),
    "no object": ("t.jsonl", '"https://h/a"', "t.jsonl:1: is not a JSON object"),
    "key twice": (
        "t.jsonl",
        '{"media_url": "https://h/a", "media_url": "x"}',
        "duplicate key 'media_url'",
    ),
    "key twice, with spaces": ("t.jsonl", '{"a" : 1, "a": 2, "b" :3}', "duplicate key 'a'"),
    "NaN": ("t.jsonl", '{"media_url": "https://h/a", "x": NaN}', "NaN and Infinity are not JSON; write null"),
    "-Infinity": ("t.jsonl", '{"media_url": "https://h/a", "x": -Infinity}', "NaN and Infinity are not JSON"),
    "media null": ("t.jsonl", '{"media_url": null}', "t.jsonl:1: media_url is empty"),
    "media as a number": (
        "t.jsonl",
        '{"media_url": 5}',
        "media_url must be text or a list of texts, not a number",
    ),
    "media as mixed list": ("t.jsonl", '{"media_url": ["a", 1]}', "not a list that holds int"),
    "no media at all": ("t.jsonl", '{"title": "x"}', "t.jsonl:1: there is no column 'media_url'"),
    "id as a list": (
        "t.jsonl",
        '{"media_url": "https://h/a", "item_id": [1]}',
        "item_id must be text, not a list",
    ),
    "id null": ("t.jsonl", '{"media_url": "https://h/a", "item_id": null}', "item_id is empty"),
    "prompt as a number": (
        "t.jsonl",
        '{"media_url": "https://h/a", "prompt": 5}',
        "prompt must be text, not a number",
    ),
    "wrong scheme in a list": ("t.txt", "ssh://h/a", "t.txt:1: media_url 'ssh://h/a' must be http(s)"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_row_is_told_with_its_line_and_the_others_are_read(tmp_path, case):
    name, row, wanted = BAD_ROWS[case]
    header = "item_id,media_url,title\n" if name.endswith("csv") else ""
    found = Problems()
    list(manifest.read(written(tmp_path, name, header + row + "\n"), problems=found))
    assert wanted in found.texts[0], found.texts
    assert found.count == 1


def test_rows_after_a_bad_one_are_read(tmp_path):
    path = written(tmp_path, "t.csv", f'item_id,media_url\na,{URL}a\nb,"x"y\nc\nd,{URL}d\n')
    found = Problems()
    batches = list(manifest.read(path, problems=found))
    assert [item.item_id for batch in batches for item in batch] == ["a", "d"]
    assert [text.split(":")[1] for text in found.texts] == ["3", "4"]


def test_wrong_types_in_parquet_are_told(tmp_path):
    pq.write_table(pa.table({"media_url": [b"\xff\xd8"], "x": [1]}), tmp_path / "bytes.parquet")
    assert "there is no column 'media_url'" in problems(tmp_path / "bytes.parquet")[0]
    pq.write_table(pa.table({"media_url": [1, 2]}), tmp_path / "ints.parquet")
    assert problems(tmp_path / "ints.parquet")[0].startswith("ints.parquet:1: media_url must be text")


def test_twenty_problems_are_told_and_all_counted(tmp_path):
    path = written(
        tmp_path, "t.csv", "item_id,media_url\n" + "".join(f"{n},ftp://h/{n}\n" for n in range(5000))
    )
    told = problems(path)
    assert len(told) == 21
    assert told[-1] == "and 4,980 more problems"


def test_signature_of_a_bad_reference_is_not_shown(tmp_path):
    path = written(tmp_path, "t.csv", "media_url\nftp://u:hunter2@h/a?X-Amz-Signature=hunter2\n")
    assert "hunter2" not in str(problems(path))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' file names are always text")
def test_a_file_name_that_is_no_utf8_is_told(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    with pytest.raises(InputError, match="not UTF-8: rename it"):
        list(manifest.read(str(tmp_path)))
