"""No manifest, however small or packed, fills the memory, hangs, or reads a file it must not name."""

import contextlib
import gzip
import itertools

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mavi_tasks import manifest
from mavi_tasks.errors import InputError
from mavi_tasks.manifest import Problems, parquet, parquet_pages
from mavi_tasks.manifest.column_map import layout
from mavi_tasks.manifest.columns import Columns
from mavi_tasks.manifest.resolve import BadReference, Base
from tests.unit.manifest.test_manifest import URL, problems, written

LINE = b"a" * 1_000_000


def packed(tmp_path, name, *parts):
    with gzip.open(tmp_path / name, "wb", compresslevel=1) as file:
        file.writelines(parts)
    return tmp_path / name


# ---- text ----


TOO_LARGE = {
    "a line": ("t.csv.gz", [b"media_url,x\n", *[LINE] * 33], "t.csv.gz:2: has more than 32,000,000 bytes"),
    "a header": ("t.csv.gz", [LINE] * 33, "t.csv.gz:1: the header has more than 32,000,000 bytes"),
    "a row of many lines": (
        "t.csv.gz",
        [b"media_url,x\nhttps://h/a,1\n", b'https://h/b,"', *[b"a\n" * 500_000] * 33],
        "t.csv.gz:3: has more than 32,000,000 bytes; keep media in files, and name the files; is a quote",
    ),
    "a reference": ("t.txt.gz", [b"https://h/a\n", *[LINE] * 33], "t.txt.gz:2: has more than 32,000,000"),
    "a JSON line": ("t.jsonl.gz", [b'{"x": "', *[LINE] * 33], "t.jsonl.gz:1: has more than 32,000,000"),
    "columns": ("t.csv", [b"media_url" + b",x" * 10_000], "t.csv:1: the header has 10,001 columns; at most"),
    "the name of a column": ("t.csv", [b"media_url," + b"x" * 1001], "whose name is longer than 1,000"),
    "keys": (
        "t.jsonl",
        [b'{"media_url": "https://h/a"' + b"".join(b', "k%d": 1' % n for n in range(10_000)) + b"}"],
        "t.jsonl:1: has 10,001 columns; at most 10,000 are read",
    ),
    "JSON values": (
        "t.jsonl",
        [b'{"media_url": "https://h/a", "x": [' + b"[]," * 500_001 + b"1]}"],
        "t.jsonl:1: holds more than 1,000,000 values",
    ),
    "JSON in JSON": (
        "t.jsonl",
        [b'{"media_url": "https://h/a", "x": ' + b"[" * 101 + b"]" * 101 + b"}"],
        "t.jsonl:1: is nested more than 100 levels deep",
    ),
    "JSON without end": (
        "t.jsonl",
        [b'{"media_url": ' + b"[" * 100_000],
        "t.jsonl:1: is nested more than 100 levels deep",
    ),
    "media": (
        "t.jsonl",
        [b'{"media_url": [' + b'"https://h/a",' * 1000 + b'"https://h/b"]}'],
        "t.jsonl:1: media_url holds more than 1,000 media",
    ),
    "media in a cell": (
        "t.tsv",
        [b"media_url\n[" + b'"a",' * 10_001 + b'"b"]\n'],
        "t.tsv:2: holds a list of more than 1,000 media",
    ),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_what_is_too_large_is_told_with_its_line(tmp_path, case):
    name, parts, wanted = TOO_LARGE[case]
    if name.endswith(".gz"):
        path = packed(tmp_path, name, *parts)
    else:
        path = written(tmp_path, name, b"".join(parts))
    assert wanted in problems(path)[0]


def test_a_row_may_hold_an_image_of_20_mb_as_a_data_url(tmp_path):
    image = b"data:image/jpeg;base64," + b"A" * 27_000_000
    for name, text in (("t.csv", b'media_url\n"%s"\n'), ("t.jsonl", b'{"media_url": "%s"}\n')):
        [[item]] = manifest.read(written(tmp_path, name, text % image))
        assert len(item.media[0]) == len(image)


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.txt", "t.parquet"])
def test_large_rows_come_in_small_batches(tmp_path, name):
    """A thousand rows at once would be gigabytes when each is large."""
    image = f"data:image/jpeg;base64,{'A' * 3_000_000}"
    if name == "t.parquet":
        pq.write_table(pa.table({"media_url": [image] * 60}), tmp_path / name)
    else:
        line = {"t.csv": '"%s"', "t.jsonl": '{"media_url": "%s"}', "t.txt": "%s"}[name] % image
        written(tmp_path, name, "\n".join(["media_url"] * (name == "t.csv") + [line] * 60))
    sizes = [len(batch) for batch in manifest.read(tmp_path / name)]
    assert sum(sizes) == 60
    assert max(sizes) <= (42 if name == "t.parquet" else 7)  # 128 MB and 16 MB


def test_a_numbered_media_column_of_5000_digits_is_another_column():
    assert layout(["media_url", "media_url_" + "1" * 5000], Columns()).media == (0,)


def test_huge_numbers_beside_a_repeated_key_are_no_crash(tmp_path):
    line = b'{"media_url": "https://h/a", "n": {"a": 1, "a": %s}}' % (b"1" * 300)
    assert problems(written(tmp_path, "t.jsonl", line)) == ("t.jsonl:1: duplicate key 'a'",)


def test_an_expected_answer_that_json_cannot_hold_is_told(tmp_path):
    pq.write_table(
        pa.table({"media_url": [f"{URL}a"], "truth": pa.array([[b"\xff"]], pa.list_(pa.binary()))}),
        tmp_path / "t.parquet",
    )
    assert manifest.check(tmp_path / "t.parquet") == 1  # bytes are kept as Python shows them


def test_a_line_without_media_is_explained_once_however_often_it_comes(tmp_path):
    keys = ", ".join(f'"picture_{number}": 1' for number in range(900))
    path = written(tmp_path, "t.jsonl", f"{{{keys}}}\n" * 3000)
    found = Problems()
    assert list(manifest.read(path, problems=found)) == []
    assert found.count == 3000


# ---- Parquet ----


def parquet_file(tmp_path, columns, **options):
    path = tmp_path / "t.parquet"
    plain = {"compression": "brotli", "write_statistics": False, "store_schema": False}
    pq.write_table(pa.table({"media_url": [f"{URL}a", f"{URL}b"], **columns}), path, **plain | options)
    return path


def repeated(text, times):
    return pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), [text])


