"""Raw rows to items: media checked and made absolute, ids unique, the answer kept apart from the rest."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from mavi_tasks.common.key_set import Seen
from mavi_tasks.errors import InputError
from mavi_tasks.manifest.bounds import MAX_MEDIA, columns_problem
from mavi_tasks.manifest.column_map import Layout, layout
from mavi_tasks.manifest.columns import Columns
from mavi_tasks.manifest.problems import SHOWN, Problems
from mavi_tasks.manifest.resolve import PLAIN_URL, BadReference, name_of
from mavi_tasks.manifest.rows import Batch, Rows
from mavi_tasks.media.url_secrets import hidden
from mavi_tasks.media.urls import shown

MAX_ID_CHARS: Final = 1000
_SHAPED: Final = 100_000  # keys of JSON lines that are remembered, in all sets of them
_MANY_COMMAS: Final = 10 * MAX_MEDIA  # a reference may hold some
_COUNTED: Final = 100_000  # references whose repetitions are counted


class Item(NamedTuple):
    """One row: the media, the prompt, the expected answer.

    media: absolute paths, URLs or data URLs, as they are opened or sent; they may hold signatures.
    prompt: the row's own, literal; None = the job's templates. truth: text, or JSON text of anything else.
    variables: the other columns. where: "pets.csv:7", for messages.
    """

    item_id: str
    media: tuple[str, ...]
    prompt: str | None
    truth: str | None
    variables: Mapping[str, object]
    where: str


class _Wrong(ValueError):
    """A row that cannot be an item; `str()` says why."""


class ItemBuilder:
    """Builds the items of one manifest; remembers the ids it has seen."""

    def __init__(self, rows: Rows, columns: Columns, problems: Problems) -> None:
        self.rows = rows
        self._columns = columns
        self._problems = problems
        self._absolute = rows.base.absolute
        # The names of a listing are below its folder, whatever they look like.
        self._plain_url = (lambda _: None) if rows.base.trusted else PLAIN_URL
        self._place = f"{rows.name}:"
        self._seen = Seen()
        self._times: dict[str, int] = {}
        self._duplicates: dict[str, list[int]] = {}  # duplicate ids, with their later lines; the first few
        self._more_duplicates = 0
        self._shapes: dict[tuple[str, ...], Layout | InputError] = {}
        self._shaped = 0  # keys in all of them
        self._layout = self._of_table() if rows.names is not None else None

    def items(self, batch: Batch) -> list[Item]:
        """The items of one batch; invalid rows go to the problems."""
        items, tables = self._build(*batch)
        for index in self._seen.add([item.item_id for item in items]):
            item = items[index]
            if tables[index].id is None:
                items[index] = item._replace(item_id=self._numbered(item.item_id))
            else:
                self._add_duplicate(item.item_id, _line(item))
        return items

    def finish(self) -> None:
        """Report duplicate ids with both lines: the first ones are found by reading again."""
        if not self._duplicates:
            return
        first = self._first_lines()
        for name, lines in self._duplicates.items():
            for line in lines:
                if name in first and first[name] < line:  # else two names had one hash
                    where = f"{self.rows.name}:{line}: duplicate {self._columns.id} {name!r}"
                    self._problems.add(f"{where} (first on line {first[name]})")
        if self._more_duplicates:
            self._problems.add(f"{self.rows.name}: more duplicate ids", self._more_duplicates)

    def _of_table(self) -> Layout:
        names = self.rows.names or ()
        try:
            return layout(names, self._columns, listing=self.rows.listing)
        except InputError as problem:
            raise InputError([f"{self.rows.name}: {text}" for text in problem.problems]) from None

    def _of_shape(self, row: dict[str, Any]) -> Layout:
        names = tuple(row)
        found = self._shapes.get(names)
        if found is None:
            found = self._looked_at(names)
            if self._shaped + len(names) <= _SHAPED:
                self._shapes[names] = found
                self._shaped += len(names)
        if isinstance(found, InputError):
            raise found
        return found

    def _looked_at(self, names: tuple[str, ...]) -> Layout | InputError:
        if wrong := columns_problem(len(names), max(map(len, names), default=0)):
            return InputError(wrong)
        try:
            return layout(names, self._columns)
        except InputError as problem:  # remembered, too: a million rows may have it
            return problem

    def _build(self, lines: Sequence[int], rows: Sequence[Any]) -> tuple[list[Item], list[Layout]]:
        """The items of these rows, and the layout by which each was read."""
        items: list[Item] = []
        tables: list[Layout] = []
        table = self._layout
        for line, row in zip(lines, rows, strict=True):
            try:
                here = table or self._of_shape(row)
                items.append(self._item(here, row if table else tuple(row.values()), line))
            except (_Wrong, InputError) as problem:
                for text in getattr(problem, "problems", (str(problem),)):
                    self._problems.add(f"{self._place}{line}: {text}")
            else:
                tables.append(here)
        return items, tables

    def _item(self, table: Layout, row: Sequence[Any], line: int) -> Item:
        first = None if table.only_media is None else row[table.only_media]
        if type(first) is str and self._plain_url(first):  # nearly every row; the rest is 3 times slower
            media: tuple[str, ...] = (first,)
        else:
            media, first = self._media(table, row)
        if table.id is not None:
            name = _id(row[table.id], table.id_name)
            if "://" in name:  # the media's own column, most likely
                name = hidden(name)
        else:
            name = f"row-{line}" if first is None else name_of(first, media[0])
        prompt = None if table.prompt is None else _prompt(row[table.prompt], self._columns.prompt)
        truth = None if table.truth is None else _truth(row[table.truth])
        return Item(name, media, prompt, truth, table.variables(row), f"{self._place}{line}")

    def _media(self, table: Layout, row: Sequence[Any]) -> tuple[tuple[str, ...], str | None]:
        """The media, absolute, and the first reference as written."""
        if not table.media:
            return (), None
        refs = [ref for index in table.media for ref in _references(row[index], table.media_name)]
        if not refs:
            raise _Wrong(f"{table.media_name} is empty")
        if len(refs) > MAX_MEDIA:
            raise _Wrong(f"{table.media_name} holds more than {MAX_MEDIA:,} media")
        return tuple(self._one(ref, table.media_name) for ref in refs), refs[0]

    def _one(self, ref: str, name: str) -> str:
        try:
            found = self._absolute(ref)
            found.encode()
        except BadReference as problem:
            raise _Wrong(f"{name} {shown(ref)!r} {problem}") from None
        except UnicodeEncodeError:  # Parquet and JSON could not hold it
            raise _Wrong(f"{name} {shown(ref)!r} is a file name that is not UTF-8: rename it") from None
        return found

    def _numbered(self, name: str) -> str:
        """A new name for a media that is repeated: cat.jpg#2."""
        times = self._times.get(name, 1) + 1
        while self._seen.add([f"{name}#{times}"]):
            times += 1
        if len(self._times) >= _COUNTED:
            self._times.clear()  # bounds the memory; the loop above finds the number again
        self._times[name] = times
        return f"{name}#{times}"

    def _add_duplicate(self, name: str, line: int) -> None:
        """Remember an id that may be a duplicate, for `finish`."""
        if name in self._duplicates or len(self._duplicates) < SHOWN:
            lines = self._duplicates.setdefault(name, [])
            if len(lines) < SHOWN:
                lines.append(line)
                return
        self._more_duplicates += 1

    def _first_lines(self) -> dict[str, int]:
        first: dict[str, int] = {}
        again = ItemBuilder(self.rows, self._columns, Problems())
        for batch in self.rows.batches():
            for item in again._build(*batch)[0]:
                if item.item_id in self._duplicates:
                    first.setdefault(item.item_id, _line(item))
            if len(first) == len(self._duplicates):
                break
        return first


