"""Manifests of text: CSV, TSV, JSON lines, and plain lists of references."""

import csv
import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO, Final

import orjson

from mavi_tasks.errors import InputError
from mavi_tasks.manifest.problems import Problems
from mavi_tasks.manifest.rows import Batch, Rows
from mavi_tasks.manifest.source import Source

MAX_FIELD_CHARS: Final = 64_000_000  # a data: URL may be large; a quote that never closes is larger
MAX_LINE_BYTES: Final = 128_000_000

_KEY: Final = re.compile(rb'"\s*:')
_CONSTANT: Final = re.compile(r"-?(?:NaN|Infinity)\b")


def read_csv(source: Source, problems: Problems, batch_rows: int, *, delimiter: str = ",") -> Rows:
    """Rows of a CSV file with a header; RFC 4180, so a quoted field may span lines."""
    with source.text() as text:
        names = _header(source, csv.reader(text, delimiter=delimiter, strict=True), delimiter)
    batches = partial(_csv_batches, source, problems, batch_rows, delimiter, names)
    return Rows(names, batches, source.base, source.name)


read_tsv = partial(read_csv, delimiter="\t")


def _header(source: Source, reader: Any, delimiter: str) -> tuple[str, ...]:
    try:
        row = next((row for row in reader if row), None)
    except csv.Error as problem:
        raise InputError(f"{source.name}:1: the header cannot be read: {problem}") from None
    if row is None:
        raise InputError(f"{source.name}: is empty; its first line must name the columns")
    names = tuple(name.strip() for name in row)
    if len(names) == 1 and (other := next((sign for sign in ";\t|," if sign in names[0]), None)):
        raise InputError(_other_delimiter(source, other, delimiter))
    if len(names) == 1 and "://" in names[0]:
        raise InputError(f"{source.name}: has no header; name it .txt if it is a list of media")
    duplicates = sorted({name for name in names if name and names.count(name) > 1})
    if duplicates:
        raise InputError(f"{source.name}:1: duplicate column {', '.join(duplicates)}; give each its own name")
    return names


def _other_delimiter(source: Source, found: str, wanted: str) -> str:
    shown = {"\t": "a tab", ",": "a comma"}.get(found, repr(found))
    want = "tabs" if wanted == "\t" else "commas"
    remedy = {"\t": "name it .tsv", ",": "name it .csv"}.get(found, f"save it with {want}")
    return f"{source.name}:1: the columns seem to be separated by {shown}, not by {want}; {remedy}"


def _csv_batches(
    source: Source, problems: Problems, batch_rows: int, delimiter: str, names: tuple[str, ...]
) -> Iterator[Batch]:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARS))
    with source.text() as text:
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        next(row for row in reader if row)
        width, lines, rows = len(names), list[int](), list[list[str]]()
        line = reader.line_num + 1  # where the row begins; a quoted field may end lines later
        ended = False
        while not ended:
            try:
                for row in reader:
                    if len(row) == width:
                        lines.append(line)
                        rows.append(row)
                        if len(rows) == batch_rows:
                            yield lines, rows
                            lines, rows = [], []
                    elif row:
                        problems.add(_ragged(source, line, row, names))
                    line = reader.line_num + 1
                ended = True
            except csv.Error as problem:  # the reader goes on with the next line
                problems.add(_csv_problem(source, line, reader.line_num, str(problem)))
                line = reader.line_num + 1
        if rows:
            yield lines, rows


def _ragged(source: Source, line: int, row: list[str], names: tuple[str, ...]) -> str:
    hint = "; put quotes around text that holds a comma" if len(row) > len(names) else ""
    return f"{source.name}:{line}: has {len(row)} columns where the header has {len(names)}{hint}"


def _csv_problem(source: Source, line: int, last: int, problem: str) -> str:
    if "field larger" in problem:
        why = f"a field has more than {MAX_FIELD_CHARS:,} characters; is a quote never closed?"
    elif "unexpected end" in problem:
        why = f'a quote (") is opened and never closed, up to the end in line {last}'
    elif "expected after" in problem:
        why = 'there is text after a closing quote; write a quote inside a quoted field twice ("")'
    else:
        why = problem
    return f"{source.name}:{line}: {why}"