def listed(values):
    return pa.ListArray.from_arrays(pa.array([0, len(values), len(values)], pa.int32()), values)


BOMBS = {
    "a page": (
        lambda: ["a" * 130_000_000, ""],
        {"use_dictionary": False},
        "column x has a page of 130,000,014 bytes when unpacked; at most 128,000,000 are read",
    ),
    "a value": (
        lambda: ["a" * 33_000_000] * 2,
        {},
        "column x may have a value that has more than 32,000,000 bytes",
    ),
    "a list of nulls": (
        lambda: listed(pa.nulls(20_000_001, pa.int8())),
        {},
        "column x has 20,000,002 values of up to 0 bytes in one row group",
    ),
    "a list of one text": (
        lambda: listed(repeated("a" * 1_000_000, 600)),
        {},
        "column x has 601 values of up to 1,000,000 bytes in one row group",
    ),
}


@pytest.mark.parametrize("case", BOMBS)
def test_parquet_that_unpacks_to_gigabytes_is_told_before_it_is_unpacked(tmp_path, case):
    make, options, wanted = BOMBS[case]
    path = parquet_file(tmp_path, {"x": make()}, **options)
    assert path.stat().st_size < 20_000
    assert wanted in problems(path)[0]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
def test_rows_at_once_follow_the_longest_text_of_a_dictionary(tmp_path, compression, version):
    path = parquet_file(
        tmp_path, {"x": ["b" * 50, "a" * 1_000_000]}, compression=compression, data_page_version=version
    )
    with path.open("rb") as file:
        [chunks] = parquet_pages.row_groups(file)
        assert parquet._rows_at_once(file, chunks, {"x"}) == 127  # 128 MB of texts of 1 MB
        assert parquet._rows_at_once(file, chunks, {"media_url"}) > 1_000_000


def test_a_text_that_begins_as_the_one_before_it_counts_whole(tmp_path):
    path = parquet_file(
        tmp_path,
        {"x": ["a" * 1_000_000] * 2},
        use_dictionary=False,
        column_encoding={"x": "DELTA_BYTE_ARRAY", "media_url": "PLAIN"},
    )
    with path.open("rb") as file:
        [chunks] = parquet_pages.row_groups(file)
        assert parquet._rows_at_once(file, chunks, {"x"}) <= 127