def _line(item: Item) -> int:
    return int(item.where.rpartition(":")[2])


def read(rows: Rows, columns: Columns, problems: Problems, limit: int | None) -> Iterator[list[Item]]:
    """The items in batches, at most `limit` of them; empty batches are left out."""
    builder = ItemBuilder(rows, columns, problems)
    made = map(builder.items, rows.batches()) if limit is None else _first(builder, limit)
    yield from filter(None, made)
    builder.finish()


def _first(builder: ItemBuilder, limit: int) -> Iterator[list[Item]]:
    """The first items; the rows after them are not read."""
    left = limit
    for lines, rows in builder.rows.batches():
        start = 0
        while start < len(rows) and left:
            items = builder.items((lines[start : start + left], rows[start : start + left]))
            start, left = start + left, left - len(items)
            yield items
        if not left:
            return


def _references(value: Any, name: str) -> list[str]:
    """The references in one cell: text, a list of texts, or a JSON list as text; empty ones are left out."""
    if value is None:
        return []
    if isinstance(value, str):
        text = value.strip()
        listed = _json_list(text) if text.startswith("[") else None
        return [text] if listed is None and text else listed or []
    if isinstance(value, list) and all(isinstance(ref, str) for ref in value):
        return [ref.strip() for ref in value if ref.strip()]
    raise _Wrong(f"{name} must be text or a list of texts, not {_kind(value)}")


def _json_list(text: str) -> list[str] | None:
    if text.count(",") > _MANY_COMMAS:  # a list so long is not made
        raise _Wrong(f"holds a list of more than {MAX_MEDIA:,} media")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None  # a file may be called [1].jpg
    if isinstance(value, list) and all(isinstance(ref, str) for ref in value):
        return [ref.strip() for ref in value if ref.strip()]
    return None


def _id(value: Any, name: str) -> str:
    if not isinstance(value, str):
        if type(value) is int:
            return str(value)
        raise _Wrong(f"{name} is empty" if value is None else f"{name} must be text, not {_kind(value)}")
    text = value.strip()
    if not text:
        raise _Wrong(f"{name} is empty")
    if len(text) > MAX_ID_CHARS:
        raise _Wrong(f"{name} {text[:40]!r}... has more than {MAX_ID_CHARS} characters")
    return text


def _prompt(value: Any, name: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _Wrong(f"{name} must be text, not {_kind(value)}")
    return value if value.strip() else None


def _truth(value: Any) -> str | None:
    """The expected answer as text; what is not text, as JSON."""
    if isinstance(value, str):
        return value.strip() or None
    if value is None:
        return None
    try:
        return orjson.dumps(value, default=str).decode()
    except orjson.JSONEncodeError as problem:  # too deep, or a whole number of more than 64 bits
        raise _Wrong(f"the expected answer cannot be kept as JSON: {problem}") from None


def _kind(value: Any) -> str:
    if isinstance(value, list):
        others = {type(part).__name__ for part in value if not isinstance(part, str)}
        return f"a list that holds {', '.join(sorted(others))}"
    return {"dict": "an object", "bool": "true or false", "float": "a number", "int": "a number"}.get(
        type(value).__name__, type(value).__name__
    )