def read_txt(source: Source, problems: Problems, batch_rows: int) -> Rows:
    """A list of references, one per line; blank lines and lines that begin with # are skipped."""
    return Rows(
        ("media_url",), partial(_txt_batches, source, batch_rows), source.base, source.name, listing=True
    )


def _txt_batches(source: Source, batch_rows: int) -> Iterator[Batch]:
    lines, rows = list[int](), list[tuple[str]]()
    with source.text() as text:
        for number, line in enumerate(text, 1):
            ref = line.strip()
            if not ref or ref.startswith("#"):
                continue
            lines.append(number)
            rows.append((ref,))
            if len(rows) == batch_rows:
                yield lines, rows
                lines, rows = [], []
    if rows:
        yield lines, rows


def read_jsonl(source: Source, problems: Problems, batch_rows: int) -> Rows:
    """Rows of a file with one JSON object per line; their keys may differ."""
    return Rows(None, partial(_json_batches, source, problems, batch_rows), source.base, source.name)


def _json_batches(source: Source, problems: Problems, batch_rows: int) -> Iterator[Batch]:
    lines, rows = list[int](), list[dict[str, Any]]()
    with source.binary() as file:
        for number, raw in enumerate(_lines(source, file), 1):
            line = raw.strip()
            if not line:
                continue
            row = _object(source, problems, number, line)
            if row is None:
                continue
            lines.append(number)
            rows.append(row)
            if len(rows) == batch_rows:
                yield lines, rows
                lines, rows = [], []
    if rows:
        yield lines, rows


def _lines(source: Source, file: BinaryIO) -> Iterator[bytes]:
    first = file.readline(MAX_LINE_BYTES).removeprefix(b"\xef\xbb\xbf")
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{source.name}: is UTF-16; convert it: iconv -f UTF-16 -t UTF-8")
    if first.lstrip().startswith(b"["):
        raise InputError(
            f"{source.name}: is a JSON array; write one object per line: "
            f"jq -c '.[]' {source.name} > lines.jsonl"
        )
    yield first
    for number, line in enumerate(iter(partial(file.readline, MAX_LINE_BYTES), b""), 2):
        if len(line) == MAX_LINE_BYTES:
            raise InputError(f"{source.name}:{number}: is longer than {MAX_LINE_BYTES:,} bytes")
        yield line


def _object(source: Source, problems: Problems, number: int, line: bytes) -> dict[str, Any] | None:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as problem:
        problems.add(_json_problem(source, number, line, problem))
        return None
    if not isinstance(row, dict):
        problems.add(f"{source.name}:{number}: is not a JSON object: {line[:60].decode()!r}")
        return None
    # As many keys as `":` in the line: no key is repeated. Else look closer, which is 5 times slower.
    if len(_KEY.findall(line)) != len(row) and (key := _duplicate_key(line)):
        problems.add(f"{source.name}:{number}: duplicate key {key!r}")
        return None
    return row


def _duplicate_key(line: bytes) -> str | None:
    duplicates: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        keys = [key for key, _ in pairs]
        if len(set(keys)) < len(keys):
            duplicates.append(next(key for key in keys if keys.count(key) > 1))

    json.loads(line, object_pairs_hook=look)
    return duplicates[-1] if duplicates else None


def _json_problem(source: Source, number: int, line: bytes, problem: orjson.JSONDecodeError) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError as bad:
        return source.not_utf8(number, line[bad.start])
    around = text[problem.pos :]
    if _CONSTANT.match(around) or _CONSTANT.match(text[max(problem.pos - 1, 0) :]):
        return f"{source.name}:{number}: NaN and Infinity are not JSON; write null"
    if "\0" in text:
        return f"{source.name}:{number}: holds a NUL byte; the file is damaged, or not text"
    what = problem.msg.partition(": line")[0]
    return f"{source.name}:{number}: is not valid JSON at column {problem.colno}: {what}"
