"""Manifests of text: CSV, TSV, JSON lines, and plain lists of references."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO, Final

import orjson

from mavi_tasks.errors import InputError
from mavi_tasks.manifest.bounds import (
    BATCH_BYTES,
    MAX_DEPTH,
    MAX_ROW_BYTES,
    MAX_VALUES,
    TOO_LONG,
    columns_problem,
    is_deeper,
)
from mavi_tasks.manifest.problems import Problems
from mavi_tasks.manifest.rows import BadRow, Batch, Rows
from mavi_tasks.manifest.source import RowTooLong, Source

_LONG_LINE: Final = 1_000_000  # from here on, the values of a JSON line are counted before they are made
_TOO_DEEP: Final = f"is nested more than {MAX_DEPTH} levels deep"
_DEPTH_SAID: Final = ("failed to allocate memory", "depth limit exceeded")  # by orjson, after 1,000 levels
_KEY: Final = re.compile(rb'"\s*:')
_CONSTANT: Final = re.compile(r"-?(?:NaN|Infinity)\b")


def read_csv(source: Source, problems: Problems, batch_rows: int, *, delimiter: str = ",") -> Rows:
    """Rows of a CSV file with a header; RFC 4180, so a quoted field may span lines."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))  # the row's bound is the field's, too
    with source.text() as (text, _):
        names = _header(source, csv.reader(text, delimiter=delimiter, strict=True), delimiter)
    batches = partial(_csv_batches, source, problems, batch_rows, delimiter, names)
    return Rows(names, batches, source.base, source.name)


read_tsv = partial(read_csv, delimiter="\t")


def _header(source: Source, reader: Any, delimiter: str) -> tuple[str, ...]:
    try:
        row = next((row for row in reader if row), None)
    except csv.Error as problem:
        raise InputError(f"{source.name}:1: the header cannot be read: {problem}") from None
    except RowTooLong:
        raise InputError(f"{source.name}:1: the header {TOO_LONG}") from None
    if row is None:
        raise InputError(f"{source.name}: is empty; its first line must name the columns")
    if wrong := columns_problem(len(row), max(map(len, row))):
        raise InputError(f"{source.name}:1: the header {wrong}")
    names = tuple(name.strip() for name in row)
    if len(names) == 1 and (other := next((sign for sign in ";\t|," if sign in names[0]), None)):
        raise InputError(_other_delimiter(source, other, delimiter))
    if len(names) == 1 and "://" in names[0]:
        raise InputError(f"{source.name}: has no header; name it .txt if it is a list of media")
    duplicates = sorted(name for name, times in Counter(names).items() if name and times > 1)
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
    with source.text() as (text, intake):
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        next(row for row in reader if row)
        width, lines, rows = len(names), list[int](), list[list[str] | BadRow]()
        line = reader.line_num + 1  # where the row begins; a quoted field may end lines later
        full = intake.total + BATCH_BYTES
        ended = False
        while not ended:
            try:
                for row in reader:
                    total = intake.row_start = intake.total
                    if row:
                        lines.append(line)
                        rows.append(row if len(row) == width else _ragged(row, names))
                        if total > full or len(rows) == batch_rows:
                            yield lines, rows
                            lines, rows, full = [], [], total + BATCH_BYTES
                    line = reader.line_num + 1
                ended = True
            except csv.Error as problem:  # the reader goes on with the next line
                if "field larger" in str(problem):
                    raise InputError(_too_long(source, line, reader.line_num)) from None
                problems.add(_csv_problem(source, line, reader.line_num, str(problem)))
                line = reader.line_num + 1
            except RowTooLong:
                raise InputError(_too_long(source, line, reader.line_num)) from None
        if rows:
            yield lines, rows


def _too_long(source: Source, line: int, last: int) -> str:
    return f"{source.name}:{line}: {TOO_LONG}" + ("; is a quote never closed?" if last > line else "")


def _ragged(row: list[str], names: tuple[str, ...]) -> BadRow:
    hint = "; put quotes around text that holds a comma" if len(row) > len(names) else ""
    return BadRow(f"has {len(row)} columns where the header has {len(names)}{hint}")