def test_unused_columns_are_left_unread(tmp_path):
    path = parquet_file(tmp_path, {"x": ["a" * 130_000_000, ""], "t": ["1", "2"]}, use_dictionary=False)
    [items] = manifest.read(path, variables=["t"])
    assert [dict(item.variables) for item in items] == [{"t": "1"}, {"t": "2"}]


def test_all_columns_are_named_when_a_variable_is_not_there(tmp_path):
    path = parquet_file(tmp_path, {"title": ["1", "2"], "t": ["1", "2"]})
    [items] = manifest.read(path, variables=["titel"])
    assert list(items[0].variables) == ["title", "t"]


ODD = {
    "before the year 1": pa.array([0, -800_000], pa.date32()),
    "after the year 9999": pa.array([0, 2**62], pa.timestamp("us")),
    "a length of time": pa.array([0, 2**62], pa.duration("s")),
    "in a list": pa.array([[0], [2**62]], pa.list_(pa.timestamp("us"))),
}


@pytest.mark.parametrize("case", ODD)
def test_a_date_that_python_does_not_have_is_a_problem_of_its_row(tmp_path, case):
    path = parquet_file(tmp_path, {"x": ODD[case]}, store_schema=True)
    found = Problems()
    [items] = manifest.read(path, problems=found)
    assert [item.where for item in items] == ["t.parquet:1"]
    assert found.texts[0].startswith("t.parquet:2: x is a date or a time that cannot be read")


def test_an_unknown_time_zone_is_told(tmp_path):
    path = parquet_file(tmp_path, {"x": pa.array([0, 1], pa.timestamp("s", "Foo/Bar"))}, store_schema=True)
    assert problems(path)[0].startswith("t.parquet:1: x is a date or a time that cannot be read")


def test_any_damaged_byte_is_an_error_in_words_or_harmless(tmp_path):
    whole = parquet_file(tmp_path, {"x": ["a", "b"]}).read_bytes()
    for position, flip in itertools.product(range(len(whole)), (0x01, 0x80, 0xFF)):
        damaged = bytearray(whole)
        damaged[position] ^= flip
        path = written(tmp_path, "d.parquet", bytes(damaged))
        with contextlib.suppress(InputError):
            list(manifest.read(path, problems=Problems()))


# ---- what a remote manifest may name ----


@pytest.mark.parametrize("folder", ["https://h.example/lists/", "s3://bucket/lists/"])
@pytest.mark.parametrize(
    "ref", ["file:///etc/passwd", "FILE:///etc/passwd", "file://localhost/etc/passwd", "file:/x"]
)
def test_a_remote_manifest_names_no_file_of_this_machine(folder, ref):
    with pytest.raises(BadReference, match="a file of this machine, which a remote manifest must not name"):
        Base(folder, remote=True).absolute(ref)


@pytest.mark.parametrize("folder", ["https://h.example/lists/", "s3://bucket/lists/"])
@pytest.mark.parametrize(
    "ref",
    ["/etc/passwd", "../../../etc/passwd", "~/x", "\tfile:///etc/passwd", "fi\tle:///x", " file:///x", "//"],
)
def test_a_remote_manifest_stays_remote_however_a_path_is_spelled(folder, ref):
    try:
        found = Base(folder, remote=True).absolute(ref)
    except BadReference:
        return
    assert found.startswith(("https://", "s3://"))


def test_a_name_in_a_listing_is_a_name_whatever_it_looks_like(tmp_path):
    """A bucket's key may be called file:///etc/passwd.jpg, and a folder's file ~root.jpg."""
    bucket = Base("s3://bucket/", remote=True, trusted=True)
    assert bucket.absolute("file:///etc/passwd.jpg") == "s3://bucket/file:///etc/passwd.jpg"
    assert bucket.absolute("https://evil.example/a.jpg") == "s3://bucket/https://evil.example/a.jpg"
    for name in ("~root.jpg", "file:x.jpg", "data:x.jpg"):
        (tmp_path / name).write_bytes(b"x")
    media = [item.media[0] for batch in manifest.read(tmp_path) for item in batch]
    assert media == [str(tmp_path / name) for name in ("data:x.jpg", "file:x.jpg", "~root.jpg")]