def _csv_problem(source: Source, line: int, last: int, problem: str) -> str:
    if "unexpected end" in problem:
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
    lines, rows, number = list[int](), list[tuple[str]](), 0
    with source.text() as (text, intake):
        full = intake.total + BATCH_BYTES
        try:
            for number, line in enumerate(text, 1):
                total = intake.row_start = intake.total
                ref = line.strip()
                if not ref or ref.startswith("#"):
                    continue
                lines.append(number)
                rows.append((ref,))
                if total > full or len(rows) == batch_rows:
                    yield lines, rows
                    lines, rows, full = [], [], total + BATCH_BYTES
        except RowTooLong:
            raise InputError(f"{source.name}:{number + 1}: {TOO_LONG}") from None
    if rows:
        yield lines, rows


def read_jsonl(source: Source, problems: Problems, batch_rows: int) -> Rows:
    """Rows of a file with one JSON object per line; their keys may differ."""
    return Rows(None, partial(_json_batches, source, batch_rows), source.base, source.name)


def _json_batches(source: Source, batch_rows: int) -> Iterator[Batch]:
    lines, rows, size = list[int](), list[dict[str, Any] | BadRow](), 0
    with source.binary() as file:
        for number, raw in enumerate(_lines(source, file), 1):
            line = raw.strip()
            if not line:
                continue
            lines.append(number)
            rows.append(_object(source, number, line))
            size += len(line)
            if len(rows) == batch_rows or size > BATCH_BYTES:
                yield lines, rows
                lines, rows, size = [], [], 0
    if rows:
        yield lines, rows


def _lines(source: Source, file: BinaryIO) -> Iterator[bytes]:
    for number, line in enumerate(iter(partial(file.readline, MAX_ROW_BYTES + 1), b""), 1):
        if len(line) > MAX_ROW_BYTES:
            raise InputError(f"{source.name}:{number}: {TOO_LONG}")
        yield line if number > 1 else _first_line(source, line)


def _first_line(source: Source, line: bytes) -> bytes:
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{source.name}: is UTF-16; convert it: iconv -f UTF-16 -t UTF-8")
    first = line.removeprefix(b"\xef\xbb\xbf")
    if first.lstrip().startswith(b"["):
        raise InputError(
            f"{source.name}: is a JSON array; write one object per line: "
            f"jq -c '.[]' {source.name} > lines.jsonl"
        )
    return first


def _object(source: Source, number: int, line: bytes) -> dict[str, Any] | BadRow:
    if len(line) > _LONG_LINE and sum(map(line.count, (b",", b"[", b"{"))) > MAX_VALUES:
        return BadRow(f"holds more than {MAX_VALUES:,} values")
    nested = line.count(b"[") + line.count(b"{") > MAX_DEPTH  # perhaps: it may be text
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as problem:
        return BadRow(_json_problem(source, number, line, problem, nested))
    if not isinstance(row, dict):
        return BadRow(f"is not a JSON object: {line[:60].decode('utf-8', 'ignore')!r}")
    if nested and is_deeper(row):
        return BadRow(_TOO_DEEP)
    # As many keys as `":` in the line: no key is repeated. Else look closer, which is 5 times slower.
    signs = len(_KEY.findall(line))
    if signs != len(row) and signs != _keys(row) and (key := _duplicate_key(line)) is not None:
        return BadRow(f"duplicate key {key[:60]!r}")
    return row


def _keys(value: Any) -> int:
    """How many keys the objects in a value have, all together."""
    if isinstance(value, list):
        return sum([_keys(part) for part in value if isinstance(part, dict | list)])
    return len(value) + sum([_keys(part) for part in value.values() if isinstance(part, dict | list)])


def _duplicate_key(line: bytes) -> str | None:
    duplicates: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        keys = [key for key, _ in pairs]
        if len(set(keys)) < len(keys):
            duplicates.append(Counter(keys).most_common(1)[0][0])

    # int() would refuse 5,000 digits
    json.loads(line, object_pairs_hook=look, parse_int=_nothing, parse_float=_nothing)
    return duplicates[-1] if duplicates else None


def _nothing(_: str) -> None:
    return None


def _json_problem(
    source: Source, number: int, line: bytes, problem: orjson.JSONDecodeError, nested: bool
) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError as bad:
        return source.not_utf8(number, line[bad.start]).removeprefix(f"{source.name}:{number}: ")
    around = text[problem.pos :]
    if _CONSTANT.match(around) or _CONSTANT.match(text[max(problem.pos - 1, 0) :]):
        return "NaN and Infinity are not JSON; write null"
    if "\0" in text:
        return "holds a NUL byte; the file is damaged, or not text"
    if nested and problem.msg.startswith(_DEPTH_SAID):
        return _TOO_DEEP
    what = problem.msg.partition(": line")[0]
    return f"is not valid JSON at column {problem.colno}: {what}"
